"""Plans: what a kernel does to each record, worked out once for a pair of layouts.

Fields that lie side by side in both layouts are one run. A long run is copied as bytes, a short
one as the fewest words.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmcs.batch.layout import WIDTHS, LayoutError, RecordLayout

Table = NDArray[np.int64]

BLOCK = 64
"""Bytes from which a run is copied as bytes: a call costs as much as some eight words."""

LINE = 64
"""Bytes of a cache line."""


class Run(NamedTuple):
    """`length` bytes that go from `source` to `target`, both relative to their record."""

    source: int
    target: int
    length: int


class Access(NamedTuple):
    """Gather or scatter of the fields `names`: kernel tables and number of columns."""

    names: tuple[str, ...]
    ops: Table
    bounds: Table
    lines: Table


class Copy(NamedTuple):
    """Copy of the fields `names` from one layout to another: runs and kernel tables."""

    names: tuple[str, ...]
    runs: tuple[Run, ...]
    ops: Table
    bounds: Table
    blocks: Table
    clears: Table
    source_lines: Table
    target_lines: Table


class Comparison(NamedTuple):
    """Comparison of the fields `names` of two layouts: kernel tables."""

    names: tuple[str, ...]
    ops: Table
    bounds: Table
    columns: Table
    left_lines: Table
    right_lines: Table


@lru_cache(maxsize=256)
def plan_gather(layout: RecordLayout, names: tuple[str, ...] | None) -> Access:
    """Words of the given fields, in that order, out of records of `layout`."""
    full = layout.expand(names)
    places = [layout.by_name[name] for name in full]
    words = [(place.width, place.offset, column) for column, place in enumerate(places)]
    return Access(full, *_by_width(words), _lines((place.offset, place.width) for place in places))


@lru_cache(maxsize=256)
def plan_scatter(layout: RecordLayout, names: tuple[str, ...] | None) -> Access:
    """Words of the given fields, in that order, into records of `layout`."""
    full = layout.expand(names)
    places = [layout.by_name[name] for name in full]
    words = [(place.width, column, place.offset) for column, place in enumerate(places)]
    return Access(full, *_by_width(words), _lines((place.offset, place.width) for place in places))


@lru_cache(maxsize=256)
def plan_copy(source: RecordLayout, target: RecordLayout, names: tuple[str, ...] | None) -> Copy:
    """Copy of the given fields, or of all that both layouts have.

    A field that is wider in the target is zero-extended. Raises LayoutError where it is narrower.
    """
    full = common_names(source, target) if names is None else source.expand(names)
    runs: list[Run] = []
    clears: list[tuple[int, int]] = []
    for name in sorted(full, key=lambda name: target.place(name).offset):
        here, there = source.by_name[name], target.by_name[name]
        if here.width > there.width:
            raise LayoutError(
                f"{name} has {here.width} bytes in {source.name} and does not fit the "
                f"{there.width} of {target.name}"
            )
        if here.width < there.width:
            clears.append((there.offset + here.width, there.width - here.width))
        _append(runs, Run(here.offset, there.offset, here.width))
    blocks = [run for run in runs if run.length >= BLOCK]
    words = [word for run in runs if run.length < BLOCK for word in _words(run)]
    return Copy(
        full,
        tuple(runs),
        *_by_width(words),
        _table(blocks, 3),
        _table(clears, 2),
        _lines((run.source, run.length) for run in runs),
        _lines((run.target, run.length) for run in runs),
    )


@lru_cache(maxsize=256)
def plan_compare(
    left: RecordLayout, right: RecordLayout, names: tuple[str, ...] | None
) -> Comparison:
    """Comparison of the given fields, or of all that both layouts have, in that order.

    Raises LayoutError where a field has two widths.
    """
    full = common_names(left, right) if names is None else left.expand(names)
    words = []
    for column, name in enumerate(full):
        here, there = left.by_name[name], right.place(name)
        if here.width != there.width:
            raise LayoutError(
                f"{name} has {here.width} bytes in {left.name} and {there.width} in {right.name}"
            )
        words.append((here.width, here.offset, there.offset, column))
    words.sort(key=lambda word: WIDTHS.index(word[0]))
    ops, bounds = _by_width([word[:3] for word in words])
    return Comparison(
        full,
        ops,
        bounds,
        _vector([word[3] for word in words]),
        _lines((word[1], word[0]) for word in words),
        _lines((word[2], word[0]) for word in words),
    )


def common_names(left: RecordLayout, right: RecordLayout) -> tuple[str, ...]:
    """Names of the fields that both layouts have, in the order of the first."""
    return tuple(name for name in left.names if name in right)


def _append(runs: list[Run], new: Run) -> None:
    """Add a run, or lengthen the last one where the new one follows it on both sides."""
    if runs:
        last = runs[-1]
        if (last.source + last.length, last.target + last.length) == (new.source, new.target):
            runs[-1] = Run(last.source, last.target, last.length + new.length)
            return
    runs.append(new)


def _words(run: Run) -> Iterable[tuple[int, int, int]]:
    done = 0
    while done < run.length:
        width = next(width for width in WIDTHS if width <= run.length - done)
        yield width, run.source + done, run.target + done
        done += width


def _by_width(words: Iterable[tuple[int, int, int]]) -> tuple[Table, Table]:
    ordered = sorted(words, key=lambda word: WIDTHS.index(word[0]))
    ops = _vector([low | high << 32 for _, low, high in ordered])
    counts = [sum(word[0] == width for word in ordered) for width in WIDTHS]
    return ops, _vector([sum(counts[:k]) for k in range(len(WIDTHS) + 1)])


def _lines(spans: Iterable[tuple[int, int]]) -> Table:
    lines = {line for at, length in spans for line in range(at // LINE * LINE, at + length, LINE)}
    return _vector(sorted(lines))


def _vector(values: Iterable[int]) -> Table:
    array = np.array(list(values), np.int64)
    array.setflags(write=False)
    return array


def _table(rows: Iterable[tuple[int, ...]], columns: int) -> Table:
    array = np.array(list(rows), np.int64).reshape(-1, columns)
    array.setflags(write=False)
    return array
