"""Checks as rows: what a program of checks is written in.

A check is a name, where it stands in the manual or the kernel, a predicate over *words*, and the
conditions under which it applies.  A word is an unsigned 64-bit value with a name: a VMCS field, a
header word, a capability MSR, a property of the vCPU.  What is checked is therefore data;
`vmcs.check_programs` compiles rows and walks them, once for the processor's own VM entry, for KVM's
checks of any release, and for a hundred thousand blobs.

A program has four kinds of row:

=========  =========================================================================
`check`    stops the walk when it applies and its predicate does not hold
`returns`  stops the walk when it applies: the rest of the program is not reached
`effect`   is recorded when it applies: the caller carries the effects out in order
`let`      writes a derived word for later rows: bits of a word, or 0 where it does not apply
=========  =========================================================================
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

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
