"""Transcendental functions, to more bits than any rounding can ask for.

Numbers inside are fixed-point: integers over 2^PLACES. A result near zero is computed as its
argument times a factor near one, so that what counts are significant bits. SDM Vol. 2, FSIN, FPTAN,
FPATAN, F2XM1, FYL2X, FYL2XP1; Vol. 1, Approximation of Pi.
"""

from __future__ import annotations

import functools
from math import isqrt
from typing import NamedTuple

from emu.cpu.x87.values import Exact

PLACES = 256
ONE = 1 << PLACES
STICKY = 2  # bits below a result that is never exact

# the 66-bit significand that argument reduction uses: pi = PI_66 * 2^-64
PI_66 = 0x3243F6A8885A308D3


class Float(NamedTuple):
    """A positive number m * 2^e with PLACES significant bits or more."""

    m: int
    e: int


@functools.cache
def pi() -> int:
    """Pi by Machin's formula, in fixed point."""
    return 4 * (4 * inverse_arctangent(5) - inverse_arctangent(239)) >> GUARD


GUARD = 32


def inverse_arctangent(n: int) -> int:
    """arctan(1/n), with GUARD more places."""
    total, term, k = 0, (ONE << GUARD) // n, 1
    while term:
        total += term // k if k & 2 == 0 else -(term // k)
        term //= n * n
        k += 2
    return total


@functools.cache
def ln2() -> int:
    """The natural logarithm of 2, as 2 artanh(1/3), in fixed point."""
    total, term, k = 0, (ONE << GUARD + 1) // 3, 1
    while term:
        total += term // k
        term //= 9
        k += 2
    return total >> GUARD


def inexact(sign: int, m: int, e: int) -> Exact:
    """A result that stands for a number just beside m * 2^e."""
    return Exact(sign, m << STICKY | 1, e - STICKY)


def square_of(m: int, e: int) -> int:
    """(m * 2^e)^2 in fixed point."""
    shift = 2 * e + PLACES
    return m * m << shift if shift >= 0 else m * m >> -shift


# sine and cosine


class Angle(NamedTuple):
    """An angle less a multiple of pi/2: |rest| <= pi/4 with its sign, and the quadrant."""

    sign: int
    m: int
    e: int
    quadrant: int


def reduced(sign: int, m: int, e: int) -> Angle:
    """The angle m * 2^e in the quadrants that the 66-bit pi makes, exactly."""
    quarter_e = -65  # PI_66 * 2^-65 is pi/2
    if e + m.bit_length() < 0:
        return Angle(sign, m, e, 0)
    low = min(e, quarter_e)
    angle, quarter = m << e - low, PI_66 << quarter_e - low
    quadrant, rest = divmod(angle, quarter)
    if 2 * rest > quarter:
        quadrant, rest, sign_of_rest = quadrant + 1, quarter - rest, 1
    else:
        sign_of_rest = 0
    if sign:
        quadrant, sign_of_rest = -quadrant, sign_of_rest ^ 1
    return Angle(sign_of_rest, rest, low, quadrant & 3)


def sine_factor(m: int, e: int) -> int:
    """sin(x) / x for small x = m * 2^e."""
    square = square_of(m, e)
    total, term, k = ONE, ONE, 2
    while term:
        term = term * square >> PLACES
        term //= k * (k + 1)
        total += -term if k & 2 else term
        k += 2
    return total


def cosine(m: int, e: int) -> int:
    """cos(x) for small x = m * 2^e."""
    square = square_of(m, e)
    total, term, k = ONE, ONE, 1
    while term:
        term = term * square >> PLACES
        term //= k * (k + 1)
        total += term if k & 2 else -term
        k += 2
    return total


def of_quadrant(angle: Angle, quadrant: int) -> Exact:
    """The sine of the angle's rest plus `quadrant` right angles."""
    flipped = quadrant >> 1 & 1
    if quadrant & 1 == 0:
        # just below the factor, which is less than one
        factor = sine_factor(angle.m, angle.e) - 1
        return inexact(angle.sign ^ flipped, angle.m * factor, angle.e - PLACES)
    return inexact(flipped, cosine(angle.m, angle.e) - 1, -PLACES)


def sine(sign: int, m: int, e: int) -> Exact:
    """The sine of an angle that is not zero."""
    angle = reduced(sign, m, e)
    return of_quadrant(angle, angle.quadrant)


def cosine_of(sign: int, m: int, e: int) -> Exact:
    """The cosine of an angle that is not zero."""
    angle = reduced(sign, m, e)
    return of_quadrant(angle, angle.quadrant + 1)


