"""Power management of the board: ACPI fixed registers, PM timer, reset control.

ACPI Specification, ACPI Hardware Specification, Fixed Hardware Features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from emu.machine.clock import Clock
from emu.machine.registers import RO, RW, Register, registers

_PM1: Final = "ACPI Specification, PM1 Event and Control Grouping"
_TIMER: Final = "ACPI Specification, Power Management Timer (PM_TMR)"
_RESET: Final = "82371AB PIIX4 datasheet, Reset Control Register"
_PORT92: Final = "82371AB PIIX4 datasheet, Port 92 Register"

PM_BASE: Final = 0x600
# fmt: off
PORTS: Final = registers("power management ports", (
    Register(PM_BASE + 0, "PM1_STATUS", RW, 0x8731, 0, _PM1),
    Register(PM_BASE + 2, "PM1_ENABLE", RW, 0x0721, 0, _PM1),
    Register(PM_BASE + 4, "PM1_CONTROL", RW, 0x1C02, 1, _PM1),
    Register(PM_BASE + 8, "PM_TIMER", RO, 0, 0, _TIMER),
    Register(0xCF9, "RESET_CONTROL", RW, 0x0E, 0, _RESET),
    Register(0x92, "PORT_92", RW, 0x02, 0x02, _PORT92),
))
# fmt: on
PM_TIMER_HZ: Final = 3_579_545
PM_TIMER_HALF: Final = 1 << 23  # the most significant of 24 bits changes every so many cycles

TIMER_STATUS: Final = 1 << 0
GLOBAL_STATUS: Final = 1 << 5
POWER_BUTTON: Final = 1 << 8
RTC_STATUS: Final = 1 << 10
WAKE_STATUS: Final = 1 << 15

SCI_ENABLE: Final = 1 << 0
SLEEP_ENABLE: Final = 1 << 13
SLEEP_S5, SLEEP_S3 = 0, 1  # SLP_TYP, as the \_S5 and \_S3 objects of the DSDT tell


class Machine(Protocol):
    """What power management does to the machine."""

    def power_off(self) -> None:
        """S5."""

    def sleep(self) -> None:
        """S3, until a wake event."""

    def reset(self) -> None:
        """Reset the machine."""


class PowerManagement:
    """PM1a event and control blocks and the PM timer, from PM_BASE on."""

    def __init__(self, clock: Clock, machine: Machine, sci: Callable[[bool], None]) -> None:
        self.clock, self.machine, self.sci = clock, machine, sci
        self.status = self.enable = 0
        self.control = SCI_ENABLE  # there is no SMI command: the machine is always in ACPI mode
        self._carry = clock.timer(self._timer_carried)
        self._carried = 0

    def reset(self) -> None:
        """As after power-up."""
        self.status = self.enable = 0
        self.control = SCI_ENABLE
        self._schedule()

    # events

    def event(self, bit: int) -> None:
        """A fixed event: its status bit is set."""
        self.status |= bit
        self._update()

    def wakes(self) -> bool:
        """Whether an enabled event would end sleep."""
        return bool(self.status & self.enable & (POWER_BUTTON | RTC_STATUS))

    def _update(self) -> None:
        self.sci(bool(self.status & self.enable & PORTS[1].writable))

    def _halves(self) -> int:
        return self.clock.cycles(PM_TIMER_HZ) // PM_TIMER_HALF

    def _timer_carried(self) -> None:
        if self._halves() != self._carried:
            self._carried = self._halves()
            self.status |= TIMER_STATUS
        self._schedule()
        self._update()

    def _schedule(self) -> None:
        if self.enable & TIMER_STATUS:
            next_half = (self._halves() + 1) * PM_TIMER_HALF
            self._carry.arm(self.clock.tick_of(PM_TIMER_HZ, next_half))
        else:
            self._carry.cancel()

    # ports

    def _words(self) -> bytes:
        timer = self.clock.cycles(PM_TIMER_HZ) & 0xFF_FFFF
        words = (self.status, self.enable, self.control, 0)
        return b"".join(w.to_bytes(2, "little") for w in words) + timer.to_bytes(4, "little")

    def port_read(self, offset: int, size: int) -> int:
        """IN from PM_BASE on; SLP_EN reads as zero."""
        if offset == 8 and size == 4:
            return self.clock.cycles(PM_TIMER_HZ) & 0xFF_FFFF
        self._timer_carried()
        return int.from_bytes(self._words()[offset : offset + size], "little")

    def port_write(self, offset: int, size: int, value: int) -> None:
        """OUT; a 1 clears a status bit, SLP_EN enters the state that SLP_TYP names."""
        for at in range(offset & ~1, offset + size, 2):
            shift = 8 * (at - offset)
            word = value >> shift if shift >= 0 else value << -shift
            mask = ((1 << 8 * size) - 1 >> shift if shift >= 0 else 0xFF00) & 0xFFFF
            self._write_word(at, word & 0xFFFF, mask)

    def _write_word(self, at: int, word: int, mask: int) -> None:
        if at == 0:
            self._timer_carried()
            self.status &= ~(word & mask & PORTS[0].writable)
        elif at == 2:
            writable = PORTS[1].writable & mask
            self.enable = self.enable & ~writable | word & writable
            self._schedule()
        elif at == 4:
            writable = PORTS[2].writable & mask
            self.control = self.control & ~writable | word & writable
            if word & mask & SLEEP_ENABLE:
                self._sleep(self.control >> 10 & 7)
        self._update()

    def _sleep(self, kind: int) -> None:
        if kind == SLEEP_S5:
            self.machine.power_off()
        elif kind == SLEEP_S3:
            self.machine.sleep()


class ResetControl:
    """Port CF9H: bit 2 rising resets the machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.value = 0

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN."""
        return self.value

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT."""
        rising = value & ~self.value & 4
        self.value = value & PORTS[4].writable
        if rising:
            self.value &= ~4
            self.machine.reset()


class Port92:
    """Port 92H: the fast A20 gate and reset.

    The A20 gate's state is kept and has no effect: the processors modelled have no A20M# pin.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.value = PORTS[5].reset

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN."""
        return self.value

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: bit 0 rising resets."""
        self.value = value & PORTS[5].writable
        if value & 1:
            self.machine.reset()
