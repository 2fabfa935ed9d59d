"""What the processor asks between VMRUN and #VMEXIT. APM Vol. 2, Intercept Operation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NoReturn

from emu.cpu import debug
from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import GuestExit
from emu.cpu.flags import IF
from emu.cpu.guest_mode import (
    Event,
    EventKind,
    GuestMode,
    Intercept,
    PortAccess,
    SecondLevelFault,
)
from emu.cpu.paging import CR0_MP, CR0_TS
from emu.cpu.state import Vector
from emu.cpu.system.events import deliver_interrupt
from emu.svm import exits
from emu.svm.exits import Exit
from emu.svm.maps import msr_intercepted, port_intercepted
from emu.svm.pause import PauseFilter
from vmcs.svm.control_bits import INT_CTL
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.intercepts import intercept

if TYPE_CHECKING:
    from emu.svm.extension import Svm
    from emu.svm.plan import Plan
    from emu.svm.vmcb import ControlBlock

WORD: Final = (1 << 64) - 1
SELECTIVE_CR0_FREE: Final = CR0_TS | CR0_MP  # changes that the selective intercept lets pass
V_TPR, V_IRQ, V_GIF = INT_CTL["V_TPR"].mask, INT_CTL["V_IRQ"].mask, INT_CTL["V_GIF"].mask
V_NMI, V_NMI_MASK = INT_CTL["V_NMI"].mask, INT_CTL["V_NMI_MASK"].mask
V_INTR_PRIO, V_IGN_TPR = INT_CTL["V_INTR_PRIO"], INT_CTL["V_IGN_TPR"].mask
V_INTR_MASKING = INT_CTL["V_INTR_MASKING"].mask
V_GIF_ENABLE, V_NMI_ENABLE = INT_CTL["V_GIF_ENABLE"].mask, INT_CTL["V_NMI_ENABLE"].mask
SMI_EXTERNAL: Final = 1
NO_EXIT: Final = Exit(int(SvmExit.INVALID))

INTERCEPTS: Final = {
    Intercept.CPUID: "CPUID",
    Intercept.HLT: "HLT",
    Intercept.INVD: "INVD",
    Intercept.WBINVD: "WBINVD",
    Intercept.WBNOINVD: "WBINVD",
    Intercept.INVPCID: "INVPCID",
    Intercept.RDPMC: "RDPMC",
    Intercept.RDTSC: "RDTSC",
    Intercept.RDTSCP: "RDTSCP",
    Intercept.RDPRU: "RDPRU",
    Intercept.RSM: "RSM",
    Intercept.MONITOR: "MONITOR",
    Intercept.XSETBV: "XSETBV",
    Intercept.SGDT: "STORE_GDTR",
    Intercept.SIDT: "STORE_IDTR",
    Intercept.LGDT: "LOAD_GDTR",
    Intercept.LIDT: "LOAD_IDTR",
    Intercept.SLDT: "STORE_LDTR",
    Intercept.STR: "STORE_TR",
    Intercept.LLDT: "LOAD_LDTR",
    Intercept.LTR: "LOAD_TR",
    Intercept.INT1: "ICEBP",
    Intercept.IRET: "IRET",
    Intercept.PUSHF: "PUSHF",
    Intercept.POPF: "POPF",
}
"""The intercepts that depend on nothing but their bit and tell nothing but their code."""

POSITIONS: Final = {what: intercept(name).position for what, name in INTERCEPTS.items()}
EXTERNAL, NMI, SMI, INIT, VINTR = (
    intercept(name).position for name in ("INTR", "NMI", "SMI", "INIT", "VINTR")
)
SELECTIVE_CR0, PAUSE = intercept("SELECTIVE_CR0").position, intercept("PAUSE").position
INTN, INVLPG = intercept("INTN").position, intercept("INVLPG").position
MWAIT, MWAIT_COND = intercept("MWAIT").position, intercept("MWAIT_COND").position
IOIO_PROT, MSR_PROT = intercept("IOIO_PROT").position, intercept("MSR_PROT").position
TASK_SWITCH, SHUTDOWN = intercept("TASK_SWITCH").position, intercept("SHUTDOWN").position
CR_READ, CR_WRITE = intercept("CR0_READ").position, intercept("CR0_WRITE").position
DR_READ, DR_WRITE = intercept("DR0_READ").position, intercept("DR0_WRITE").position
EXCEPTION = intercept("EXCP_DE").position


class SvmGuest(GuestMode):
    """The guest that VMRUN entered with the VMCB `block`."""

    def __init__(self, svm: Svm, block: ControlBlock, plan: Plan) -> None:
        self.cpu, self.svm, self.block, self.plan = svm.cpu, svm, block, plan
        self.bits, self.trapped, self.int_ctl = plan.bits, plan.trapped, plan.int_ctl
        self.host_interrupts = False  # RFLAGS.IF of the host
        self.host_traps = False  # RFLAGS.TF of the host
        self.host_pat: int | None = None  # while the guest has a PAT of its own
        self.fetch_told = False  # nested page faults tell of fetches
        self.exit = NO_EXIT

    # leaving

    def vmexit(self, code: int, info1: int = 0, info2: int = 0) -> NoReturn:
        """#VMEXIT with a code and its information."""
        self.exit = Exit(code, info1, info2)
        raise GuestExit

    def check(self, position: int, info1: int = 0, info2: int = 0) -> None:
        """#VMEXIT if the intercept at `position` is on; its code is that number."""
        if self.bits >> position & 1:
            self.vmexit(position, info1, info2)

    def leave(self) -> None:
        """#VMEXIT: the guest's state to the VMCB, the host's to the processor."""
        self.svm.vmexit(self)

    # instructions

    def intercept(self, what: Intercept, insn: Any, value: int = 0) -> None:
        """An instruction, before its effect and after the faults that have priority."""
        position = POSITIONS.get(what)
        if position is not None:
            self.check(position)
        elif what is Intercept.PAUSE:
            if self.bits >> PAUSE & 1 and self.pause.exhausted():
                self.vmexit(PAUSE)
        elif what is Intercept.INVLPG:
            self.check(INVLPG, self.assist(value))
        elif what is Intercept.INT_N:
            self.check(INTN, self.assist(value))
        elif what is Intercept.DR_READ:
            self.check(DR_READ + value, self.assist(exits.general_register(insn)))
        elif what is Intercept.DR_WRITE:
            self.check(DR_WRITE + value, self.assist(exits.general_register(insn)))
        elif what is Intercept.MWAIT:
            self.check(MWAIT)
            if value:
                self.check(MWAIT_COND)

    @functools.cached_property
    def pause(self) -> PauseFilter:
        """The filter of the PAUSE intercept."""
        return PauseFilter(self.cpu, self.plan.pause_count, self.plan.pause_threshold)

    def assist(self, info: int) -> int:
        """Information that only a processor with decode assists gives."""
        return info if self.svm.decode_assists else 0

    def read_cr(self, number: int, value: int, insn: Any) -> int:
        """MOV from CR, SMSW."""
        self.check(CR_READ + number, self.cr_info(insn))
        if number == 8 and self.int_ctl & V_INTR_MASKING:
            return self.int_ctl & V_TPR
        return value

    def write_cr(self, number: int, value: int, insn: Any) -> int:
        """MOV to CR, LMSW, CLTS; the selective intercept of CR0 comes second."""
        self.check(CR_WRITE + number, self.cr_info(insn))
        if number == 0:
            self.check_selective(value, insn)
        return value

    def check_selective(self, value: int, insn: Any) -> None:
        """A write of CR0 that changes more than TS and MP; LMSW always. APM: CR0 Intercepts."""
        name = MNEMONICS[insn.mnemonic]
        changed = (value ^ int(self.cpu.state.cr0)) & ~SELECTIVE_CR0_FREE
        if name == "LMSW" or (name == "MOV" and changed):
            self.check(SELECTIVE_CR0, self.cr_info(insn))

    def cr_info(self, insn: Any) -> int:
        """EXITINFO1 of an access to a control register."""
        return self.assist(exits.mov_cr(insn)) if MNEMONICS[insn.mnemonic] == "MOV" else 0

    def write_task_priority(self, value: int) -> bool:
        """MOV to CR8: whether it goes to V_TPR alone."""
        self.int_ctl = self.int_ctl & ~V_TPR | value
        self.cpu.update_pending()
        return bool(self.int_ctl & V_INTR_MASKING)

    def read_msr(self, index: int) -> int | None:
        """RDMSR, by the MSR permissions map."""
        self.check_msr(index, False)
        return None

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR, by the MSR permissions map."""
        self.check_msr(index, True)
        return False

    def check_msr(self, index: int, writes: bool) -> None:
        """#VMEXIT for an MSR that is intercepted."""
        if not self.bits >> MSR_PROT & 1:
            return
        if msr_intercepted(self.cpu.memory, self.plan.msrpm, index, writes):
            self.vmexit(SvmExit.MSR, int(writes))

    def tsc(self, value: int) -> int:
        """The time-stamp counter: scaled, then offset. APM Vol. 2, TSC Ratio MSR."""
        return (value * self.svm.tsc_ratio >> 32) + self.plan.tsc_offset & WORD

    def port(self, access: PortAccess, insn: Any) -> None:
        """IN, OUT, INS, OUTS, by the I/O permissions map; EXITINFO2 is the next RIP."""
        if not self.bits >> IOIO_PROT & 1:
            return
        if port_intercepted(self.cpu.memory, self.plan.iopm, access.port, access.size):
            self.vmexit(SvmExit.IOIO, exits.port_access(access), self.cpu.next_rip)

    def task_switch(self, selector: int, how: str, event: Event | None) -> None:
        """A task switch, once its checks passed."""
        resume = int(self.cpu.state.rflags) & 1 << 16
        self.check(TASK_SWITCH, selector, exits.task_switch(how, event, resume))

    def iret_unblocks(self) -> bool:
        """IRET ends the blocking of NMIs, or of virtual ones."""
        if self.int_ctl & V_NMI_ENABLE:
            self.int_ctl &= ~V_NMI_MASK
            self.cpu.update_pending()
            return False
        return True

    # events

    def exception(self, event: Event) -> None:
        """An exception, before its delivery. Of #DB, DR6 and DR7 are written before the exit."""
        if not self.bits >> EXCEPTION + event.vector & 1:
            return
        info1, info2 = event.error or 0, 0
        if event.vector == Vector.PF and event.payload is not None:
            info2 = event.payload
        elif event.vector == Vector.DB and event.payload is not None:
            debug.record(self.cpu.state, event.payload)
        self.vmexit(EXCEPTION + event.vector, info1, info2)

    def triple_fault(self) -> None:
        """A shutdown."""
        self.check(SHUTDOWN)

    @property
    def virtual_gif(self) -> bool:
        """Whether virtual interrupts and NMIs are unmasked by the global interrupt flag."""
        if self.int_ctl & V_GIF_ENABLE:
            return bool(self.int_ctl & V_GIF)
        return self.svm.gif

    def pending(self) -> bool:
        """Whether a virtual interrupt or NMI waits."""
        return self.takes_virtual_nmi() or self.virtual_interrupt_ranks()

    def takes_virtual_nmi(self) -> bool:
        """Whether a virtual NMI is pending and not masked. APM Vol. 2, NMI Virtualization."""
        wanted = V_NMI_ENABLE | V_NMI
        return self.int_ctl & (wanted | V_NMI_MASK) == wanted

    def virtual_interrupt_ranks(self) -> bool:
        """Whether a virtual interrupt is pending above V_TPR. APM Vol. 2, Virtual Interrupts."""
        if not self.int_ctl & V_IRQ:
            return False
        priority = (self.int_ctl & V_INTR_PRIO.mask) >> V_INTR_PRIO.low
        return bool(self.int_ctl & V_IGN_TPR) or priority > self.int_ctl & V_TPR

    def boundary(self) -> bool:
        """A virtual NMI or interrupt, when no physical one comes first; True if delivered."""
        cpu = self.cpu
        if not self.virtual_gif or cpu.shadow_active() or self.physical_event_first():
            return False
        if self.takes_virtual_nmi():
            self.int_ctl = self.int_ctl & ~V_NMI | V_NMI_MASK
            return self.delivered(Vector.NMI, EventKind.NMI)
        if not self.virtual_interrupt_ranks() or not cpu.state.rflags & IF:
            return False
        self.check(VINTR)
        self.int_ctl &= ~V_IRQ
        return self.delivered(self.plan.vector, EventKind.EXTERNAL)

    def delivered(self, vector: int, kind: EventKind) -> bool:
        """Deliver a virtual event."""
        self.cpu.halted = False
        self.cpu.update_pending()
        deliver_interrupt(self.cpu, vector, kind)
        return True

    def physical_event_first(self) -> bool:
        """Whether a physical NMI or interrupt is taken at this boundary."""
        cpu = self.cpu
        if not self.svm.gif:
            return False
        if cpu.nmi_pending and not self.nmi_blocked():
            return True
        return cpu.interrupt_pending and self.accepts_interrupt()

    def nmi(self) -> None:
        """An NMI; an intercepted one stays pending."""
        self.check(NMI)

    def accepts_interrupt(self) -> bool:
        """Whether a physical interrupt is taken: masked by the host's RFLAGS.IF or the guest's."""
        if self.int_ctl & V_INTR_MASKING:
            unmasked = self.host_interrupts
        else:
            unmasked = bool(self.cpu.state.rflags & IF)
        return unmasked and (bool(self.bits >> EXTERNAL & 1) or not self.cpu.shadow_active())

    def interrupt(self) -> bool:
        """A physical interrupt; an intercepted one stays pending, not acknowledged."""
        self.check(EXTERNAL)
        return False

    def init(self) -> None:
        """INIT; an intercepted one stays pending."""
        self.check(INIT)

    def smi(self) -> None:
        """SMI; an intercepted one stays pending. It is external: I/O trapping there is none."""
        self.check(SMI, SMI_EXTERNAL)

    # memory

    def second_level_fault(self, fault: SecondLevelFault) -> None:
        """A nested page fault."""
        info = exits.nested_page_fault(fault, self.fetch_told)
        self.vmexit(SvmExit.NPF, info, fault.gpa)
