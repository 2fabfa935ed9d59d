"""Batches: the control structures or nested states of N vCPUs as one array of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmcs.batch import kernels, plan
from vmcs.batch.checksum import crc32c_of_records, fnv1a_64_of_records
from vmcs.batch.layout import LayoutError, RecordLayout
from vmcs.batch.view import StateView
from vmcs.jit import Jitted, tiered

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

PLAIN_OPERATIONS = 4096
"""Words that each operation moves in Python before the process loads the compiler."""

STREAMED = 1 << 20
"""Bytes from which a remap writes past the caches."""

ALIGNMENT = 16


def _tiered(kernel: Jitted[None], work: Callable[..., int]) -> Callable[..., None]:
    return tiered(kernel, PLAIN_OPERATIONS, cost=work)


_gather = _tiered(kernels.gather, lambda *a: a[6].size)
_scatter = _tiered(kernels.scatter, lambda *a: a[0].size)
_copy_into = _tiered(kernels.copy_into, lambda *a: a[6] * a[7].size)
_copy_anew = _tiered(kernels.copy_anew, lambda *a: a[7] * a[8].size)
_compare = _tiered(kernels.compare, lambda *a: a[11].size)


class Differences(NamedTuple):
    """What `StateBatch.compare` found, with a column a field of `names`.

    `differs` (records, fields) bool; `first` (records,) int64 is the first column that differs, -1
    where none does.
    """

    names: tuple[str, ...]
    differs: NDArray[np.bool_]
    first: NDArray[np.int64]

    def of(self, record: int) -> tuple[str, ...]:
        """Names of the fields in which a record differs."""
        return tuple(self.names[column] for column in np.flatnonzero(self.differs[record]))

    def first_names(self) -> list[str | None]:
        """Name of the first field that differs, a record; None where none does."""
        return [None if column < 0 else self.names[column] for column in self.first.tolist()]

    def counts(self) -> Mapping[str, int]:
        """In how many records each field differs, for the fields that do."""
        totals = self.differs.sum(axis=0).tolist()
        return {name: total for name, total in zip(self.names, totals, strict=True) if total}


Batch = TypeVar("Batch", bound="StateBatch")


class StateBatch:
    """Records of one layout, one a vCPU, in flat bytes: record i starts at `start + i * stride`.

    `StateBatch(layout, count)` are `count` records of zeros. A batch may be a view of others'
    bytes: a slice of a batch, or a structure inside the records of another (`part`).
    """

    view: type[StateView] = StateView
    """What `batch[i]` gives for an integer."""

    def __init__(self, layout: RecordLayout, count: int) -> None:
        self._place(layout, np.zeros(layout.size * count, np.uint8), 0, layout.size, count)

    def _place(
        self, layout: RecordLayout, data: Bytes, start: int, stride: int, count: int
    ) -> None:
        self.layout = layout
        self.data = data
        self.start = start
        self.stride = stride
        self.count = count

    @classmethod
    def over(
        cls,
        layout: RecordLayout,
        data: Bytes,
        start: int = 0,
        stride: int | None = None,
        count: int | None = None,
    ) -> Self:
        """The records that lie in flat `data`, `stride` bytes apart: a view, not a copy.

        As many as fit where `count` is not given. Raises LayoutError where they do not fit.
        """
        if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
            raise LayoutError("a batch lies in a flat contiguous array of bytes")
        step = layout.size if stride is None else stride
        if step < layout.size or start < 0:
            raise LayoutError(f"{layout.name} has {layout.size} bytes, records are {step} apart")
        room = max((data.size - start - layout.size) // step + 1, 0)
        wanted = room if count is None else count
        if wanted > room:
            raise LayoutError(f"{wanted} records of {layout.name} do not fit {data.size} bytes")
        batch = cls.__new__(cls)
        batch._place(layout, data, start, step, wanted)
        return batch

    @classmethod
    def of_bytes(cls, layout: RecordLayout, records: ArrayLike | bytes | bytearray) -> Self:
        """Records out of (N, size) bytes or one record's bytes, copied."""
        if isinstance(records, bytes | bytearray | memoryview):
            array = np.frombuffer(records, np.uint8)
        else:
            array = np.asarray(records, np.uint8)
        if array.size % layout.size or (array.ndim > 1 and array.shape[-1] != layout.size):
            raise LayoutError(
                f"{layout.name} has {layout.size} bytes a record, got {array.shape} bytes"
            )
        return cls.over(layout, array.reshape(-1).copy())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.count} {self.layout.name}>"

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StateView]:
        return (self._row(i) for i in range(self.count))

    def __getitem__(self, key: int | slice | str) -> Any:
        """A column for a name, a view for an index, a batch of the same bytes for a slice."""
        if isinstance(key, str):
            return self.column(key)
        if isinstance(key, slice):
            first, end, step = key.indices(self.count)
            if step != 1:
                raise LayoutError("records of a slice lie side by side: its step is 1")
            batch = type(self).__new__(type(self))
            start = self.start + first * self.stride
            batch._place(self.layout, self.data, start, self.stride, max(end - first, 0))
            return batch
        return self._row(range(self.count)[key])

    def __setitem__(self, key: str, values: ArrayLike) -> None:
        """Set a column; raises OverflowError for a Python number that does not fit the field."""
        self.column(key)[:] = values

    def _row(self, index: int) -> StateView:
        at = self.start + index * self.stride
        return self.view(self.data[at : at + self.layout.size], self.layout)

    @property
    def address(self) -> int:
        """Where the first record lies in memory."""
        return int(self.data.ctypes.data) + self.start

    def column(self, name: str) -> NDArray[Any]:
        """The field `name` of every record, (N,), in its own width: a view that can be written."""
        place = self.layout.place(name)
        return np.ndarray(
            (self.count,),
            f"<u{place.width}",
            self.data,
            self.start + place.offset,
            (self.stride,),
        )

    @property
    def bytes(self) -> Bytes:
        """All bytes of every record, (N, size): a view that can be written."""
        return np.ndarray(
            (self.count, self.layout.size),
            np.uint8,
            self.data,
            self.start,
            (self.stride, 1),
        )

    @property
    def records(self) -> NDArray[np.void]:
        """Every record as a structured array (N,) of the layout's dtype: a view."""
        return np.ndarray(
            (self.count,),
            self.layout.dtype,
            self.data,
            self.start,
            (self.stride,),
        )

    def part(self, name: str, kind: type[Batch]) -> Batch:
        """The structure called `name` of every record, as a batch of the same bytes.

        Raises LayoutError where the layout has no such part.
        """
        if name not in self.layout.parts:
            known = ", ".join(self.layout.parts) or "none"
            raise LayoutError(f"{self.layout.name} has no part {name!r}; it has {known}")
        offset, layout = self.layout.parts[name]
        batch = kind.__new__(kind)
        batch._place(layout, self.data, self.start + offset, self.stride, self.count)
        return batch

    def gather(self, names: Iterable[str] | None = None, out: Words | None = None) -> Words:
        """The given fields of every record as words (N, fields), zero-extended."""
        access = plan.plan_gather(self.layout, _key(names))
        words = self._words(out, len(access.names))
        _gather(self.data, self.start, self.stride, access.ops, access.bounds, access.lines, words)
        return words

    def _words(self, out: Words | None, columns: int) -> Words:
        shape = (self.count, columns)
        if out is None:
            return np.empty(shape, np.uint64)
        if out.shape != shape or out.dtype != np.uint64 or not out.flags.c_contiguous:
            raise LayoutError(f"words are a contiguous uint64 array of shape {shape}")
        return out

    def scatter(self, words: ArrayLike, names: Iterable[str] | None = None) -> None:
        """Store words (N, fields) into the given fields, each cut to the width of its field."""
        access = plan.plan_scatter(self.layout, _key(names))
        given = np.ascontiguousarray(words, np.uint64)
        if given.shape != (self.count, len(access.names)):
            raise LayoutError(
                f"{len(access.names)} fields of {self.count} records want words of shape "
                f"{(self.count, len(access.names))}, got {given.shape}"
            )
        _scatter(given, self.data, self.start, self.stride, access.ops, access.bounds, access.lines)

    def copy_from(self, source: StateBatch, names: Iterable[str] | None = None) -> None:
        """Copy the given fields, or all that both layouts have; other bytes keep their values.

        A field that is wider here is zero-extended. Raises LayoutError where one is narrower here,
        where the batches differ in length, or where they lie in the same bytes.
        """
        copy = self._copy_plan(source, names)
        _copy_into(
            *(source.data, source.start, source.stride),
            *(self.data, self.start, self.stride, self.count),
            *(copy.ops, copy.bounds, copy.blocks, copy.clears),
            *(copy.source_lines, copy.target_lines),
        )

    def remap_from(self, source: StateBatch, names: Iterable[str] | None = None) -> None:
        """Copy the given fields, or all that both layouts have, and clear all other bytes.

        Raises LayoutError as `copy_from` does.
        """
        copy = self._copy_plan(source, names)
        size = self.layout.size
        scratch = np.zeros(size + 2 * plan.LINE, np.uint8)
        scratch_start = -scratch.ctypes.data % plan.LINE
        streams = (
            size * self.count >= STREAMED
            and self.address % ALIGNMENT == 0
            and self.stride % ALIGNMENT == 0
        )
        _copy_anew(
            *(source.data, source.start, source.stride),
            *(self.data, self.start, self.stride, size, self.count),
            *(copy.ops, copy.bounds, copy.blocks, copy.source_lines),
            *(scratch, scratch_start, streams),
        )

    def _copy_plan(self, source: StateBatch, names: Iterable[str] | None) -> plan.Copy:
        if source.count != self.count:
            raise LayoutError(f"{source!r} cannot be copied into {self!r}")
        copy = plan.plan_copy(source.layout, self.layout, _key(names))
        if _overlap(source, self):
            raise LayoutError(f"{source!r} and {self!r} lie in the same bytes")
        return copy

    def remapped(self, layout: RecordLayout, names: Iterable[str] | None = None) -> Self:
        """The same fields in another layout, as a new batch; bytes that no field fills are 0."""
        batch = type(self).__new__(type(self))
        data = np.empty(layout.size * self.count, np.uint8)
        batch._place(layout, data, 0, layout.size, self.count)
        batch.remap_from(self, names)
        return batch

    def copy(self) -> Self:
        """The same records in bytes of their own."""
        batch = type(self).__new__(type(self))
        batch._place(self.layout, self.bytes.copy().reshape(-1), 0, self.layout.size, self.count)
        return batch

    def compare(self, other: StateBatch, names: Iterable[str] | None = None) -> Differences:
        """Compare the given fields, or all that both layouts have, record by record."""
        if other.count != self.count:
            raise LayoutError(f"{self!r} cannot be compared with {other!r}")
        comparison = plan.plan_compare(self.layout, other.layout, _key(names))
        differs = np.empty((self.count, len(comparison.names)), np.uint8)
        first = np.empty(self.count, np.int64)
        _compare(
            *(self.data, self.start, self.stride, other.data, other.start, other.stride),
            *(comparison.ops, comparison.bounds, comparison.columns),
            *(comparison.left_lines, comparison.right_lines, differs, first),
        )
        return Differences(comparison.names, differs.view(np.bool_), first)

    def checksum(self, names: Iterable[str] | None = None) -> NDArray[np.uint32]:
        """CRC32C of every record: of all its bytes, or of the given fields as words.

        The sum of fields does not depend on where the layout has them.
        """
        if names is None:
            size = self.layout.size
            return crc32c_of_records(self.data, self.start, self.stride, size, self.count)
        words = self.gather(names).astype("<u8", copy=False).view(np.uint8)
        return crc32c_of_records(words.reshape(-1), 0, words.shape[1], words.shape[1], self.count)

    def fnv1a_64(self) -> NDArray[np.uint64]:
        """FNV-1a, 64 bits, of all bytes of every record."""
        return fnv1a_64_of_records(self.data, self.start, self.stride, self.layout.size, self.count)


def _key(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return names if names is None or isinstance(names, tuple) else tuple(names)


def _overlap(left: StateBatch, right: StateBatch) -> bool:
    """Whether any record of one has a byte in common with any record of the other."""
    if not left.count or not right.count:
        return False
    if left.data is not right.data and left.data.base is None and right.data.base is None:
        return False
    here, there = left.address, right.address
    here_end = here + (left.count - 1) * left.stride + left.layout.size
    there_end = there + (right.count - 1) * right.stride + right.layout.size
    if here_end <= there or there_end <= here:
        return False
    if left.stride != right.stride:
        return True
    # Structures inside the same records interleave without meeting: only the records of the one
    # just before and just after a record of the other can touch it.
    before = (there - here) // left.stride
    return any(
        -right.count < steps < left.count
        and here + steps * left.stride < there + right.layout.size
        and there < here + steps * left.stride + left.layout.size
        for steps in (before, before + 1)
    )
