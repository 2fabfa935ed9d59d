"""Rows of checks compiled to one table of instructions, and the one walk that decides.

A `Vocabulary` fixes the order of the words that rows name.  `compile_program` turns rows into
instructions over that order, each with two exits: where to go on when its predicate holds, and when
it does not.  The jitted functions walk them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmcs.checks import ALL_BITS, Kind, Operand, Predicate, Row, Shape
from vmcs.intrinsics import load_u8, load_u16, load_u32, load_u64
from vmcs.jit import jit

Words = NDArray[np.uint64]
Table = NDArray[np.int64]


class Vocabulary:
    """The order of the words that programs read: named words first, then the constants they use.

    Names and constants are only ever appended, so programs compiled against one vocabulary share
    one words array.  `size` is the number of words that such an array needs now.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names: tuple[str, ...] = tuple(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        if len(self._index) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"a word is named twice: {', '.join(twice)}")
        self._constants: dict[int, int] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def index(self, operand: Operand) -> int:
        """Position of a named word, or of a constant (added when it is new).

        Raises KeyError for a name that is no word of this vocabulary.
        """
        if isinstance(operand, str):
            return self._index[operand]
        value = int(operand) & ALL_BITS
        return self._constants.setdefault(value, len(self.names) + len(self._constants))

    @property
    def size(self) -> int:
        """Number of words, constants included."""
        return len(self.names) + len(self._constants)

    def words(self, count: int | None = None) -> Words:
        """A zeroed array of words with the constants in place: (size,) or (count, size) uint64."""
        shape = (self.size,) if count is None else (count, self.size)
        array = np.zeros(shape, np.uint64)
        array[..., len(self.names) :] = np.fromiter(self._constants, np.uint64)
        return array


# One instruction of a compiled program: an operation, the positions of its words, where to go on
# when it holds and when it does not (STOP: the walk ends), and its row.
SIZE = 8
OP, A, B, C, D, THEN, ELSE, ROW = range(SIZE)
STOP = -1
# Operations: a & b compared with c, the rarer shapes under their own numbers, and what is no
# predicate.  (Plain numbers: an attribute of an enumeration costs more than a whole instruction
# where the walk runs as Python.)
COMPARES, DIFFERS = 0, 1
AT_MOST, AT_LEAST, ALLOWED = 5, 6, 7
SAME, CANONICAL, MEMORY_TYPES, MSR_AREA, RANGE, SHIFTED, MEMBER, NO_MEMBER = range(8, 16)
MEETS, DERIVES, CLEARS, RETURNS = range(16, 20)

Instruction = tuple[int, ...]


class Pieces(NamedTuple):
    """Rows as instructions whose targets count from the first one of their row.

    `code` is (instructions, SIZE), `lengths` the number of instructions of each row.  `groups` has
    a number for the first condition of each row; -1 where a row has none, or is a `let`.
    """

    code: Table
    lengths: Table
    groups: Table

    def of(self, kept: NDArray[np.bool_]) -> "Pieces":
        """The pieces of the rows that `kept` marks."""
        code = self.code[np.repeat(kept, self.lengths)]
        return Pieces(code, self.lengths[kept], self.groups[kept])


class Program(NamedTuple):
    """Rows compiled against a vocabulary.

    `code` is the instructions, `SIZE` integers each, flat, so that the walk reads an array and a
    list alike.  `effects` are the rows whose bits a walk reports, by bit.
    """

    rows: tuple[Row, ...]
    code: Table
    effects: tuple[Row, ...]
    pieces: Pieces

    def row_at(self, stop: int) -> Row | None:
        """The row at which a walk stopped; None when it came to the end."""
        return self.rows[stop] if stop < len(self.rows) else None

    def only(self, enforced: Collection[str]) -> "Program":
        """The program with the named rows of `enforced` and every `let`.

        Raises ValueError for a name that no row has.
        """
        unknown = set(enforced).difference(row.name for row in self.rows)
        if unknown:
            raise ValueError(f"no row is named {', '.join(sorted(unknown))}")
        kept = [row.kind is Kind.LET or row.name in enforced for row in self.rows]
        rows = tuple(row for row, keep in zip(self.rows, kept, strict=True) if keep)
        return _linked(rows, self.pieces.of(np.array(kept, bool)), self.effects)

    @property
    def words_read(self) -> frozenset[int]:
        """Positions of the words that the rows read."""
        table = self.code.reshape(-1, SIZE)
        return frozenset(table[:, A : D + 1].ravel().tolist())


