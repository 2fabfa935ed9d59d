"""What L0 does itself for an exit: the handlers of kvm_amd, by exit code.

A handler leaves the guest where it is to go on; `Fault` is an exception for the guest.
Source: arch/x86/kvm/svm/svm.c: svm_exit_handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.kvm.control_registers import CR0
from emu.kvm.nested_svm.state import ControlBlock
from emu.kvm.nested_svm.vmrun import PAGE_OFFSET, exit_to_l1, vmrun
from emu.kvm.nested_svm.wants import port_size
from emu.kvm.nested_vmx.operands import REGISTERS
from emu.kvm.running import x86_exits
from emu.kvm.running.svm_hardware import VMLOADED
from emu.kvm.running.user_exit import UserExit
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.exit_info import IOIO, MOV_CR

if TYPE_CHECKING:
    from emu.kvm.running.svm_run import SvmRun

Handler = Callable[["SvmRun"], None]

WITH_CODE: Final = frozenset({8, 10, 11, 12, 13, 14, 17, 21})
MOV_TO_OR_FROM: Final = MOV_CR["MOV_CR"].mask


def _exception(l0: SvmRun) -> None:
    """An exception that KVM intercepts and has no use for goes to the guest."""
    vector = l0.reason - SvmExit.EXCP_DE
    if vector in WITH_CODE:
        raise Fault(vector, l0.svm.vmcb["exit_info_1"] & 0xFFFF_FFFF)
    raise Fault(vector)


def _nothing(_l0: SvmRun) -> None:
    """The exit has done its work: what waits is looked at before the next entry."""


def _skip(l0: SvmRun) -> None:
    """An instruction without effect on the vCPU: caches, MONITOR, PAUSE."""
    l0.skip_instruction()


def _emulate(l0: SvmRun) -> None:
    """An instruction that KVM's emulator does: debug registers."""
    l0.emulate()


def _undefined(_l0: SvmRun) -> None:
    """An instruction that KVM never has for a guest."""
    raise Fault(Vector.UD)


def _shutdown(l0: SvmRun) -> None:
    """KVM_EXIT_SHUTDOWN."""
    l0.end(UserExit.SHUTDOWN)


def _cpuid(l0: SvmRun) -> None:
    """CPUID."""
    x86_exits.cpuid(l0.vcpu)
    l0.skip_instruction()


def _hlt(l0: SvmRun) -> None:
    """HLT."""
    l0.skip_instruction()
    l0.halt()


def _port(l0: SvmRun) -> None:
    """IN and OUT: KVM_EXIT_IO."""
    info = l0.svm.vmcb["exit_info_1"]
    if IOIO.get(info, "STR"):
        l0.emulate()
        return
    following = l0.svm.vmcb["exit_info_2"]
    reads = bool(IOIO.get(info, "TYPE"))
    x86_exits.port(l0.vcpu, l0.core, IOIO.get(info, "PORT"), port_size(info), reads)
    l0.vcpu.write_register("rip", following)
    l0.svm.set_interrupt_shadow(0)


def _msr(l0: SvmRun) -> None:
    """RDMSR and WRMSR."""
    if l0.svm.vmcb["exit_info_1"] & 1:
        x86_exits.wrmsr(l0.vcpu, l0.core)
    else:
        x86_exits.rdmsr(l0.vcpu, l0.core)
    l0.skip_instruction()


def _xsetbv(l0: SvmRun) -> None:
    """XSETBV."""
    if l0.cpl:
        raise Fault(Vector.GP, 0)
    x86_exits.xsetbv(l0.vcpu, l0.core)
    l0.skip_instruction()


def _rdpmc(_l0: SvmRun) -> None:
    """RDPMC of a vCPU without counters."""
    raise Fault(Vector.GP, 0)


def _vmmcall(l0: SvmRun) -> None:
    """A hypercall of KVM's interface."""
    x86_exits.hypercall(l0.vcpu, l0.cpl)
    l0.skip_instruction()


def _nested_page_fault(l0: SvmRun) -> None:
    """L1's tables refused an access of L2's (nested_svm_inject_npf_exit)."""
    svm = l0.svm
    if not (svm.nested.in_guest_mode and svm.nested_npt):
        l0.end(UserExit.INTERNAL_ERROR)
        return
    exit_to_l1(l0, SvmExit.NPF, svm.vmcb["exit_info_1"], svm.vmcb["exit_info_2"])


