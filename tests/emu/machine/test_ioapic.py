import pytest

from emu.machine.ioapic import IoApic
from tests.emu.machine.parts import EOI, LDR, Apics, write

LEVEL, MASKED, LOGICAL, REMOTE_IRR = 1 << 15, 1 << 16, 1 << 11, 1 << 14


class Rig:
    """An I/O APIC in front of local APICs."""

    def __init__(self, count=1):
        self.apics = Apics(count)
        self.ioapic = IoApic(self.apics.bus)

    def set(self, index, value):
        self.ioapic.mmio_write(0x00, 4, index)
        self.ioapic.mmio_write(0x10, 4, value)

    def get(self, index):
        self.ioapic.mmio_write(0x00, 4, index)
        return self.ioapic.mmio_read(0x10, 4)

    def route(self, line, entry):
        self.set(0x10 + 2 * line, entry & 0xFFFF_FFFF)
        self.set(0x11 + 2 * line, entry >> 32)

    def pulse(self, line):
        self.ioapic.set_line(line, True)
        self.ioapic.set_line(line, False)

    def take(self, cpu=0):
        vector = self.apics.apics[cpu].acknowledge()
        write(self.apics.apics[cpu], EOI, 0)
        return vector


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (0, 0x0F00_0000),
        (1, 0x0017_0020),
        (2, 0),
        (0x20, 0x0001_AFFF),
        (0x21, 0xFF00_0000),
        (0x60, 0),
    ],
)
def test_register_keeps_its_writable_bits(index, kept):
    rig = Rig()
    rig.set(index, 0xFFFF_FFFF)

    assert kept == rig.get(index)


def test_arbitration_id_follows_the_id():
    rig = Rig()
    rig.set(0, 0x0F00_0000)
    rig.set(2, 0)

    assert 0x0F00_0000 == rig.get(2)


def test_entries_are_masked_after_reset():
    rig = Rig()
    rig.pulse(3)

    assert ([MASKED] * 24, 0) == (
        [rig.get(0x10 + 2 * i) for i in range(24)],
        rig.apics.apics[0].irr,
    )


def test_edge_interrupts_once_for_each_rise():
    rig = Rig()
    rig.route(14, 0x76)
    rig.ioapic.set_line(14, True)
    rig.ioapic.set_line(14, True)
    first = rig.take()
    again = rig.apics.apics[0].irr
    rig.ioapic.set_line(14, False)
    rig.ioapic.set_line(14, True)

    assert (0x76, 0, 1 << 0x76) == (first, again, rig.apics.apics[0].irr)


def test_edge_while_masked_is_lost():
    rig = Rig()
    rig.route(14, MASKED | 0x76)
    rig.pulse(14)
    rig.route(14, 0x76)

    assert 0 == rig.apics.apics[0].irr


def test_level_while_masked_waits_for_unmasking():
    rig = Rig()
    rig.route(14, MASKED | LEVEL | 0x82)
    rig.ioapic.set_line(14, True)
    before = rig.apics.apics[0].irr
    rig.route(14, LEVEL | 0x82)

    assert (0, 1 << 0x82) == (before, rig.apics.apics[0].irr)


def test_level_holds_remote_irr_from_delivery_to_eoi():
    rig = Rig()
    rig.route(14, LEVEL | 0x77)
    rig.ioapic.set_line(14, True)
    held = rig.get(0x10 + 28)
    tmr = rig.apics.apics[0].tmr
    rig.ioapic.set_line(14, False)
    rig.take()

    assert (LEVEL | REMOTE_IRR | 0x77, 1 << 0x77, LEVEL | 0x77) == (held, tmr, rig.get(0x10 + 28))


def test_level_that_stays_asserted_interrupts_again_after_eoi():
    rig = Rig()
    rig.route(14, LEVEL | 0x9A)
    rig.ioapic.set_line(14, True)
    first = rig.take()
    second = rig.take()
    rig.ioapic.set_line(14, False)
    rig.take()

    assert (0x9A, 0x9A, 0) == (first, second, rig.apics.apics[0].irr)


def test_eoi_register_ends_what_a_suppressed_broadcast_left():
    rig = Rig()
    write(rig.apics.apics[0], 0xF0, 0x11FF)
    rig.route(14, LEVEL | 0x9A)
    rig.ioapic.set_line(14, True)
    rig.take()
    held = rig.get(0x10 + 28) & REMOTE_IRR
    rig.ioapic.set_line(14, False)
    rig.ioapic.mmio_write(0x40, 4, 0x9A)

    assert (REMOTE_IRR, 0) == (held, rig.get(0x10 + 28) & REMOTE_IRR)


def test_entry_made_edge_triggered_loses_its_remote_irr():
    rig = Rig()
    rig.route(14, LEVEL | 0x9A)
    rig.ioapic.set_line(14, True)
    rig.route(14, MASKED | 0x9A)
    rig.route(14, MASKED | LEVEL | 0x9A)

    assert MASKED | LEVEL | 0x9A == rig.get(0x10 + 28)


def test_changing_the_destination_keeps_remote_irr():
    rig = Rig(2)
    rig.route(13, LEVEL | 0x64)
    rig.ioapic.set_line(13, True)
    rig.ioapic.set_line(13, False)
    rig.set(0x10 + 27, 1 << 24)
    held = rig.get(0x10 + 26) & REMOTE_IRR
    rig.take()

    assert (REMOTE_IRR, 0) == (held, rig.get(0x10 + 26) & REMOTE_IRR)


def test_destinations_are_physical_or_logical():
    rig = Rig(3)
    for i, apic in enumerate(rig.apics.apics):
        write(apic, LDR, 1 << 24 + i)
    rig.route(1, 2 << 56 | 0x51)
    rig.route(2, 0b101 << 56 | LOGICAL | 0x52)
    rig.pulse(1)
    rig.pulse(2)

    assert ([False, False, True], [True, False, True]) == (
        rig.apics.pending(0x51),
        rig.apics.pending(0x52),
    )


@pytest.mark.parametrize(("mode", "arrived"), [(2, ["smi"]), (4, ["nmi"]), (5, ["init"])])
def test_other_delivery_modes_reach_the_core_as_edges(mode, arrived):
    rig = Rig()
    rig.route(1, LEVEL | mode << 8)
    rig.ioapic.set_line(1, True)

    assert (arrived, 0) == (rig.apics.cores[0].arrived, rig.get(0x12) & REMOTE_IRR)


def test_external_interrupt_mode_asks_the_controller():
    rig = Rig()
    rig.apics.apics[0].intack = lambda: 0x31
    rig.route(0, 7 << 8)
    rig.pulse(0)

    assert (True, 0x31, False) == (
        rig.apics.cores[0].requested,
        rig.apics.apics[0].acknowledge(),
        rig.apics.cores[0].requested,
    )


def test_selector_reads_back_and_bytes_of_a_register_can_be_read():
    rig = Rig()
    rig.ioapic.mmio_write(0, 4, 1)

    assert (1, 0x17) == (rig.ioapic.mmio_read(0, 4), rig.ioapic.mmio_read(0x12, 1))
