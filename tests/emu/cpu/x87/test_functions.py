"""Transcendental functions beside mpmath: correctly rounded, in every rounding mode."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath
import pytest

from emu.cpu.x87 import functions
from emu.cpu.x87.values import EXTENDED, Exact, rounded

FULL = EXTENDED[3]
BITS = 640
DOWN, UP = 1, 2
QUARTER = Fraction(functions.PI_66, 1 << 65)


def number(sign: int, m: int, e: int) -> Fraction:
    value = Fraction(m) * Fraction(2) ** e
    return -value if sign else value


def argument(rng: random.Random, least: int, most: int) -> tuple[int, int, int]:
    """Sign, significand and exponent of a double extended-precision number."""
    m = rng.getrandbits(64) | 1 << 63
    if rng.random() < 0.2:
        m = m >> rng.randrange(1, 63) << 1 | 1
    return rng.getrandbits(1), m, rng.randrange(least, most) - 63


def exact(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


def brackets(result: Exact, true: mpmath.mpf) -> bool:
    """Whether rounding down and rounding up give the two neighbours of the true value."""
    ends = []
    for mode in (DOWN, UP):
        found = rounded(result, FULL, mode)
        ends.append(number(result.sign, found.m, found.e))
    low, high = ends
    return exact(low) < true < exact(high) and high - low == Fraction(2) ** last_place(result)


def last_place(result: Exact) -> int:
    return result.e + result.m.bit_length() - 64


def sine_of(x: Fraction, turned: int) -> mpmath.mpf:
    """The sine of x plus `turned` right angles, of the length that the 66-bit pi gives them."""
    turns = round(x / QUARTER)
    rest = exact(x - turns * QUARTER)
    quadrant = turns + turned
    value = mpmath.sin(rest) if quadrant % 2 == 0 else mpmath.cos(rest)
    return value if quadrant % 4 < 2 else -value


CASES = 150


@pytest.fixture(autouse=True)
def _precise():
    with mpmath.workprec(BITS):
        yield


@pytest.mark.parametrize("exponents", [(-70, -1), (-2, 3), (3, 62)])
@pytest.mark.parametrize("name", ["sine", "cosine_of", "tangent"])
def test_trigonometric_functions_are_correctly_rounded(name, exponents):
    rng = random.Random(f"{name} {exponents}")
    wrong = []
    for _ in range(CASES):
        x = argument(rng, *exponents)
        value = number(*x)
        up, across = sine_of(value, 0), sine_of(value, 1)
        true = {"sine": up, "cosine_of": across, "tangent": up / across}[name]
        if not brackets(getattr(functions, name)(*x), true):
            wrong.append(x)

    assert [] == wrong


@pytest.mark.parametrize("spread", [2, 60])
def test_arctangent_is_correctly_rounded(spread):
    rng = random.Random(spread)
    wrong = []
    for _ in range(CASES):
        y, x = argument(rng, -spread, spread), argument(rng, -spread, spread)
        true = mpmath.atan2(exact(number(*y)), exact(number(*x)))
        if not brackets(functions.arctangent2(y[0], y[1:], x[0], x[1:]), true):
            wrong.append((y, x))

    assert [] == wrong


@pytest.mark.parametrize("exponents", [(-70, -8), (-8, 0)])
def test_power_of_two_less_one_is_correctly_rounded(exponents):
    rng = random.Random(f"{exponents}")
    wrong = []
    for _ in range(CASES):
        x = argument(rng, *exponents)
        true = mpmath.expm1(exact(number(*x)) * mpmath.ln(2))
        if not brackets(functions.power_of_two_less_one(*x), true):
            wrong.append(x)

    assert [] == wrong


@pytest.mark.parametrize("exponents", [(-1, 1), (-60, 60), (-16000, 16000)])
def test_logarithm_is_correctly_rounded(exponents):
    rng = random.Random(f"{exponents}")
    wrong = []
    for _ in range(CASES):
        x, y = argument(rng, *exponents), argument(rng, -20, 20)
        result = functions.times(functions.logarithm(*x[1:]), *y)
        true = mpmath.log(exact(number(0, *x[1:])), 2) * exact(number(*y))
        if not brackets(result, true):
            wrong.append((x, y))

    assert [] == wrong


@pytest.mark.parametrize("exponents", [(-4000, -300), (-70, -8), (-8, -2)])
def test_logarithm_of_one_plus_is_correctly_rounded(exponents):
    rng = random.Random(f"{exponents}")
    wrong = []
    for _ in range(CASES):
        x, y = argument(rng, *exponents), argument(rng, -20, 20)
        result = functions.times(functions.logarithm_of_one_plus(*x), *y)
        with mpmath.workprec(BITS + 4100):
            true = mpmath.log1p(exact(number(*x))) / mpmath.ln(2) * exact(number(*y))
        if not brackets(result, true):
            wrong.append((x, y))

    assert [] == wrong


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (functions.power_of_two_less_one(0, 1, 0), 1),
        (functions.power_of_two_less_one(1, 1, 0), Fraction(-1, 2)),
        (functions.times(functions.logarithm(1, -3), 0, 5, 0), -15),
    ],
)
def test_results_that_are_numbers_of_the_format_are_exact(result, value):
    assert value == number(*result)
