"""The permission maps of a guest. APM Vol. 2, IOIO Intercepts; MSR Intercepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmcs.svm.msrs import msrpm_bit

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory


def port_intercepted(memory: PhysicalMemory, iopm: int, port: int, size: int) -> bool:
    """Whether the I/O permissions map at `iopm` has a bit set for one of `size` ports."""
    bits = int.from_bytes(memory.read(iopm + port // 8, 2), "little")
    return bool(bits >> port % 8 & (1 << size) - 1)


def msr_intercepted(memory: PhysicalMemory, msrpm: int, index: int, writes: bool) -> bool:
    """Whether the MSR permissions map at `msrpm` intercepts; MSRs outside of it always are."""
    place = msrpm_bit(index)
    if place is None:
        return True
    place += writes
    return bool(memory.read(msrpm + place // 8, 1)[0] >> place % 8 & 1)
