"""The last branch and the last one before an interrupt, while DEBUGCTL.LBR is set.

APM Vol. 2, Debug-Control MSR; Last-Branch Registers. The processor steps as long as it records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu.models.model import AMD
from emu.cpu.state import Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

DEBUGCTL, LBR = 0x1D9, 1
BRANCH_FROM, BRANCH_TO, INTERRUPT_FROM, INTERRUPT_TO = range(0x1DB, 0x1DF)


def follow(cpu: Cpu) -> None:
    """DEBUGCTL was written. Other vendors keep a stack of branches in MSRs of the model."""
    wanted = cpu.msrs.get(DEBUGCTL, 0) & LBR
    cpu.records_branches = bool(wanted) and cpu.model.vendor == AMD


def record(cpu: Cpu, source: int) -> None:
    """A branch from `source` to RIP was taken."""
    cpu.msrs[BRANCH_FROM], cpu.msrs[BRANCH_TO] = source, int(cpu.state.rip)


def record_event(cpu: Cpu, source: int, vector: int) -> None:
    """An event at `source` was delivered: the branch before it is kept. #DB ends the recording."""
    if vector == Vector.DB:
        cpu.msrs[DEBUGCTL] &= ~LBR
        cpu.records_branches = False
        return
    cpu.msrs[INTERRUPT_FROM] = cpu.msrs.get(BRANCH_FROM, 0)
    cpu.msrs[INTERRUPT_TO] = cpu.msrs.get(BRANCH_TO, 0)
    record(cpu, source)