def tangent(sign: int, m: int, e: int) -> Exact:
    """The tangent of an angle that is not zero."""
    angle = reduced(sign, m, e)
    up = of_quadrant(angle, angle.quadrant)
    across = of_quadrant(angle, angle.quadrant + 1)
    shift = max(PLACES + across.m.bit_length() - up.m.bit_length(), 0)
    return inexact(up.sign ^ across.sign, (up.m << shift) // across.m, up.e - across.e - shift)


# arctangent


def arctangent_factor(t: int) -> int:
    """arctan(t) / t for 0 <= t <= 1 in fixed point."""
    # arctan t = 2 arctan(t / (1 + sqrt(1 + t^2))), three times
    halvings, divisor = 3, ONE
    for _ in range(halvings):
        below = ONE + isqrt(ONE * ONE + t * t)
        t = t * ONE // below
        divisor = divisor * below >> PLACES
    square = t * t >> PLACES
    total, power, k = ONE, ONE, 3
    while power:
        power = power * square >> PLACES
        total += -(power // k) if k & 2 else power // k
        k += 2
    return (total << halvings) * ONE // divisor


def arctangent(y: tuple[int, int], x: tuple[int, int]) -> Float:
    """arctan(y / x) of positive numbers (m, e), y at most x."""
    shift = PLACES + x[0].bit_length() - y[0].bit_length() + 1
    m, e = (y[0] << shift) // x[0], y[1] - x[1] - shift
    t = m >> -e - PLACES if -e - PLACES >= 0 else m << e + PLACES
    return Float(m * arctangent_factor(min(t, ONE)), e - PLACES)


def fixed(number: Float) -> int:
    """A number below 4 in fixed point."""
    shift = number.e + PLACES
    return number.m << shift if shift >= 0 else number.m >> -shift


def arctangent2(sign_y: int, y: tuple[int, int], sign_x: int, x: tuple[int, int]) -> Exact:
    """The angle of the point (x, y), neither of them zero."""
    steep = y[1] + y[0].bit_length() - x[1] - x[0].bit_length()
    e = min(y[1], x[1])
    if abs(steep) > 1:
        above = steep > 0
    else:
        above = y[0] << y[1] - e > x[0] << x[1] - e
    if not above and not sign_x:
        angle = arctangent(y, x)
        return inexact(sign_y, angle.m, angle.e)
    if above:
        turn = fixed(arctangent(x, y))
        whole = (pi() >> 1) + (turn if sign_x else -turn)
    else:
        whole = pi() - fixed(arctangent(y, x))
    return inexact(sign_y, whole, -PLACES)


# exponential and logarithms


def power_of_two_less_one(sign: int, m: int, e: int) -> Exact:
    """2^x - 1 for 0 < |x| <= 1; exact at the ends."""
    if m.bit_length() + e - 1 == 0 and m == 1 << m.bit_length() - 1:
        return Exact(1, 1, -1) if sign else Exact(0, 1, 0)
    shift = e + PLACES
    u = (m << shift if shift >= 0 else m >> -shift) * ln2() >> PLACES
    u = -u if sign else u
    # (exp(u) - 1) / u
    total, term, k = ONE, ONE, 2
    while term not in (0, -1):
        term = (term * u >> PLACES) // k
        total += term
        k += 1
    factor = ln2() * total >> PLACES
    return inexact(sign, m * factor, e - PLACES)


def logarithm_factor(square: int) -> int:
    """log2((1 + z) / (1 - z)) / z by z^2."""
    total, power, k = ONE, ONE, 3
    while power:
        power = power * square >> PLACES
        total += power // k
        k += 2
    return (total << 1) * ONE // ln2()


class Logarithm(NamedTuple):
    """A binary logarithm: exact ones are integers."""

    sign: int
    m: int
    e: int
    exact: bool


def ratio(numerator: int, denominator: int) -> Float:
    """A quotient of positive integers."""
    shift = max(PLACES + denominator.bit_length() - numerator.bit_length(), 0)
    return Float((numerator << shift) // denominator, -shift)


def logarithm(m: int, e: int) -> Logarithm:
    """log2(m * 2^e)."""
    length = m.bit_length()
    power, one = e + length - 1, 1 << length - 1
    if m == one:
        return Logarithm(int(power < 0), abs(power), 0, True)
    # between the root of one half and the root of two
    if m * m > 2 * one * one:
        power, one = power + 1, one << 1
    sign = int(m < one)
    z = ratio(abs(m - one), m + one)
    factor = logarithm_factor(square_of(z.m, z.e))
    if power == 0:
        return Logarithm(sign, z.m * factor, z.e - PLACES, False)
    part = fixed(Float(z.m * factor, z.e - PLACES))
    total = (power << PLACES) + (-part if sign else part)
    return Logarithm(int(total < 0), abs(total), -PLACES, False)


def logarithm_of_one_plus(sign: int, m: int, e: int) -> Logarithm:
    """log2(1 + x) for x > -1, x not zero."""
    if e < 0 and e + m.bit_length() < -1:
        # log2(1 + x) = log2((1 + z) / (1 - z)) with z = x / (2 + x)
        if e < -2 * PLACES:
            factor = (ONE << PLACES) // ln2()
            return Logarithm(sign, m * factor, e - PLACES, False)
        two = 2 << -e
        z = ratio(m, two - m if sign else two + m)
        factor = logarithm_factor(square_of(z.m, z.e))
        return Logarithm(sign, z.m * factor, z.e - PLACES, False)
    low = min(e, 0)
    one, part = 1 << -low, m << e - low
    return logarithm(one - part if sign else one + part, low)


def times(logarithm_: Logarithm, sign: int, m: int, e: int) -> Exact:
    """A number times a logarithm that is not zero."""
    both = sign ^ logarithm_.sign
    if logarithm_.exact:
        return Exact(both, m * logarithm_.m, e + logarithm_.e)
    return inexact(both, m * logarithm_.m, e + logarithm_.e)
