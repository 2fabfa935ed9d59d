"""How x87 exceptions reach the interrupt controllers when CR0.NE is clear.

SDM Vol. 1, MS-DOS* Compatibility Sub-mode: FERR# raises IRQ13; a write to port F0H lowers it and
asserts IGNNE#, which lets the processor go on until FERR# falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emu.machine.registers import WO, Register, registers

_AT: Final = "SDM Vol. 1, MS-DOS* Compatibility Sub-mode; IBM PC AT Technical Reference"
PORTS: Final = registers("coprocessor ports", (Register(0xF0, "CLEAR_BUSY", WO, 0, 0, _AT),))


class Coprocessor:
    """The latch between FERR# and IRQ13, and port F0H."""

    def __init__(self, irq13: Callable[[bool], None]) -> None:
        self._irq13 = irq13
        self.ignne = False

    def reset(self) -> None:
        """As after power-up."""
        self.error_cleared()

    def error(self) -> bool:
        """FERR# at an instruction that waits; whether IGNNE# lets it run."""
        if not self.ignne:
            self._irq13(True)
        return self.ignne

    def error_cleared(self) -> None:
        """FERR# falls."""
        self.ignne = False
        self._irq13(False)

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN: nothing answers."""
        return 0xFF

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: the handler has seen the error."""
        self.ignne = True
        self._irq13(False)
