"""Pieces that tests of devices plug together: a clock that they move, a core that remembers."""

from emu.machine.apic_model import ApicModel
from emu.machine.clock import Clock
from emu.machine.interrupts import InterruptBus
from emu.machine.lapic import LocalApic
from emu.machine.processor import ParkedProcessor

SVR, ICR, ICR_HIGH, TPR, EOI, LDR = 0xF0, 0x300, 0x310, 0x80, 0xB0, 0xD0
LVT_TIMER, INITIAL, CURRENT, DIVIDE = 0x320, 0x380, 0x390, 0x3E0


def advance(clock: Clock, ticks: int) -> None:
    """Let `ticks` pass, stopping at every event on the way."""
    end = clock.base + ticks
    while (event := clock.next_event()) is not None and event <= end:
        clock.base = max(event, clock.base)
        clock.run_due()
    clock.base = end


class Line:
    """An interrupt line: its level, and how often it rose."""

    def __init__(self) -> None:
        self.level = False
        self.rises = 0

    def __call__(self, level: bool) -> None:
        """The device drives it."""
        self.rises += level and not self.level
        self.level = level


class Apics:
    """Local APICs on one bus, software-enabled unless told otherwise."""

    def __init__(self, count: int = 1, model: ApicModel | None = None, enabled: bool = True):
        self.clock = Clock()
        self.bus = InterruptBus()
        self.cores = [ParkedProcessor(i) for i in range(count)]
        self.apics = [
            LocalApic(i, self.clock, self.bus, c, model) for i, c in enumerate(self.cores)
        ]
        if enabled:
            for apic in self.apics:
                apic.mmio_write(SVR, 4, 0x1FF)

    def pending(self, vector: int) -> list[bool]:
        """Whether `vector` is in each IRR."""
        return [bool(apic.irr >> vector & 1) for apic in self.apics]


def write(apic: LocalApic, offset: int, value: int) -> None:
    """A 32-bit store to a register."""
    apic.mmio_write(offset, 4, value)


def read(apic: LocalApic, offset: int) -> int:
    """A 32-bit load from a register."""
    return apic.mmio_read(offset, 4)


def send(apic: LocalApic, low: int, destination: int = 0) -> None:
    """Write ICR in xAPIC mode."""
    write(apic, ICR_HIGH, destination << 24)
    write(apic, ICR, low)
