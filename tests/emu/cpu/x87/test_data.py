"""x87 instructions on data, beside the host's processor, and their exceptions one by one."""

from __future__ import annotations

import random
from functools import cache

import pytest

from emu.cpu.decode import MNEMONICS
from emu.cpu.x87.data import ROWS
from emu.cpu.x87.values import DE, IE, OE, PE, UE, ZE
from tests.emu.cpu import native
from tests.emu.cpu.x87_rig import (
    UnicornX87,
    X87Case,
    X87Rig,
    X87State,
    differences,
    forms,
    full_stack,
    random_case,
    unicorn_differs,
)

# the manual leaves their last bit open, and so vendors differ: see test_functions
OPEN = {"F2XM1", "FYL2X", "FYL2XP1", "FPTAN", "FPATAN", "FSIN", "FCOS", "FSINCOS"}
# SDM Vol. 1, Denormal Operand Exception (#D): a load keeps TOP; AMD's processors push
PUSHED_BY_AMD = {"FLD"}
SEED = 1987
PARTS = 4


@cache
def rig() -> X87Rig:
    return X87Rig()


def decided() -> list:
    return [(c, i) for c, i in forms() if MNEMONICS[i.mnemonic] in ROWS.keys() - OPEN]


def disagreements(part: int, seed: int, repeat: int) -> tuple[int, list[str]]:
    rng = random.Random(f"{part} {seed}")
    wrong = []
    count = 0
    for code, insn in decided()[part::PARTS]:
        for _ in range(repeat):
            case = random_case(code, insn, rng)
            ours = rig().ours(case)
            unmasked = ours.state.fsw & ~case.state.fcw
            if MNEMONICS[insn.mnemonic] in PUSHED_BY_AMD and unmasked & DE:
                continue
            count += 1
            difference = differences(case, ours, rig().host(case))
            wrong += [f"{case}: {difference}"] * bool(difference)
    return count, wrong


@pytest.mark.skipif(not native.available(), reason="needs an x86-64 host with AVX2")
@pytest.mark.parametrize("part", range(PARTS))
def test_every_form_agrees_with_the_host(part):
    count, wrong = disagreements(part, SEED, repeat=3)

    assert [] == wrong
    assert count > 300


def of_empty_register(case: X87Case) -> bool:
    """FLD of the register that is freed for it."""
    return case.code == bytes.fromhex("d9c7")


def test_every_form_agrees_with_unicorn():
    other = UnicornX87()
    rng = random.Random(SEED)
    wrong = []
    for code, insn in decided():
        for _ in range(3):
            case = full_stack(random_case(code, insn, rng))
            if of_empty_register(case):
                continue
            difference = unicorn_differs(case, rig().ours(case), other.run(case))
            wrong += [f"{case}: {difference}"] * bool(difference)

    assert [] == wrong


def test_every_row_has_an_encoding_that_reaches_it():
    assert set() == ROWS.keys() - {MNEMONICS[insn.mnemonic] for _, insn in forms()}


ONE, TWO = (0x3FFF, 1 << 63), (0x4000, 1 << 63)
ZERO, TINY, HUGE = (0, 0), (1, 1 << 63), (0x7FFE, 1 << 63)
SNAN = (0x7FFF, 0x8000000000000001)
INDEFINITE = (0xFFFF, 0xC000000000000000)
FADD, FMUL, FDIV = bytes.fromhex("d8c1"), bytes.fromhex("d8c9"), bytes.fromhex("d8f1")

EXCEPTIONS = [
    # instruction, ST(0), ST(1), exception, masked result, unmasked result
    (FADD, SNAN, ONE, IE, (0x7FFF, 0xC000000000000001), SNAN),
    (FADD, (0, 1), ONE, DE | PE, ONE, (0, 1)),
    (FDIV, ONE, ZERO, ZE, (0x7FFF, 1 << 63), ONE),
    (FMUL, HUGE, HUGE, OE | PE, (0x7FFF, 1 << 63), None),
    (FMUL, TINY, TINY, UE | PE, ZERO, None),
]


def outcome(code: bytes, fcw: int, *stack: tuple[int, int], ftw: int = 0x03) -> X87State:
    """The state after one instruction with TOP 0 and registers as given."""
    registers = (*stack, *(((0, 0),) * (8 - len(stack))))
    state = X87State(fcw, 0, ftw, registers)
    insn = next(insn for other, insn in forms() if other == code)
    return rig().ours(X87Case(code, insn, state, 0, bytes(256))).state


@pytest.mark.parametrize(("code", "a", "b", "flags", "masked", "_"), EXCEPTIONS)
def test_a_masked_exception_gives_the_default_result(code, a, b, flags, masked, _):
    state = outcome(code, 0x37F, a, b)

    assert (flags, masked) == (state.fsw & 0xFF, state.stack[0])


@pytest.mark.parametrize(("code", "a", "b", "flags", "_", "kept"), EXCEPTIONS[:3])
def test_an_unmasked_exception_before_the_result_keeps_the_operands(code, a, b, flags, _, kept):
    state = outcome(code, 0x340, a, b)

    assert (flags & 7 | 0x8080, kept) == (state.fsw & 0x80FF, state.stack[0])


def test_unmasked_overflow_and_underflow_scale_the_result():
    # SDM Vol. 1, Numeric Overflow Exception: divided or multiplied by 2^24576
    over = outcome(FMUL, 0x377, HUGE, HUGE)
    under = outcome(FMUL, 0x36F, TINY, TINY)

    assert (OE, (2 * 0x7FFE - 0x3FFF - 24576, 1 << 63)) == (over.fsw & 0x3F, over.stack[0])
    assert (UE, (2 * 1 - 0x3FFF + 24576, 1 << 63)) == (under.fsw & 0x3F, under.stack[0])


def test_stack_faults_tell_their_direction_in_c1():
    full = outcome(bytes.fromhex("d9e8"), 0x37F, ftw=0xFF)
    empty = outcome(FADD, 0x37F, ONE, ONE, ftw=0x01)

    assert (0x241, INDEFINITE) == (full.fsw & 0x2FF, full.stack[0])
    assert (0x041, INDEFINITE) == (empty.fsw & 0x2FF, empty.stack[0])


@pytest.mark.parametrize(
    ("precision", "significand"),
    [(0, 0xAAAAAB0000000000), (2, 0xAAAAAAAAAAAAA800), (3, 0xAAAAAAAAAAAAAAAB)],
)
def test_precision_control_cuts_the_significand(precision, significand):
    state = outcome(FDIV, 0x7F | precision << 8, TWO, (0x4000, 0xC000000000000000))

    assert (0x3FFE, significand) == state.stack[0]


@pytest.mark.parametrize(("mode", "last"), [(0, 0xC235), (1, 0xC234), (2, 0xC235), (3, 0xC234)])
def test_constants_follow_rounding_control(mode, last):
    state = outcome(bytes.fromhex("d9eb"), 0x37F | mode << 10, ftw=0)

    assert (0x4000, 0xC90FDAA22168 << 16 | last) == state.stack[0]
    assert 0 == state.fsw & PE
