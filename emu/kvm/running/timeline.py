"""What L0 does as a timeline: each exit to it, who was left, why, and who goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.exit_report import ExitReport

if TYPE_CHECKING:
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.running.run import Run


class Passage(NamedTuple):
    """An exit to L0, which dealt with it; the guest that is entered next may be another one."""

    number: int  # of the exit, from 1
    processor: int
    instruction: int  # instructions retired before the exit
    ran: int  # of those, since the exit before
    left: str  # L1 or L2
    goes_on: str
    exit: ExitReport


class KvmTimeline:
    """Every exit of the vCPU of `core` to `sink`."""

    def __init__(self, core: VirtualCore, sink: Callable[[Passage], None]) -> None:
        self.core, self.sink = core, sink
        self.before = 0
        core.l0.watch = self.exited

    def exited(self, run: Run) -> None:
        """L0 has dealt with an exit."""
        cpu = self.core.cpu
        assert cpu.extension is not None
        now = int(cpu.state.retired) - cpu.idle + (cpu.used() if cpu.state.slice else 0)
        left, goes_on = (
            "L2" if nested else "L1" for nested in (run.left_l2, run.vcpu.operations.in_guest_mode)
        )
        report = cpu.extension.exit_report()
        ran, self.before = now - self.before, now
        index = self.core.index
        self.sink(Passage(run.exits, index, now, ran, left, goes_on, report))
