"""ENTER with nesting levels, beside Unicorn."""

from __future__ import annotations

import random

import pytest
from iced_x86 import Decoder

from tests.emu.cpu.differential import SPAN, Rig, disagreement


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_enter_copies_the_display_of_the_enclosing_frames(bits):
    rig = Rig(bits)
    rng = random.Random(1)
    wrong = []
    for level in range(1, 32):
        code = (b"", b"\x66")[level & 1] + bytes([0xC8, rng.randrange(256), 2, level])
        case = rig.case(code, Decoder(bits, code, ip=0).decode(), rng)
        registers = list(case.registers)
        registers[5] = rig.stack - rig.stack_base + SPAN // 2 + rng.randrange(256)
        case = case._replace(registers=tuple(registers))
        difference = disagreement(case, rig.ours(case, plain=False), rig.theirs(case), 0)
        wrong += [f"{case.insn}: {difference}"] * bool(difference)

    assert [] == wrong
