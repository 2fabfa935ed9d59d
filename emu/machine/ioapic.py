"""The I/O APIC. Intel 82093AA I/O Advanced Programmable Interrupt Controller datasheet.

The EOI register is that of Intel 82801 (ICH9) I/O Controller Hub datasheet, I/O APIC. Input lines
carry assertion, so the polarity bit of an entry is stored and has no effect.
"""

from __future__ import annotations

from typing import Final

from emu.machine.interrupts import BROADCAST_XAPIC, InterruptBus, Message
from emu.machine.lapic_registers import Delivery
from emu.machine.registers import RO, RW, WO, Register, registers

_82093AA: Final = "82093AA datasheet, I/O APIC Registers"
_ICH9: Final = "82801 ICH9 datasheet, APIC (D31:F0) memory-mapped registers"

# fmt: off
WINDOW: Final = registers("I/O APIC window", (
    Register(0x00, "IOREGSEL", RW, 0xFF, 0, _82093AA),
    Register(0x10, "IOWIN", RW, 0xFFFF_FFFF, 0, _82093AA),
    Register(0x40, "EOIR", WO, 0xFF, 0, _ICH9),
))
INDEXED: Final = registers("I/O APIC registers", (
    Register(0x00, "IOAPICID", RW, 0x0F00_0000, 0, _82093AA),
    Register(0x01, "IOAPICVER", RO, 0, 0x0017_0020, _82093AA),
    Register(0x02, "IOAPICARB", RO, 0, 0, _82093AA),
))
# fmt: on
DEFAULT_ADDRESS: Final = 0xFEC0_0000
LINES: Final = 24
FIRST_ENTRY: Final = 0x10

ENTRY_WRITABLE: Final = 0xFF00_0000_0001_AFFF
ENTRY_LOGICAL: Final = 1 << 11
ENTRY_REMOTE_IRR: Final = 1 << 14
ENTRY_LEVEL: Final = 1 << 15
ENTRY_MASKED: Final = 1 << 16


class IoApic:
    """24 input lines and their redirection table."""

    def __init__(self, bus: InterruptBus, apic_id: int = 0) -> None:
        self.bus = bus
        self.select = 0
        self.id = apic_id << 24
        self.lines = 0  # asserted inputs, a bit each
        self.entries = [ENTRY_MASKED] * LINES
        bus.ioapics.append(self)

    def reset(self) -> None:
        """As after power-up: all entries masked."""
        self.select = self.id = 0
        self.entries = [ENTRY_MASKED] * LINES

    # window

    def mmio_read(self, offset: int, size: int) -> int:
        """A load from its window: IOREGSEL, or the register that it selects."""
        value = 0
        if offset & ~3 == 0x00:
            value = self.select
        elif offset & ~3 == 0x10:
            value = self.read(self.select)
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """A store to its window; IOWIN takes 32 bits."""
        if offset == 0x00:
            self.select = value & 0xFF
        elif offset == 0x10 and size == 4:
            self.write(self.select, value)
        elif offset == 0x40:
            self.end_of_interrupt(value & 0xFF)

    def read(self, index: int) -> int:
        """The register `index`; an index that selects none reads as zero."""
        if index == 0x00:
            return self.id
        if index == 0x01:
            return INDEXED[1].reset
        if index == 0x02:
            return self.id & 0x0F00_0000
        line, high = divmod(index - FIRST_ENTRY, 2)
        if not 0 <= line < LINES:
            return 0
        return self.entries[line] >> 32 * high & 0xFFFF_FFFF

    def write(self, index: int, value: int) -> None:
        """Write the register `index`."""
        if index == 0x00:
            self.id = value & INDEXED[0].writable
        line, high = divmod(index - FIRST_ENTRY, 2)
        if not 0 <= line < LINES:
            return
        entry = self.entries[line]
        writable = ENTRY_WRITABLE & 0xFFFF_FFFF << 32 * high
        entry = entry & ~writable | value << 32 * high & writable
        if not entry & ENTRY_LEVEL:
            entry &= ~ENTRY_REMOTE_IRR
        self.entries[line] = entry
        if entry & ENTRY_LEVEL:
            self._service(line)

    # lines

    def set_line(self, line: int, asserted: bool) -> None:
        """An input changes. Edges that arrive while masked are lost."""
        bit = 1 << line
        rising = asserted and not self.lines & bit
        self.lines = self.lines | bit if asserted else self.lines & ~bit
        if asserted and (rising or self.entries[line] & ENTRY_LEVEL):
            self._service(line)

    def _service(self, line: int) -> None:
        entry = self.entries[line]
        if not self.lines >> line & 1 or entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR):
            return
        delivery = Delivery(entry >> 8 & 7)
        if delivery in (Delivery.RESERVED, Delivery.STARTUP):
            return
        level = bool(entry & ENTRY_LEVEL) and delivery <= Delivery.LOWEST_PRIORITY
        if level:
            self.entries[line] |= ENTRY_REMOTE_IRR
        destination = entry >> 56
        self.bus.send(
            Message(
                entry & 0xFF,
                delivery,
                destination,
                logical=bool(entry & ENTRY_LOGICAL),
                level=level,
                broadcast=destination == BROADCAST_XAPIC,
            )
        )

    def end_of_interrupt(self, vector: int) -> None:
        """EOI for `vector`: the remote IRR of its level-triggered entries clears.

        A line that is still asserted interrupts again.
        """
        for line, entry in enumerate(self.entries):
            if entry & 0xFF == vector and entry & ENTRY_REMOTE_IRR:
                self.entries[line] = entry & ~ENTRY_REMOTE_IRR
                self._service(line)
