"""Guest mode as a timeline: each visit of a guest, how long it took, and why it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.exit_report import ExitReport
from emu.cpu.observed import ObservedCpu, Observer
from emu.cpu.trace import event_text

if TYPE_CHECKING:
    from emu.cpu.guest_mode import Event


class Visit(NamedTuple):
    """A visit of guest mode: from an entry to the exit that follows, or an entry that failed."""

    number: int  # of the exit, from 1
    processor: int
    instruction: int  # instructions retired before the exit
    host: int  # instructions of the host since the exit before
    guest: int  # instructions of the guest
    entry_rip: int | None  # None where entry failed, and where the guest ran no instruction
    injected: str
    exit: ExitReport


class Timeline(Observer):
    """Every visit of guest mode to `sink`."""

    def __init__(self, sink: Callable[[Visit], None]) -> None:
        self.sink = sink
        self.exits = 0
        self.left: dict[int, int] = {}  # processor -> instructions at its last exit
        self.entered: dict[int, tuple[int, int]] = {}  # processor -> instructions, RIP
        self.injected: dict[int, str] = {}

    def entry(self, cpu: ObservedCpu) -> None:
        """Guest mode is entered."""
        self.entered[cpu.environment.apic_id()] = cpu.number, int(cpu.state.rip)

    def delivery(self, cpu: ObservedCpu, event: Event) -> None:
        """An event is delivered: one that the host injects, if entry is not complete yet."""
        who = cpu.environment.apic_id()
        if cpu.guest is not None and who not in self.entered:
            self.injected[who] = event_text(event, int(cpu.state.cr2))

    def exit(self, cpu: ObservedCpu) -> None:
        """Guest mode is left."""
        self.tell(cpu)

    def failed_entry(self, cpu: ObservedCpu) -> None:
        """An entry failed after its checks of the host."""
        self.tell(cpu)

    def tell(self, cpu: ObservedCpu) -> None:
        """Hand on what has become of the visit."""
        assert cpu.extension is not None
        who, now = cpu.environment.apic_id(), cpu.number
        began, rip = self.entered.pop(who, (now, None))
        host = began - self.left.get(who, 0)
        self.exits += 1
        self.left[who] = now
        report = cpu.extension.exit_report()
        injected = self.injected.pop(who, "")
        self.sink(Visit(self.exits, who, now, host, now - began, rip, injected, report))
