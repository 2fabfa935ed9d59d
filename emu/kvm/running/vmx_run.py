"""KVM_RUN on Intel: L0 between VM exits and VM entries.

Source: arch/x86/kvm/x86.c: vcpu_enter_guest, kvm_check_and_inject_events; vmx/vmx.c: vmx_vcpu_run,
vmx_handle_exit; vmx/nested.c: nested_vmx_reflect_vmexit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.state import Vector
from emu.kvm.control_registers import EFER
from emu.kvm.nested_vmx.enter import PROC, secondary_controls
from emu.kvm.nested_vmx.groups import SHADOWED
from emu.kvm.nested_vmx.masks import ProcBased, ProcBased2
from emu.kvm.nested_vmx.pending import check_nested_events, timer_expired
from emu.kvm.nested_vmx.sync import exit_to_l1
from emu.kvm.nested_vmx.wants import exits_on_interrupt, is_for_l1
from emu.kvm.running.registers import save_general
from emu.kvm.running.run import INTERRUPT_FLAG, Run
from emu.kvm.running.user_exit import UserExit
from emu.kvm.running.vmx_exits import HANDLERS
from emu.kvm.running.vmx_hardware import VPID_OF_L2, VmxHardware
from emu.kvm.vmx import Vmx
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.vcpu import Vcpu
    from vmcs.vmx.instruction_errors import InstructionError

VALID, DELIVER_CODE, TYPE, VECTOR = 1 << 31, 1 << 11, 0x700, 0xFF
EXTERNAL, NMI, HARDWARE, SOFTWARE, SOFTWARE_EXCEPTION = (n << 8 for n in (0, 2, 3, 4, 6))
ENTRY_FAILURE: Final = 1 << 31
BREAKPOINT, OVERFLOW = 3, 4
IN_CACHE_CR3, IN_CACHE_RSP, IN_CACHE_RIP, IN_CACHE_PDPTR = 1 << 1, 1 << 3, 1 << 4, 1 << 5
WINDOWS: Final = int(ProcBased.INTERRUPT_WINDOW_EXITING | ProcBased.NMI_WINDOW_EXITING)


class VmxRun(Run):
    """L0 of one vCPU on Intel."""

    def __init__(self, vcpu: Vcpu, core: VirtualCore, hardware: VmxHardware) -> None:
        super().__init__(vcpu, core)
        assert isinstance(vcpu.operations, Vmx)
        self.vmx, self.hardware = vcpu.operations, hardware
        self.refused: InstructionError | None = None
        self.vpid_of_l2 = 0
        hardware.extension.monitor = self

    # Asked by the emulation of instructions ------------------------------------------------------
    @property
    def exit_code(self) -> int:
        """The exit-reason field."""
        return self.vmx.loaded["VM_EXIT_REASON"]

    @property
    def cpl(self) -> int:
        """L1's privilege level (vmx_get_cpl)."""
        return self.vmx.loaded["GUEST_SS_AR_BYTES"] >> 5 & 3

    @property
    def in_64_bit_mode(self) -> bool:
        """Whether the guest executes 64-bit code."""
        rights = self.vmx.loaded["GUEST_CS_AR_BYTES"]
        return bool(self.vcpu.efer & EFER.LMA and rights >> 13 & 1)

    @property
    def unrestricted(self) -> bool:
        """Whether L1 lets L2 run without paging and protection."""
        nested = self.vmx.nested
        second = secondary_controls(nested.vmcs12) if nested.guest_mode else 0
        return bool(second & ProcBased2.UNRESTRICTED_GUEST)

    def emulate(self) -> None:
        """Let the processor execute the instruction itself, outside the guest: INS and OUTS."""
        self.cpu.flush_tlb(0)
        self.cpu.step(plain=True)
        self.hardware.save_guest(self.vmx.loaded)
        save_general(self.vcpu, self.cpu.state)

    def skip_instruction(self) -> None:
        """On to the next instruction; blocking by STI and MOV SS ends (vmx_skip_emulated_...)."""
        vcpu = self.vcpu
        length = self.vmx.loaded["VM_EXIT_INSTRUCTION_LEN"]
        mask = 0xFFFF_FFFF_FFFF_FFFF if self.in_64_bit_mode else 0xFFFF_FFFF
        vcpu.write_register("rip", vcpu.read_register("rip") + length & mask)
        self.vmx.set_interrupt_shadow(0)

    def flush_for_entry(self) -> None:
        """L2's translations go where its VPID is none or another (nested_vmx_transition_...)."""
        vmcs12 = self.vmx.nested.vmcs12
        has = secondary_controls(vmcs12) & ProcBased2.ENABLE_VPID
        vpid = vmcs12["VIRTUAL_PROCESSOR_ID"] if has else 0
        if vpid == 0 or vpid != self.vpid_of_l2:
            self.flush_l2()
        self.vpid_of_l2 = vpid

    def flush_l2(self) -> None:
        """INVEPT and INVVPID of L1: L2's translations go."""
        self.hardware.extension.translations.drop(VPID_OF_L2)

    def prepare(self) -> None:
        """vmcs01 is what it needs from RESET on."""

    # Exit ----------------------------------------------------------------------------------------
    def take_exit(self) -> None:
        """Guest state and exit information, and the event that was in delivery."""
        vcpu, vmx = self.vcpu, self.vmx
        self.hardware.save(vmx.loaded)
        vcpu.debug = vcpu.debug.with_dr7(vmx.loaded["GUEST_DR7"])
        vmx.nested.run_pending = False
        self._complete_interrupts(vmx.loaded["IDT_VECTORING_INFO_FIELD"])

    def handle_exit(self) -> None:
        """L1's, or L0's own."""
        word = self.vmx.loaded["VM_EXIT_REASON"]
        self.reason = word & 0xFFFF
        failed = bool(word & ENTRY_FAILURE)
        if self.vmx.nested.guest_mode and (failed or is_for_l1(self, self.reason)):
            self.reflect(word)
        elif failed:
            self.end(UserExit.FAIL_ENTRY)
        elif self.reason in HANDLERS:
            HANDLERS[ExitReason(self.reason)](self)
        else:
            self.end(UserExit.INTERNAL_ERROR)

    def reflect(self, word: int) -> None:
        """The exit is L1's to see, as the processor gave it."""
        loaded = self.vmx.loaded
        info = loaded["VM_EXIT_INTR_INFO"]
        if info & VALID and info & DELIVER_CODE:
            self.vmx.nested.vmcs12["VM_EXIT_INTR_ERROR_CODE"] = loaded["VM_EXIT_INTR_ERROR_CODE"]
        exit_to_l1(self.vmx, word, loaded["EXIT_QUALIFICATION"], info, self.event_length)

    def _complete_interrupts(self, info: int) -> None:
        """Queue again what was being delivered (vmx.c: __vmx_complete_interrupts)."""
        vcpu, loaded = self.vcpu, self.vmx.loaded
        vcpu.drop_injected_events()
        if not info & VALID:
            return
        kind, vector = info & TYPE, info & VECTOR
        self.event_length = loaded["VM_EXIT_INSTRUCTION_LEN"]
        if kind == NMI:
            self.vmx.set_nmi_mask(False)
            vcpu.events = vcpu.events.replaced(nmi_injected=1)
        elif kind in (HARDWARE, SOFTWARE_EXCEPTION):
            vcpu.events = vcpu.events.replaced(
                exception_injected=1,
                exception_nr=vector,
                exception_has_error_code=int(bool(info & DELIVER_CODE)),
                exception_error_code=loaded["IDT_VECTORING_ERROR_CODE"],
            )
        else:
            vcpu.events = vcpu.events.replaced(
                interrupt_injected=1, interrupt_nr=vector, interrupt_soft=int(kind == SOFTWARE)
            )

    # Entry ---------------------------------------------------------------------------------------
    def enter_hardware(self) -> None:
        """VM entry (vmx_vcpu_run)."""
        vcpu, vmx = self.vcpu, self.vmx
        loaded, nested = vmx.loaded, vmx.nested
        if nested.owes_vmcs12_to_shadow:
            SHADOWED.load(nested.shadow_vmcs, nested.vmcs12)
            nested.owes_vmcs12_to_shadow = False
        if vcpu.in_cache & IN_CACHE_RSP:
            loaded["GUEST_RSP"] = vcpu.registers["rsp"]
        if vcpu.in_cache & IN_CACHE_RIP:
            loaded["GUEST_RIP"] = vcpu.registers["rip"]
        if vcpu.in_cache & IN_CACHE_CR3:
            loaded["GUEST_CR3"] = vcpu.cr3
        if vcpu.in_cache & IN_CACHE_PDPTR and vcpu.pae_paging:
            for i, entry in enumerate(vcpu.pdptrs):
                loaded[f"GUEST_PDPTR{i}"] = entry
        timed = nested.guest_mode and nested.timer_runs
        self.core.arm_timer(nested.deadline if timed else None)
        error = self.hardware.enter(vmx)
        if error is not None:
            self.refused = error
            self.end(UserExit.FAIL_ENTRY)
            self.core.leave()

    def check_nested_events(self) -> None:
        """Leave L2 for an event that L1 is to see."""
        check_nested_events(self)

    def nested_event_waits(self) -> bool:
        """The preemption timer of L1, the monitor trap flag."""
        nested = self.vmx.nested
        return nested.guest_mode and (nested.mtf_pending or timer_expired(self))

    def may_wake(self) -> bool:
        """An interrupt, or the preemption timer of L1."""
        nested = self.vmx.nested
        return self.interrupt_allowed() or (nested.guest_mode and nested.timer_runs)

    def describe(self) -> str:
        """The last exit, or the entry that failed."""
        if self.refused is not None:
            return self.refused.phrase
        loaded = self.vmx.loaded
        name = ExitReason.name_of(self.reason) or f"reason {self.reason}"
        whose = "L2" if self.vmx.nested.guest_mode else "L1"
        qualification, rip = loaded["EXIT_QUALIFICATION"], loaded["GUEST_RIP"]
        return f"{name} of {whose} at {rip:#x}, qualification {qualification:#x}"

    def interrupt_allowed(self) -> bool:
        """Whether an external interrupt is not blocked (vmx_interrupt_blocked)."""
        nested = self.vmx.nested
        if nested.guest_mode and exits_on_interrupt(nested.vmcs12):
            return True
        open_flag = self.vmx.get_rflags() & INTERRUPT_FLAG
        return bool(open_flag) and not self.vmx.get_interrupt_shadow()

    def inject(self) -> bool:
        """Put an event into the VMCS; whether the guest is to be left again at once.

        Source: arch/x86/kvm/x86.c: kvm_check_and_inject_events.
        """
        vcpu, loaded, events = self.vcpu, self.vmx.loaded, self.vcpu.events
        waits = self.core.interrupt_waits or events.nmi_pending or events.exception_pending
        if self.vmx.nested.run_pending:
            return bool(waits)
        loaded["VM_ENTRY_INTR_INFO_FIELD"] = 0
        if events.exception_injected or events.exception_pending:
            self._inject_exception()
        elif events.nmi_injected:
            loaded["VM_ENTRY_INTR_INFO_FIELD"] = VALID | NMI | int(Vector.NMI)
        elif events.interrupt_injected:
            kind = SOFTWARE if events.interrupt_soft else EXTERNAL
            self._put_event(kind, events.interrupt_nr)
        elif events.nmi_pending and not self.vmx.get_nmi_mask():
            vcpu.events = events.replaced(nmi_pending=0, nmi_injected=1)
            loaded["VM_ENTRY_INTR_INFO_FIELD"] = VALID | NMI | int(Vector.NMI)
        elif self.core.interrupt_waits and self.interrupt_allowed():
            vector = self.core.acknowledge()
            vcpu.events = events.replaced(
                interrupt_injected=1, interrupt_nr=vector, interrupt_soft=0
            )
            self._put_event(EXTERNAL, vector)
        self._windows()
        return False

    def _inject_exception(self) -> None:
        events = self.vcpu.events.replaced(exception_pending=0, exception_injected=1)
        self.vcpu.events = events
        soft = events.exception_nr in (BREAKPOINT, OVERFLOW)
        code = DELIVER_CODE if events.exception_has_error_code else 0
        self._put_event((SOFTWARE_EXCEPTION if soft else HARDWARE) | code, events.exception_nr)
        self.vmx.loaded["VM_ENTRY_EXCEPTION_ERROR_CODE"] = events.exception_error_code

    def _put_event(self, kind: int, vector: int) -> None:
        loaded = self.vmx.loaded
        loaded["VM_ENTRY_INTR_INFO_FIELD"] = VALID | kind | vector
        if kind & TYPE in (SOFTWARE, SOFTWARE_EXCEPTION):
            loaded["VM_ENTRY_INSTRUCTION_LEN"] = self.event_length

    def _windows(self) -> None:
        """Ask for an exit when an event that waits can be injected."""
        loaded, nested = self.vmx.loaded, self.vmx.nested
        of_l1 = nested.vmcs12[PROC] if nested.guest_mode else 0
        proc = loaded[PROC] & ~WINDOWS | of_l1 & WINDOWS
        if self.core.interrupt_waits:
            proc |= ProcBased.INTERRUPT_WINDOW_EXITING
        if self.vcpu.events.nmi_pending:
            proc |= ProcBased.NMI_WINDOW_EXITING
        loaded[PROC] = int(proc)
