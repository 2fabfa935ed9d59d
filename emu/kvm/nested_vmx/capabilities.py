"""The VMX capability MSRs of a vCPU: what KVM offers, what user space may write, what L1 reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emu.kvm.control_registers import CR4
from emu.kvm.cpuid import Cpuid
from emu.kvm.vendor import MsrRefused
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2

MSR_BASIC, MSR_PIN, MSR_PROC, MSR_EXIT, MSR_ENTRY, MSR_MISC = range(0x480, 0x486)
MSR_CR0_FIXED0, MSR_CR0_FIXED1, MSR_CR4_FIXED0, MSR_CR4_FIXED1 = range(0x486, 0x48A)
MSR_VMCS_ENUM, MSR_PROC2, MSR_EPT_VPID = range(0x48A, 0x48D)
MSR_TRUE_PIN, MSR_TRUE_PROC, MSR_TRUE_EXIT, MSR_TRUE_ENTRY, MSR_VMFUNC = range(0x48D, 0x492)
FIRST, LAST = MSR_BASIC, MSR_VMFUNC

# Which non-TRUE MSR is made from which TRUE one, and the default1 class that it adds
# (arch/x86/include/asm/vmx.h: PIN_BASED_ALWAYSON_WITHOUT_TRUE_MSR and its like).
NON_TRUE: Final = {
    MSR_PIN: (MSR_TRUE_PIN, 0x16),
    MSR_PROC: (MSR_TRUE_PROC, 0x0401_E172),
    MSR_EXIT: (MSR_TRUE_EXIT, 0x0003_6DFF),
    MSR_ENTRY: (MSR_TRUE_ENTRY, 0x0000_11FF),
}
CONTROLS: Final = (MSR_TRUE_PIN, MSR_TRUE_PROC, MSR_TRUE_EXIT, MSR_TRUE_ENTRY, MSR_PROC2)

LOW: Final = 0xFFFF_FFFF
ALL: Final = 0xFFFF_FFFF_FFFF_FFFF


def _bits(*ranges: tuple[int, int]) -> int:
    return sum((1 << high + 1) - (1 << low) for low, high in ranges)


# SDM, appendix "VMX Capability Reporting Facility": feature bits and reserved bits of
# IA32_VMX_BASIC and IA32_VMX_MISC that may only be taken away (arch/x86/kvm/vmx/nested.c:
# vmx_restore_vmx_basic, vmx_restore_vmx_misc).
BASIC_SUBSET: Final = _bits((31, 31), (45, 47), (49, 49), (54, 63))
MISC_SUBSET: Final = _bits((5, 15), (28, 31))
BASIC_32_BIT_ADDRESSES: Final = 1 << 48
PREEMPTION_TIMER: Final = int(PinBased.ACTIVATE_VMX_PREEMPTION_TIMER)

# Bits of CR4 that CR4_FIXED1 has where CPUID has the feature (arch/x86/kvm/vmx/vmx.c:
# nested_vmx_cr_fixed1_bits_update).
CR4_FIXED1_BY_FEATURE: Final = (
    ("VME", CR4.VME | CR4.PVI),
    ("TSC", CR4.TSD),
    ("DE", CR4.DE),
    ("PSE", CR4.PSE),
    ("PAE", CR4.PAE),
    ("MCE", CR4.MCE),
    ("PGE", CR4.PGE),
    ("FXSR", CR4.OSFXSR),
    ("XMM", CR4.OSXMMEXCPT),
    ("VMX", CR4.VMXE),
    ("SMX", CR4.SMXE),
    ("PCID", CR4.PCIDE),
    ("XSAVE", CR4.OSXSAVE),
    ("FSGSBASE", CR4.FSGSBASE),
    ("SMEP", CR4.SMEP),
    ("SMAP", CR4.SMAP),
    ("PKU", CR4.PKE),
    ("UMIP", CR4.UMIP),
    ("LA57", CR4.LA57),
)

# Controls that enlightened VMCS version 1 has no field for, by the MSR whose upper half offers them
# (arch/x86/kvm/vmx/evmcs.h: EVMCS1_UNSUPPORTED_*).
EVMCS_UNSUPPORTED: Final = {
    MSR_TRUE_PIN: int(PinBased.PROCESS_POSTED_INTERRUPTS | PinBased.ACTIVATE_VMX_PREEMPTION_TIMER),
    MSR_PROC2: int(
        ProcBased2.VIRTUAL_INTERRUPT_DELIVERY
        | ProcBased2.VIRTUALIZE_APIC_ACCESSES
        | ProcBased2.APIC_REGISTER_VIRTUALIZATION
        | ProcBased2.ENABLE_PML
        | ProcBased2.ENABLE_VM_FUNCTIONS
        | ProcBased2.VMCS_SHADOWING
        | ProcBased2.USE_TSC_SCALING
        | ProcBased2.PAUSE_LOOP_EXITING
    ),
    MSR_TRUE_EXIT: int(Exit.LOAD_IA32_PERF_GLOBAL_CTRL | Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE),
    MSR_TRUE_ENTRY: int(Entry.LOAD_IA32_PERF_GLOBAL_CTRL),
}
EVMCS_UNSUPPORTED_VMFUNC: Final = 1

# Controls that KVM lets L1 use with enlightened VMCS, once it names those and not the others
# (arch/x86/kvm/vmx/hyperv.c: EVMCS1_SUPPORTED_*).
EVMCS_SUPPORTED: Final = {
    MSR_TRUE_PIN: 0x16
    | int(PinBased.EXTERNAL_INTERRUPT_EXITING | PinBased.NMI_EXITING | PinBased.VIRTUAL_NMIS),
    MSR_TRUE_PROC: 0xFFF9_FFFE & ~int(ProcBased.ACTIVATE_TERTIARY_CONTROLS),
    MSR_PROC2: int(
        ProcBased2.VIRTUALIZE_X2APIC_MODE
        | ProcBased2.WBINVD_EXITING
        | ProcBased2.ENABLE_VPID
        | ProcBased2.ENABLE_EPT
        | ProcBased2.UNRESTRICTED_GUEST
        | ProcBased2.DESCRIPTOR_TABLE_EXITING
        | ProcBased2.ENABLE_RDTSCP
        | ProcBased2.ENABLE_INVPCID
        | ProcBased2.ENABLE_XSAVES_XRSTORS
        | ProcBased2.RDSEED_EXITING
        | ProcBased2.RDRAND_EXITING
        | ProcBased2.USE_TSC_SCALING
        | ProcBased2.ENABLE_USER_WAIT_AND_PAUSE
        | ProcBased2.PT_USES_GUEST_PHYSICAL_ADDRESSES
        | ProcBased2.CONCEAL_VMX_FROM_PT
        | ProcBased2.VMM_BUS_LOCK_DETECTION
        | ProcBased2.INSTRUCTION_TIMEOUT
        | ProcBased2.MODE_BASED_EXECUTE_CONTROL
        | ProcBased2.ENABLE_ENCLS_EXITING
    ),
    MSR_TRUE_EXIT: 0x0003_6DFF
    | int(
        Exit.SAVE_DEBUG_CONTROLS
        | Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT
        | Exit.HOST_ADDRESS_SPACE_SIZE
        | Exit.LOAD_IA32_PERF_GLOBAL_CTRL
        | Exit.SAVE_IA32_PAT
        | Exit.LOAD_IA32_PAT
        | Exit.SAVE_IA32_EFER
        | Exit.LOAD_IA32_EFER
        | Exit.CLEAR_IA32_BNDCFGS
        | Exit.CONCEAL_VMX_FROM_PT
        | Exit.CLEAR_IA32_RTIT_CTL
    ),
    MSR_TRUE_ENTRY: 0x0000_11FF
    | int(
        Entry.LOAD_DEBUG_CONTROLS
        | Entry.IA32E_MODE_GUEST
        | Entry.LOAD_IA32_PERF_GLOBAL_CTRL
        | Entry.LOAD_IA32_PAT
        | Entry.LOAD_IA32_EFER
        | Entry.LOAD_IA32_BNDCFGS
        | Entry.CONCEAL_VMX_FROM_PT
        | Entry.LOAD_IA32_RTIT_CTL
    ),
}


def subset(superset: int, value: int, mask: int = ALL) -> bool:
    """Whether `value` has no bit of `mask` that `superset` lacks."""
    return value & mask & ~superset == 0


class CapabilityMsrs:
    """`struct nested_vmx_msrs` of one vCPU; `offered` is what KVM itself supports on the host.

    `values` holds each MSR as L1 reads it, the non-TRUE control MSRs made from the TRUE ones.
    """

    def __init__(self, offered: Mapping[int, int]) -> None:
        self.offered = offered
        self.values = {index: value for index, value in offered.items() if FIRST <= index <= LAST}
        self.changed = True

    def __getitem__(self, index: int) -> int:
        """Value of the MSR `index`; raises MsrRefused for one that does not exist."""
        made = NON_TRUE.get(index)
        if made is not None:
            return self.values[made[0]] | made[1]
        if index not in self.values:
            raise MsrRefused("vmx_msr_known")
        return self.values[index]

    def must_be_1(self, index: int) -> int:
        """Lower half: control bits that must be 1."""
        return self.values.get(index, 0) & LOW

    def may_be_1(self, index: int) -> int:
        """Upper half: control bits that may be 1."""
        return self.values.get(index, 0) >> 32

    def narrow(self, index: int, gone: int) -> None:
        """Take the bits `gone` out of the controls that the MSR `index` allows."""
        self.values[index] &= ~(gone << 32)
        self.changed = True

    def widen(self, index: int, added: int) -> None:
        """Add the bits `added` to the controls that the MSR `index` allows."""
        self.values[index] |= added << 32
        self.changed = True

    def follow_cpuid(self, cpuid: Cpuid) -> None:
        """Make CR0_FIXED1 and CR4_FIXED1 from the guest's CPUID."""
        fixed1 = CR4.PCE
        for feature, bits in CR4_FIXED1_BY_FEATURE:
            if cpuid.has(feature):
                fixed1 |= bits
        self.values[MSR_CR0_FIXED1] = LOW
        self.values[MSR_CR4_FIXED1] = fixed1
        self.changed = True

    def set(self, index: int, value: int, vmxon: bool, current: bool) -> None:
        """KVM_SET_MSRS of a capability MSR; raises MsrRefused with the name of the rule.

        `current`: compare with the vCPU's present values and not with what KVM offers.
        Source: arch/x86/kvm/vmx/nested.c: vmx_set_vmx_msr.
        """
        if vmxon:
            raise MsrRefused("vmx_msr_outside_vmx_operation")
        limit = self.values if current else self.offered
        if index == MSR_BASIC:
            _check_basic(limit[index], value)
        elif index in NON_TRUE:
            raise MsrRefused("vmx_msr_true_controls_only")
        elif index in CONTROLS:
            if not subset(value, limit[index], LOW):
                raise MsrRefused("vmx_msr_control_must_be_1")
            if not subset(limit[index], value, ALL ^ LOW):
                raise MsrRefused("vmx_msr_control_may_be_1")
        elif index == MSR_MISC:
            timer = self.may_be_1(MSR_TRUE_PIN) & PREEMPTION_TIMER
            _check_misc(limit[index], value, bool(timer))
        elif index in (MSR_CR0_FIXED0, MSR_CR4_FIXED0):
            if not subset(value, limit[index]):
                raise MsrRefused("vmx_msr_fixed0_superset")
        elif index in (MSR_CR0_FIXED1, MSR_CR4_FIXED1):
            raise MsrRefused("vmx_msr_fixed1_from_cpuid")
        elif index == MSR_EPT_VPID:
            if not subset(limit[index], value):
                raise MsrRefused("vmx_msr_ept_vpid_subset")
        elif index == MSR_VMFUNC:
            if not subset(limit[index], value):
                raise MsrRefused("vmx_msr_vmfunc_subset")
        elif index != MSR_VMCS_ENUM:
            raise MsrRefused("vmx_msr_known")
        self.values[index] = value
        self.changed = True


def _check_basic(limit: int, value: int) -> None:
    if not subset(limit, value, BASIC_SUBSET):
        raise MsrRefused("vmx_basic_features_subset")
    if value & BASIC_32_BIT_ADDRESSES:
        raise MsrRefused("vmx_basic_32_bit_addresses")
    if (limit ^ value) & 0x7FFF_FFFF:
        raise MsrRefused("vmx_basic_revision")
    if limit >> 32 & 0x1FFF > value >> 32 & 0x1FFF:
        raise MsrRefused("vmx_basic_size")


def _check_misc(limit: int, value: int, timer: bool) -> None:
    if not subset(limit, value, MISC_SUBSET):
        raise MsrRefused("vmx_misc_features_subset")
    if timer and (limit ^ value) & 0x1F:
        raise MsrRefused("vmx_misc_preemption_timer_rate")
    if value >> 16 & 0x1FF > limit >> 16 & 0x1FF:
        raise MsrRefused("vmx_misc_cr3_target_count")
    if value >> 25 & 0x7 > limit >> 25 & 0x7:
        raise MsrRefused("vmx_misc_msr_list_size")
    if (limit ^ value) >> 32:
        raise MsrRefused("vmx_misc_mseg_revision")
