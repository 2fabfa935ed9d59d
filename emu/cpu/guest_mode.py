# ruff: noqa: ARG002 - the answers of a guest that intercepts nothing
"""What a processor asks of its virtualization extension: VMX (emu.vmx) or SVM (emu.svm).

The processor knows that an `Extension` may exist (`cpu.extension`) and that it may be in guest
mode, VMX non-root operation or after VMRUN (`cpu.guest`, None outside). At each point where guest
mode makes a difference it asks the guest; the answers of the base class are those of a guest that
intercepts nothing. Whatever leaves guest mode is recorded by the extension, which raises
`GuestExit`; `Cpu.run` then calls `cpu.guest.leave()`.

To enter, an extension loads the guest's state, sets `cpu.guest`, `cpu.space` and `cpu.tlb_context`
(both zero outside guest mode) and `state.second_level`, flushes what has to be flushed, and calls
`cpu.refresh()` and `cpu.update_pending()`; to leave, the same with None and zeros. Accesses to a
page that the guest wants to see are answered by a bus of its own (`Cpu.trap_page`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.cpu.errors import Fault, GuestExit
from emu.cpu.exit_report import ExitReport

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

__all__ = ["Event", "EventKind", "Extension", "GuestExit", "GuestMode", "Intercept", "PortAccess"]


class Intercept(Enum):
    """Instructions that guest mode may intercept, each asked about once its faults are excluded."""

    CPUID = auto()
    HLT = auto()
    INVD = auto()
    WBINVD = auto()
    WBNOINVD = auto()
    INVLPG = auto()  # value: linear address
    INVPCID = auto()
    RDPMC = auto()
    RDTSC = auto()
    RDTSCP = auto()
    RDPRU = auto()
    RSM = auto()
    PAUSE = auto()
    MONITOR = auto()
    MWAIT = auto()  # value: whether the monitor is armed
    XSETBV = auto()
    RDRAND = auto()
    RDSEED = auto()
    XSAVES = auto()
    XRSTORS = auto()
    SGDT = auto()
    SIDT = auto()
    LGDT = auto()
    LIDT = auto()
    SLDT = auto()
    STR = auto()
    LLDT = auto()
    LTR = auto()
    DR_READ = auto()  # value: number of the debug register, as encoded
    DR_WRITE = auto()
    INT_N = auto()  # value: vector
    INT1 = auto()
    IRET = auto()
    PUSHF = auto()
    POPF = auto()
    LOADIWKEY = auto()
    TPAUSE = auto()
    UMWAIT = auto()


class EventKind(IntEnum):
    """What is delivered through the IDT. SDM Vol. 3, VM-Entry Interruption-Information Field."""

    EXTERNAL = 0
    NMI = 2
    HARDWARE = 3
    SOFTWARE = 4  # INT n
    PRIVILEGED = 5  # INT1
    SOFTWARE_EXCEPTION = 6  # INT3, INTO


class Event(NamedTuple):
    """An event in delivery. `payload` is CR2 of #PF and the causes for DR6 of #DB."""

    kind: EventKind
    vector: int
    error: int | None = None
    length: int = 0  # of the instruction, for the software kinds
    payload: int | None = None
    injected: bool = False  # on entry to guest mode: RF in the image pushed stays as it is

    @classmethod
    def of(cls, fault: Fault) -> Event:
        """The exception that a fault stands for."""
        return cls(EventKind.HARDWARE, fault.vector, fault.error, 0, fault.address)


class PortAccess(NamedTuple):
    """IN, OUT, INS, OUTS. For strings `linear`, `seg` and `width` describe the memory operand."""

    port: int
    size: int
    reads: bool
    string: bool = False
    repeats: bool = False
    immediate: bool = False
    linear: int = 0
    seg: int = 0
    width: int = 0  # address size in bits


class SecondLevelFault(NamedTuple):
    """What EPT or nested paging refused; the numbers are those of `second_level`."""

    kind: int
    gpa: int
    linear: int
    access: int
    rights: int


