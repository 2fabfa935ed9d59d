"""A program of rows (`vmcs.check_programs`) as an ioctl of one release runs it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu.errors import KvmError
from vmcs.check_programs import (
    Program,
    Table,
    Vocabulary,
    Words,
    compile_program,
    every_failure,
    first_stop,
    load_words,
)
from vmcs.checks import Kind, Row, describe
from vmcs.jit import jit, jit_disabled

Findings = tuple[tuple[Row, dict[str, int]], ...]


class Patience:
    """How many walks this process still makes as plain Python before it loads the compiler.

    A command that judges a handful of blobs must not wait for the compiler; one that judges
    thousands must not wait for Python.
    """

    left = 400

    @classmethod
    def lasts(cls) -> bool:
        """Take one walk; whether it is to be made as plain Python."""
        cls.left -= 1
        return cls.left >= 0 or jit_disabled()


@jit("int64(const uint8[::1], int64[::1], uint64[::1], int64[::1], int64[::1])")
def first_stop_of_record(
    record: NDArray[np.uint8], fields: Table, words: Words, code: Table, effects: Table
) -> Any:
    """Take words from `record` by `fields` (offset, width, position), then walk the program."""
    load_words(record, fields, words)
    return first_stop(code, words, effects)


_COMPILED: dict[int, tuple[Sequence[Row], Vocabulary, Program]] = {}


def _compiled(rows: Sequence[Row], names: Iterable[str]) -> tuple[Vocabulary, Program]:
    """A table's rows compiled once for all releases, with their vocabulary."""
    kept = _COMPILED.get(id(rows))
    if kept is None:
        vocabulary = Vocabulary(names)
        kept = rows, vocabulary, compile_program(rows, vocabulary)
        _COMPILED[id(rows)] = kept
    return kept[1:]


class RuleProgram:
    """Rows compiled for one release, with the words that they read.

    `fields` maps the name of a word to (offset, width) in the ioctl's structure; those that no row
    reads are left out.  Each walk runs compiled, or as the same source over Python's integers while
    `Patience` lasts.
    """

    def __init__(
        self,
        ioctl: str,
        rows: Sequence[Row],
        names: Iterable[str],
        enforced: Collection[str] | None = None,
        fields: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self.ioctl = ioctl
        self.vocabulary, whole = _compiled(rows, names)
        self.program: Program = whole if enforced is None else whole.only(enforced)
        read = self.program.words_read
        places = ((*place, self.vocabulary.index(name)) for name, place in (fields or {}).items())
        self.fields = np.array([x for at in places if at[2] in read for x in at], np.int64)
        self.template: Words = self.vocabulary.words()
        self._effects = np.zeros(1, np.int64)
        self._places = self.fields.reshape(-1, 3).tolist()
        self._code: list[int] = self.program.code.tolist()

    def words(self, values: Mapping[str, int]) -> Words:
        """The words of `values`, every other word 0."""
        words = self.template.copy()
        for name, value in values.items():
            words[self.vocabulary.index(name)] = value
        return words

    def walk(self, words: Words) -> Row | None:
        """The row at which the program ends for `words`; None where it runs to its end."""
        program = self.program
        if Patience.lasts():
            numbers, effects = words.tolist(), [0]
            stop = first_stop.over_integers()(self._code, numbers, effects)
            words[:], self._effects[0] = numbers, effects[0]
        else:
            stop = first_stop(program.code, words, self._effects)
        return program.row_at(stop)

    def walk_record(self, record: NDArray[np.uint8], words: Words) -> Row | None:
        """As `walk`, after the words of the record have been put into `words`."""
        program = self.program
        if Patience.lasts():
            numbers, data = words.tolist(), record.tobytes()
            for at, width, position in self._places:
                numbers[position] = int.from_bytes(data[at : at + width], "little")
            words[:] = numbers
            return self.walk(words)
        return program.row_at(
            first_stop_of_record(record, self.fields, words, program.code, self._effects)
        )

    @property
    def effects(self) -> tuple[str, ...]:
        """Names of the effects that the last walk met, in the program's order."""
        met = int(self._effects[0])
        return tuple(row.name for i, row in enumerate(self.program.effects) if met >> i & 1)

    @property
    def effect_bits(self) -> int:
        """The effects that the last walk met, a bit each."""
        return int(self._effects[0])

    def failures(self, words: Words) -> tuple[Row, ...]:
        """Every check that applies to `words` and does not hold."""
        rows = self.program.rows
        if Patience.lasts():
            failed = [0] * len(rows)
            every_failure.over_integers()(self._code, words.tolist(), failed)
        else:
            marks = np.zeros(len(rows), np.uint8)
            every_failure(self.program.code, words, marks)
            failed = marks.tolist()
        return tuple(row for row, bad in zip(rows, failed, strict=True) if bad)

    def findings(self, record: NDArray[np.uint8], words: Words) -> Findings:
        """Every check that `record` breaks, with the values of the words that the check reads."""
        self.walk_record(record, words)
        at = self.vocabulary.index
        return tuple(
            (row, {name: int(words[at(name)]) for name in row.words})
            for row in self.failures(words)
        )

    def detail(self, row: Row, words: Words) -> str:
        """What `row` asks of the words, with their values."""
        values: dict[str, Any] = {name: words[self.vocabulary.index(name)] for name in row.words}
        return describe(row.predicate, values)

    def result(self, row: Row, words: Words) -> int:
        """What `row` reports: a constant, or a word taken as a signed number."""
        if isinstance(row.result, int):
            return row.result
        value = int(words[self.vocabulary.index(row.result)])
        return value - (1 << 64) if value >> 63 else value

    def refusal(self, row: Row, words: Words) -> KvmError:
        """The error that the ioctl fails with where the check `row` does not hold."""
        if row.kind is not Kind.CHECK:
            raise ValueError(f"{row.name} is no check")
        return KvmError(self.ioctl, self.result(row, words), row.name, self.detail(row, words))


class PreparedWalk(NamedTuple):
    """A walk that has not been made: the program, the ioctl's structure, and all other words."""

    program: RuleProgram
    record: NDArray[np.uint8]
    words: Words
