"""The two interrupt controllers of a PC. Intel 8259A Programmable Interrupt Controller datasheet.

The edge/level control registers are those of Intel 82371AB (PIIX4) datasheet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emu.machine.registers import RW, WO, Register, registers

_8259A: Final = "8259A datasheet, Programming the 8259A"
_PIIX4: Final = "82371AB PIIX4 datasheet, Interrupt Controller Registers"

# fmt: off
PORTS: Final = registers("8259A ports", (
    Register(0x20, "MASTER_COMMAND", RW, 0xFF, 0, _8259A),  # ICW1, OCW2, OCW3; reads IRR or ISR
    Register(0x21, "MASTER_MASK", RW, 0xFF, 0, _8259A),  # ICW2..ICW4, OCW1
    Register(0xA0, "SLAVE_COMMAND", RW, 0xFF, 0, _8259A),
    Register(0xA1, "SLAVE_MASK", RW, 0xFF, 0, _8259A),
    Register(0x4D0, "ELCR1", RW, 0xF8, 0, _PIIX4),
    Register(0x4D1, "ELCR2", RW, 0xDE, 0, _PIIX4),
), width=8)
# OCW2, bits 7:5
COMMANDS: Final = registers("8259A OCW2", (
    Register(0b000, "ROTATE_IN_AUTO_EOI_CLEAR", WO, 0, 0, _8259A),
    Register(0b001, "NON_SPECIFIC_EOI", WO, 0, 0, _8259A),
    Register(0b010, "NO_OPERATION", WO, 0, 0, _8259A),
    Register(0b011, "SPECIFIC_EOI", WO, 0, 0, _8259A),
    Register(0b100, "ROTATE_IN_AUTO_EOI_SET", WO, 0, 0, _8259A),
    Register(0b101, "ROTATE_ON_NON_SPECIFIC_EOI", WO, 0, 0, _8259A),
    Register(0b110, "SET_PRIORITY", WO, 0, 0, _8259A),
    Register(0b111, "ROTATE_ON_SPECIFIC_EOI", WO, 0, 0, _8259A),
), width=8)
# fmt: on
CASCADE: Final = 2
SPURIOUS: Final = 7


class Pic:
    """One 8259A: eight inputs, and an output INT."""

    def __init__(self, master: bool, elcr_writable: int) -> None:
        self.master = master
        self.elcr_writable = elcr_writable
        self.lines = 0
        self.elcr = 0
        self.latched = 0  # edges seen
        self._initialise(0)

    def _initialise(self, icw1: int) -> None:
        """ICW1: the initialisation sequence begins."""
        self.icw1 = icw1
        self.base = 0
        self.icw4 = 0
        self.imr = self.isr = self.latched = 0
        self.lowest = 7
        self.auto_eoi_rotates = self.special_mask = self.read_isr = self.poll = False
        self.expected = ""

    # requests

    @property
    def irr(self) -> int:
        """Interrupt request register: edges latched, and level-triggered inputs as they are."""
        return self.latched & ~self.elcr | self.lines & self.elcr

    def set_line(self, number: int, asserted: bool) -> None:
        """An input changes. A latched edge stays, also when the input falls before INTA."""
        bit = 1 << number
        if asserted and not self.lines & bit:
            self.latched |= bit
        self.lines = self.lines | bit if asserted else self.lines & ~bit

    def _priority(self, bits: int) -> int:
        """How far from the highest priority the highest of `bits` is; 8 when there is none."""
        first = self.lowest + 1 & 7
        rotated = (bits >> first | bits << 8 - first) & 0xFF
        return (rotated & -rotated).bit_length() - 1 if rotated else 8

    def request(self) -> int | None:
        """The input that INT asks for; None when INT is low."""
        wanted = self._priority(self.irr & ~self.imr)
        in_service = self.isr & ~self.imr if self.special_mask else self.isr
        if self.master and self.icw4 & 0x10:
            in_service &= ~(1 << CASCADE)  # special fully nested mode
        if wanted == 8 or wanted >= self._priority(in_service):
            return None
        return wanted + self.lowest + 1 & 7

    def acknowledge(self) -> int | None:
        """INTA: the input that goes into service; None when the request has gone."""
        number = self.request()
        if number is None:
            return None
        bit = 1 << number
        if not self.elcr & bit:
            self.latched &= ~bit
        if not self.icw4 & 2:
            self.isr |= bit
        elif self.auto_eoi_rotates:
            self.lowest = number
        return number

    # ports

    def read(self, offset: int) -> int:
        """IN from its command (0) or mask (1) port."""
        if self.poll:
            self.poll = False
            number = self.acknowledge()
            return 0 if number is None else 0x80 | number
        if offset == 1:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, offset: int, value: int) -> None:
        """OUT to its command (0) or mask (1) port."""
        if offset == 0:
            if value & 0x10:
                self._initialise(value)
                self.expected = "ICW2"
            elif value & 0x08:
                self._ocw3(value)
            else:
                self._ocw2(value)
        elif self.expected == "ICW2":
            self.base = value & 0xF8
            self.expected = "" if self.icw1 & 2 else "ICW3"
            self._maybe_icw4()
        elif self.expected == "ICW3":
            self.expected = ""
            self._maybe_icw4()
        elif self.expected == "ICW4":
            self.icw4 = value & 0x1F
            self.expected = ""
        else:
            self.imr = value

    def _maybe_icw4(self) -> None:
        if not self.expected and self.icw1 & 1:
            self.expected = "ICW4"

    def _ocw3(self, value: int) -> None:
        if value & 4:
            self.poll = True  # until the next read
        if value & 2:
            self.read_isr = bool(value & 1)
        if value & 0x40:
            self.special_mask = bool(value & 0x20)

    def _ocw2(self, value: int) -> None:
        command, number = COMMANDS[value >> 5].name, value & 7
        if "AUTO_EOI" in command:
            self.auto_eoi_rotates = command.endswith("SET")
            return
        if command == "SET_PRIORITY":
            self.lowest = number
            return
        if "NON_SPECIFIC" in command:
            in_service = self.isr & ~self.imr if self.special_mask else self.isr
            highest = self._priority(in_service)
            if highest == 8:
                return
            number = highest + self.lowest + 1 & 7
        if command != "NO_OPERATION":
            self.isr &= ~(1 << number)
            if command.startswith("ROTATE"):
                self.lowest = number


class PicPair:
    """Master and slave as a PC wires them: 16 lines, one output."""

    def __init__(self, output: Callable[[bool], None]) -> None:
        self.master = Pic(master=True, elcr_writable=PORTS[4].writable)
        self.slave = Pic(master=False, elcr_writable=PORTS[5].writable)
        self._output = output
        self._asserted = False

    def reset(self) -> None:
        """As after power-up; the inputs stay as they are."""
        for pic in (self.master, self.slave):
            pic.write(0, 0x10)
            pic.expected = ""
            pic.elcr = 0
        self.update()

    def set_line(self, irq: int, asserted: bool) -> None:
        """IRQ 0 to 15 changes."""
        if irq >= 8:
            self.slave.set_line(irq - 8, asserted)
        else:
            self.master.set_line(irq, asserted)
        self.update()

    def update(self) -> None:
        """Carry the slave's INT to the master, and the master's to the processors."""
        self.master.set_line(CASCADE, self.slave.request() is not None)
        asserted = self.master.request() is not None
        if asserted != self._asserted:
            self._asserted = asserted
            self._output(asserted)

    def acknowledge(self) -> int:
        """INTA cycles: the vector; that of input 7 when the request has gone (spurious)."""
        number = self.master.acknowledge()
        if number is None:
            vector = self.master.base + SPURIOUS
        elif number == CASCADE:
            inner = self.slave.acknowledge()
            self.master.set_line(CASCADE, False)  # INT falls; a further request is a new edge
            vector = self.slave.base + (SPURIOUS if inner is None else inner)
        else:
            vector = self.master.base + number
        self.update()
        return vector

    def ports(self) -> tuple[tuple[int, int, PicPorts | ElcrPorts], ...]:
        """Where it answers: first port, count, device."""
        return (
            (0x20, 2, PicPorts(self, self.master)),
            (0xA0, 2, PicPorts(self, self.slave)),
            (0x4D0, 2, ElcrPorts(self)),
        )


class PicPorts:
    """Command and mask port of one 8259A."""

    def __init__(self, pair: PicPair, pic: Pic) -> None:
        self.pair, self.pic = pair, pic

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN; a poll acknowledges."""
        value = self.pic.read(offset)
        self.pair.update()
        return value

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: a command word."""
        self.pic.write(offset, value)
        self.pair.update()


class ElcrPorts:
    """The edge/level control registers: a bit set makes an input level-triggered."""

    def __init__(self, pair: PicPair) -> None:
        self.pair = pair
        self.pics = (pair.master, pair.slave)

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN."""
        return self.pics[offset].elcr

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT; the timer, the keyboard, the cascade, the clock and the FPU stay edge-triggered."""
        pic = self.pics[offset]
        pic.elcr = value & pic.elcr_writable
        self.pair.update()
