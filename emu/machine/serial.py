"""The serial port. National Semiconductor PC16550D UART with FIFOs datasheet.

A byte that is written is transmitted at once; bytes for the guest wait outside until there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from emu.machine.registers import RO, RW, WO, Register, registers

_16550: Final = "PC16550D datasheet, Registers"

# fmt: off
REGISTERS: Final = registers("PC16550D", (
    Register(0, "RBR", RO, 0, 0, _16550),  # and THR, DLL
    Register(0, "THR", WO, 0xFF, 0, _16550),
    Register(1, "IER", RW, 0x0F, 0, _16550),  # and DLM
    Register(2, "IIR", RO, 0, 0x01, _16550),
    Register(2, "FCR", WO, 0xCF, 0, _16550),
    Register(3, "LCR", RW, 0xFF, 0, _16550),
    Register(4, "MCR", RW, 0x1F, 0, _16550),
    Register(5, "LSR", RO, 0, 0x60, _16550),
    Register(6, "MSR", RO, 0, 0xB0, _16550),
    Register(7, "SCR", RW, 0xFF, 0, _16550),
), width=8)
# fmt: on
IER_RECEIVED, IER_EMPTY, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_EMPTY, IIR_RECEIVED, IIR_LINE, IIR_TIMEOUT, IIR_MODEM = 1, 2, 4, 6, 0xC, 0
FCR_ENABLE, FCR_CLEAR_RECEIVER = 1, 2
LCR_DIVISOR = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 0x10
LSR_READY, LSR_OVERRUN, LSR_ERRORS, LSR_EMPTY = 1, 2, 0x1E, 0x60
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
FIFO_SIZE: Final = 16
RESET_DIVISOR: Final = 12  # 9600 baud, as firmware leaves it
TRIGGER_LEVELS: Final = (1, 4, 8, 14)


class Serial:
    """One 16550; `transmit` gets what the guest prints, `interrupt` is its line."""

    def __init__(
        self, transmit: Callable[[bytes], None], interrupt: Callable[[bool], None]
    ) -> None:
        self.transmit, self.interrupt = transmit, interrupt
        self._waiting: deque[int] = deque()
        self._asserted = False
        self.reset()

    def reset(self) -> None:
        """As after master reset."""
        self.divisor = RESET_DIVISOR
        self.ier = self.lcr = self.mcr = self.scr = self.fcr = 0
        self.lsr = LSR_EMPTY
        self.msr = MSR_CTS | MSR_DSR | MSR_DCD
        self._received: deque[int] = deque()
        self._last = 0  # what the receiver buffer holds when no byte waits
        self._empty_pending = False
        self._update()

    def receive(self, data: bytes) -> None:
        """Bytes arrive on the line."""
        self._waiting.extend(data)
        self._fill()

    @property
    def listens(self) -> bool:
        """Whether a byte that arrives would interrupt the guest."""
        return bool(self.ier & IER_RECEIVED and self.mcr & MCR_OUT2)

    # receiver

    @property
    def _room(self) -> int:
        return FIFO_SIZE if self.fcr & FCR_ENABLE else 1

    def _fill(self) -> None:
        while self._waiting and len(self._received) < self._room and not self.mcr & MCR_LOOP:
            self._received.append(self._waiting.popleft())
        self._update()

    def _loop(self, value: int) -> None:
        """A byte arrives whether there is room or not; a full FIFO keeps what it has."""
        if len(self._received) == self._room:
            self.lsr |= LSR_OVERRUN
            if self.fcr & FCR_ENABLE:
                return
            self._received.clear()
        self._received.append(value)

    # interrupts

    def _identification(self) -> int:
        """IIR without the FIFO bits, by priority."""
        if self.ier & IER_LINE and self.lsr & LSR_ERRORS:
            return IIR_LINE
        if self.ier & IER_RECEIVED and self._received:
            level = TRIGGER_LEVELS[self.fcr >> 6] if self.fcr & FCR_ENABLE else 1
            return IIR_RECEIVED if len(self._received) >= level else IIR_TIMEOUT
        if self.ier & IER_EMPTY and self._empty_pending:
            return IIR_EMPTY
        if self.ier & IER_MODEM and self.msr & 0x0F:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        ready = LSR_READY if self._received else 0
        self.lsr = self.lsr & ~LSR_READY | ready
        # OUT2 gates the interrupt on a PC; in loopback the pin is inactive
        gated = self.ier and self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
        asserted = bool(gated) and self._identification() != IIR_NONE
        if asserted != self._asserted:
            self._asserted = asserted
            self.interrupt(asserted)

    # ports

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN from a register."""
        if offset == 5 and not self.lsr & LSR_ERRORS:
            return self.lsr  # what guests read most, and without effect
        if offset < 2 and self.lcr & LCR_DIVISOR:
            return self.divisor >> 8 * offset & 0xFF
        value = (0, self.ier, 0, self.lcr, self.mcr, self.lsr, self.msr, self.scr)[offset]
        if offset == 0:
            if self._received:
                self._last = self._received.popleft()
            value = self._last
            self._update()  # the line falls before the next byte lets it rise
            self._fill()
        elif offset == 2:
            value = self._identification()
            if value == IIR_EMPTY:
                self._empty_pending = False
            value |= 0xC0 if self.fcr & FCR_ENABLE else 0
        elif offset == 5:
            self.lsr &= ~LSR_ERRORS
        elif offset == 6:
            self.msr &= 0xF0
        self._update()
        return value

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT to a register."""
        if offset < 2 and self.lcr & LCR_DIVISOR:
            shift = 8 * offset
            self.divisor = self.divisor & ~(0xFF << shift) | value << shift
        elif offset == 0:
            self._send(value)
        elif offset == 1:
            if value & IER_EMPTY and not self.ier & IER_EMPTY:
                self._empty_pending = True
            self.ier = value & REGISTERS[2].writable
        elif offset == 2:
            self._write_fcr(value)
        elif offset == 3:
            self.lcr = value
        elif offset == 4:
            self._write_mcr(value & REGISTERS[6].writable)
        elif offset == 7:
            self.scr = value
        self._update()

    def _send(self, value: int) -> None:
        if self.mcr & MCR_LOOP:
            self._loop(value)
        else:
            self.transmit(bytes((value,)))
        self._empty_pending = True

    def _write_fcr(self, value: int) -> None:
        toggled = (value ^ self.fcr) & FCR_ENABLE
        if toggled or value & FCR_CLEAR_RECEIVER:
            self._received.clear()
        self.fcr = value & 0xC9 if value & FCR_ENABLE else 0
        self._fill()

    def _write_mcr(self, value: int) -> None:
        self.mcr = value
        if value & MCR_LOOP:
            # RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD
            lines = (
                (MSR_CTS if value & MCR_RTS else 0)
                | (MSR_DSR if value & MCR_DTR else 0)
                | (MSR_RI if value & MCR_OUT1 else 0)
                | (MSR_DCD if value & MCR_OUT2 else 0)
            )
        else:
            lines = MSR_CTS | MSR_DSR | MSR_DCD
        self._modem(lines)
        self._fill()

    def _modem(self, lines: int) -> None:
        """The modem lines are now `lines`; the low half of MSR tells which changed."""
        changed = (lines ^ self.msr) >> 4
        ring_ended = self.msr & MSR_RI and not lines & MSR_RI
        deltas = changed & 0b1011 | (0b0100 if ring_ended else 0)
        self.msr = lines | self.msr & 0x0F | deltas