def _vmload_or_vmsave(l0: SvmRun) -> None:
    """VMLOAD and VMSAVE of L1 (vmload_vmsave_interception)."""
    l0.require_svm()
    memory = l0.vcpu.memory
    address = l0.vcpu.read_register("rax") & ~PAGE_OFFSET
    data = memory.read(address, 4096)
    if data is None:
        raise Fault(Vector.GP, 0)
    page = ControlBlock(bytearray(data))
    if l0.reason == SvmExit.VMLOAD:
        l0.svm.vmcb.take(page.view, VMLOADED)
    else:
        page.take(l0.svm.vmcb.view, VMLOADED)
        memory.write(address, page.view)
    l0.skip_instruction()


def _set_gif(l0: SvmRun) -> None:
    """STGI and CLGI."""
    l0.require_svm()
    l0.svm.set_gif(l0.reason == SvmExit.STGI)
    l0.skip_instruction()


def _invlpga(l0: SvmRun) -> None:
    """INVLPGA."""
    l0.require_svm()
    l0.flush_l2()
    l0.skip_instruction()


def _control_register(l0: SvmRun) -> None:
    """MOV CR; CLTS, LMSW and SMSW by the processor's own semantics."""
    info, vcpu = l0.svm.vmcb["exit_info_1"], l0.vcpu
    if not info & MOV_TO_OR_FROM:
        l0.emulate()
        x86_exits.set_cr0(vcpu, int(l0.cpu.state.cr0))
        return
    register = REGISTERS[MOV_CR.get(info, "GPR")]
    number = l0.reason & 0xF
    if l0.reason < SvmExit.CR0_WRITE:
        vcpu.write_register(register, _control_value(l0, number))
    else:
        mask = 0xFFFF_FFFF_FFFF_FFFF if l0.in_64_bit_mode else 0xFFFF_FFFF
        _write_control(l0, number, vcpu.read_register(register) & mask)
    l0.skip_instruction()


def _control_value(l0: SvmRun, number: int) -> int:
    vcpu = l0.vcpu
    if number == 8:
        return l0.core.task_priority()
    return {0: vcpu.read_cr0(), 2: vcpu.cr2, 3: vcpu.read_cr3(), 4: vcpu.read_cr4()}[number]


def _write_control(l0: SvmRun, number: int, value: int) -> None:
    if number == 0:
        x86_exits.set_cr0(l0.vcpu, value)
    elif number == 3:
        x86_exits.set_cr3(l0.vcpu, value)
    elif number == 4:
        x86_exits.set_cr4(l0.vcpu, value)
    else:
        if value >> 4:
            raise Fault(Vector.GP, 0)
        l0.core.set_task_priority(value)


def _selective_cr0(l0: SvmRun) -> None:
    """A write of CR0 that changes more than TS and MP, which KVM intercepts for itself."""
    l0.emulate()
    x86_exits.set_cr0(l0.vcpu, int(l0.cpu.state.cr0) | CR0.ET)


HANDLERS: Final[Mapping[int, Handler]] = {
    **dict.fromkeys(range(SvmExit.CR0_READ, SvmExit.DR0_READ), _control_register),
    **dict.fromkeys(range(SvmExit.DR0_READ, SvmExit.EXCP_DE), _emulate),
    **dict.fromkeys(range(SvmExit.EXCP_DE, SvmExit.INTR), _exception),
    SvmExit.INTR: _nothing,
    SvmExit.NMI: _nothing,
    SvmExit.VINTR: _nothing,
    SvmExit.CR0_SEL_WRITE: _selective_cr0,
    SvmExit.RDPMC: _rdpmc,
    SvmExit.CPUID: _cpuid,
    SvmExit.INVD: _skip,
    SvmExit.PAUSE: _skip,
    SvmExit.HLT: _hlt,
    SvmExit.INVLPG: _skip,
    SvmExit.INVLPGA: _invlpga,
    SvmExit.IOIO: _port,
    SvmExit.MSR: _msr,
    SvmExit.SHUTDOWN: _shutdown,
    SvmExit.VMRUN: vmrun,
    SvmExit.VMMCALL: _vmmcall,
    SvmExit.VMLOAD: _vmload_or_vmsave,
    SvmExit.VMSAVE: _vmload_or_vmsave,
    SvmExit.STGI: _set_gif,
    SvmExit.CLGI: _set_gif,
    SvmExit.SKINIT: _undefined,
    SvmExit.RDPRU: _undefined,
    SvmExit.WBINVD: _skip,
    SvmExit.MONITOR: _skip,
    SvmExit.MWAIT: _skip,
    SvmExit.XSETBV: _xsetbv,
    SvmExit.NPF: _nested_page_fault,
}


def handler_of(code: int) -> Handler | None:
    """The handler of an exit code; None where KVM has none."""
    return HANDLERS.get(code)
