"""The keyboard controller (8042). IBM Personal Computer AT Technical Reference.

No keyboard and no mouse are attached: what is sent to them times out. Guests use the controller for
the A20 gate and to reset the machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from emu.machine.registers import RO, RW, WO, Register, registers

_AT: Final = "IBM PC AT Technical Reference, 8042 status register and controller commands"

# fmt: off
PORTS: Final = registers("8042 ports", (
    Register(0x60, "DATA", RW, 0xFF, 0, _AT),
    Register(0x64, "STATUS", RO, 0, 0x18, _AT),
    Register(0x64, "COMMAND", WO, 0xFF, 0, _AT),
), width=8)
COMMANDS: Final = registers("8042 commands", (
    Register(0x20, "READ_COMMAND_BYTE", RO, 0, 0, _AT),
    Register(0x60, "WRITE_COMMAND_BYTE", WO, 0xFF, 0x45, _AT),
    Register(0xA7, "DISABLE_AUXILIARY", WO, 0, 0, _AT),
    Register(0xA8, "ENABLE_AUXILIARY", WO, 0, 0, _AT),
    Register(0xA9, "TEST_AUXILIARY", RO, 0, 0, _AT),
    Register(0xAA, "SELF_TEST", RO, 0, 0x55, _AT),
    Register(0xAB, "TEST_KEYBOARD", RO, 0, 0, _AT),
    Register(0xAD, "DISABLE_KEYBOARD", WO, 0, 0, _AT),
    Register(0xAE, "ENABLE_KEYBOARD", WO, 0, 0, _AT),
    Register(0xD0, "READ_OUTPUT_PORT", RO, 0, 0x03, _AT),
    Register(0xD1, "WRITE_OUTPUT_PORT", WO, 0xFF, 0, _AT),
    Register(0xD2, "WRITE_KEYBOARD_BUFFER", WO, 0xFF, 0, _AT),
    Register(0xD3, "WRITE_AUXILIARY_BUFFER", WO, 0xFF, 0, _AT),
    Register(0xD4, "WRITE_AUXILIARY", WO, 0xFF, 0, _AT),
), width=8)
# fmt: on
_NAMES: Final = {row.offset: row.name for row in COMMANDS}
_WITH_DATA: Final = tuple(row.name for row in COMMANDS if row.access is WO and row.writable)

OUTPUT_FULL, SYSTEM, COMMAND_LAST, UNLOCKED, FROM_AUXILIARY, TIMEOUT = 1, 4, 8, 0x10, 0x20, 0x40
INTERRUPT_KEYBOARD, INTERRUPT_AUXILIARY = 1, 2
KEYBOARD_DISABLED, AUXILIARY_DISABLED = 0x10, 0x20
RESEND: Final = 0xFE  # what the controller hands over when a device does not answer
PULSE_OUTPUT: Final = range(0xF0, 0x100)


class KeyboardController:
    """Data port 60H and status/command port 64H."""

    def __init__(
        self, reset: Callable[[], None], irq1: Callable[[bool], None], irq12: Callable[[bool], None]
    ) -> None:
        self._reset = reset
        self.irq1, self.irq12 = irq1, irq12
        self.command_byte = COMMANDS[1].reset
        self.output_port = COMMANDS[9].reset
        self._output: deque[tuple[int, int]] = deque()  # byte, status bits
        self._command_last = 0
        self._expects = ""

    def _answer(self, value: int, status: int = 0) -> None:
        self._output.append((value, status))
        self._update()

    def _update(self) -> None:
        status = self._output[0][1] if self._output else 0
        full = bool(self._output)
        auxiliary = bool(status & FROM_AUXILIARY)
        self.irq1(full and not auxiliary and bool(self.command_byte & INTERRUPT_KEYBOARD))
        self.irq12(full and auxiliary and bool(self.command_byte & INTERRUPT_AUXILIARY))

    @property
    def status(self) -> int:
        """The status register."""
        status = self.command_byte & SYSTEM | UNLOCKED | self._command_last
        if self._output:
            status |= OUTPUT_FULL | self._output[0][1]
        return status

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN: the output buffer, or the status."""
        if offset == 4:
            return self.status
        if not self._output:
            return 0
        value, _ = self._output.popleft()
        self._update()
        return value

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: data for the device or the command before, or a command."""
        if offset == 4:
            self._command_last = COMMAND_LAST
            self._command(value)
        else:
            self._command_last = 0
            self._data(value)

    def _command(self, value: int) -> None:
        self._expects = ""
        if value in PULSE_OUTPUT:
            if not value & 1:  # bit 0 of the output port is the reset line
                self._reset()
            return
        name = _NAMES.get(value, "")
        if name in _WITH_DATA:
            self._expects = name
        elif name == "READ_COMMAND_BYTE":
            self._answer(self.command_byte)
        elif name == "READ_OUTPUT_PORT":
            self._answer(self.output_port)
        elif name in ("SELF_TEST", "TEST_KEYBOARD", "TEST_AUXILIARY"):
            if name == "SELF_TEST":
                self.command_byte |= SYSTEM
            self._answer(next(row.reset for row in COMMANDS if row.name == name))
        elif name:
            bit = KEYBOARD_DISABLED if name.endswith("KEYBOARD") else AUXILIARY_DISABLED
            if name.startswith("ENABLE"):
                self.command_byte &= ~bit
            else:
                self.command_byte |= bit

    def _data(self, value: int) -> None:
        expects, self._expects = self._expects, ""
        if expects == "WRITE_COMMAND_BYTE":
            self.command_byte = value
            self._update()
        elif expects == "WRITE_OUTPUT_PORT":
            self.output_port = value
            if not value & 1:
                self._reset()
        elif expects == "WRITE_KEYBOARD_BUFFER":
            self._answer(value)
        elif expects == "WRITE_AUXILIARY_BUFFER":
            self._answer(value, FROM_AUXILIARY)
        elif expects == "WRITE_AUXILIARY":
            self._answer(RESEND, FROM_AUXILIARY | TIMEOUT)
        else:
            self._answer(RESEND, TIMEOUT)
