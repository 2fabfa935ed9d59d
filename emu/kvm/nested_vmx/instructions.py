"""L1's VMX instructions as KVM carries them out, in KVM's order of checks.

Each function does one instruction. `Fault` is an exception for L1; what a function returns has
happened, and the instruction is over. Source: arch/x86/kvm/vmx/nested.c.
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
    MSR_EPT_VPID,
    MSR_MISC,
    MSR_PROC2,
)
from emu.kvm.nested_vmx.masks import ProcBased2
from emu.kvm.nested_vmx.operands import (
    first_register,
    is_register,
    memory_address,
    operand_size,
    read_pointer,
    second_register,
)
from emu.kvm.nested_vmx.state import INVALID_GPA
from emu.kvm.nested_vmx.sync import LAUNCH_STATE_AT, enter_vmx_operation, leave_nested, sync_rare
from emu.kvm.nested_vmx.vmcs_row import PLACES, RIGHTS_FIELDS
from vmcs.schema import FieldType
from vmcs.vmx.capability_msrs import EPT_VPID_CAP
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.fields import field_at
from vmcs.vmx.instruction_errors import InstructionError
from vmcs.vmx.vmcs12 import VMCS12_REVISION, VMCS12_SIZE

if TYPE_CHECKING:
    from emu.kvm.nested_vmx.vmcs_row import VmcsRow
    from emu.kvm.running.vmx_run import VmxRun

CF, PF, AF, ZF, SF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 11
ARITHMETIC: Final = CF | PF | AF | ZF | SF | OF
VMXON_NEEDED: Final = 0x5  # IA32_FEATURE_CONTROL: locked, VMX outside SMX
SHADOW_VMCS: Final = 1 << 31
VMWRITE_ANY: Final = 1 << 29  # IA32_VMX_MISC
RIGHTS_KEPT: Final = 0x1_F0FF
INVEPT_CAP, INVVPID_CAP = EPT_VPID_CAP["INVEPT"].mask, EPT_VPID_CAP["INVVPID"].mask
INVEPT_TYPES: Final = (
    (1, EPT_VPID_CAP["INVEPT_SINGLE_CONTEXT"].mask),
    (2, EPT_VPID_CAP["INVEPT_ALL_CONTEXT"].mask),
)
INDIVIDUAL_ADDRESS, SINGLE_CONTEXT, ALL_CONTEXT, RETAINING_GLOBALS = range(4)
INVVPID_TYPES: Final = (
    (INDIVIDUAL_ADDRESS, EPT_VPID_CAP["INVVPID_INDIVIDUAL_ADDRESS"].mask),
    (SINGLE_CONTEXT, EPT_VPID_CAP["INVVPID_SINGLE_CONTEXT"].mask),
    (ALL_CONTEXT, EPT_VPID_CAP["INVVPID_ALL_CONTEXT"].mask),
    (RETAINING_GLOBALS, EPT_VPID_CAP["INVVPID_RETAINING_GLOBALS"].mask),
)


# How an instruction ends -------------------------------------------------------------------------
def succeed(l0: VmxRun) -> None:
    """VMsucceed, and on to the next instruction."""
    _finish(l0, 0)


def fail_invalid(l0: VmxRun) -> None:
    """VMfailInvalid."""
    _finish(l0, CF)


def fail(l0: VmxRun, error: InstructionError) -> None:
    """VMfailValid with `error` where there is a current VMCS, VMfailInvalid where not."""
    nested = l0.vmx.nested
    if nested.vmcs12_pa == INVALID_GPA:
        fail_invalid(l0)
        return
    nested.vmcs12["VM_INSTRUCTION_ERROR"] = int(error)
    _finish(l0, ZF)


def _finish(l0: VmxRun, flag: int) -> None:
    l0.vmx.set_rflags(l0.vmx.get_rflags() & ~ARITHMETIC | flag)
    l0.skip_instruction()


# What they have in common ------------------------------------------------------------------------
def require_vmx_operation(l0: VmxRun) -> None:
    """#UD outside VMX operation, #GP(0) above CPL 0 (nested_vmx_check_permission)."""
    if not l0.vmx.nested.vmxon:
        raise Fault(Vector.UD)
    if l0.cpl:
        raise Fault(Vector.GP, 0)


def is_page_address(l0: VmxRun, address: int) -> bool:
    """Whether `address` is a page that MAXPHYADDR allows."""
    return not address & (l0.vcpu.physical_reserved | 0xFFF)


def release_vmcs12(l0: VmxRun) -> None:
    """Write the cached vmcs12 to L1's memory: there is no current VMCS then."""
    vmx, nested = l0.vmx, l0.vmx.nested
    if nested.vmcs12_pa == INVALID_GPA:
        return
    copy_vmcs02_to_vmcs12_rare(l0)
    nested.owes_vmcs12_to_shadow = False
    vmx.vcpu.memory.write(nested.vmcs12_pa, nested.vmcs12.view)
    nested.vmcs12_pa = INVALID_GPA