def compile_program(rows: Sequence[Row], vocabulary: Vocabulary) -> Program:
    """Compile `rows` in their order.

    Raises ValueError for a row that names an unknown word, and for two rows of one name.
    """
    known = [row.name for row in rows]
    if len(set(known)) != len(known):
        raise ValueError(f"two rows are named {next(n for n in known if known.count(n) > 1)!r}")
    effects = tuple(row for row in rows if row.kind is Kind.EFFECT)
    bits = {row.name: bit for bit, row in enumerate(effects)}
    code: list[Instruction] = []
    lengths, groups = [], []
    conditions: dict[Predicate, int] = {}
    for row in rows:
        try:
            made = _instructions(row, bits, vocabulary)
        except KeyError as missing:
            raise ValueError(f"row {row.name!r} names an unknown word {missing}") from None
        code += made
        lengths.append(len(made))
        shares = row.when and row.kind is not Kind.LET
        groups.append(conditions.setdefault(row.when[0], len(conditions)) if shares else -1)
    table = np.zeros((len(code), SIZE), np.int64)
    table[:, :ROW] = np.array(code, np.int64).reshape(-1, ROW)
    pieces = Pieces(table, np.array(lengths, np.int64), np.array(groups, np.int64))
    return _linked(tuple(rows), pieces, effects)


def _instructions(
    row: Row, bits: Mapping[str, int], vocabulary: Vocabulary
) -> tuple[Instruction, ...]:
    """A row: its conditions, each of which leaves the row when it does not hold, then its act."""
    conditions = [_encoded(p, vocabulary) for p in row.when]
    acts = [_act(row, bits, vocabulary)]
    if row.kind is Kind.LET:
        acts.append((CLEARS, 0, 0, 0, acts[0][D]))
    # The second act of a let is for where its conditions do not hold.
    act = len(conditions)
    end = act + len(acts)
    failed = end if row.kind is not Kind.LET else end - 1
    code = [(*words, at + 1, failed) for at, words in enumerate(conditions)]
    code.append((*acts[0], end, STOP))
    if row.kind is Kind.LET:
        code.append((*acts[1], end, end))
    return tuple(code)


def _act(row: Row, bits: Mapping[str, int], vocabulary: Vocabulary) -> Instruction:
    if row.kind is Kind.CHECK:
        return _encoded(row.predicate, vocabulary)
    if row.kind is Kind.EFFECT:
        return MEETS, bits[row.name], 0, 0, 0
    if row.kind is Kind.RETURNS:
        return RETURNS, 0, 0, 0, 0
    word, right, mask = (vocabulary.index(x) for x in row.predicate[1:4])
    return DERIVES, word, mask, right, vocabulary.index(row.target)


def _encoded(p: Predicate, vocabulary: Vocabulary) -> Instruction:
    """A predicate as the walk reads it: most are a comparison under a mask."""
    compared = {
        Shape.BITS_CLEAR: (COMPARES, p.b, 0),
        Shape.BITS_SET: (COMPARES, p.b, p.b),
        Shape.EQUAL: (COMPARES, p.c, p.b),
        Shape.ANY_SET: (DIFFERS, p.b, 0),
        Shape.DIFFERENT: (DIFFERS, p.c, p.b),
    }.get(p.shape)
    if compared is None:
        return (int(p.shape), *(vocabulary.index(x) for x in (p.a, p.b, p.c, p.d)))
    operation, mask, value = compared
    a, mask_at, value_at = (vocabulary.index(x) for x in (p.a, mask, value))
    return operation, a, mask_at, value_at, a


def _linked(rows: tuple[Row, ...], pieces: Pieces, effects: tuple[Row, ...]) -> Program:
    """The pieces of `rows` behind one another.

    A condition that does not hold skips all rows that follow with the same one.
    """
    count = len(rows)
    starts = np.concatenate(([0], np.cumsum(pieces.lengths)))
    groups = pieces.groups
    last = np.ones(count, bool)
    last[:-1] = (groups[:-1] != groups[1:]) | (groups[:-1] < 0)
    ends = np.flatnonzero(last)
    beyond = starts[ends[np.searchsorted(ends, np.arange(count))] + 1] if count else starts
    number = np.repeat(np.arange(count), pieces.lengths)
    code = pieces.code.copy()
    code[:, THEN] += starts[number]
    stops = code[:, ELSE] == STOP
    code[:, ELSE] += starts[number]
    code[stops, ELSE] = STOP
    shared = starts[:-1][groups >= 0]
    code[shared, ELSE] = beyond[groups >= 0]
    code[:, ROW] = number
    return Program(rows, code.reshape(-1), effects, pieces)


# The walk -----------------------------------------------------------------------------------------
# The functions below run compiled over arrays, and as they stand over lists of Python's integers
# (`Jitted.over_integers`): no step may depend on the width of a word but by ALL_ONES.
ZERO = np.uint64(0)
ONE = np.uint64(1)
SEVEN = np.uint64(7)
EIGHT = np.uint64(8)
BYTE = np.uint64(0xFF)
FIFTEEN = np.uint64(15)
SIXTEEN = np.uint64(16)
SIXTY_FOUR = np.uint64(64)
ALL_ONES = np.uint64(ALL_BITS)
# Bit t is set when t is a memory type that IA32_PAT may hold: UC, WC, WT, WP, WB, UC-.
PAT_TYPES = np.uint64(0b1111_0011)