class GuestMode:
    """Guest mode of an extension; every method may raise GuestExit. These defaults do nothing."""

    trapped: frozenset[str] = frozenset()
    """Mnemonics that go to plain Python in this guest although they have compiled handlers."""
    disabled: frozenset[str] = frozenset()
    """Features of CPUID whose instructions are undefined opcodes in this guest."""
    single_steps = False
    """Whether `boundary` wants to be called after each instruction."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu

    def leave(self) -> None:
        """Carry out the exit that was recorded: save the guest, load the host."""
        raise NotImplementedError

    # instructions

    def intercept(self, what: Intercept, insn: Any, value: int = 0) -> None:
        """An instruction, before its effect and after the faults that have priority."""

    def read_cr(self, number: int, value: int, insn: Any) -> int:
        """MOV from CR, SMSW: what the guest sees of `value`."""
        return value

    def write_cr(self, number: int, value: int, insn: Any) -> int | None:
        """MOV to CR, LMSW, CLTS: what goes to the register for `value`; None when that is done."""
        return value

    def write_task_priority(self, value: int) -> bool:
        """MOV to CR8, checked: whether that is all; False when the local APIC's is written."""
        return False

    def read_msr(self, index: int) -> int | None:
        """RDMSR: the value; None when it is that of the processor."""
        return None

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR: whether that is all; False when the processor's MSR is to be written."""
        return False

    def tsc(self, value: int) -> int:
        """What RDTSC, RDTSCP and RDMSR give when the time-stamp counter is `value`."""
        return value

    def port(self, access: PortAccess, insn: Any) -> None:
        """IN, OUT, and every iteration of INS and OUTS."""

    def task_switch(self, selector: int, how: str, event: Event | None) -> None:
        """A task switch by JMP, CALL, IRET or a task gate of the IDT, once its checks passed."""

    def iret_unblocks(self) -> bool:
        """Whether IRET ends the blocking of NMIs."""
        return True

    # events

    def exception(self, event: Event) -> None:
        """An exception, before its delivery and before CR2 and DR6 change.

        `cpu.delivering` is the event in whose delivery it came up, if any.
        """

    def triple_fault(self) -> None:
        """A triple fault, before the processor shuts down."""

    def pending(self) -> bool:
        """Whether `boundary` has to be called: `cpu.update_pending` asks."""
        return False

    def before_traps(self) -> None:
        """At an instruction boundary, before #DB traps (`cpu.debug_causes` holds their causes)."""

    def boundary(self) -> bool:
        """At an instruction boundary, before NMIs and interrupts; True when RIP has changed."""
        return False

    def nmi_blocked(self) -> bool:
        """Whether NMIs are blocked."""
        return self.cpu.nmi_blocked

    def nmi(self) -> None:
        """An NMI that is not blocked, before its delivery."""

    def accepts_interrupt(self) -> bool:
        """Whether an external interrupt is taken now: delivered, or intercepted."""
        return self.cpu.interruptible_now()

    def interrupt(self) -> bool:
        """An external interrupt that is taken, before it is acknowledged; True: dealt with."""
        return False

    def init(self) -> None:
        """INIT, before it is taken."""

    def sipi(self, vector: int) -> None:
        """A start-up IPI in the wait-for-SIPI state."""

    def smi(self) -> None:
        """SMI, before it is taken."""

    # memory

    def second_level_fault(self, fault: SecondLevelFault) -> None:
        """EPT or nested paging refused an access; on return the access is tried again."""
        raise NotImplementedError

    def fetch_trapped(self, physical: int) -> None:
        """Instructions are fetched from the trapped page."""

    def invalidate(self, linear: int | None) -> None:
        """INVLPG, INVPCID, MOV to CR: translations of the guest went; nothing else to do."""


class Extension:
    """A virtualization extension of a processor: its instructions, MSRs and rules."""

    table: Mapping[str, Callable[[Cpu, Any], None]] = {}
    """Its instructions by mnemonic, as iced-x86 spells them."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu

    def reset(self) -> None:
        """RESET; `Cpu.init_reset` calls `init_reset` instead."""

    def init_reset(self) -> None:
        """INIT is taken."""

    def read_msr(self, index: int) -> int | None:
        """The value of one of its MSRs; None for another's. Raises `msrs.Refused`."""
        return None

    def write_msr(self, index: int, value: int) -> bool:
        """Write one of its MSRs; False for another's. Raises `msrs.Refused`."""
        return False

    def check_cr(self, number: int, value: int) -> None:
        """#GP(0) for a value of CR0 or CR4 that it does not allow."""

    def blocks_init(self) -> bool:
        """Whether INIT stays pending."""
        return False

    def blocks_events(self) -> bool:
        """Whether NMI, SMI and interrupts stay pending: the global interrupt flag is clear."""
        return False

    def exit_report(self) -> ExitReport:
        """Why guest mode was left last, or why it could not be entered."""
        raise NotImplementedError


def ask(cpu: Cpu, what: Intercept, insn: Any, value: int = 0) -> None:
    """Let guest mode intercept an instruction."""
    if cpu.guest is not None:
        cpu.guest.intercept(what, insn, value)
