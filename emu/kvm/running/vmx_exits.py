"""What L0 does itself for an exit: the handlers of kvm_intel, by basic exit reason.

A handler leaves the guest where it is to go on; `Fault` is an exception for the guest.
Source: arch/x86/kvm/vmx/vmx.c: kvm_vmx_exit_handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.kvm.control_registers import CR4
from emu.kvm.nested_vmx.capabilities import (
    MSR_CR0_FIXED0,
    MSR_CR0_FIXED1,
    MSR_CR4_FIXED0,
    MSR_CR4_FIXED1,
)
from emu.kvm.nested_vmx.instructions import INSTRUCTIONS
from emu.kvm.nested_vmx.launch import vmlaunch, vmresume
from emu.kvm.nested_vmx.operands import REGISTERS
from emu.kvm.nested_vmx.sync import exit_to_l1
from emu.kvm.running import x86_exits
from emu.kvm.running.user_exit import UserExit
from vmcs.vmx.exit_qualification import CR_ACCESS, IO_INSTRUCTION
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.kvm.running.vmx_run import VmxRun

Handler = Callable[["VmxRun"], None]

DELIVER_CODE, VECTOR = 1 << 11, 0xFF
CR0_TS, LMSW_BITS, CR0_PE = 8, 0xF, 1
PE_PG: Final = 1 << 31 | 1
ALL: Final = 0xFFFF_FFFF_FFFF_FFFF


def _exception(l0: VmxRun) -> None:
    """An exception that KVM intercepts and has no use for goes to the guest."""
    loaded = l0.vmx.loaded
    info = loaded["VM_EXIT_INTR_INFO"]
    vector = info & VECTOR
    if vector == Vector.DB:
        l0.cpu.state.dr[6] |= loaded["EXIT_QUALIFICATION"]
    raise Fault(vector, loaded["VM_EXIT_INTR_ERROR_CODE"]) if info & DELIVER_CODE else Fault(vector)


def _nothing(_l0: VmxRun) -> None:
    """The exit has done its work: what waits is looked at before the next entry."""


def _skip(l0: VmxRun) -> None:
    """An instruction without effect on the vCPU: caches, MONITOR, PAUSE."""
    l0.skip_instruction()


def _triple_fault(l0: VmxRun) -> None:
    """KVM_EXIT_SHUTDOWN."""
    l0.end(UserExit.SHUTDOWN)


def _cpuid(l0: VmxRun) -> None:
    """CPUID."""
    x86_exits.cpuid(l0.vcpu)
    l0.skip_instruction()


def _hlt(l0: VmxRun) -> None:
    """HLT."""
    l0.skip_instruction()
    l0.halt()


def _port(l0: VmxRun) -> None:
    """IN and OUT: KVM_EXIT_IO."""
    qualification = l0.vmx.loaded["EXIT_QUALIFICATION"]
    if IO_INSTRUCTION.get(qualification, "STRING"):
        l0.emulate()
        return
    x86_exits.port(
        l0.vcpu,
        l0.core,
        IO_INSTRUCTION.get(qualification, "PORT"),
        IO_INSTRUCTION.get(qualification, "SIZE") + 1,
        bool(IO_INSTRUCTION.get(qualification, "DIRECTION")),
    )
    l0.skip_instruction()


def _rdmsr(l0: VmxRun) -> None:
    """RDMSR."""
    x86_exits.rdmsr(l0.vcpu, l0.core)
    l0.skip_instruction()


def _wrmsr(l0: VmxRun) -> None:
    """WRMSR."""
    x86_exits.wrmsr(l0.vcpu, l0.core)
    l0.skip_instruction()


def _xsetbv(l0: VmxRun) -> None:
    """XSETBV."""
    if l0.cpl:
        raise Fault(Vector.GP, 0)
    x86_exits.xsetbv(l0.vcpu, l0.core)
    l0.skip_instruction()


def _rdpmc(_l0: VmxRun) -> None:
    """RDPMC of a vCPU without counters."""
    raise Fault(Vector.GP, 0)


def _vmcall(l0: VmxRun) -> None:
    """A hypercall of KVM's interface."""
    x86_exits.hypercall(l0.vcpu, l0.cpl)
    l0.skip_instruction()


def _undefined(_l0: VmxRun) -> None:
    """An instruction that KVM never has for a guest outside L2."""
    raise Fault(Vector.UD)


def _ept_violation(l0: VmxRun) -> None:
    """L1's EPT refused an access of L2's (nested.c: nested_ept_inject_page_fault)."""
    nested, loaded = l0.vmx.nested, l0.vmx.loaded
    if not nested.guest_mode:
        l0.end(UserExit.INTERNAL_ERROR)
        return
    nested.vmcs12["GUEST_PHYSICAL_ADDRESS"] = loaded["GUEST_PHYSICAL_ADDRESS"]
    misconfigured = l0.reason == ExitReason.EPT_MISCONFIGURATION
    qualification = 0 if misconfigured else loaded["EXIT_QUALIFICATION"]
    exit_to_l1(l0.vmx, l0.reason, qualification, 0, l0.event_length)