def copy_vmcs02_to_vmcs12_rare(l0: VmxRun) -> None:
    """Read late what KVM reads late, if it is still owed."""
    if l0.vmx.nested.owes_rare_from_vmcs02:
        sync_rare(l0.vmx)


def first_word(l0: VmxRun, address: int) -> int | None:
    """The first four bytes of a region; None where no memory backs it."""
    return l0.vcpu.memory.read_word(address, 4)


# The instructions --------------------------------------------------------------------------------
def vmxon(l0: VmxRun) -> None:
    """VMXON (handle_vmxon)."""
    vcpu, vmx, nested = l0.vcpu, l0.vmx, l0.vmx.nested
    if not vcpu.read_cr4() & CR4.VMXE:
        raise Fault(Vector.UD)
    if l0.cpl:
        raise Fault(Vector.GP, 0)
    if nested.vmxon:
        fail(l0, InstructionError.VMXON_IN_VMX_ROOT_OPERATION)
        return
    values = vmx.msrs.values
    for register, fixed0, fixed1 in (
        (vcpu.read_cr0(), values[MSR_CR0_FIXED0], values[MSR_CR0_FIXED1]),
        (vcpu.read_cr4(), values[MSR_CR4_FIXED0], values[MSR_CR4_FIXED1]),
    ):
        if register & fixed1 | fixed0 != register:
            raise Fault(Vector.GP, 0)
    if vmx.feature_control & VMXON_NEEDED != VMXON_NEEDED:
        raise Fault(Vector.GP, 0)
    address = read_pointer(l0)
    if not is_page_address(l0, address) or first_word(l0, address) != VMCS12_REVISION:
        fail_invalid(l0)
        return
    nested.vmxon_pa = address
    enter_vmx_operation(vmx)
    succeed(l0)


def vmxoff(l0: VmxRun) -> None:
    """VMXOFF (handle_vmxoff)."""
    require_vmx_operation(l0)
    release_vmcs12(l0)
    leave_nested(l0.vmx)
    succeed(l0)


def vmclear(l0: VmxRun) -> None:
    """VMCLEAR (handle_vmclear)."""
    require_vmx_operation(l0)
    nested = l0.vmx.nested
    address = read_pointer(l0)
    if not is_page_address(l0, address):
        fail(l0, InstructionError.VMCLEAR_INVALID_ADDRESS)
        return
    if address == nested.vmxon_pa:
        fail(l0, InstructionError.VMCLEAR_VMXON_POINTER)
        return
    if address == nested.vmcs12_pa:
        release_vmcs12(l0)
    l0.vcpu.memory.write(address + LAUNCH_STATE_AT, bytes(4))
    succeed(l0)


def vmptrld(l0: VmxRun) -> None:
    """VMPTRLD (handle_vmptrld)."""
    require_vmx_operation(l0)
    nested = l0.vmx.nested
    address = read_pointer(l0)
    if not is_page_address(l0, address):
        fail(l0, InstructionError.VMPTRLD_INVALID_ADDRESS)
        return
    if address == nested.vmxon_pa:
        fail(l0, InstructionError.VMPTRLD_VMXON_POINTER)
        return
    if address != nested.vmcs12_pa:
        word = first_word(l0, address)
        shadows = l0.vmx.msrs.may_be_1(MSR_PROC2) & ProcBased2.VMCS_SHADOWING
        allowed = (
            (VMCS12_REVISION, VMCS12_REVISION | SHADOW_VMCS) if shadows else (VMCS12_REVISION,)
        )
        if word not in allowed:
            fail(l0, InstructionError.VMPTRLD_INCORRECT_REVISION_ID)
            return
        release_vmcs12(l0)
        data = l0.vcpu.memory.read(address, VMCS12_SIZE)
        assert data is not None
        nested.vmcs12.view[:] = data
        nested.vmcs12_pa = address
        nested.dirty_vmcs12 = True
        nested.owes_vmcs12_to_shadow = l0.vmx.shadows_vmcs
    succeed(l0)


def vmptrst(l0: VmxRun) -> None:
    """VMPTRST (handle_vmptrst)."""
    require_vmx_operation(l0)
    l0.write(memory_address(l0, 8, writes=True), l0.vmx.nested.vmcs12_pa, 8)
    succeed(l0)


def _accessed(l0: VmxRun) -> VmcsRow | None:
    """The vmcs12 that VMREAD and VMWRITE access, in L2 the shadow one; None without one."""
    nested = l0.vmx.nested
    if nested.vmcs12_pa == INVALID_GPA:
        return None
    if not nested.guest_mode:
        return nested.vmcs12
    return None if nested.vmcs12["VMCS_LINK_POINTER"] == INVALID_GPA else nested.shadow_vmcs12


def _field(encoding: int) -> tuple[str, bool, bool] | None:
    """Name of the field, whether that is a high access, whether the field is read-only."""
    found = field_at(encoding) if encoding >> 32 == 0 else None
    if found is None or found[0].name not in PLACES:
        return None
    field, high = found
    return field.name, high, field.type is FieldType.READ_ONLY_DATA


