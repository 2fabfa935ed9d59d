"""Whatever a guest writes to whichever device, the board goes on; and does so alike every time."""

import random

import pytest

from emu.machine.board import Board
from emu.machine.config import BoardConfig
from emu.machine.firmware import MIB
from emu.machine.lapic_registers import IA32_APIC_BASE, IA32_TSC_DEADLINE
from tests.emu.machine.parts import advance

PORTS = (
    *range(0x20, 0x22), *range(0x40, 0x44), 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0xA0, 0xA1,
    *range(0xE0, 0xF8), *range(0x3F8, 0x400), 0x4D0, 0x4D1, *range(0x510, 0x51C),
    *range(0x600, 0x60C), *range(0xCF8, 0xD00), *range(0x2000, 0x2018), 0x8900,
)  # fmt: skip
WINDOWS = (0xFEC0_0000, 0xFEE0_0000, 0xFF00_0000, 0xFED0_0000, 0xA_0000)
MSRS = (IA32_APIC_BASE, IA32_TSC_DEADLINE, *range(0x800, 0x840))


def board():
    return Board(BoardConfig(processors=2, memory=8 * MIB))


def story(seed, steps):
    """What a board answers to a random sequence of accesses."""
    chance, machine, answers = random.Random(seed), board(), []
    for _ in range(steps):
        machine.scheduler.current = chance.randrange(2)
        lapic = machine.lapics[machine.scheduler.current]
        size = chance.choice((1, 2, 4))
        value = chance.choice((0, 1, 0xFF, chance.getrandbits(8), chance.getrandbits(8 * size)))
        value &= (1 << 8 * size) - 1
        what = chance.randrange(8)
        port = chance.choice(PORTS)
        gpa = chance.choice(WINDOWS) + (chance.randrange(0x400) & ~chance.choice((0, 3, 15)))
        if what < 2:
            machine.ports.write(port, size, value)
        elif what == 2:
            answers.append(machine.ports.read(port, size))
        elif what == 3:
            machine.memory.write(gpa, value.to_bytes(size, "little"))
        elif what == 4:
            answers.append(machine.memory.read(gpa, chance.choice((1, 2, 3, 4, 8, 16, 64))))
        elif what == 5:
            answers.append(lapic.write_msr(chance.choice(MSRS), value << chance.choice((0, 32))))
            answers.append(lapic.read_msr(chance.choice(MSRS)))
        elif what == 6:
            if machine.processors[lapic.apic_id].requested:
                answers.append(lapic.acknowledge())
        else:
            advance(machine.clock, chance.randrange(20_000))
            answers.append(machine.clock.now)
    return answers


@pytest.mark.parametrize("seed", range(12))
def test_random_accesses_end_in_answers_that_are_the_same_every_time(seed):
    first = story(seed, 600)

    assert first == story(seed, 600)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_port_can_be_read_and_written(size):
    machine, answers = board(), []
    for port in range(0x1_0000):
        if port not in range(0x510, 0x51C):
            machine.ports.write(port, size, 0xA5A5A5A5 & (1 << 8 * size) - 1)
        answers.append(machine.ports.read(port, size))

    assert all(0 <= answer < 1 << 8 * size for answer in answers)
