"""MSRs that kvm_amd handles itself, as user space reads and writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.kvm.vendor import MsrRefused
from emu.kvm.x86_msrs import MSR_IA32_CR_PAT, pat_valid
from vmcs.schema import check_unique

if TYPE_CHECKING:
    from emu.kvm.nested_svm.state import ControlBlock
    from emu.kvm.svm import Svm

SVM_C: Final = "arch/x86/kvm/svm/svm.c: svm_set_msr"
MASK32: Final = 0xFFFF_FFFF

DEBUGCTL: Final = 0x1D9
VM_CR: Final = 0xC001_0114
IGNNE: Final = 0xC001_0115
HSAVE_PA: Final = 0xC001_0117
TSC_RATIO: Final = 0xC000_0104
DE_CFG: Final = 0xC001_1029
VIRT_SPEC_CTRL: Final = 0xC001_011F
VIRT_SSBD: Final = 1 << 2

VM_CR_VALID: Final = 0x1F
SVM_LOCK, SVM_DIS = 1 << 3, 1 << 4
TSC_RATIO_RESERVED: Final = 0xFFFF_FF00_0000_0000
DEFAULT_TSC_RATIO: Final = 1 << 32
DEBUGCTL_LBR, DEBUGCTL_BTF = 1 << 0, 1 << 1
DEBUGCTL_PINS: Final = 0x3C
LBR_ENABLE: Final = 1 << 0


class InVmcb(NamedTuple):
    """An MSR whose value is a member of L1's control block; `behaviour` says from when."""

    number: int
    name: str
    member: str
    behaviour: str = ""
    masked_by: str = ""
    seen: str = SVM_C


# fmt: off
MSRS_IN_VMCB: Final = (
    InVmcb(0x174, "IA32_SYSENTER_CS", "sysenter_cs"),
    InVmcb(0x175, "IA32_SYSENTER_ESP", "sysenter_esp", masked_by="svm_sysenter_low_half"),
    InVmcb(0x176, "IA32_SYSENTER_EIP", "sysenter_eip", masked_by="svm_sysenter_low_half"),
    InVmcb(0xC000_0081, "STAR", "star"),
    InVmcb(0xC000_0082, "LSTAR", "lstar"),
    InVmcb(0xC000_0083, "CSTAR", "cstar"),
    InVmcb(0xC000_0084, "SYSCALL_MASK", "sfmask"),
    InVmcb(0xC000_0100, "FS_BASE", "fs.base", "svm_fs_gs_base_msrs"),
    InVmcb(0xC000_0101, "GS_BASE", "gs.base", "svm_fs_gs_base_msrs"),
    InVmcb(0xC000_0102, "KERNEL_GS_BASE", "kernel_gs_base"),
)

LBR_MSRS: Final = (
    InVmcb(0x1DB, "IA32_LASTBRANCHFROMIP", "br_from"),
    InVmcb(0x1DC, "IA32_LASTBRANCHTOIP", "br_to"),
    InVmcb(0x1DD, "IA32_LASTINTFROMIP", "last_excp_from"),
    InVmcb(0x1DE, "IA32_LASTINTTOIP", "last_excp_to"),
)
# fmt: on

check_unique([msr.number for msr in (*MSRS_IN_VMCB, *LBR_MSRS)], "MSRS_IN_VMCB")
_IN_VMCB: Final = {msr.number: msr for msr in MSRS_IN_VMCB}
_LBR: Final = {msr.number: msr for msr in LBR_MSRS}


def _block(svm: Svm) -> ControlBlock:
    return svm.vmcb01 if svm.two_blocks else svm.vmcb


def get_msr(svm: Svm, index: int) -> int | None:
    """The value of an MSR; None where it is not kvm_amd that handles it."""
    found = _IN_VMCB.get(index)
    if found is not None:
        known = not found.behaviour or svm.does(found.behaviour)
        return _block(svm)[found.member] if known else None
    if index in _LBR:
        return _lbr_block(svm)[_LBR[index].member] if svm.lbrv else 0
    if index == DEBUGCTL:
        return _lbr_block(svm)["dbgctl"] if svm.lbrv else 0
    if index == HSAVE_PA:
        return svm.nested.hsave_msr
    if index == VM_CR:
        return svm.nested.vm_cr_msr
    if index == TSC_RATIO and svm.does("svm_tsc_ratio_msr"):
        return svm.tsc_ratio
    if index == VIRT_SPEC_CTRL:
        return svm.virt_spec_ctrl
    if index == DE_CFG:
        return svm.de_cfg
    return None


