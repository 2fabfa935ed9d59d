"""I/O and MSR bitmaps. SDM Vol. 3, I/O-Bitmap Addresses; MSR-Bitmap Address."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

HALF_OF_PORTS = 0x8000
LOW_MSRS, HIGH_MSRS = range(0x2000), range(0xC000_0000, 0xC000_2000)
WRITES, HIGH = 0x800, 0x400  # where the bitmaps for writes, for high MSRs begin


def test(vmx: Vmx, address: int, number: int) -> bool:
    """A bit of a bitmap in memory."""
    return bool(vmx.cpu.memory.read(address + number // 8, 1)[0] >> number % 8 & 1)


def port_exits(vmx: Vmx, port: int, size: int) -> bool:
    """Whether an access to `size` ports from `port` causes a VM exit; wrapping around does."""
    if port + size > 2 * HALF_OF_PORTS:
        return True
    bitmaps = vmx["IO_BITMAP_A"], vmx["IO_BITMAP_B"]
    return any(
        test(vmx, bitmaps[one >= HALF_OF_PORTS], one % HALF_OF_PORTS)
        for one in range(port, port + size)
    )


def msr_exits(vmx: Vmx, index: int, writes: bool) -> bool:
    """Whether RDMSR or WRMSR of `index` causes a VM exit; outside both ranges it does."""
    address = vmx["MSR_BITMAP"] + (WRITES if writes else 0)
    if index in LOW_MSRS:
        return test(vmx, address, index)
    if index in HIGH_MSRS:
        return test(vmx, address + HIGH, index - HIGH_MSRS.start)
    return True
