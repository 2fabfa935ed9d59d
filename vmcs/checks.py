"""Checks as rows, and the one walk that decides.

A check is a name, where it stands in the manual or the kernel, a predicate over *words*, and the
conditions under which it applies.  A word is an unsigned 64-bit value with a name: a VMCS field, a
header word, a capability MSR, a property of the vCPU.  A `Vocabulary` fixes the order of the words;
`compile_program` turns rows into integer tables over that order, and the jitted functions below
walk those tables.  What is checked is therefore data, and the walk is written once for the
processor's own VM entry, for KVM's checks of any release, and for a whole fleet.

A program has four kinds of row:

=========  =========================================================================
`check`    stops the walk when it applies and its predicate does not hold
`returns`  stops the walk when it applies: the rest of the program is not reached
`effect`   is recorded when it applies: the caller carries the effects out in order
`let`      writes a derived word for later rows: bits of a word, or 0 where it does not apply
=========  =========================================================================
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmcs.jit import jit

Words = NDArray[np.uint64]
Table = NDArray[np.int64]
Operand = str | int

ALL_BITS = 0xFFFF_FFFF_FFFF_FFFF


class Shape(IntEnum):
    """What a predicate asserts of its operands a, b, c, d."""

    BITS_CLEAR = 0  # a & b == 0
    BITS_SET = 1  # a & b == b
    ANY_SET = 2  # a & b != 0
    EQUAL = 3  # a & c == b
    DIFFERENT = 4  # a & c != b
    AT_MOST = 5  # a <= b
    AT_LEAST = 6  # a >= b
    ALLOWED = 7  # every bit of b is set in a, and no bit outside b | c
    SAME = 8  # (a & c != 0) == (b & d != 0)
    CANONICAL = 9  # a is canonical for a linear-address width of b bits
    MEMORY_TYPES = 10  # each byte of a is a memory type that IA32_PAT may hold
    MSR_AREA = 11  # b MSR entries at a are 16-byte aligned and clear of c throughout
    RANGE = 12  # the first and the last of the b bytes at a are clear of c
    SHIFTED = 13  # a == b << c
    MEMBER = 14  # bit number (a & c) >> d of the set b is 1
    NO_MEMBER = 15  # bit number (a & c) >> d of the set b is 0


class Kind(IntEnum):
    """What a row of a program does."""

    CHECK = 0
    RETURNS = 1
    EFFECT = 2
    LET = 3


class Predicate(NamedTuple):
    """One assertion: a shape and its operands, names of words or constants."""

    shape: Shape
    a: Operand
    b: Operand = 0
    c: Operand = 0
    d: Operand = 0


class Row(NamedTuple):
    """One row of a program.

    `section` is the manual's section title, or the kernel's ``file: symbol``.  `result` is what the
    walk's caller reports when the row stops it: an errno for a check, a return value for `returns`;
    a word's name when the value depends on the release.  `target` is the word that a `let` writes.
    """

    kind: Kind
    name: str
    section: str
    predicate: Predicate
    when: tuple[Predicate, ...] = ()
    result: Operand = 0
    target: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the row's own predicate reads, in order, without repetition."""
        p = self.predicate
        return tuple(dict.fromkeys(x for x in (p.a, p.b, p.c, p.d) if isinstance(x, str)))


TRUE = Predicate(Shape.EQUAL, 0, 0, 0)


# Conditions: predicates without a name ------------------------------------------------------------
def has(word: Operand, mask: Operand) -> Predicate:
    """Every bit of `mask` is set in `word`."""
    return Predicate(Shape.BITS_SET, word, mask)


def has_any(word: Operand, mask: Operand = ALL_BITS) -> Predicate:
    """At least one bit of `mask` is set in `word`."""
    return Predicate(Shape.ANY_SET, word, mask)


def lacks(word: Operand, mask: Operand = ALL_BITS) -> Predicate:
    """No bit of `mask` is set in `word`."""
    return Predicate(Shape.BITS_CLEAR, word, mask)


def lacks_some(word: Operand, mask: Operand) -> Predicate:
    """At least one bit of `mask` is clear in `word`."""
    return Predicate(Shape.DIFFERENT, word, mask, mask)


def is_equal(word: Operand, value: Operand, mask: Operand = ALL_BITS) -> Predicate:
    """The bits of `word` in `mask` equal `value`."""
    return Predicate(Shape.EQUAL, word, value, mask)


def is_not(word: Operand, value: Operand, mask: Operand = ALL_BITS) -> Predicate:
    """The bits of `word` in `mask` differ from `value`."""
    return Predicate(Shape.DIFFERENT, word, value, mask)


