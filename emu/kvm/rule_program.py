"""A program of rows (`vmcs.checks`) as an ioctl of one release runs it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu.errors import KvmError
from vmcs.checks import (
    Kind,
    Program,
    Row,
    Table,
    Vocabulary,
    Words,
    compile_program,
    describe,
    every_failure,
    first_stop,
)
from vmcs.jit import jit, tiered

ZERO = np.uint64(0)
EIGHT = np.uint64(8)

# A command that judges a handful of blobs must not wait for the compiler.
PLAIN_CALLS = 40


@jit(
    "int64(const uint8[::1], int64[:, ::1], uint64[::1], int64[:, ::1], int64[:, ::1], int64[::1])"
)
def first_stop_of_record(
    record: NDArray[np.uint8],
    fields: Table,
    words: Words,
    steps: Table,
    predicates: Table,
    effects: Table,
) -> int:
    """Take words from `record` by `fields` (offset, width, position), then walk the program."""
    for f in range(fields.shape[0]):
        offset = fields[f, 0]
        value = ZERO
        for k in range(fields[f, 1] - 1, -1, -1):
            value = value << EIGHT | np.uint64(record[offset + k])
        words[fields[f, 2]] = value
    return first_stop(steps, predicates, words, effects)


class RuleProgram:
    """Rows compiled for one release, with the words that they read.

    `fields` maps the name of a word to (offset, width) in the ioctl's structure.
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
        self.vocabulary = Vocabulary(names)
        self.program: Program = compile_program(rows, self.vocabulary, enforced)
        self.fields = np.array(
            [(*place, self.vocabulary.index(name)) for name, place in (fields or {}).items()],
            np.int64,
        ).reshape(-1, 3)
        self.template: Words = self.vocabulary.words()
        self._effects = np.zeros(1, np.int64)
        self._stop = tiered(first_stop, PLAIN_CALLS)
        self._stop_of_record = tiered(first_stop_of_record, PLAIN_CALLS)

    def words(self, values: Mapping[str, int]) -> Words:
        """The words of `values`, every other word 0."""
        words = self.template.copy()
        for name, value in values.items():
            words[self.vocabulary.index(name)] = value
        return words

    def walk(self, words: Words) -> Row | None:
        """The row at which the program ends for `words`; None where it runs to its end."""
        program = self.program
        return program.row_at(self._stop(program.steps, program.predicates, words, self._effects))

    def walk_record(self, record: NDArray[np.uint8], words: Words) -> Row | None:
        """As `walk`, after the words of the record have been put into `words`."""
        program = self.program
        return program.row_at(
            self._stop_of_record(
                record, self.fields, words, program.steps, program.predicates, self._effects
            )
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
        failed = np.zeros(len(self.program.rows), np.uint8)
        every_failure(self.program.steps, self.program.predicates, words, failed)
        return tuple(row for row, bad in zip(self.program.rows, failed, strict=True) if bad)

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
