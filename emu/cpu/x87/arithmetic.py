"""Operations on values, exact: what precision and rounding control do to a result comes after.

Each gives the exceptions found before there is a result (IE, DE, ZE), and the result: exact and
still to be rounded, or encoded. SDM Vol. 1, x87 FPU Floating-Point Exception Conditions.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from emu.cpu.x87.values import (
    DE,
    DOWN,
    IE,
    INDEFINITE,
    QUIET_BIT,
    TOP_EXPONENT,
    ZE,
    Bits,
    Exact,
    Kind,
    Value,
    cut,
    infinity,
    packed,
    zero,
)

Answer = tuple[int, Exact | Bits]
FAR = 1 << 17  # a power of two beyond every result
QUOTIENT_BITS = 67  # the significand, and enough for rounding

INVALID: Answer = (IE, INDEFINITE)


class Remainder(NamedTuple):
    """What FPREM and FPREM1 leave: `quotient` is None while the reduction is partial."""

    flags: int
    result: Exact | Bits
    quotient: int | None


def quieted(value: Value) -> Bits:
    """A NaN made quiet."""
    return Bits(value.sign << 15 | TOP_EXPONENT, value.m | QUIET_BIT)


def special(*operands: Value) -> Answer | None:
    """The answer when an operand is a NaN or no number at all. SDM Vol. 1, Rules for Handling NaNs.

    Of a quiet and a signaling NaN it is the quiet one, of two alike the larger, of equals the
    positive one.
    """
    if any(v.kind == Kind.UNSUPPORTED for v in operands):
        return INVALID
    nans = [v for v in operands if v.is_nan]
    if not nans:
        return None
    flags = IE if any(v.kind == Kind.SNAN for v in nans) else 0
    quiet = [v for v in nans if v.kind == Kind.QNAN]
    return flags, quieted(max(quiet or nans, key=lambda v: (v.m, -v.sign)))


def denormal(*operands: Value) -> int:
    """DE when an operand is denormal."""
    return DE if any(v.denormal for v in operands) else 0


def add(a: Value, b: Value, mode: int) -> Answer:
    """A + b."""
    if found := special(a, b):
        return found
    if a.kind == Kind.INFINITY and b.kind == Kind.INFINITY and a.sign != b.sign:
        return INVALID
    flags = denormal(a, b)
    for value in (a, b):
        if value.kind == Kind.INFINITY:
            return flags, infinity(value.sign)
    e = min(v.e for v in (a, b) if v.kind == Kind.FINITE) if a.m or b.m else 0
    total = sum((-v.m if v.sign else v.m) << v.e - e for v in (a, b) if v.m)
    if total:
        return flags, Exact(int(total < 0), abs(total), e)
    same = a.sign == b.sign and not a.m
    return flags, zero(a.sign if same else int(mode == DOWN))


def subtract(a: Value, b: Value, mode: int) -> Answer:
    """A - b."""
    return add(a, b if b.is_nan else b.negated(), mode)


def multiply(a: Value, b: Value, _: int) -> Answer:
    """A * b."""
    if found := special(a, b):
        return found
    sign = a.sign ^ b.sign
    kinds = {a.kind, b.kind}
    if kinds == {Kind.ZERO, Kind.INFINITY}:
        return INVALID
    flags = denormal(a, b)
    if Kind.INFINITY in kinds:
        return flags, infinity(sign)
    if Kind.ZERO in kinds:
        return flags, zero(sign)
    return flags, Exact(sign, a.m * b.m, a.e + b.e)


def divide(a: Value, b: Value, _: int) -> Answer:
    """A / b."""
    if found := special(a, b):
        return found
    sign = a.sign ^ b.sign
    if a.kind == b.kind and a.kind in (Kind.ZERO, Kind.INFINITY):
        return INVALID
    if b.kind == Kind.ZERO and a.kind == Kind.FINITE:
        return ZE, infinity(sign)
    flags = denormal(a, b)
    if a.kind == Kind.INFINITY:
        return flags, infinity(sign)
    if b.kind == Kind.INFINITY or a.kind == Kind.ZERO:
        return flags, zero(sign)
    shift = max(QUOTIENT_BITS + b.m.bit_length() - a.m.bit_length(), 0)
    quotient, rest = divmod(a.m << shift, b.m)
    return flags, Exact(sign, quotient << 1 | (rest != 0), a.e - b.e - shift - 1)


def root(a: Value) -> Answer:
    """The square root of a."""
    if found := special(a):
        return found
    if a.kind == Kind.ZERO:
        return 0, packed(a)
    if a.sign:
        return INVALID
    if a.kind == Kind.INFINITY:
        return 0, packed(a)
    shift = 140 - a.m.bit_length()
    shift += (a.e - shift) & 1
    square = a.m << shift
    found_root = isqrt(square)
    inexact = found_root * found_root != square
    return denormal(a), Exact(0, found_root << 1 | inexact, (a.e - shift) // 2 - 1)


def scale(a: Value, b: Value) -> Answer:
    """FSCALE: a * 2^trunc(b)."""
    if found := special(a, b):
        return found
    flags = denormal(a, b)
    if b.kind == Kind.INFINITY:
        if a.kind == (Kind.INFINITY if b.sign else Kind.ZERO):
            return INVALID
        return flags, zero(a.sign) if b.sign else infinity(a.sign)
    if a.kind != Kind.FINITE:
        return flags, packed(a)
    power = min(b.m << b.e, FAR) if 0 <= b.e < 64 else FAR if b.e > 0 else b.m >> -b.e
    return flags, Exact(a.sign, a.m, a.e + (-min(power, FAR) if b.sign else min(power, FAR)))


def remainder(a: Value, b: Value, nearest: bool) -> Remainder:
    """FPREM and FPREM1: a less a multiple of b, exactly; at most 63 bits of quotient a step."""
    if found := special(a, b):
        return Remainder(*found, 0)
    if a.kind == Kind.INFINITY or b.kind == Kind.ZERO:
        return Remainder(*INVALID, 0)
    flags = denormal(a, b)
    if a.kind == Kind.ZERO:
        return Remainder(flags, packed(a), 0)
    if b.kind == Kind.INFINITY:
        return Remainder(flags, Exact(a.sign, a.m, a.e), 0)
    distance = a.e + a.m.bit_length() - b.e - b.m.bit_length()
    e = min(a.e, b.e)
    dividend, divisor = a.m << a.e - e, b.m << b.e - e
    if distance >= 64:
        step = distance & 31 | 32
        rest = dividend % (divisor << distance - step)
        result = Exact(a.sign, rest, e) if rest else zero(a.sign)
        return Remainder(flags, result, None)
    quotient, rest = divmod(dividend, divisor)
    sign = a.sign
    if nearest and (2 * rest > divisor or (2 * rest == divisor and quotient & 1)):
        quotient, rest, sign = quotient + 1, divisor - rest, sign ^ 1
    return Remainder(flags, Exact(sign, rest, e) if rest else zero(a.sign), quotient)


def extract(a: Value) -> tuple[int, Exact | Bits, Bits]:
    """FXTRACT: exceptions, the exponent as a number, and the significand."""
    if found := special(a):
        return found[0], found[1], found[1]  # type: ignore[return-value]
    if a.kind == Kind.ZERO:
        return ZE, infinity(1), packed(a)
    if a.kind == Kind.INFINITY:
        return 0, infinity(0), packed(a)
    length = a.m.bit_length()
    exponent = a.e + length - 1
    significand = Bits(a.sign << 15 | 0x3FFF, a.m << 64 - length)
    number: Exact | Bits = Exact(int(exponent < 0), abs(exponent), 0) if exponent else zero(0)
    return denormal(a), number, significand


def compare(a: Value, b: Value, quiet: bool) -> tuple[int, str]:
    """How a stands to b: "<", "=", ">" or "?" for unordered; with `quiet` a QNaN is valid."""
    kinds = {a.kind, b.kind}
    if Kind.UNSUPPORTED in kinds or Kind.SNAN in kinds:
        return IE, "?"
    if Kind.QNAN in kinds:
        return 0 if quiet else IE, "?"
    x, y = key(a), key(b)
    return denormal(a, b), "<" if x < y else ">" if x > y else "="


def key(value: Value) -> tuple[int, int, int]:
    """What orders numbers: sign class, exponent, significand."""
    if value.kind == Kind.ZERO:
        return 0, 0, 0
    direction = -1 if value.sign else 1
    if value.kind == Kind.INFINITY:
        return 2 * direction, 0, 0
    length = value.m.bit_length()
    aligned = value.m << max(64 - length, 0)
    return direction, direction * (value.e + length), direction * aligned


def to_integral(a: Value, mode: int) -> tuple[Bits, bool, bool]:
    """FRNDINT of a finite number: the result, whether it is inexact, whether it was rounded up."""
    if a.kind == Kind.ZERO or a.e >= 0:
        return packed(a), False, False
    drop = min(-a.e, 200)
    m = a.m if drop == -a.e else 1
    kept, inexact, up = cut(a.sign, m, -drop, 0, mode)
    return packed(Value(Kind.FINITE, a.sign, kept)) if kept else zero(a.sign), inexact, up
