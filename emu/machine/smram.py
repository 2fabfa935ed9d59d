"""System-management RAM: where it is, and who sees it.

Intel 3 Series Express Chipset Family datasheet, System Management Mode (SMM).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu.machine.firmware import KIB, MIB, VIDEO
from emu.machine.pci import HOST_BRIDGE, PciFunction
from emu.machine.registers import RO, RW, Register, registers
from emu.memory import PhysicalMemory

_SMRAM: Final = "Intel 3 Series datasheet, System Management RAM Control"
_ESMRAMC: Final = "Intel 3 Series datasheet, Extended System Management RAM Control"

SMRAM_CONTROL, EXTENDED_CONTROL = 0x9D, 0x9E
# fmt: off
CONTROLS: Final = registers("SMRAM controls", (
    Register(SMRAM_CONTROL, "SMRAM", RW, 0x78, 0x02, _SMRAM),
    Register(EXTENDED_CONTROL, "ESMRAMC", RW, 0x07, 0x38, _ESMRAMC),
    Register(0x9F, "RESERVED", RO, 0, 0, _ESMRAMC),
), width=8)
# fmt: on
ENABLED, LOCKED, OPEN = 1 << 3, 1 << 4, 1 << 6
TSEG_ENABLED = 1 << 0
COMPATIBLE_SIZE: Final = 128 * KIB  # A0000H to BFFFFH
TSEG_SIZES: Final = (1 * MIB, 2 * MIB, 8 * MIB, 0)


class Hidden(NamedTuple):
    """RAM that is out of sight."""

    gpa: int
    words: NDArray[np.uint64]


class HostBridge(PciFunction):
    """The host bridge, with the two bytes that control SMRAM; D_LCK locks them until reset."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__(HOST_BRIDGE)
        self.changed = changed
        self.reset()

    def reset(self) -> None:
        """SMRAM closed and unlocked."""
        for row in CONTROLS:
            self.space[row.offset], self.writable[row.offset] = row.reset, row.writable

    def write(self, offset: int, size: int, value: int) -> None:
        """Configuration write."""
        super().write(offset, size, value)
        if offset < CONTROLS[-1].offset and offset + size > SMRAM_CONTROL:
            if self.space[SMRAM_CONTROL] & LOCKED:
                self.space[SMRAM_CONTROL] &= ~OPEN
                self.writable[SMRAM_CONTROL] = self.writable[EXTENDED_CONTROL] = 0
            self.changed()


class Smram:
    """What of the compatible segment (A0000H) and of TSEG the running processor sees.

    `flush` is called when translations to it that processors hold may have become wrong. The high
    segment (H_SMRAME) does not exist; D_CLS has no effect.
    """

    def __init__(self, memory: PhysicalMemory, low_end: int, flush: Callable[[], None]) -> None:
        self.memory, self.low_end, self.flush = memory, low_end, flush
        self.bridge = HostBridge(self.changed)
        self.active = False
        self._out_of_sight: list[Hidden] = []
        memory.add_ram(VIDEO, COMPATIBLE_SIZE)
        self._arrange()

    def reset(self) -> None:
        """As after power-up."""
        self.bridge.reset()
        self.active = False
        self.changed()

    def changed(self) -> None:
        """The controls were written."""
        self._arrange()
        self.flush()

    def open(self, opened: bool) -> None:
        """Let every processor see SMRAM, as firmware does to fill it, or only those in SMM."""
        self.bridge.space[SMRAM_CONTROL] = CONTROLS[0].reset | ENABLED | (OPEN if opened else 0)
        self.changed()

    def show(self, active: bool) -> None:
        """A processor runs that is in system-management mode, or one that is not."""
        if active != self.active:
            self.active = active
            self._arrange()

    def segments(self) -> list[tuple[int, int, bool]]:
        """Address, size and visibility of each segment."""
        control, extended = (self.bridge.space[c.offset] for c in CONTROLS[:2])
        enabled = bool(control & ENABLED)
        visible = enabled and (self.active or bool(control & OPEN))
        found = [(VIDEO, COMPATIBLE_SIZE, visible)]
        size = TSEG_SIZES[extended >> 1 & 3]
        fits = size and self.low_end - size >= MIB
        if enabled and extended & TSEG_ENABLED and fits:
            found.append((self.low_end - size, size, visible))
        return found

    def _arrange(self) -> None:
        for hidden in self._out_of_sight:
            self.memory.reveal(*hidden)
        self._out_of_sight = [
            Hidden(gpa, self.memory.hide(gpa, size))
            for gpa, size, visible in self.segments()
            if not visible
        ]
