"""MSRs that KVM handles for both vendors, as user space reads and writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.kvm.control_registers import EFER
from emu.kvm.vendor import MsrRefused
from vmcs.schema import check_unique

if TYPE_CHECKING:
    from emu.kvm.vcpu import Vcpu

MSR_IA32_TSC: Final = 0x10
MSR_IA32_APICBASE: Final = 0x1B
MSR_IA32_CR_PAT: Final = 0x277
MSR_EFER: Final = 0xC000_0080
MSR_K7_HWCR: Final = 0xC001_0015
HV_GUEST_OS_ID: Final = 0x4000_0000
HV_VP_ASSIST_PAGE: Final = 0x4000_0073

SET_COMMON: Final = "arch/x86/kvm/x86.c: kvm_set_msr_common"
HYPERV: Final = "arch/x86/kvm/hyperv.c: kvm_hv_set_msr"


class PlainMsr(NamedTuple):
    """An MSR that holds what is written: its reserved bits, which must be 0, its value at RESET."""

    number: int
    name: str
    reserved: int
    reset: int
    seen: str


# fmt: off
PLAIN_MSRS: Final = (
    PlainMsr(0x10, "IA32_TSC", 0, 0, SET_COMMON),
    PlainMsr(0x3B, "IA32_TSC_ADJUST", 0, 0, SET_COMMON),
    PlainMsr(0x8B, "IA32_BIOS_SIGN_ID", 0, 0x1_0000_0000, SET_COMMON),
    PlainMsr(0x9E, "IA32_SMBASE", 0, 0x30000, SET_COMMON),
    PlainMsr(0x1A0, "IA32_MISC_ENABLE", 0, 1, SET_COMMON),
    PlainMsr(HV_GUEST_OS_ID, "HV_X64_MSR_GUEST_OS_ID", 0, 0, HYPERV),
    PlainMsr(0xC000_0081, "STAR", 0, 0, SET_COMMON),
    PlainMsr(0xC000_0082, "LSTAR", 0, 0, SET_COMMON),
    PlainMsr(0xC000_0083, "CSTAR", 0, 0, SET_COMMON),
    PlainMsr(0xC000_0084, "SYSCALL_MASK", 0, 0, SET_COMMON),
    PlainMsr(0xC000_0102, "KERNEL_GS_BASE", 0, 0, SET_COMMON),
    PlainMsr(0xC000_0103, "TSC_AUX", 0xFFFF_FFFF_0000_0000, 0, SET_COMMON),
)
# fmt: on

check_unique([msr.number for msr in PLAIN_MSRS], "PLAIN_MSRS")
_PLAIN = {msr.number: msr for msr in PLAIN_MSRS}


def get_msr(vcpu: Vcpu, index: int) -> int:
    """Value of an MSR; raises MsrRefused for one that KVM does not have."""
    if index == MSR_EFER:
        return vcpu.efer
    if index == MSR_IA32_APICBASE:
        return vcpu.apic_base
    if index == MSR_IA32_CR_PAT:
        return vcpu.pat
    if index in (MSR_K7_HWCR, HV_VP_ASSIST_PAGE):
        return vcpu.msrs.get(index, 0)
    plain = _PLAIN.get(index)
    if plain is None:
        raise MsrRefused("msr_known")
    return vcpu.msrs.get(index, plain.reset)


def set_msr(vcpu: Vcpu, index: int, value: int) -> None:
    """Write an MSR from user space; raises MsrRefused where KVM refuses."""
    if index == MSR_EFER:
        _set_efer(vcpu, value)
    elif index == MSR_IA32_CR_PAT:
        if not pat_valid(value):
            raise MsrRefused("msr_pat_memory_types")
        vcpu.pat = value
    elif index == MSR_IA32_APICBASE:
        vcpu.apic_base = value
    elif index == MSR_K7_HWCR:
        _set_hwcr(vcpu, value)
    elif index == HV_VP_ASSIST_PAGE:
        _set_assist_page(vcpu, value)
    else:
        plain = _PLAIN.get(index)
        if plain is None:
            raise MsrRefused("msr_known")
        if value & plain.reserved:
            raise MsrRefused("msr_reserved_bits")
        vcpu.msrs[index] = value


def pat_valid(value: int) -> bool:
    """Whether each byte of `value` is a memory type that IA32_PAT may hold."""
    return all(value >> shift & 0xFF in (0, 1, 4, 5, 6, 7) for shift in range(0, 64, 8))


def _set_efer(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/x86.c: set_efer, host-initiated."""
    usable = EFER.SCE | EFER.LMA | EFER.LME | vcpu.operations.efer_bits
    if value & ~usable:
        raise MsrRefused("msr_efer_reserved")
    vcpu.operations.set_efer(value & ~EFER.LMA | vcpu.efer & EFER.LMA)


def _set_hwcr(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/x86.c: kvm_set_msr_common, MSR_K7_HWCR."""
    value &= ~0x40 & ~0x100 & ~0x8
    value &= ~(1 << 6)
    if value & ~(1 << 18 | 1 << 24):
        raise MsrRefused("msr_hwcr_reserved")
    vcpu.msrs[MSR_K7_HWCR] = value


def _set_assist_page(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/hyperv.c: kvm_hv_set_msr, HV_X64_MSR_VP_ASSIST_PAGE."""
    if value & 1:
        gpa = value & ~0xFFF
        if not vcpu.memory.write(gpa, bytes(4)):
            raise MsrRefused("msr_assist_page_backed")
    vcpu.msrs[HV_VP_ASSIST_PAGE] = value
