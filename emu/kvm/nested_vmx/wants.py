"""Whose an exit from L2 is: L0's, or L1's to see.

Source: arch/x86/kvm/vmx/nested.c: nested_vmx_l0_wants_exit, nested_vmx_l1_wants_exit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from emu.kvm.nested_vmx.enter import secondary_controls
from emu.kvm.nested_vmx.masks import PinBased, ProcBased, ProcBased2
from emu.kvm.nested_vmx.operands import REGISTERS, second_register
from vmcs.vmx.exit_qualification import CR_ACCESS, IO_INSTRUCTION
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.kvm.nested_vmx.vmcs_row import VmcsRow
    from emu.kvm.running.vmx_run import VmxRun

PIN, PROC = "PIN_BASED_VM_EXEC_CONTROL", "CPU_BASED_VM_EXEC_CONTROL"
TYPE, NMI_TYPE, VECTOR = 0x700, 0x200, 0xFF
PAGE_FAULT: Final = 14

# Exits that L0 always deals with itself, should it then tell L1 of something.
OF_L0: Final = frozenset(
    {
        ExitReason.EXTERNAL_INTERRUPT,
        ExitReason.MACHINE_CHECK,
        ExitReason.EPT_VIOLATION,
        ExitReason.EPT_MISCONFIGURATION,
        ExitReason.VMX_PREEMPTION_TIMER,
        ExitReason.PAGE_MODIFICATION_LOG_FULL,
        ExitReason.VMFUNC,
    }
)

# Exits that L1 gets where one of its controls asks for them; all others it always gets.
BY_PROC: Final[Mapping[int, int]] = {
    ExitReason.INTERRUPT_WINDOW: ProcBased.INTERRUPT_WINDOW_EXITING,
    ExitReason.NMI_WINDOW: ProcBased.NMI_WINDOW_EXITING,
    ExitReason.HLT: ProcBased.HLT_EXITING,
    ExitReason.INVLPG: ProcBased.INVLPG_EXITING,
    ExitReason.RDPMC: ProcBased.RDPMC_EXITING,
    ExitReason.RDTSC: ProcBased.RDTSC_EXITING,
    ExitReason.RDTSCP: ProcBased.RDTSC_EXITING,
    ExitReason.MOV_DR: ProcBased.MOV_DR_EXITING,
    ExitReason.MWAIT: ProcBased.MWAIT_EXITING,
    ExitReason.MONITOR_TRAP_FLAG: ProcBased.MONITOR_TRAP_FLAG,
    ExitReason.MONITOR: ProcBased.MONITOR_EXITING,
    ExitReason.TPR_BELOW_THRESHOLD: ProcBased.USE_TPR_SHADOW,
}
BY_PROC2: Final[Mapping[int, int]] = {
    ExitReason.GDTR_OR_IDTR_ACCESS: ProcBased2.DESCRIPTOR_TABLE_EXITING,
    ExitReason.LDTR_OR_TR_ACCESS: ProcBased2.DESCRIPTOR_TABLE_EXITING,
    ExitReason.WBINVD: ProcBased2.WBINVD_EXITING,
    ExitReason.RDRAND: ProcBased2.RDRAND_EXITING,
    ExitReason.RDSEED: ProcBased2.RDSEED_EXITING,
}


def is_for_l1(l0: VmxRun, reason: int) -> bool:
    """Whether L1 gets an exit from L2 with this basic reason."""
    if reason in OF_L0:
        return False
    vmcs12 = l0.vmx.nested.vmcs12
    if reason in BY_PROC:
        return bool(vmcs12[PROC] & BY_PROC[reason])
    if reason in BY_PROC2:
        return bool(secondary_controls(vmcs12) & BY_PROC2[reason])
    question = QUESTIONS.get(reason)
    return question is None or question(l0, vmcs12)


def exits_on_interrupt(vmcs12: VmcsRow) -> bool:
    """Whether an external interrupt leaves L2 for L1."""
    return bool(vmcs12[PIN] & PinBased.EXTERNAL_INTERRUPT_EXITING)


def exits_on_nmi(vmcs12: VmcsRow) -> bool:
    """Whether an NMI leaves L2 for L1."""
    return bool(vmcs12[PIN] & PinBased.NMI_EXITING)


def wants_exception(vmcs12: VmcsRow, vector: int, error: int) -> bool:
    """Whether L1 intercepts an exception: of page faults, those whose error code fits.

    Source: arch/x86/kvm/vmx/nested.c: nested_vmx_is_page_fault_vmexit and its caller.
    """
    wanted = bool(vmcs12["EXCEPTION_BITMAP"] >> vector & 1)
    if vector != PAGE_FAULT:
        return wanted
    masked = error & vmcs12["PAGE_FAULT_ERROR_CODE_MASK"]
    return (masked != vmcs12["PAGE_FAULT_ERROR_CODE_MATCH"]) ^ wanted


def _exception(l0: VmxRun, vmcs12: VmcsRow) -> bool:
    info = l0.vmx.loaded["VM_EXIT_INTR_INFO"]
    if info & TYPE == NMI_TYPE:
        return False
    return info & VECTOR == PAGE_FAULT or bool(vmcs12["EXCEPTION_BITMAP"] >> (info & VECTOR) & 1)


def _vmcs_access(l0: VmxRun, vmcs12: VmcsRow) -> bool:
    """VMREAD and VMWRITE by the bitmaps, with VMCS shadowing."""
    if not secondary_controls(vmcs12) & ProcBased2.VMCS_SHADOWING:
        return True
    reads = l0.reason == ExitReason.VMREAD
    field = l0.vcpu.read_register(second_register(l0.vmx.loaded["VMX_INSTRUCTION_INFO"]))
    if field >> 15:
        return True
    return _bit(l0, vmcs12["VMREAD_BITMAP" if reads else "VMWRITE_BITMAP"], field)


def _bit(l0: VmxRun, bitmap: int, number: int) -> bool:
    """Bit `number` of a bitmap of L1's; set where its memory is not backed."""
    byte = l0.vcpu.memory.read(bitmap + number // 8, 1)
    return byte is None or bool(byte[0] >> (number & 7) & 1)


def _port(l0: VmxRun, vmcs12: VmcsRow) -> bool:
    """IN and OUT by the I/O bitmaps (nested_vmx_check_io_bitmaps)."""
    if not vmcs12[PROC] & ProcBased.USE_IO_BITMAPS:
        return bool(vmcs12[PROC] & ProcBased.UNCONDITIONAL_IO_EXITING)
    qualification = l0.vmx.loaded["EXIT_QUALIFICATION"]
    port = IO_INSTRUCTION.get(qualification, "PORT")
    for number in range(port, port + IO_INSTRUCTION.get(qualification, "SIZE") + 1):
        if number > 0xFFFF:
            return True
        bitmap = vmcs12["IO_BITMAP_B" if number & 0x8000 else "IO_BITMAP_A"]
        if _bit(l0, bitmap, number & 0x7FFF):
            return True
    return False


def _msr(l0: VmxRun, vmcs12: VmcsRow) -> bool:
    """RDMSR and WRMSR by the MSR bitmap (nested_vmx_exit_handled_msr)."""
    if not vmcs12[PROC] & ProcBased.USE_MSR_BITMAPS:
        return True
    index = l0.vcpu.read_register("rcx") & 0xFFFF_FFFF
    bitmap = vmcs12["MSR_BITMAP"] + (0x800 if l0.reason == ExitReason.WRMSR else 0)
    if index >= 0xC000_0000:
        index, bitmap = index - 0xC000_0000, bitmap + 0x400
    return index >= 0x2000 or _bit(l0, bitmap, index)


def _control_register(l0: VmxRun, vmcs12: VmcsRow) -> bool:
    """MOV CR, CLTS and LMSW by masks, shadows and CR3 targets (nested_vmx_exit_handled_cr)."""
    qualification = l0.vmx.loaded["EXIT_QUALIFICATION"]
    number = CR_ACCESS.get(qualification, "REGISTER")
    kind = CR_ACCESS.get(qualification, "ACCESS_TYPE")
    if kind == 0:
        register = REGISTERS[CR_ACCESS.get(qualification, "GENERAL_REGISTER")]
        return _writes_control_register(vmcs12, number, l0.vcpu.read_register(register))
    if kind == 1:
        control = {3: ProcBased.CR3_STORE_EXITING, 8: ProcBased.CR8_STORE_EXITING}.get(number)
        return bool(control and vmcs12[PROC] & control)
    mask, shadow = vmcs12["CR0_GUEST_HOST_MASK"], vmcs12["CR0_READ_SHADOW"]
    if kind == 2:
        return bool(mask & shadow & 8)
    value = CR_ACCESS.get(qualification, "LMSW_SOURCE")
    differing = (value ^ shadow) & mask
    return bool(differing & 0xE or (mask & 1 and not shadow & 1 and value & 1))


def _writes_control_register(vmcs12: VmcsRow, number: int, value: int) -> bool:
    if number in (0, 4):
        mask, shadow = vmcs12[f"CR{number}_GUEST_HOST_MASK"], vmcs12[f"CR{number}_READ_SHADOW"]
        return bool(mask & (value ^ shadow))
    if number == 3:
        return bool(vmcs12[PROC] & ProcBased.CR3_LOAD_EXITING)
    return number == 8 and bool(vmcs12[PROC] & ProcBased.CR8_LOAD_EXITING)


def _pause(_l0: VmxRun, vmcs12: VmcsRow) -> bool:
    loops = secondary_controls(vmcs12) & ProcBased2.PAUSE_LOOP_EXITING
    return bool(vmcs12[PROC] & ProcBased.PAUSE_EXITING or loops)


def _invpcid(_l0: VmxRun, vmcs12: VmcsRow) -> bool:
    enabled = secondary_controls(vmcs12) & ProcBased2.ENABLE_INVPCID
    return bool(enabled and vmcs12[PROC] & ProcBased.INVLPG_EXITING)


QUESTIONS: Final[Mapping[int, Callable[[VmxRun, VmcsRow], bool]]] = {
    ExitReason.EXCEPTION_OR_NMI: _exception,
    ExitReason.VMREAD: _vmcs_access,
    ExitReason.VMWRITE: _vmcs_access,
    ExitReason.IO_INSTRUCTION: _port,
    ExitReason.RDMSR: _msr,
    ExitReason.WRMSR: _msr,
    ExitReason.CR_ACCESS: _control_register,
    ExitReason.PAUSE: _pause,
    ExitReason.INVPCID: _invpcid,
}