def below(word: Operand, limit: int) -> Predicate:
    """`word` is less than the constant `limit`."""
    return Predicate(Shape.AT_MOST, word, limit - 1)


def is_in(word: Operand, members: Iterable[int], mask: int = ALL_BITS) -> Predicate:
    """The field of `word` under `mask` is one of `members`, numbers below 64."""
    return Predicate(Shape.MEMBER, word, _set_of(members), mask, _lowest(mask))


def is_not_in(word: Operand, members: Iterable[int], mask: int = ALL_BITS) -> Predicate:
    """The field of `word` under `mask` is none of `members`, numbers below 64."""
    return Predicate(Shape.NO_MEMBER, word, _set_of(members), mask, _lowest(mask))


def _set_of(members: Iterable[int]) -> int:
    return sum(1 << member for member in sorted(set(members)))


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def at_least_(word: Operand, limit: Operand) -> Predicate:
    """`word` is `limit` or more."""
    return Predicate(Shape.AT_LEAST, word, limit)


# Checks: the constructor's name is the shape ------------------------------------------------------
When = Iterable[Predicate] | Predicate


def _conditions(when: When) -> tuple[Predicate, ...]:
    return (when,) if isinstance(when, Predicate) else tuple(when)


def check(
    name: str, section: str, predicate: Predicate, when: When = (), result: Operand = 0
) -> Row:
    """A check of any predicate; the constructors below are its common forms."""
    return Row(Kind.CHECK, name, section, predicate, _conditions(when), result)


def bits_clear(
    name: str, section: str, word: Operand, mask: Operand, when: When = (), result: Operand = 0
) -> Row:
    """`word` must have every bit of `mask` clear."""
    return check(name, section, Predicate(Shape.BITS_CLEAR, word, mask), when, result)


def bits_set(
    name: str, section: str, word: Operand, mask: Operand, when: When = (), result: Operand = 0
) -> Row:
    """`word` must have every bit of `mask` set."""
    return check(name, section, Predicate(Shape.BITS_SET, word, mask), when, result)