def set_msr(svm: Svm, index: int, value: int) -> bool:
    """Write an MSR; False where it is not kvm_amd that handles it; raises MsrRefused."""
    found = _IN_VMCB.get(index)
    if found is not None:
        if found.behaviour and not svm.does(found.behaviour):
            return False
        low_half = found.masked_by and svm.does(found.masked_by)
        _block(svm)[found.member] = value & MASK32 if low_half else value
    elif index == MSR_IA32_CR_PAT:
        _set_pat(svm, value)
    elif index in _LBR and svm.does("svm_lbr_msrs_settable"):
        if not svm.lbrv:
            raise MsrRefused("msr_lbr_offered")
        svm.vmcb[_LBR[index].member] = value
    elif index == DEBUGCTL:
        _set_debugctl(svm, value)
    elif index == HSAVE_PA:
        svm.nested.hsave_msr = value & ~0xFFF if svm.does("svm_hsave_page_aligned") else value
    elif index == VM_CR:
        _set_vm_cr(svm, value)
    elif index == TSC_RATIO and svm.does("svm_tsc_ratio_msr"):
        _set_tsc_ratio(svm, value)
    elif index == VIRT_SPEC_CTRL:
        if value & ~VIRT_SSBD:
            raise MsrRefused("msr_virt_spec_ctrl_reserved")
        svm.virt_spec_ctrl = value
    elif index == DE_CFG:
        if value & ~svm.vcpu.host.feature_msrs.get(DE_CFG, 0):
            raise MsrRefused("msr_de_cfg_supported")
        svm.de_cfg = value
    else:
        return index == IGNNE
    return True


def _set_pat(svm: Svm, value: int) -> None:
    if not pat_valid(value):
        raise MsrRefused("msr_pat_memory_types")
    svm.vcpu.pat = value
    _block(svm)["g_pat"] = value
    if svm.two_blocks and svm.nested.in_guest_mode and not svm.l2_has_own_pat:
        svm.vmcb02["g_pat"] = value


def _lbr_block(svm: Svm) -> ControlBlock:
    if svm.does("svm_lbr_in_vmcb01") and not svm.vmcb["misc_ctl2"] & LBR_ENABLE:
        return svm.vmcb01
    return svm.vmcb


def debugctl_bits(svm: Svm) -> int:
    """Bits of DEBUGCTL that the guest can have (arch/x86/kvm/svm/svm.h: DEBUGCTL_RESERVED_BITS)."""
    if svm.does("svm_debugctl_lbr_only"):
        return DEBUGCTL_LBR
    if svm.does("svm_debugctl_lbr_and_btf"):
        return DEBUGCTL_LBR | DEBUGCTL_BTF
    return DEBUGCTL_LBR | DEBUGCTL_BTF | DEBUGCTL_PINS


def _set_debugctl(svm: Svm, value: int) -> None:
    if not svm.lbrv:
        return
    if svm.does("svm_debugctl_drops_pins"):
        value &= ~DEBUGCTL_PINS
    if svm.does("svm_debugctl_drops_btf"):
        value &= ~DEBUGCTL_BTF
    if value & ~debugctl_bits(svm):
        raise MsrRefused("msr_debugctl_reserved")
    _lbr_block(svm)["dbgctl"] = value


def _set_vm_cr(svm: Svm, value: int) -> None:
    """Source: arch/x86/kvm/svm/svm.c: svm_set_vm_cr; the new value stays where it is refused."""
    if value & ~VM_CR_VALID:
        raise MsrRefused("msr_vm_cr_reserved")
    changeable = VM_CR_VALID
    nested = svm.nested
    if nested.vm_cr_msr & SVM_DIS:
        changeable &= ~(SVM_LOCK | SVM_DIS)
    nested.vm_cr_msr = nested.vm_cr_msr & ~changeable | value & changeable
    if nested.vm_cr_msr & SVM_DIS and svm.svme:
        raise MsrRefused("msr_vm_cr_svm_disable_while_svme")


def _set_tsc_ratio(svm: Svm, value: int) -> None:
    if svm.does("svm_tsc_ratio_fixed_without_feature") and not svm.guest_has("TSCRATEMSR"):
        if value not in (0, svm.tsc_ratio):
            raise MsrRefused("msr_tsc_ratio_default")
        return
    if value & TSC_RATIO_RESERVED:
        raise MsrRefused("msr_tsc_ratio_reserved")
    svm.tsc_ratio = value
