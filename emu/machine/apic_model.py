"""What a local APIC has, and what it drives: its model, and the pins of its processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ApicModel:
    """What this processor's local APIC has, as CPUID tells."""

    x2apic: bool = True
    tsc_deadline: bool = True
    cmci: bool = False
    suppress_eoi_broadcast: bool = True
    maxphyaddr: int = 40
    bus_ratio: int = 1

    @property
    def version(self) -> int:
        """Local APIC version register: version 14H, the last LVT entry, EOI-broadcast bit."""
        return 0x14 | (6 if self.cmci else 5) << 16 | int(self.suppress_eoi_broadcast) << 24


class Core(Protocol):
    """The pins of the processor that a local APIC drives."""

    def interrupt_request(self, asserted: bool) -> None:
        """The level of the interrupt request."""

    def nmi(self) -> None:
        """A non-maskable interrupt."""

    def smi(self) -> None:
        """A system-management interrupt."""

    def init(self) -> None:
        """An INIT."""

    def sipi(self, vector: int) -> None:
        """A start-up IPI."""