def _control_register(l0: VmxRun) -> None:
    """MOV CR, CLTS, LMSW (handle_cr)."""
    qualification = l0.vmx.loaded["EXIT_QUALIFICATION"]
    number = CR_ACCESS.get(qualification, "REGISTER")
    kind = CR_ACCESS.get(qualification, "ACCESS_TYPE")
    register = REGISTERS[CR_ACCESS.get(qualification, "GENERAL_REGISTER")]
    if kind == 0:
        mask = ALL if l0.in_64_bit_mode else 0xFFFF_FFFF
        _write_control_register(l0, number, l0.vcpu.read_register(register) & mask)
    elif kind == 1:
        value = l0.vcpu.read_cr3() if number == 3 else l0.core.task_priority()
        l0.vcpu.write_register(register, value)
    elif kind == 2:
        _write_cr0(l0, l0.vcpu.read_cr0() & ~CR0_TS)
    else:
        source = CR_ACCESS.get(qualification, "LMSW_SOURCE") & LMSW_BITS
        now = l0.vcpu.read_cr0()
        _write_cr0(l0, now & ~(LMSW_BITS & ~CR0_PE) | source)
    l0.skip_instruction()


def _write_control_register(l0: VmxRun, number: int, value: int) -> None:
    if number == 0:
        _write_cr0(l0, value)
    elif number == 3:
        x86_exits.set_cr3(l0.vcpu, value)
    elif number == 4:
        _write_cr4(l0, value)
    else:
        if value >> 4:
            raise Fault(Vector.GP, 0)
        l0.core.set_task_priority(value)


def _write_cr0(l0: VmxRun, value: int) -> None:
    """MOV to CR0: of L2's, with what L1 keeps (handle_set_cr0)."""
    vmx, nested = l0.vmx, l0.vmx.nested
    written = value
    if nested.guest_mode:
        mask = nested.vmcs12["CR0_GUEST_HOST_MASK"]
        value = value & ~mask | nested.vmcs12["GUEST_CR0"] & mask
    _check_vmx_operation(l0, value, MSR_CR0_FIXED0, MSR_CR0_FIXED1)
    x86_exits.set_cr0(l0.vcpu, value)
    if nested.guest_mode:
        vmx.loaded["CR0_READ_SHADOW"] = written


def _write_cr4(l0: VmxRun, value: int) -> None:
    """MOV to CR4: of L2's, with what L1 keeps (handle_set_cr4)."""
    vmx, nested = l0.vmx, l0.vmx.nested
    written = value
    if nested.guest_mode:
        mask = nested.vmcs12["CR4_GUEST_HOST_MASK"]
        value = value & ~mask | nested.vmcs12["GUEST_CR4"] & mask
    if value & CR4.VMXE and not vmx.guest_has_vmx:
        raise Fault(Vector.GP, 0)
    _check_vmx_operation(l0, value, MSR_CR4_FIXED0, MSR_CR4_FIXED1)
    x86_exits.set_cr4(l0.vcpu, value)
    if nested.guest_mode:
        vmx.loaded["CR4_READ_SHADOW"] = written


def _check_vmx_operation(l0: VmxRun, value: int, fixed0: int, fixed1: int) -> None:
    """#GP(0) for a control register that VMX operation of L1 does not allow."""
    if not l0.vmx.nested.vmxon:
        return
    values = l0.vmx.msrs.values
    if value & values[fixed1] | values[fixed0] & ~(PE_PG if l0.unrestricted else 0) != value:
        raise Fault(Vector.GP, 0)


HANDLERS: Final[Mapping[int, Handler]] = {
    ExitReason.EXCEPTION_OR_NMI: _exception,
    ExitReason.EXTERNAL_INTERRUPT: _nothing,
    ExitReason.INTERRUPT_WINDOW: _nothing,
    ExitReason.NMI_WINDOW: _nothing,
    ExitReason.TRIPLE_FAULT: _triple_fault,
    ExitReason.CPUID: _cpuid,
    ExitReason.HLT: _hlt,
    ExitReason.INVD: _skip,
    ExitReason.WBINVD: _skip,
    ExitReason.INVLPG: _skip,
    ExitReason.PAUSE: _skip,
    ExitReason.MONITOR: _skip,
    ExitReason.MWAIT: _skip,
    ExitReason.RDPMC: _rdpmc,
    ExitReason.RDMSR: _rdmsr,
    ExitReason.WRMSR: _wrmsr,
    ExitReason.XSETBV: _xsetbv,
    ExitReason.IO_INSTRUCTION: _port,
    ExitReason.CR_ACCESS: _control_register,
    ExitReason.EPT_VIOLATION: _ept_violation,
    ExitReason.EPT_MISCONFIGURATION: _ept_violation,
    ExitReason.VMCALL: _vmcall,
    ExitReason.VMFUNC: _undefined,
    ExitReason.VMLAUNCH: vmlaunch,
    ExitReason.VMRESUME: vmresume,
    **INSTRUCTIONS,
}
