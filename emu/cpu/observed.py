"""A processor that tells an observer what it does, an instruction at a time if that is wanted.

The observer sees; it changes nothing. Where it wants only events, code runs compiled as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iced_x86 import Mnemonic

from emu.cpu import access
from emu.cpu.code import Breakpoint
from emu.cpu.cpu import ASKED, NOTHING, Cpu
from emu.cpu.environment import Environment
from emu.cpu.flags import CF, ZF
from emu.cpu.paging import WRITE
from emu.cpu.state import STRICT

if TYPE_CHECKING:
    from emu.cpu.errors import Fault
    from emu.cpu.guest_mode import Event

CONTROL = ("cr0", "cr3", "cr4", "efer", "xcr0")
ENTRIES = (Mnemonic.VMLAUNCH, Mnemonic.VMRESUME, Mnemonic.VMRUN)
MSR_ACCESS = {Mnemonic.RDMSR: False, Mnemonic.WRMSR: True}


class Observer:
    """What an `ObservedCpu` tells; these do nothing."""

    instructions = False
    """Whether `before` and `after` are called: each instruction is then a step of its own."""
    accesses = False
    """Whether `access` is called: each step then runs as plain Python."""

    def before(self, cpu: ObservedCpu) -> None:
        """An instruction is about to run."""

    def after(self, cpu: ObservedCpu) -> None:
        """It has run, or an exception took its place."""

    def access(self, cpu: ObservedCpu, linear: int, count: int, writes: bool) -> None:
        """The instruction at hand accesses memory."""

    def fault(self, cpu: ObservedCpu, fault: Fault) -> None:
        """An exception is raised, before its delivery."""

    def delivery(self, cpu: ObservedCpu, event: Event) -> None:
        """An event is delivered through the IDT."""

    def control(self, cpu: ObservedCpu, name: str, old: int, new: int) -> None:
        """A control register, EFER or XCR0 has changed."""

    def msr(self, cpu: ObservedCpu, index: int, value: int, writes: bool) -> None:
        """RDMSR or WRMSR has run."""

    def port(self, cpu: ObservedCpu, port: int, size: int, value: int, writes: bool) -> None:
        """An I/O port is accessed."""

    def entry(self, cpu: ObservedCpu) -> None:
        """Guest mode is entered."""

    def exit(self, cpu: ObservedCpu) -> None:
        """Guest mode is left."""

    def failed_entry(self, cpu: ObservedCpu) -> None:
        """An entry failed after the checks of the host: it ends like an exit."""

    def breakpoint(self, cpu: ObservedCpu) -> bool:  # noqa: ARG002 - an observer with breakpoints
        """RIP is where a breakpoint may be; whether to stop before the instruction."""
        return False


class ObservedPorts:
    """The environment of a processor, with its port accesses told."""

    def __init__(self, cpu: ObservedCpu, environment: Environment) -> None:
        self.cpu, self.environment = cpu, environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self.environment, name)

    def port_read(self, port: int, size: int) -> int:
        """IN."""
        value = self.environment.port_read(port, size)
        self.cpu.observer.port(self.cpu, port, size, value, False)
        return value

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self.cpu.observer.port(self.cpu, port, size, value, True)
        self.environment.port_write(port, size, value)


class ObservedCpu(Cpu):
    """A logical processor with an observer."""

    observer = Observer()
    origin: tuple[int, int] | None = None
    """Number and RIP of the system instruction that runs."""
    _delivering: Event | None = None
    _stepping = False

    def observe(self, observer: Observer) -> None:
        """Tell `observer` from now on."""
        from emu.cpu.program import program  # noqa: PLC0415 - compiled by now

        self.observer = observer
        compiled = program()
        one = compiled._replace(enter=self.enter_one)
        self.program = one if observer.instructions or observer.accesses else compiled
        if not isinstance(self.environment, ObservedPorts):
            self.environment = ObservedPorts(self, self.environment)  # type: ignore[assignment]
        watchers = access.WATCHERS
        watchers.pop(self.state.address, None)
        if observer.accesses:
            watchers[self.state.address] = self.accessed
        self.asked = NOTHING if type(observer) is Observer else ASKED
        self.refresh()

    @property
    def number(self) -> int:
        """Instructions retired before the one at hand."""
        retired = int(self.state.retired) - self.idle
        return retired + self.used() if self.state.slice else retired

    def enter_one(self, _address: int) -> None:
        """In place of the compiled loop: one instruction."""
        self.step()
        self.state.exit_code = 0

    def step(self, plain: bool = False) -> None:
        """Run one instruction; a step within a step is part of it."""
        observer = self.observer
        plain = plain or observer.accesses
        if self._stepping or not observer.instructions:
            super().step(plain)
            return
        self._stepping = True
        self.look_at_accesses()
        observer.before(self)
        try:
            super().step(plain)
        finally:
            self._stepping = False
            observer.after(self)

    def refresh(self) -> None:
        """Derive what compiled code reads; every access takes the slow path when it is watched."""
        super().refresh()
        self.look_at_accesses()

    def look_at_accesses(self) -> None:
        """Let data accesses miss the TLB when they are watched."""
        if self.observer.accesses:
            self.state.dtlb = self.state.dtlb_kinds[STRICT]

    def deliver_compiled(self, vector: int, error: int | None, soft: bool, flags: int) -> bool:
        """Deliver an event the usual way, unless its accesses are watched."""
        if self.observer.accesses:
            return False
        return super().deliver_compiled(vector, error, soft, flags)

    def accessed(self, linear: int, count: int, writes: int) -> None:
        """A handler accesses memory."""
        self.observer.access(self, linear, count, bool(writes))

    def pieces(
        self, linear: int, count: int, access_bits: int, implicit: bool
    ) -> list[tuple[int, int]]:
        """Physical pieces of a linear range; an access of a system instruction or an event."""
        if self.observer.accesses:
            self.observer.access(self, linear, count, bool(access_bits & WRITE))
        return super().pieces(linear, count, access_bits, implicit)

    def raised(self, fault: Fault) -> None:
        """Deliver an exception."""
        self.observer.fault(self, fault)
        super().raised(fault)

    @property
    def delivering(self) -> Event | None:
        """The event in delivery."""
        return self._delivering

    @delivering.setter
    def delivering(self, event: Event | None) -> None:
        self._delivering = event
        if event is not None:
            self.observer.delivery(self, event)

    def system(self, insn: Any) -> None:
        """Run an instruction in plain Python; one that stands for a breakpoint may stop."""
        if isinstance(insn, Breakpoint):
            if self.observer.breakpoint(self):
                self.stopping = True
            else:
                self.step()
            return
        self.origin = self.number, int(self.state.rip)
        try:
            self.observed_system(insn)
        finally:
            self.origin = None

    def observed_system(self, insn: Any) -> None:
        """Run an instruction in plain Python, and compare."""
        state = self.state
        before = [int(getattr(state, name)) for name in CONTROL]
        index, guest, budget = int(state.rcx) & 0xFFFF_FFFF, self.guest, state.budget
        try:
            super().system(insn)
        finally:
            if guest is None and self.guest is not None:
                self.observer.entry(self)
        entered_nothing = guest is None and self.guest is None and state.budget != budget
        if insn.mnemonic in ENTRIES and entered_nothing and not self.vm_fail(insn):
            self.observer.failed_entry(self)
        for name, old in zip(CONTROL, before, strict=True):
            new = int(getattr(state, name))
            if new != old:
                self.observer.control(self, name, old, new)
        if state.budget != budget and insn.mnemonic in MSR_ACCESS:
            value = int(state.rdx & 0xFFFF_FFFF) << 32 | int(state.rax & 0xFFFF_FFFF)
            self.observer.msr(self, index, value, MSR_ACCESS[insn.mnemonic])

    def vm_fail(self, insn: Any) -> bool:
        """Whether VMLAUNCH or VMRESUME only failed as an instruction: VMfail."""
        return insn.mnemonic != Mnemonic.VMRUN and bool(self.rflags & (CF | ZF))

    def leave_guest(self) -> None:
        """Leave guest mode."""
        super().leave_guest()
        self.observer.exit(self)