@jit("boolean(int64, int64[::1], int64, uint64, uint64, uint64, uint64[::1])")
def holds(
    op: int, code: Table, at: int, a: np.uint64, b: np.uint64, c: np.uint64, words: Words
) -> Any:
    """Whether a predicate that is no plain comparison holds: the instruction at `at`."""
    if op == AT_MOST:
        return a <= b
    if op == AT_LEAST:
        return a >= b
    if op == ALLOWED:
        return a & b == b and a & ((b | c) ^ ALL_ONES) == ZERO
    if op == SAME:
        d = words[code[at + D]]
        return (a & c != ZERO) == (b & d != ZERO)
    if op == CANONICAL:
        upper = a >> (b - ONE)
        return upper == ZERO or upper == ALL_ONES >> (b - ONE)
    if op == MEMORY_TYPES:
        rest = a
        for _ in range(8):
            kind = rest & BYTE
            if kind > SEVEN or (PAT_TYPES >> kind) & ONE == ZERO:
                return False
            rest = rest >> EIGHT
        return True
    if op == MSR_AREA:
        last = (a + b * SIXTEEN - ONE) & ALL_ONES
        return a & FIFTEEN == ZERO and a & c == ZERO and last & c == ZERO
    if op == SHIFTED:
        return a == (b << c) & ALL_ONES
    if op == RANGE:
        last = (a + b - ONE) & ALL_ONES
        return a & c == ZERO and last & c == ZERO
    number = (a & c) >> words[code[at + D]]
    found = number < SIXTY_FOUR and (b >> number) & ONE != ZERO
    return found == (op == MEMBER)


@jit("int64(int64[::1], int64, uint64[::1])")
def resume(code: Table, start: int, words: Words) -> Any:
    """Carry out instructions from `start` on until one stops or meets an effect: its place.

    Derived words are written into `words`.  Past the last instruction: the length of `code`.
    """
    at = start
    end = len(code)
    while at < end:
        op = code[at]
        a = words[code[at + A]]
        b = words[code[at + B]]
        c = words[code[at + C]]
        if op <= DIFFERS:
            good = (a & b == c) == (op == COMPARES)
        elif op < MEETS:
            good = holds(op, code, at, a, b, c, words)
        elif op == DERIVES:
            words[code[at + D]] = (a >> c) & b
            good = True
        elif op == CLEARS:
            words[code[at + D]] = ZERO
            good = True
        else:
            return at
        target = code[at + THEN] if good else code[at + ELSE]
        if target < 0:
            return at
        at = target * SIZE
    return end


@jit("int64(int64[::1], uint64[::1], int64[::1])")
def first_stop(code: Table, words: Words, effects: Table) -> Any:
    """Index of the row that ends the program for `words`; the number of rows when none does.

    Derived words are written into `words`; effects[0] gets the bit of every effect met on the way.
    """
    met = 0
    end = len(code)
    at = resume(code, 0, words)
    while at < end and code[at] == MEETS:
        met |= 1 << code[at + A]
        at = resume(code, code[at + THEN] * SIZE, words)
    effects[0] = met
    return code[at + ROW] if at < end else code[end - SIZE + ROW] + 1


@jit("int64(int64[::1], uint64[::1], uint8[::1])")
def every_failure(code: Table, words: Words, failed: NDArray[np.uint8]) -> int:
    """Mark in `failed` (a byte a row) each check that applies and fails; ends only at a return.

    `failed` must come zeroed.  Returns the number of failures.
    """
    count = 0
    end = len(code)
    at = resume(code, 0, words)
    while at < end and code[at] != RETURNS:
        if code[at] != MEETS:
            failed[code[at + ROW]] = 1
            count += 1
        at = resume(code, code[at + THEN] * SIZE, words)
    return count


@jit("void(int64[::1], uint64[:, ::1], int64[::1])")
def first_stops(code: Table, words: Words, stops: Table) -> None:
    """`first_stop` for each row of `words` (N, words): its index goes into stops (N,)."""
    effects = np.zeros(1, np.int64)
    for i in range(words.shape[0]):
        stops[i] = first_stop(code, words[i], effects)


@jit("void(const uint8[::1], int64[::1], uint64[::1])")
def load_words(record: NDArray[np.uint8], fields: Table, words: Words) -> None:
    """Put fields of `record` into `words`: `fields` has offset, width and position, one by one."""
    for f in range(0, fields.size, 3):
        at, width, position = fields[f], fields[f + 1], fields[f + 2]
        if width == 8:
            words[position] = load_u64(record, at)
        elif width == 4:
            words[position] = load_u32(record, at)
        elif width == 2:
            words[position] = load_u16(record, at)
        else:
            words[position] = load_u8(record, at)


@jit("void(const uint8[:, ::1], int64[::1], uint64[::1], int64[::1], int64[::1])")
def judge_records(
    records: NDArray[np.uint8], fields: Table, environment: Words, code: Table, stops: Table
) -> None:
    """Walk a program over N records that share one environment.

    `records` is (N, size); `fields` as in `load_words`.  `environment` (words,) holds every other
    word; `stops` (N,) gets the index of the stopping row.
    """
    words = environment.copy()
    effects = np.zeros(1, np.int64)
    for i in range(records.shape[0]):
        load_words(records[i], fields, words)
        stops[i] = first_stop(code, words, effects)
