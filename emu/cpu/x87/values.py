"""Floating-point values: encodings taken apart, exact results rounded into them.

SDM Vol. 1, Floating-Point Data Types; Rounding; x87 FPU Floating-Point Exception Conditions.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32
NEAREST, DOWN, UP, CHOP = range(4)
INTEGER_BIT, QUIET_BIT = 1 << 63, 1 << 62
TOP_EXPONENT, BIAS = 0x7FFF, 16383
SCALE = 24576  # SDM Vol. 1, Numeric Overflow Exception: by what an unmasked result is scaled


class Kind(IntEnum):
    """Classes of operands, as FXAM tells them; denormals are finite."""

    ZERO = 0
    FINITE = 1
    INFINITY = 2
    QNAN = 3
    SNAN = 4
    UNSUPPORTED = 5


class Bits(NamedTuple):
    """A double extended-precision encoding: sign and exponent, significand."""

    exponent: int
    significand: int


class Value(NamedTuple):
    """A number is (-1)^sign * m * 2^e; of a NaN, m is the 64-bit significand."""

    kind: Kind
    sign: int
    m: int = 0
    e: int = 0
    denormal: bool = False

    @property
    def is_nan(self) -> bool:
        """Whether it is a NaN of either kind."""
        return self.kind in (Kind.QNAN, Kind.SNAN)

    def negated(self) -> Value:
        """The same with the other sign."""
        return self._replace(sign=self.sign ^ 1)


class Exact(NamedTuple):
    """A result that is not zero, before rounding: (-1)^sign * m * 2^e."""

    sign: int
    m: int
    e: int


class Format(NamedTuple):
    """Where results are rounded.

    Significand bits; exponents of the smallest and largest normal number and of the last bit of
    denormals.
    """

    precision: int
    minimum: int
    maximum: int
    least: int


class Rounded(NamedTuple):
    """A result m * 2^e in its format, and what rounding did to it."""

    m: int
    e: int
    inexact: bool
    up: bool
    tiny: bool
    over: bool


SINGLE: Final = Format(24, -126, 127, -149)
DOUBLE: Final = Format(53, -1022, 1023, -1074)
# by the precision-control field; 01 is reserved. SDM Vol. 1, Precision Control Field
EXTENDED: Final = tuple(Format(p, -16382, 16383, -16445 + 64 - p) for p in (24, 64, 53, 64))
INDEFINITE: Final = Bits(0xFFFF, INTEGER_BIT | QUIET_BIT)


def zero(sign: int) -> Bits:
    """A zero."""
    return Bits(sign << 15, 0)


def infinity(sign: int) -> Bits:
    """An infinity."""
    return Bits(sign << 15 | TOP_EXPONENT, INTEGER_BIT)


def unpacked(bits: Bits) -> Value:
    """The value of a double extended-precision encoding."""
    sign, field, m = bits.exponent >> 15, bits.exponent & TOP_EXPONENT, bits.significand
    if field == 0:
        if m == 0:
            return Value(Kind.ZERO, sign)
        return Value(Kind.FINITE, sign, m, -16445, denormal=True)
    if not m & INTEGER_BIT:
        return Value(Kind.UNSUPPORTED, sign)
    if field < TOP_EXPONENT:
        return Value(Kind.FINITE, sign, m, field - BIAS - 63)
    if m == INTEGER_BIT:
        return Value(Kind.INFINITY, sign)
    return Value(Kind.QNAN if m & QUIET_BIT else Kind.SNAN, sign, m)


def unpacked_float(word: int, form: Format) -> Value:
    """The value of a single- or double-precision encoding."""
    fraction = form.precision - 1
    sign = word >> (31 if form is SINGLE else 63)
    top = 2 * form.maximum + 1
    field, m = word >> fraction & top, word & (1 << fraction) - 1
    if field == top:
        if m == 0:
            return Value(Kind.INFINITY, sign)
        m = m << 63 - fraction | INTEGER_BIT
        return Value(Kind.QNAN if m & QUIET_BIT else Kind.SNAN, sign, m)
    if field == 0:
        if m == 0:
            return Value(Kind.ZERO, sign)
        return Value(Kind.FINITE, sign, m, form.least, denormal=True)
    return Value(Kind.FINITE, sign, m | 1 << fraction, field - form.maximum - fraction)


def from_integer(number: int) -> Value:
    """The value of an integer."""
    if number == 0:
        return Value(Kind.ZERO, 0)
    return Value(Kind.FINITE, int(number < 0), abs(number), 0)


def packed(value: Value) -> Bits:
    """The encoding of a value that the double extended format holds exactly."""
    if value.kind == Kind.FINITE:
        return encoded(value.sign, value.m, value.e)
    if value.kind == Kind.INFINITY:
        return infinity(value.sign)
    if value.is_nan:
        return Bits(value.sign << 15 | TOP_EXPONENT, value.m)
    return zero(value.sign)


def encoded(sign: int, m: int, e: int) -> Bits:
    """The encoding of m * 2^e, which fits."""
    if m == 0:
        return zero(sign)
    top = e + m.bit_length() - 1
    field = top + BIAS
    least = max(top - 63, -16445)
    m = m << e - least if e >= least else m >> least - e
    return Bits(sign << 15 | max(field, 0), m)


def encoded_float(sign: int, m: int, e: int, form: Format) -> int:
    """The single- or double-precision encoding of m * 2^e, which fits."""
    fraction = form.precision - 1
    word = sign << (31 if form is SINGLE else 63)
    if m == 0:
        return word
    top = e + m.bit_length() - 1
    least = max(top - fraction, form.least)
    m = m << e - least if e >= least else m >> least - e
    field = max(top - form.minimum, 0)  # the integer bit of a normal number adds one
    return word | (field << fraction) + m


# rounding


def goes_up(sign: int, mode: int, rest: int, half: int, odd: int) -> bool:
    """Whether a magnitude with `rest` below its last bit is rounded away from zero."""
    if mode == NEAREST:
        return rest > half or (rest == half and odd == 1)
    return rest != 0 and mode == (DOWN if sign else UP)


def cut(sign: int, m: int, e: int, least: int, mode: int) -> tuple[int, bool, bool]:
    """Round m * 2^e to a multiple of 2^least; whether it is inexact, whether it was rounded up."""
    drop = least - e
    if drop <= 0:
        return m << -drop, False, False
    kept, rest = m >> drop, m & (1 << drop) - 1
    up = goes_up(sign, mode, rest, 1 << drop - 1, kept & 1)
    return kept + up, rest != 0, up


def rounded(value: Exact, form: Format, mode: int) -> Rounded:
    """A result rounded to a format; underflow is detected after rounding."""
    sign, m, e = value
    top = e + m.bit_length() - 1
    normal = top - form.precision + 1
    tiny = False
    least = normal
    if top < form.minimum:
        unbounded, _, _ = cut(sign, m, e, normal, mode)
        tiny = normal + unbounded.bit_length() - 1 < form.minimum
        least = max(normal, form.least)
    kept, inexact, up = cut(sign, m, e, least, mode)
    over = least + kept.bit_length() - 1 > form.maximum
    return Rounded(kept, least, inexact, up, tiny, over)


def largest(form: Format) -> Rounded:
    """The largest finite number of a format, as overflow gives it."""
    m = (1 << form.precision) - 1
    return Rounded(m, form.maximum - form.precision + 1, True, False, False, True)


def overflows_to_infinity(sign: int, mode: int) -> bool:
    """Whether a masked overflow gives infinity. SDM Vol. 1, Masked Responses to Overflow."""
    return mode == NEAREST or mode == (DOWN if sign else UP)


def integral(value: Value, mode: int) -> tuple[int, bool, bool]:
    """A finite number as an integer; whether that is inexact, whether it was rounded up."""
    if value.kind == Kind.ZERO:
        return 0, False, False
    if value.e < -value.m.bit_length() - 2:
        # far below one half
        up = goes_up(value.sign, mode, 1, 2, 0)
        return (-1 if value.sign else 1) * up, True, up
    m, inexact, up = cut(value.sign, value.m, value.e, 0, mode)
    return -m if value.sign else m, inexact, up
