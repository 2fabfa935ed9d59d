"""KVM_RUN on AMD: L0 between #VMEXIT and VMRUN.

Source: arch/x86/kvm/svm/svm.c: svm_vcpu_run, svm_handle_exit, svm_complete_interrupts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.kvm.control_registers import CR0, EFER
from emu.kvm.nested_svm.enter import V_INTR_MASKING, V_IRQ, V_IRQ_INJECTION, merge_intercepts
from emu.kvm.nested_svm.vmrun import check_nested_events, exit_to_l1
from emu.kvm.nested_svm.wants import INVALID, exits_on, is_for_l1
from emu.kvm.running.registers import save_general
from emu.kvm.running.run import INTERRUPT_FLAG, Run
from emu.kvm.running.svm_exits import handler_of
from emu.kvm.running.user_exit import UserExit
from emu.kvm.svm import Svm
from vmcs.svm.control_bits import EVENT_INJ
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.intercepts import intercept

if TYPE_CHECKING:
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.running.svm_hardware import SvmHardware
    from emu.kvm.vcpu import Vcpu

VALID, ERROR_VALID = EVENT_INJ["V"].mask, EVENT_INJ["EV"].mask
TYPE, VECTOR = 0x700, 0xFF
EXTERNAL, NMI, EXCEPTION, SOFTWARE = (n << 8 for n in (0, 2, 3, 4))
SYNCED: Final = ("event_inj", "event_inj_err")
VINTR: Final = 1 << intercept("VINTR").position
LONG_CODE: Final = 1 << 9


class SvmRun(Run):
    """L0 of one vCPU on AMD."""

    def __init__(self, vcpu: Vcpu, core: VirtualCore, hardware: SvmHardware) -> None:
        super().__init__(vcpu, core)
        assert isinstance(vcpu.operations, Svm)
        self.svm, self.hardware = vcpu.operations, hardware
        self.asid_of_l2 = 0
        self.window = False
        hardware.extension.monitor = self

    # Asked by the emulation of instructions ------------------------------------------------------
    @property
    def exit_code(self) -> int:
        """EXITCODE."""
        return self.svm.vmcb["exit_code"]

    @property
    def cpl(self) -> int:
        """The privilege level."""
        return self.svm.vmcb["cpl"]

    @property
    def in_64_bit_mode(self) -> bool:
        """Whether the guest executes 64-bit code."""
        return bool(self.vcpu.efer & EFER.LMA and self.svm.vmcb["cs.attrib"] & LONG_CODE)

    def require_svm(self) -> None:
        """#UD without EFER.SVME or paging, #GP(0) above CPL 0 (nested_svm_check_permissions)."""
        if not self.vcpu.efer & EFER.SVME or not self.vcpu.read_cr0() & CR0.PG:
            raise Fault(Vector.UD)
        if self.cpl:
            raise Fault(Vector.GP, 0)

    def skip_instruction(self) -> None:
        """On to the next instruction (svm_skip_emulated_instruction)."""
        self.vcpu.write_register("rip", self.svm.vmcb["next_rip"])
        self.svm.set_interrupt_shadow(0)

    def emulate(self) -> None:
        """Let the processor execute the instruction itself, outside the guest: INS and OUTS."""
        self.cpu.flush_tlb(0)
        self.cpu.step(plain=True)
        self.hardware.save_guest(self.svm)
        save_general(self.vcpu, self.cpu.state)
        self._registers()

    def flush_for_entry(self) -> None:
        """L2's translations go where its ASID is another, or TLB_CONTROL says so."""
        vmcb12 = self.svm.nested.vmcb12
        if vmcb12["asid"] != self.asid_of_l2 or vmcb12["tlb_ctl"]:
            self.hardware.flush = True
        self.asid_of_l2 = vmcb12["asid"]

    def flush_l2(self) -> None:
        """INVLPGA of L1."""
        self.hardware.flush = True

    def prepare(self) -> None:
        """The control block is what it needs from RESET on."""

    # Exit ----------------------------------------------------------------------------------------
    def take_exit(self) -> None:
        """Guest state and exit information, and the event that was in delivery."""
        vcpu, svm = self.vcpu, self.svm
        self.hardware.save(svm)
        self._registers()
        vcpu.debug = vcpu.debug.with_dr7(svm.vmcb["dr7"])
        svm.nested.run_pending = False
        if svm.nested.in_guest_mode:
            for name in SYNCED:
                svm.nested.vmcb12[name] = svm.vmcb[name]
        self._complete_interrupts()

    def _registers(self) -> None:
        """What the control block holds of the registers."""
        vcpu, vmcb = self.vcpu, self.svm.vmcb
        for name in ("rax", "rsp", "rip"):
            vcpu.registers[name] = vmcb[name]
        vcpu.cr2, vcpu.cr3 = vmcb["cr2"], vmcb["cr3"]

    def handle_exit(self) -> None:
        """L1's, or L0's own."""
        svm = self.svm
        code = self.reason = self.exit_code
        if svm.nested.in_guest_mode and is_for_l1(self, code):
            exit_to_l1(self, code, svm.vmcb["exit_info_1"], svm.vmcb["exit_info_2"])
            return
        if code == INVALID:
            self.end(UserExit.FAIL_ENTRY)
            return
        handler = handler_of(code)
        if handler is None:
            self.end(UserExit.INTERNAL_ERROR)
        else:
            handler(self)

    def _complete_interrupts(self) -> None:
        """Queue again what was being delivered."""
        vcpu, vmcb = self.vcpu, self.svm.vmcb
        info = vmcb["exit_int_info"]
        vcpu.drop_injected_events()
        if not info & VALID:
            return
        kind, vector = info & TYPE, info & VECTOR
        if kind == NMI:
            vcpu.events = vcpu.events.replaced(nmi_injected=1)
        elif kind == EXCEPTION:
            vcpu.events = vcpu.events.replaced(
                exception_injected=1,
                exception_nr=vector,
                exception_has_error_code=int(bool(info & ERROR_VALID)),
                exception_error_code=vmcb["exit_int_info_err"],
            )
        elif kind == EXTERNAL or self.svm.nested.in_guest_mode:
            vcpu.events = vcpu.events.replaced(
                interrupt_injected=1, interrupt_nr=vector, interrupt_soft=int(kind == SOFTWARE)
            )

    # Entry ---------------------------------------------------------------------------------------
    def enter_hardware(self) -> None:
        """VMRUN (svm_vcpu_run)."""
        vcpu, vmcb = self.vcpu, self.svm.vmcb
        for name in ("rax", "rsp", "rip"):
            vmcb[name] = vcpu.registers[name]
        vmcb["cr2"], vmcb["cr3"] = vcpu.cr2, vcpu.cr3
        self.hardware.enter(self.svm)

    def check_nested_events(self) -> None:
        """Leave L2 for an event that L1 is to see."""
        check_nested_events(self)

    def nested_event_waits(self) -> bool:
        """There is none but interrupts and exceptions."""
        return False

    def interrupt_allowed(self) -> bool:
        """Whether an external interrupt is not blocked (svm_interrupt_blocked)."""
        svm = self.svm
        if not svm.gif:
            return False
        flags = svm.get_rflags()
        if svm.nested.in_guest_mode:
            vmcb12 = svm.nested.vmcb12
            if vmcb12["int_ctl"] & V_INTR_MASKING:
                flags = svm.l1_block["rflags"]
            if not flags & INTERRUPT_FLAG:
                return False
            if exits_on(vmcb12, "INTR"):
                return True
        elif not flags & INTERRUPT_FLAG:
            return False
        return not svm.get_interrupt_shadow()

    def inject(self) -> bool:
        """Put an event into the control block; whether the guest is to exit again at once."""
        vcpu, svm, events = self.vcpu, self.svm, self.vcpu.events
        waits = self.core.interrupt_waits or events.nmi_pending or events.exception_pending
        if svm.nested.run_pending:
            return bool(waits)
        svm.vmcb["event_inj"] = 0
        if events.exception_injected or events.exception_pending:
            self._inject_exception()
        elif events.nmi_injected:
            self._put(NMI, int(Vector.NMI))
        elif events.interrupt_injected:
            self._put(SOFTWARE if events.interrupt_soft else EXTERNAL, events.interrupt_nr)
        elif events.nmi_pending and svm.gif and not svm.get_nmi_mask():
            vcpu.events = events.replaced(nmi_pending=0, nmi_injected=1)
            svm.set_nmi_mask(True)
            self._put(NMI, int(Vector.NMI))
        elif self.core.interrupt_waits and self.interrupt_allowed():
            vector = self.core.acknowledge()
            vcpu.events = events.replaced(
                interrupt_injected=1, interrupt_nr=vector, interrupt_soft=0
            )
            self._put(EXTERNAL, vector)
        self._set_window(self.core.interrupt_waits and not self._l1_takes_interrupts())
        return False

    def _l1_takes_interrupts(self) -> bool:
        nested = self.svm.nested
        return nested.in_guest_mode and exits_on(nested.vmcb12, "INTR")

    def _inject_exception(self) -> None:
        events = self.vcpu.events.replaced(exception_pending=0, exception_injected=1)
        self.vcpu.events = events
        code = ERROR_VALID if events.exception_has_error_code else 0
        self._put(EXCEPTION | code, events.exception_nr)
        self.svm.vmcb["event_inj_err"] = events.exception_error_code

    def _put(self, kind: int, vector: int) -> None:
        self.svm.vmcb["event_inj"] = VALID | kind | vector

    def _set_window(self, wanted: bool) -> None:
        """A virtual interrupt that leaves the guest when it can take one (svm_set_vintr)."""
        if wanted == self.window and not wanted:
            return
        svm = self.svm
        self.window = wanted
        block = svm.vmcb01 if svm.two_blocks or not svm.nested.in_guest_mode else svm.vmcb02
        vector = block.intercept_vector() & ~VINTR
        block.set_intercept_vector(vector | (VINTR if wanted else 0))
        rest = svm.vmcb["int_ctl"] & ~V_IRQ_INJECTION
        if wanted:
            svm.vmcb["int_ctl"] = rest | V_IRQ_INJECTION & ~V_IRQ | V_IRQ
        elif svm.nested.in_guest_mode:
            svm.vmcb["int_ctl"] = rest | svm.nested.vmcb12["int_ctl"] & V_IRQ_INJECTION
        else:
            svm.vmcb["int_ctl"] = rest
        if svm.nested.in_guest_mode:
            merge_intercepts(svm)
            if wanted:
                svm.vmcb.set_intercept_vector(svm.vmcb.intercept_vector() | VINTR)

    def describe(self) -> str:
        """The last exit, or the check that VMRUN failed."""
        vmcb, refused = self.svm.vmcb, self.hardware.extension.refused_by
        if self.reason == INVALID and refused is not None:
            return f"VMRUN: {refused}"
        name = SvmExit.name_of(self.reason) or f"exit code {self.reason:#x}"
        whose = "L2" if self.svm.nested.in_guest_mode else "L1"
        info = f"{vmcb['exit_info_1']:#x}, {vmcb['exit_info_2']:#x}"
        return f"{name} of {whose} at {vmcb['rip']:#x}, information {info}"
