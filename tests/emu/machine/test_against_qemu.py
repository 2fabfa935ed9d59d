"""Random accesses to our devices and to those of a real QEMU give the same answers.

Left out is where QEMU's model and the datasheet differ and ours follows the datasheet: reserved
bits of I/O APIC entries, modem-status changes in loopback, FIFO control, counts written while an
8254 counter runs.
"""

import random

import pytest

from emu.machine.board import Board
from tests.emu.machine.qtest import QEMU, QtestMachine

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed"),
]

IOAPIC = 0xFEC0_0000
ICW = (
    *((0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0x00)),
    *((0xA0, 0x11), (0xA1, 0x70), (0xA1, 0x02), (0xA1, 0x01), (0xA1, 0x00)),
)
OCW2 = (0x20, 0xA0, *range(0x60, 0x68), *range(0xC0, 0xC8), *range(0xE0, 0xE8))
OCW3 = (0x0A, 0x0B, 0x0C, 0x48, 0x68)
FREE_LINES = (1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15)
SERIAL = 0x3F8
MODEM_CONTROL = (0x00, 0x08, 0x0B, *range(0x10, 0x20))


class Pair:
    """Both machines, driven alike."""

    def __init__(self):
        self.qemu, self.ours = QtestMachine(), Board()

    def out(self, port, value):
        self.qemu.port_write(port, 1, value)
        self.ours.ports.write(port, 1, value)

    def inb(self, port):
        return self.qemu.port_read(port, 1), self.ours.ports.read(port, 1)

    def store(self, gpa, value):
        self.qemu.store(gpa, value)
        self.ours.memory.write(gpa, value.to_bytes(4, "little"))

    def load(self, gpa):
        return self.qemu.load(gpa), int.from_bytes(self.ours.memory.read(gpa, 4), "little")


@pytest.fixture(name="pair")
def both():
    pair = Pair()
    yield pair
    pair.qemu.close()


def differences(answers):
    return [(i, hex(a), hex(b)) for i, (a, b) in enumerate(answers) if a != b]


@pytest.mark.parametrize("seed", range(6))
def test_interrupt_controllers(pair, seed):
    chance = random.Random(seed)
    for port, value in (*ICW, (0x4D0, chance.randrange(256)), (0x4D1, chance.randrange(256))):
        pair.out(port, value)
    answers = []
    for _ in range(200):
        what = chance.choice(("line", "line", "read", "read", "ocw2", "ocw3", "mask"))
        base = chance.choice((0x20, 0xA0))
        if what == "line":
            pair.out(0x2000 + chance.choice(FREE_LINES), chance.randrange(2))
        elif what == "read":
            answers.append(pair.inb(chance.choice((base, base + 1, 0x4D0, 0x4D1))))
        elif what == "mask":
            pair.out(base + 1, chance.randrange(256))
        else:
            pair.out(base, chance.choice(OCW2 if what == "ocw2" else OCW3))

    assert [] == differences(answers)


@pytest.mark.parametrize("seed", range(3))
def test_serial_port(pair, seed):
    chance = random.Random(seed)
    pair.out(SERIAL + 4, 0)
    answers = []
    for _ in range(200):
        register = chance.choice((0, 1, 2, 3, 4, 5, 7))
        if chance.random() < 0.5 or register in (2, 5):
            answers.append(pair.inb(SERIAL + register))
        elif register == 1:
            pair.out(SERIAL + 1, chance.randrange(256) & ~8)
        elif register == 3:
            pair.out(SERIAL + 3, chance.choice((0x03, 0x03, 0x83)))
            # the divisor latch shares the address of the interrupt enable register
            pair.out(SERIAL + 3, 0x03)
        else:
            value = chance.choice(MODEM_CONTROL) if register == 4 else chance.randrange(256)
            pair.out(SERIAL + register, value)

    assert [] == differences(answers)


@pytest.mark.parametrize("seed", range(3))
def test_io_apic_registers(pair, seed):
    chance = random.Random(seed)
    answers = []
    for _ in range(200):
        index = chance.choice((0, 1, 2, *range(0x10, 0x40), 0x40, 0x7F))
        pair.store(IOAPIC, index)
        if chance.random() < 0.5:
            high = index >= 0x10 and index & 1
            pair.store(IOAPIC + 0x10, chance.getrandbits(32) & (0xFF00_0000 if high else 0x1_AFFF))
        answers += [pair.load(IOAPIC), pair.load(IOAPIC + 0x10)]

    assert [] == differences(answers)