def vmread(l0: VmxRun) -> None:
    """VMREAD (handle_vmread)."""
    require_vmx_operation(l0)
    vmcs12 = _accessed(l0)
    if vmcs12 is None:
        fail_invalid(l0)
        return
    info, size = l0.vmx.loaded["VMX_INSTRUCTION_INFO"], operand_size(l0)
    mask = (1 << 8 * size) - 1
    found = _field(l0.vcpu.read_register(second_register(info)) & mask)
    if found is None:
        fail(l0, InstructionError.UNSUPPORTED_VMCS_COMPONENT)
        return
    name, high, _ = found
    if not l0.vmx.nested.guest_mode:
        copy_vmcs02_to_vmcs12_rare(l0)
    value = (vmcs12[name] >> 32 if high else vmcs12[name]) & mask
    if is_register(info):
        l0.vcpu.write_register(first_register(info), value)
    else:
        l0.write(memory_address(l0, size, writes=True), value, size)
    succeed(l0)


def vmwrite(l0: VmxRun) -> None:
    """VMWRITE (handle_vmwrite)."""
    require_vmx_operation(l0)
    nested = l0.vmx.nested
    vmcs12 = _accessed(l0)
    if vmcs12 is None:
        fail_invalid(l0)
        return
    info, size = l0.vmx.loaded["VMX_INSTRUCTION_INFO"], operand_size(l0)
    mask = (1 << 8 * size) - 1
    if is_register(info):
        value = l0.vcpu.read_register(first_register(info)) & mask
    else:
        value = l0.read(memory_address(l0, size, writes=False), size)
    found = _field(l0.vcpu.read_register(second_register(info)) & mask)
    if found is None:
        fail(l0, InstructionError.UNSUPPORTED_VMCS_COMPONENT)
        return
    name, high, read_only = found
    if read_only and not l0.vmx.msrs.values[MSR_MISC] & VMWRITE_ANY:
        fail(l0, InstructionError.VMWRITE_READ_ONLY_COMPONENT)
        return
    if not nested.guest_mode:
        copy_vmcs02_to_vmcs12_rare(l0)
        nested.dirty_vmcs12 = True
    if name in RIGHTS_FIELDS:
        value &= RIGHTS_KEPT
    if high:
        value = vmcs12[name] & 0xFFFF_FFFF | (value & 0xFFFF_FFFF) << 32
    vmcs12[name] = value
    succeed(l0)


def invept(l0: VmxRun) -> None:
    """INVEPT (handle_invept)."""
    capabilities = l0.vmx.msrs.values.get(MSR_EPT_VPID, 0)
    offered = l0.vmx.msrs.may_be_1(MSR_PROC2) & ProcBased2.ENABLE_EPT
    if not offered or not capabilities & INVEPT_CAP:
        raise Fault(Vector.UD)
    require_vmx_operation(l0)
    kind = _kind(l0)
    if kind not in (number for number, mask in INVEPT_TYPES if capabilities & mask):
        fail(l0, InstructionError.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    l0.read(memory_address(l0, 16, writes=False), 16)
    l0.flush_l2()
    succeed(l0)


def invvpid(l0: VmxRun) -> None:
    """INVVPID (handle_invvpid)."""
    capabilities = l0.vmx.msrs.values.get(MSR_EPT_VPID, 0)
    offered = l0.vmx.msrs.may_be_1(MSR_PROC2) & ProcBased2.ENABLE_VPID
    if not offered or not capabilities & INVVPID_CAP:
        raise Fault(Vector.UD)
    require_vmx_operation(l0)
    kind = _kind(l0)
    if kind not in (number for number, mask in INVVPID_TYPES if capabilities & mask):
        fail(l0, InstructionError.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    operand = l0.read(memory_address(l0, 16, writes=False), 16)
    vpid, linear = operand & 0xFFFF_FFFF_FFFF_FFFF, operand >> 64
    wrong = vpid >> 16 or (kind != ALL_CONTEXT and not vpid)
    if wrong or (kind == INDIVIDUAL_ADDRESS and not l0.is_canonical(linear)):
        fail(l0, InstructionError.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    l0.flush_l2()
    succeed(l0)


def _kind(l0: VmxRun) -> int:
    """The type operand of INVEPT and INVVPID."""
    return l0.vcpu.read_register(second_register(l0.vmx.loaded["VMX_INSTRUCTION_INFO"]))


INSTRUCTIONS: Final[Mapping[int, Callable[[VmxRun], None]]] = {
    ExitReason.VMXON: vmxon,
    ExitReason.VMXOFF: vmxoff,
    ExitReason.VMCLEAR: vmclear,
    ExitReason.VMPTRLD: vmptrld,
    ExitReason.VMPTRST: vmptrst,
    ExitReason.VMREAD: vmread,
    ExitReason.VMWRITE: vmwrite,
    ExitReason.INVEPT: invept,
    ExitReason.INVVPID: invvpid,
}