def not_zero(
    name: str,
    section: str,
    word: Operand,
    mask: Operand = ALL_BITS,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """`word` must have at least one bit of `mask` set."""
    return check(name, section, Predicate(Shape.ANY_SET, word, mask), when, result)


def equal(
    name: str,
    section: str,
    word: Operand,
    value: Operand,
    mask: Operand = ALL_BITS,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """The bits of `word` in `mask` must equal `value`."""
    return check(name, section, Predicate(Shape.EQUAL, word, value, mask), when, result)


def differs(
    name: str,
    section: str,
    word: Operand,
    value: Operand,
    mask: Operand = ALL_BITS,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """The bits of `word` in `mask` must not equal `value`."""
    return check(name, section, Predicate(Shape.DIFFERENT, word, value, mask), when, result)


def at_most(
    name: str, section: str, word: Operand, limit: Operand, when: When = (), result: Operand = 0
) -> Row:
    """`word` must not exceed `limit`."""
    return check(name, section, Predicate(Shape.AT_MOST, word, limit), when, result)


def at_least(
    name: str, section: str, word: Operand, limit: Operand, when: When = (), result: Operand = 0
) -> Row:
    """`word` must not be less than `limit`."""
    return check(name, section, Predicate(Shape.AT_LEAST, word, limit), when, result)


def allowed(
    name: str,
    section: str,
    word: Operand,
    must_be_1: Operand,
    may_be_1: Operand,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """`word` must have the bits of `must_be_1` set and none outside those and `may_be_1`."""
    return check(name, section, Predicate(Shape.ALLOWED, word, must_be_1, may_be_1), when, result)


def same(
    name: str,
    section: str,
    word: Operand,
    mask: Operand,
    other: Operand,
    other_mask: Operand,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """A bit of `word` and a bit of `other` must be both set or both clear."""
    return check(name, section, Predicate(Shape.SAME, word, other, mask, other_mask), when, result)


def canonical(
    name: str,
    section: str,
    word: Operand,
    width: Operand = "LINEAR_ADDRESS_WIDTH",
    when: When = (),
    result: Operand = 0,
) -> Row:
    """`word` must be a canonical linear address."""
    return check(name, section, Predicate(Shape.CANONICAL, word, width), when, result)


def memory_types(
    name: str, section: str, word: Operand, when: When = (), result: Operand = 0
) -> Row:
    """Each byte of `word` must be one of the memory types 0, 1, 4, 5, 6, 7."""
    return check(name, section, Predicate(Shape.MEMORY_TYPES, word), when, result)


def msr_area(
    name: str,
    section: str,
    address: Operand,
    count: Operand,
    reserved: Operand = "PHYSICAL_RESERVED",
    when: When = (),
    result: Operand = 0,
) -> Row:
    """`count` 16-byte MSR entries at `address` must be aligned and within the address width."""
    predicate = Predicate(Shape.MSR_AREA, address, count, reserved)
    return check(name, section, predicate, (*_conditions(when), has_any(count)), result)


def in_range(
    name: str,
    section: str,
    address: Operand,
    size: Operand,
    reserved: Operand = "PHYSICAL_RESERVED",
    when: When = (),
    result: Operand = 0,
) -> Row:
    """The `size` bytes at `address` must lie within the address width."""
    return check(name, section, Predicate(Shape.RANGE, address, size, reserved), when, result)


def returns(name: str, section: str, when: When, result: Operand = 0) -> Row:
    """Where `when` holds, the operation ends here with `result`."""
    return Row(Kind.RETURNS, name, section, TRUE, _conditions(when), result)


def effect(name: str, section: str, when: When = ()) -> Row:
    """State that the operation changes at this point, carried out by the caller by name."""
    return Row(Kind.EFFECT, name, section, TRUE, _conditions(when))


def shifted(
    name: str,
    section: str,
    word: Operand,
    other: Operand,
    left: int,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """`word` must equal `other` shifted left by `left` bits."""
    return check(name, section, Predicate(Shape.SHIFTED, word, other, left), when, result)


def one_of(
    name: str,
    section: str,
    word: Operand,
    members: Iterable[int],
    mask: int = ALL_BITS,
    when: When = (),
    result: Operand = 0,
) -> Row:
    """The field of `word` under `mask` must be one of `members`, numbers below 64."""
    return check(name, section, is_in(word, members, mask), when, result)


def let(
    target: str,
    word: Operand,
    mask: Operand = ALL_BITS,
    right: int = 0,
    when: When = (),
    section: str = "",
) -> Row:
    """`target` is `word` shifted `right` and masked where `when` holds, and 0 elsewhere."""
    source = Predicate(Shape.EQUAL, word, right, mask)
    return Row(Kind.LET, f"let {target}", section, source, _conditions(when), 0, target)


def under(section: str, *rows: Row) -> tuple[Row, ...]:
    """`rows` with `section` where they name none: a group of a table says it once."""
    return tuple(row if row.section else row._replace(section=section) for row in rows)


# Programs -----------------------------------------------------------------------------------------
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


KIND, PREDICATE, WHEN_START, WHEN_COUNT, TARGET = range(5)
SHAPE, A, B, C, D = range(5)


class Program(NamedTuple):
    """Rows compiled against a vocabulary.

    `steps` is (rows, 5) int64: kind, predicate, first condition, number of conditions, target (the
    bit of an effect, the word of a let).  `predicates` is (n, 5) int64: shape and word positions.
    """

    rows: tuple[Row, ...]
    steps: Table
    predicates: Table
    effects: tuple[Row, ...]
    positions: Mapping[str, int]

    def row_at(self, stop: int) -> Row | None:
        """The row at which a walk stopped; None when it came to the end."""
        return self.rows[stop] if stop < len(self.rows) else None


def compile_program(
    rows: Sequence[Row], vocabulary: Vocabulary, enforced: Collection[str] | None = None
) -> Program:
    """Compile `rows` in their order, keeping the named rows of `enforced` and every `let`.

    Raises ValueError for a row that names an unknown word, for two rows of one name, and for a
    name in `enforced` that no row has.
    """
    known = [row.name for row in rows]
    if len(set(known)) != len(known):
        raise ValueError(f"two rows are named {next(n for n in known if known.count(n) > 1)!r}")
    if enforced is not None:
        unknown = sorted(set(enforced) - set(known))
        if unknown:
            raise ValueError(f"no row is named {', '.join(unknown)}")
        rows = [row for row in rows if row.kind is Kind.LET or row.name in enforced]
    predicates: list[tuple[int, ...]] = []
    places: dict[tuple[Predicate, ...], int] = {}

    def place(run: tuple[Predicate, ...], owner: str) -> int:
        if run not in places:
            places[run] = len(predicates)
            for p in run:
                try:
                    operands = [vocabulary.index(x) for x in (p.a, p.b, p.c, p.d)]
                except KeyError as missing:
                    raise ValueError(f"row {owner!r} names an unknown word {missing}") from None
                predicates.append((int(p.shape), *operands))
        return places[run]

    effects = tuple(row for row in rows if row.kind is Kind.EFFECT)
    bits = {row.name: bit for bit, row in enumerate(effects)}
    steps = []
    for row in rows:
        target = bits.get(row.name, 0) if row.kind is Kind.EFFECT else 0
        if row.kind is Kind.LET:
            target = vocabulary.index(row.target)
        start = place(row.when, row.name) if row.when else 0
        steps.append(
            (int(row.kind), place((row.predicate,), row.name), start, len(row.when), target)
        )
    return Program(
        tuple(rows),
        np.array(steps, np.int64).reshape(-1, 5),
        np.array(predicates, np.int64).reshape(-1, 5),
        effects,
        {row.name: i for i, row in enumerate(rows)},
    )


# The walk -----------------------------------------------------------------------------------------
ZERO = np.uint64(0)
ONE = np.uint64(1)
BYTE = np.uint64(0xFF)
SIXTEEN = np.uint64(16)
SIXTY_FOUR = np.uint64(64)
LOW_FOUR = np.uint64(0xF)
# Bit t is set when t is a memory type that IA32_PAT may hold: UC, WC, WT, WP, WB, UC-.
PAT_TYPES = np.uint64(0b1111_0011)


@jit("boolean(int64[:, ::1], int64, uint64[::1])")
def holds(predicates: Table, at: int, words: Words) -> bool:
    """Whether predicate `at` holds for `words`."""
    shape = predicates[at, SHAPE]
    a = words[predicates[at, A]]
    b = words[predicates[at, B]]
    c = words[predicates[at, C]]
    if shape == Shape.BITS_CLEAR:
        return a & b == ZERO
    if shape == Shape.BITS_SET:
        return a & b == b
    if shape == Shape.ANY_SET:
        return a & b != ZERO
    if shape == Shape.EQUAL:
        return a & c == b
    if shape == Shape.DIFFERENT:
        return a & c != b
    if shape == Shape.AT_MOST:
        return a <= b
    if shape == Shape.AT_LEAST:
        return a >= b
    if shape == Shape.ALLOWED:
        return a & b == b and a & ~(b | c) == ZERO
    if shape == Shape.SAME:
        d = words[predicates[at, D]]
        return (a & c != ZERO) == (b & d != ZERO)
    if shape == Shape.CANONICAL:
        upper = a >> (b - ONE)
        return upper == ZERO or upper == ~ZERO >> (b - ONE)
    if shape == Shape.MEMORY_TYPES:
        rest = a
        for _ in range(8):
            kind = rest & BYTE
            if kind > np.uint64(7) or (PAT_TYPES >> kind) & ONE == ZERO:
                return False
            rest = rest >> np.uint64(8)
        return True
    if shape == Shape.MSR_AREA:
        last = a + b * SIXTEEN - ONE
        return a & LOW_FOUR == ZERO and a & c == ZERO and last & c == ZERO
    if shape == Shape.SHIFTED:
        return a == b << c
    if shape in (Shape.MEMBER, Shape.NO_MEMBER):
        number = (a & c) >> words[predicates[at, D]]
        found = number < SIXTY_FOUR and (b >> number) & ONE != ZERO
        return found == (shape == Shape.MEMBER)
    last = a + b - ONE
    return a & c == ZERO and last & c == ZERO


@jit("boolean(int64[:, ::1], int64[:, ::1], int64, uint64[::1])")
def applies(steps: Table, predicates: Table, at: int, words: Words) -> bool:
    """Whether every condition of row `at` holds for `words`."""
    start = steps[at, WHEN_START]
    for i in range(start, start + steps[at, WHEN_COUNT]):
        if not holds(predicates, i, words):
            return False
    return True


@jit("uint64(int64[:, ::1], int64, uint64[::1])")
def derive(predicates: Table, at: int, words: Words) -> np.uint64:
    """The derived word of a `let`: word a shifted right by word b, masked with word c."""
    word = words[predicates[at, A]]
    return (word >> words[predicates[at, B]]) & words[predicates[at, C]]


@jit("int64(int64[:, ::1], int64[:, ::1], uint64[::1], int64[::1])")
def first_stop(steps: Table, predicates: Table, words: Words, effects: Table) -> int:
    """Index of the row that ends the program for `words`; the number of rows when none does.

    Derived words are written into `words`; effects[0] gets the bit of every effect met on the way.
    """
    met = 0
    stop = steps.shape[0]
    for at in range(steps.shape[0]):
        kind = steps[at, KIND]
        wanted = applies(steps, predicates, at, words)
        if kind == Kind.LET:
            derived = derive(predicates, steps[at, PREDICATE], words)
            words[steps[at, TARGET]] = derived if wanted else ZERO
            continue
        if not wanted:
            continue
        if kind == Kind.EFFECT:
            met |= 1 << steps[at, TARGET]
        elif kind == Kind.RETURNS or not holds(predicates, steps[at, PREDICATE], words):
            stop = at
            break
    effects[0] = met
    return stop


@jit("int64(int64[:, ::1], int64[:, ::1], uint64[::1], uint8[::1])")
def every_failure(steps: Table, predicates: Table, words: Words, failed: NDArray[np.uint8]) -> int:
    """Mark in `failed` (a byte a row) each check that applies and fails; stops only at a return.

    Returns the number of failures.
    """
    count = 0
    failed[:] = 0
    for at in range(steps.shape[0]):
        kind = steps[at, KIND]
        if kind == Kind.EFFECT:
            continue
        wanted = applies(steps, predicates, at, words)
        if kind == Kind.LET:
            derived = derive(predicates, steps[at, PREDICATE], words)
            words[steps[at, TARGET]] = derived if wanted else ZERO
        elif wanted and kind == Kind.RETURNS:
            break
        elif wanted and not holds(predicates, steps[at, PREDICATE], words):
            failed[at] = 1
            count += 1
    return count


@jit("void(int64[:, ::1], int64[:, ::1], uint64[:, ::1], int64[::1])")
def first_stops(steps: Table, predicates: Table, words: Words, stops: Table) -> None:
    """`first_stop` for each row of `words` (N, words): its index goes into stops (N,)."""
    effects = np.zeros(1, np.int64)
    for i in range(words.shape[0]):
        stops[i] = first_stop(steps, predicates, words[i], effects)


@jit("void(uint8[:, ::1], int64[:, ::1], uint64[::1], int64[:, ::1], int64[:, ::1], int64[::1])")
def judge_records(
    records: NDArray[np.uint8],
    fields: Table,
    environment: Words,
    steps: Table,
    predicates: Table,
    stops: Table,
) -> None:
    """Walk a program over N records that share one environment.

    `records` is (N, size); `fields` is (F, 3): byte offset, width in bytes, position of the word.
    `environment` (words,) holds every other word; `stops` (N,) gets the index of the stopping row.
    """
    words = environment.copy()
    effects = np.zeros(1, np.int64)
    for i in range(records.shape[0]):
        for f in range(fields.shape[0]):
            offset = fields[f, 0]
            value = ZERO
            for k in range(fields[f, 1] - 1, -1, -1):
                value = value << np.uint64(8) | np.uint64(records[i, offset + k])
            words[fields[f, 2]] = value
        stops[i] = first_stop(steps, predicates, words, effects)


def describe(predicate: Predicate, value: Mapping[str, Any] | None = None) -> str:
    """The predicate in words, with each word's value beside its name where `value` has it."""

    def show(operand: Operand) -> str:
        if isinstance(operand, int):
            return "all bits" if operand == ALL_BITS else hex(operand)
        if value is not None and operand in value:
            return f"{operand} ({int(value[operand]):#x})"
        return operand

    a, b, c, d = (show(x) for x in predicate[1:])
    masked = "" if predicate.c == ALL_BITS else f" & {c}"
    return {
        Shape.BITS_CLEAR: f"{a} has no bit of {b}",
        Shape.BITS_SET: f"{a} has every bit of {b}",
        Shape.ANY_SET: f"{a} is not zero" if predicate.b == ALL_BITS else f"{a} has a bit of {b}",
        Shape.EQUAL: f"{a}{masked} is {b}",
        Shape.DIFFERENT: f"{a}{masked} is not {b}",
        Shape.AT_MOST: f"{a} is at most {b}",
        Shape.AT_LEAST: f"{a} is at least {b}",
        Shape.ALLOWED: f"{a} has every bit of {b} and none outside {c}",
        Shape.SAME: f"{a} & {c} and {b} & {d} are both zero or both not",
        Shape.CANONICAL: f"{a} is canonical for {b} bits",
        Shape.MEMORY_TYPES: f"each byte of {a} is a memory type of IA32_PAT",
        Shape.MSR_AREA: f"{b} MSR entries at {a} are 16-byte aligned and clear of {c}",
        Shape.SHIFTED: f"{a} is {b} shifted left by {c}",
        Shape.MEMBER: f"the field {c} of {a} is in the set {b}",
        Shape.NO_MEMBER: f"the field {c} of {a} is not in the set {b}",
        Shape.RANGE: f"the {b} bytes at {a} are clear of {c}",
    }[predicate.shape]
