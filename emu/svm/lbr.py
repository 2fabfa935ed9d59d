"""LBR virtualization. APM Vol. 2, Hardware Acceleration for LBR Virtualization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu import branch_records
from emu.svm.vmcb import ControlBlock, Group
from vmcs.svm.vmcb import LBR_MEMBERS

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

MEMBERS: Final = Group(LBR_MEMBERS)
MSRS: Final = (0x1D9, 0x1DB, 0x1DC, 0x1DD, 0x1DE)
"""DebugCtl, LastBranchFromIP, LastBranchToIP, LastIntFromIP, LastIntToIP."""


def save(cpu: Cpu, block: ControlBlock) -> None:
    """The MSRs to a VMCB, or to the host's save area."""
    MEMBERS.write(block.data, [cpu.msrs.get(index, 0) for index in MSRS])


def load(cpu: Cpu, block: ControlBlock) -> None:
    """The MSRs from a VMCB, or from the host's save area."""
    cpu.msrs.update(zip(MSRS, MEMBERS.read(block.data), strict=True))
    branch_records.follow(cpu)
