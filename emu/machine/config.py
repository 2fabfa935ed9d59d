"""What a board is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from emu.errors import InputError
from emu.machine.apic_model import ApicModel
from emu.machine.firmware import GIB, MIB

MAX_PROCESSORS: Final = 255
MIN_MEMORY: Final = 2 * MIB
MAX_MEMORY: Final = 60 * GIB  # RAM, the hole below 4 GiB and devices fit 36 address bits
PAGE: Final = 4096
MEGAHERTZ: Final = 1_000_000


@dataclass(frozen=True)
class BoardConfig:
    """Processors, memory, time; raises InputError for what cannot be built.

    `quantum` is how many ticks a processor runs before the next takes its turn, `pause_ticks` what
    a PAUSE takes (140 on Skylake: Intel Optimization Reference Manual, Pause Latency in Skylake
    Client Microarchitecture), `port_ticks` and `mmio_ticks` what an access to a device takes: about
    that of an ISA cycle and of a local APIC, so that a guest that polls a device does not spin for
    millions of instructions. `idle_limit` is how many seconds of virtual time every processor may
    be halted before a run ends.
    """

    processors: int = 1
    memory: int = 128 * MIB
    tsc_hz: int = 1_000_000_000
    apic: ApicModel = field(default_factory=ApicModel)
    quantum: int = 10_000
    pause_ticks: int = 140
    port_ticks: int = 500
    mmio_ticks: int = 50
    idle_limit: int = 600
    epoch: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    test_device: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.processors <= MAX_PROCESSORS:
            raise InputError(
                f"{self.processors} processors: a board has 1 to {MAX_PROCESSORS} of them"
            )
        if not MIN_MEMORY <= self.memory <= MAX_MEMORY or self.memory % PAGE:
            raise InputError(
                f"{self.memory:#x} bytes of memory: a board has {MIN_MEMORY:#x} to "
                f"{MAX_MEMORY:#x}, in whole pages"
            )
        if self.tsc_hz < MEGAHERTZ or min(self.quantum, self.pause_ticks, self.idle_limit) < 1:
            raise InputError("the TSC runs at 1 MHz at least, and quanta and limits are positive")
        if self.port_ticks < 0 or self.mmio_ticks < 0:
            raise InputError("an access to a device takes no negative time")
