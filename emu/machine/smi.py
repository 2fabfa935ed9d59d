"""System-management interrupts of the chipset: APM control port, SMI enable and status.

Intel I/O Controller Hub 9 (ICH9) datasheet, APM I/O Decode; Power Management I/O Registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emu.machine.registers import RW, Register, registers

_APM: Final = "ICH9 datasheet, Advanced Power Management Control and Status Port Registers"
_SMI: Final = "ICH9 datasheet, SMI Control and Enable Register; SMI Status Register"

APM_BASE: Final = 0xB2
SMI_OFFSET: Final = 0x30  # from PM_BASE
# fmt: off
PORTS: Final = registers("SMI ports", (
    Register(APM_BASE + 0, "APM_CNT", RW, 0xFF, 0, _APM),
    Register(APM_BASE + 1, "APM_STS", RW, 0xFF, 0, _APM),
    Register(SMI_OFFSET + 0, "SMI_EN", RW, 0x23, 0x02, _SMI),
    Register(SMI_OFFSET + 4, "SMI_STS", RW, 0x20, 0, _SMI),
))
# fmt: on
GLOBAL_ENABLE, END_OF_SMI, APMC = 1 << 0, 1 << 1, 1 << 5


class SmiControl:
    """SMI_EN and SMI_STS. A source that is enabled asserts SMI#, which clears EOS.

    `smi` is called when SMI# is asserted; no second SMI comes before EOS is written again.
    """

    def __init__(self, smi: Callable[[], None]) -> None:
        self.smi = smi
        self.reset()

    def reset(self) -> None:
        """As after power-up: no source is enabled."""
        self.enable, self.status = PORTS[2].reset, PORTS[3].reset

    def apm(self) -> None:
        """APM_CNT was written."""
        if self.enable & APMC:
            self.status |= APMC
            self._update()

    def _update(self) -> None:
        ready = self.enable & GLOBAL_ENABLE and self.enable & END_OF_SMI
        if ready and self.status & self.enable & APMC:
            self.enable &= ~END_OF_SMI
            self.smi()

    def port_read(self, offset: int, size: int) -> int:
        """IN."""
        both = self.enable | self.status << 32
        return both >> 8 * offset & (1 << 8 * size) - 1

    def port_write(self, offset: int, size: int, value: int) -> None:
        """OUT: EOS can be set only, a 1 clears a status bit."""
        mask, value = (1 << 8 * size) - 1 << 8 * offset, value << 8 * offset
        writable = PORTS[2].writable & mask
        kept = self.enable & (~writable | END_OF_SMI)
        self.enable = kept | value & writable
        self.status &= ~(value & mask) >> 32 | ~PORTS[3].writable
        self._update()


class ApmPorts:
    """Ports B2H and B3H: a byte each; a write to the first may bring an SMI."""

    def __init__(self, control: SmiControl) -> None:
        self.control = control
        self.values = bytearray(2)

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN."""
        return self.values[offset]

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT."""
        self.values[offset] = value
        if offset == 0:
            self.control.apm()
