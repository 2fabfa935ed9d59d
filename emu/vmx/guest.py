"""VMX non-root operation: what exits, what is virtualised. SDM Vol. 3, VMX Non-Root Operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from emu.cpu.errors import Fault
from emu.cpu.guest_mode import (
    Event,
    EventKind,
    GuestExit,
    GuestMode,
    Intercept,
    PortAccess,
    SecondLevelFault,
)
from emu.cpu.state import WORD, Vector
from emu.cpu.system.msrs import Refused
from emu.cpu.system.task import CALL, GATE, JUMP, RETURN
from emu.vmx import control_registers, exits, memory
from emu.vmx.apic import VirtualApic
from emu.vmx.bitmaps import msr_exits, port_exits
from emu.vmx.bits import EXIT, P1, P2, PIN
from emu.vmx.exits import VALID, Record, information_of
from emu.vmx.information import (
    WITH_DISPLACEMENT,
    displacement,
    instruction_information,
    string_information,
)
from emu.vmx.intercepts import Row, under
from emu.vmx.region import INDEX
from emu.vmx.timer import PreemptionTimer
from vmcs.vmx import exit_qualification as qualifications
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.field_formats import ActivityState

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

PIN_FIELD, PROC = INDEX["PIN_BASED_VM_EXEC_CONTROL"], INDEX["CPU_BASED_VM_EXEC_CONTROL"]
PROC2 = INDEX["SECONDARY_VM_EXEC_CONTROL"]
EXCEPTION_BITMAP = INDEX["EXCEPTION_BITMAP"]
PAGE_FAULT_MASK = INDEX["PAGE_FAULT_ERROR_CODE_MASK"]
PAGE_FAULT_MATCH = INDEX["PAGE_FAULT_ERROR_CODE_MATCH"]
TASK_SWITCHES: Final = {CALL: 0, RETURN: 1, JUMP: 2, GATE: 3}
DEBUG_CAUSES: Final = 0x600F
TSC_FRACTION: Final = 48


class NonRoot(GuestMode):
    """The guest of a processor. The controls are those of the current VMCS, read at VM entry."""

    def __init__(self, vmx: Vmx) -> None:
        super().__init__(vmx.cpu)
        self.vmx = vmx
        self.pin = self.proc = self.proc2 = 0
        self.rows: Mapping[Intercept, Row] = {}
        self.record = Record(0)
        self.apic = VirtualApic(self)
        self.timer = PreemptionTimer(self)
        self.inactive = ActivityState.HLT  # what it means that the processor is halted
        self.step_due = False  # an event was injected or delivered: a trap by MTF follows
        self.stepped: int | None = None  # instructions retired at the boundary before
        self.after: Record | None = None  # an exit that follows the instruction that caused it
        self.first_pause = self.last_pause = 0

    # coming and going

    def begin(self) -> None:
        """VM entry: take the controls over."""
        vmx, fields = self.vmx, self.vmx.fields
        self.pin, self.proc = fields[PIN_FIELD], fields[PROC]
        secondary = self.proc & P1.ACTIVATE_SECONDARY_CONTROLS
        self.proc2 = fields[PROC2] if secondary else 0
        self.rows, self.disabled = under(self.proc, self.proc2)
        self.single_steps = bool(self.proc & P1.MONITOR_TRAP_FLAG)
        self.step_due = False
        self.stepped = None
        self.after = None
        self.first_pause = self.last_pause = 0
        state = vmx["GUEST_ACTIVITY_STATE"]
        self.inactive = ActivityState.SHUTDOWN if state == 2 else ActivityState.HLT
        vpid = vmx["VIRTUAL_PROCESSOR_ID"] if self.proc2 & P2.ENABLE_VPID else 0
        vmx.translations.enter(vpid, memory.second_level(vmx, self.proc2))
        self.apic.begin()
        self.timer.begin()

    def end(self) -> None:
        """VM exit: what the guest had armed is armed no more."""
        self.timer.end()
        self.apic.end()

    def leave(self) -> None:
        """Carry out the VM exit that was recorded."""
        exits.leave(self.vmx, self.record)

    def instructions(self) -> int:
        """Instructions that the processor has retired."""
        state = self.cpu.state
        return int(state.retired) + self.cpu.used()

    # exits

    def exit(self, reason: int, qualification: int = 0, **more: Any) -> NoReturn:
        """Leave for a reason; `more` are further fields of the record."""
        self.record = Record(int(reason), qualification, **more)
        raise GuestExit

    def leave_for_instruction(
        self, reason: ExitReason, insn: Any, qualification: int | None = None, **more: Any
    ) -> NoReturn:
        """Leave for an instruction: its length, its information field, its displacement."""
        if qualification is None:
            shown = reason in WITH_DISPLACEMENT
            qualification = displacement(self.cpu, insn) if shown else 0
        self.exit(
            reason,
            qualification,
            length=insn.len,
            information=instruction_information(self.cpu, insn, reason),
            resume_flag=0,
            **more,
        )

    # instructions

    def intercept(self, what: Intercept, insn: Any, value: int = 0) -> None:
        """SDM Vol. 3, Instructions That Cause VM Exits: a row each."""
        row = self.rows.get(what)
        if row is not None:
            qualification = row.qualification
            if qualification is None:
                self.leave_for_instruction(row.reason, insn)
            self.leave_for_instruction(row.reason, insn, qualification(insn, value))
        if what is Intercept.PAUSE:
            self.pause(insn)
        elif what is Intercept.XSAVES or what is Intercept.XRSTORS:
            self.extended_state(what, insn)

    def pause(self, insn: Any) -> None:
        """PAUSE-loop exiting, at CPL 0."""
        if self.proc2 & P2.PAUSE_LOOP_EXITING and not self.cpu.state.cpl:
            now = self.cpu.environment.ticks()
            if not self.last_pause or now - self.last_pause > self.vmx["PLE_GAP"]:
                self.first_pause = now
            elif now - self.first_pause > self.vmx["PLE_WINDOW"]:
                self.leave_for_instruction(ExitReason.PAUSE, insn)
            self.last_pause = now

    def extended_state(self, what: Intercept, insn: Any) -> None:
        """XSAVES, XRSTORS: the XSS-exiting bitmap."""
        state = self.cpu.state
        asked = (int(state.rdx) & 0xFFFFFFFF) << 32 | int(state.rax) & 0xFFFFFFFF
        if asked & self.cpu.msrs.get(0xDA0, 0) & self.vmx["XSS_EXIT_BITMAP"]:
            self.leave_for_instruction(ExitReason[what.name], insn)

    def read_cr(self, number: int, value: int, insn: Any) -> int:
        """CR0 and CR4 with their shadows, CR3, CR8."""
        return control_registers.read(self, number, value, insn)

    def write_cr(self, number: int, value: int, insn: Any) -> int | None:
        """CR0 and CR4 under their masks, CR3 with its targets, CR8."""
        return control_registers.write(self, number, value, insn)

    def read_msr(self, index: int) -> int | None:
        """RDMSR: the bitmaps, then what the virtual APIC answers."""
        if self.msr_exits(index, False):
            self.exit(ExitReason.RDMSR, length=2, resume_flag=0)
        return self.apic.read_msr(index)

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR: the bitmaps, then what the virtual APIC takes."""
        if self.msr_exits(index, True):
            self.exit(ExitReason.WRMSR, length=2, resume_flag=0)
        if 0x480 <= index < 0x494:
            raise Refused
        return self.apic.write_msr(index, value)

    def msr_exits(self, index: int, writes: bool) -> bool:
        """Whether an access to an MSR causes a VM exit."""
        if not self.proc & P1.USE_MSR_BITMAPS:
            return True
        return msr_exits(self.vmx, index, writes)

    def tsc(self, value: int) -> int:
        """TSC scaling and offsetting."""
        if not self.proc & P1.USE_TSC_OFFSETTING:
            return value
        if self.proc2 & P2.USE_TSC_SCALING:
            value = value * self.vmx["TSC_MULTIPLIER"] >> TSC_FRACTION
        return value + self.vmx["TSC_OFFSET"] & WORD

    def port(self, access: PortAccess, insn: Any) -> None:
        """IN, OUT, INS, OUTS: unconditionally, or by the I/O bitmaps."""
        if self.proc & P1.USE_IO_BITMAPS:
            if not port_exits(self.vmx, access.port, access.size):
                return
        elif not self.proc & P1.UNCONDITIONAL_IO_EXITING:
            return
        qualification = qualifications.IO_INSTRUCTION.word(
            SIZE=access.size - 1,
            DIRECTION=int(access.reads),
            STRING=int(access.string),
            REP=int(access.repeats),
            OPERAND=int(access.immediate),
            PORT=access.port,
        )
        self.exit(
            ExitReason.IO_INSTRUCTION,
            qualification,
            length=insn.len,
            information=string_information(access) if access.string else 0,
            linear=access.linear if access.string else None,
            resume_flag=0,
        )

    def task_switch(self, selector: int, how: str, event: Event | None) -> None:
        """Task switches cause VM exits."""
        qualification = qualifications.TASK_SWITCH.word(
            TSS_SELECTOR=selector, SOURCE=TASK_SWITCHES[how]
        )
        length = None
        if event is None:
            length = int(self.cpu.next_rip - self.cpu.state.rip) & 15
        self.exit(ExitReason.TASK_SWITCH, qualification, length=length)

    def iret_unblocks(self) -> bool:
        """IRET: NMI exiting without virtual NMIs leaves their blocking as it is."""
        return not self.pin & PIN.NMI_EXITING or bool(self.pin & PIN.VIRTUAL_NMIS)

    def vm_function(self, insn: Any) -> None:
        """VMFUNC. SDM Vol. 3, VM Functions."""
        number = int(self.cpu.state.rax) & 0xFFFFFFFF
        if not self.proc2 & P2.ENABLE_VM_FUNCTIONS or number >= 64:
            raise Fault(Vector.UD)
        if not self.vmx["VM_FUNCTION_CONTROL"] >> number & 1 or not memory.switch_eptp(self):
            self.leave_for_instruction(ExitReason.VMFUNC, insn)

    # events

    def exception(self, event: Event) -> None:
        """The exception bitmap, for page faults with mask and match."""
        fields = self.vmx.fields
        wanted = fields[EXCEPTION_BITMAP] >> event.vector & 1
        if event.vector == Vector.PF and event.kind == EventKind.HARDWARE:
            match = (event.error or 0) & fields[PAGE_FAULT_MASK] == fields[PAGE_FAULT_MATCH]
            wanted = wanted == match
        self.step_due = True
        if not wanted:
            return
        qualification = 0
        if event.vector == Vector.PF:
            qualification = event.payload or 0
        elif event.vector == Vector.DB and event.kind == EventKind.HARDWARE:
            qualification = (event.payload or 0) & DEBUG_CAUSES
        self.exit(
            ExitReason.EXCEPTION_OR_NMI,
            qualification,
            interruption=information_of(event),
            error=event.error or 0,
            length=event.length or None,
            resume_flag=1 if sets_resume_flag(event) else None,
        )

    def triple_fault(self) -> None:
        """A triple fault causes a VM exit."""
        self.exit(ExitReason.TRIPLE_FAULT)

    def pending(self) -> bool:
        """Whether something is to be looked at between instructions."""
        return bool(
            self.single_steps
            or self.step_due
            or self.after is not None
            or self.timer.expired
            or self.apic.recognized
            or self.proc & (P1.INTERRUPT_WINDOW_EXITING | P1.NMI_WINDOW_EXITING)
        )

    def before_traps(self) -> None:
        """Exits that follow an instruction, then the monitor trap flag."""
        if self.after is not None:
            self.record, self.after = self.after, None
            raise GuestExit
        retired = self.instructions()
        stepped, self.stepped = self.stepped not in (None, retired), retired
        if self.vmx["VM_ENTRY_INTR_INFO_FIELD"] & (VALID | 0x700) == VALID | 0x700:
            self.exit(ExitReason.MONITOR_TRAP_FLAG)
        due, self.step_due = self.step_due, False
        if self.single_steps and (stepped or due):
            self.exit(ExitReason.MONITOR_TRAP_FLAG)

    def boundary(self) -> bool:
        """Timer, windows and virtual interrupts, in the order of their priority."""
        cpu = self.cpu
        if cpu.waits_for_sipi:
            return False
        if self.timer.expired:
            self.exit(ExitReason.VMX_PREEMPTION_TIMER)
        shadow = cpu.shadow_active()
        if self.proc & P1.NMI_WINDOW_EXITING and not cpu.nmi_blocked and not shadow:
            self.exit(ExitReason.NMI_WINDOW)
        if cpu.nmi_pending and not self.nmi_blocked() and not shadow:
            return False
        if not cpu.interruptible_now():
            return False
        shut_down = cpu.halted and self.inactive == ActivityState.SHUTDOWN
        if self.proc & P1.INTERRUPT_WINDOW_EXITING and not shut_down:
            self.exit(ExitReason.INTERRUPT_WINDOW)
        return self.apic.deliver()

    def nmi_blocked(self) -> bool:
        """With virtual NMIs, physical ones are never blocked."""
        virtual = self.pin & PIN.VIRTUAL_NMIS
        return self.cpu.waits_for_sipi or (self.cpu.nmi_blocked and not virtual)

    def nmi(self) -> None:
        """NMI exiting."""
        self.step_due = True
        if self.pin & PIN.NMI_EXITING:
            self.cpu.nmi_pending = False
            event = Event(EventKind.NMI, Vector.NMI)
            self.exit(ExitReason.EXCEPTION_OR_NMI, interruption=information_of(event))

    def accepts_interrupt(self) -> bool:
        """External-interrupt exiting: RFLAGS.IF does not matter."""
        if self.cpu.waits_for_sipi:
            return False
        if self.pin & PIN.EXTERNAL_INTERRUPT_EXITING:
            return not self.cpu.shadow_active()
        return self.cpu.interruptible_now()

    def interrupt(self) -> bool:
        """External-interrupt exiting, with posted-interrupt processing."""
        self.step_due = True
        if not self.pin & PIN.EXTERNAL_INTERRUPT_EXITING:
            return False
        if not self.vmx["VM_EXIT_CONTROLS"] & EXIT.ACKNOWLEDGE_INTERRUPT_ON_EXIT:
            self.exit(ExitReason.EXTERNAL_INTERRUPT)
        assert self.cpu.acknowledge is not None
        vector = self.cpu.acknowledge()
        posted = self.pin & PIN.PROCESS_POSTED_INTERRUPTS
        if not posted or vector != self.vmx["POSTED_INTR_NV"]:
            event = Event(EventKind.EXTERNAL, vector)
            self.exit(ExitReason.EXTERNAL_INTERRUPT, interruption=information_of(event))
        self.apic.process_posted()
        return True

    def init(self) -> None:
        """INIT signals cause VM exits."""
        self.cpu.init_pending = False
        self.exit(ExitReason.INIT_SIGNAL)

    def sipi(self, vector: int) -> None:
        """Start-up IPIs in the wait-for-SIPI state cause VM exits."""
        self.cpu.sipi_pending = None
        self.exit(ExitReason.SIPI, vector)

    # memory

    def second_level_fault(self, fault: SecondLevelFault) -> None:
        """EPT violations and misconfigurations, page-modification logging."""
        memory.refused(self, fault)

    def fetch_trapped(self, physical: int) -> None:
        """A fetch from the APIC-access page."""
        self.apic.access(physical & 0xFFF, 2)


def sets_resume_flag(event: Event) -> bool:
    """Whether the RFLAGS image that the event would push has RF set."""
    from emu.cpu.system.events import FAULTS_SET_RF  # noqa: PLC0415

    return event.kind == EventKind.HARDWARE and event.vector in FAULTS_SET_RF
