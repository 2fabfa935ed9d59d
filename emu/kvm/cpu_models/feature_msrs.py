"""The feature MSRs that KVM of a release shows of a processor, the nested VMX ones among them.

Source: arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs, arch/x86/kvm/x86.c:
kvm_get_msr_feature, kvm_get_arch_capabilities.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.kvm.cpu_models.capabilities import Capabilities, has
from emu.kvm.cpu_models.model import FREE_OF, MSR_IA32_ARCH_CAPABILITIES, SKIP_L1DFLUSH
from emu.kvm.cpu_models.setup import EPT_CAP, Setup
from emu.kvm.nested_vmx.capabilities import (
    FIRST,
    LAST,
    MSR_BASIC,
    MSR_CR0_FIXED0,
    MSR_CR0_FIXED1,
    MSR_CR4_FIXED0,
    MSR_CR4_FIXED1,
    MSR_ENTRY,
    MSR_EPT_VPID,
    MSR_EXIT,
    MSR_MISC,
    MSR_PIN,
    MSR_PROC,
    MSR_PROC2,
    MSR_TRUE_ENTRY,
    MSR_TRUE_EXIT,
    MSR_TRUE_PIN,
    MSR_TRUE_PROC,
    MSR_VMCS_ENUM,
    MSR_VMFUNC,
    NON_TRUE,
)
from vmcs.schema import check_unique
from vmcs.vmx.capability_msrs import BASIC, MISC
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2, VmFunction

MSR_IA32_UCODE_REV: Final = 0x8B
MSR_PLATFORM_INFO: Final = 0xCE
MSR_IA32_PERF_CAPABILITIES: Final = 0x345
MSR_AMD64_DE_CFG: Final = 0xC001_1029
DE_CFG_LFENCE_SERIALIZES: Final = 2
PLATFORM_INFO_CPUID_FAULT: Final = 1 << 31
PERF_CAP_FW_WRITES: Final = 1 << 13
CR4_UMIP: Final = 1 << 11
ARCH_CAP_MDS_NO: Final = 1 << 5
ARCH_CAP_TSX_CTRL: Final = 1 << 7
ARCH_CAP_TAA_NO: Final = 1 << 8
ARCH_CAP_PSCHANGE_MC_NO: Final = 1 << 6

# KVM_GET_MSR_FEATURE_INDEX_LIST until 6.4 (arch/x86/kvm/x86.c: msr_based_features_all).
OLD_ORDER: Final = (
    *(0x480, 0x48D, 0x481, 0x48E, 0x482, 0x48F, 0x483, 0x490, 0x484),
    *(0x485, 0x486, 0x487, 0x488, 0x489, 0x48A, 0x48B, 0x48C, 0x491),
)

# What KVM writes into vmcs12's capability MSRs itself.
VMCS12_REVISION: Final = 0x11E5_7ED0
VMCS12_SIZE: Final = 0x1000
WRITE_BACK: Final = 6
VMXON_CR0_ALWAYS_ON: Final = 0x8000_0021
VMXON_CR4_ALWAYS_ON: Final = 0x2000
EMULATED_TIMER_RATE: Final = 5
VMCS_ENUM_CONSTANT: Final = 0x17 << 1
VMCS_ENUM_TSC_MULTIPLIER: Final = 0x19 << 1

_BASIC: Final = {row.name: row.mask for row in BASIC.rows}
_MISC: Final = {row.name: row.mask for row in MISC.rows}

# Controls that every release offers where the processor has them, by the processor's MSR.
WITH_HARDWARE: Final = {
    MSR_PIN: PinBased.EXTERNAL_INTERRUPT_EXITING | PinBased.NMI_EXITING | PinBased.VIRTUAL_NMIS,
    MSR_PROC: ProcBased.INTERRUPT_WINDOW_EXITING
    | ProcBased.NMI_WINDOW_EXITING
    | ProcBased.USE_TSC_OFFSETTING
    | ProcBased.HLT_EXITING
    | ProcBased.INVLPG_EXITING
    | ProcBased.MWAIT_EXITING
    | ProcBased.CR3_LOAD_EXITING
    | ProcBased.CR3_STORE_EXITING
    | ProcBased.CR8_LOAD_EXITING
    | ProcBased.CR8_STORE_EXITING
    | ProcBased.MOV_DR_EXITING
    | ProcBased.UNCONDITIONAL_IO_EXITING
    | ProcBased.USE_IO_BITMAPS
    | ProcBased.MONITOR_TRAP_FLAG
    | ProcBased.MONITOR_EXITING
    | ProcBased.RDPMC_EXITING
    | ProcBased.RDTSC_EXITING
    | ProcBased.PAUSE_EXITING
    | ProcBased.USE_TPR_SHADOW
    | ProcBased.ACTIVATE_SECONDARY_CONTROLS,
    MSR_EXIT: Exit.HOST_ADDRESS_SPACE_SIZE | Exit.LOAD_IA32_PAT | Exit.SAVE_IA32_PAT,
    MSR_ENTRY: Entry.IA32E_MODE_GUEST | Entry.LOAD_IA32_PAT,
    MSR_PROC2: ProcBased2.DESCRIPTOR_TABLE_EXITING
    | ProcBased2.VIRTUALIZE_X2APIC_MODE
    | ProcBased2.APIC_REGISTER_VIRTUALIZATION
    | ProcBased2.VIRTUAL_INTERRUPT_DELIVERY
    | ProcBased2.WBINVD_EXITING,
}
# Controls that every release offers and does itself where the processor lacks them.
WITHOUT_HARDWARE: Final = {
    MSR_PIN: int(PinBased.ACTIVATE_VMX_PREEMPTION_TIMER),
    MSR_PROC: int(ProcBased.USE_MSR_BITMAPS),
    MSR_EXIT: int(
        Exit.LOAD_IA32_EFER
        | Exit.SAVE_IA32_EFER
        | Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE
        | Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT
    ),
    MSR_ENTRY: int(Entry.LOAD_IA32_EFER),
    MSR_PROC2: 0,
}


class Offered(NamedTuple):
    """A control that some releases do not offer: a member of the fact `vmx_controls`.

    `emulated`: KVM does it itself where the processor lacks it.
    """

    name: str
    msr: int
    control: int
    emulated: bool = False


# arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs; the release modules cite each.
# fmt: off
OFFERED: Final = (
    Offered("LOAD_IA32_PERF_GLOBAL_CTRL_ENTRY", MSR_ENTRY, Entry.LOAD_IA32_PERF_GLOBAL_CTRL),
    Offered("LOAD_IA32_PERF_GLOBAL_CTRL_EXIT", MSR_EXIT, Exit.LOAD_IA32_PERF_GLOBAL_CTRL),
    Offered("PERF_GLOBAL_CTRL_ALWAYS_ENTRY", MSR_ENTRY, Entry.LOAD_IA32_PERF_GLOBAL_CTRL, True),
    Offered("PERF_GLOBAL_CTRL_ALWAYS_EXIT", MSR_EXIT, Exit.LOAD_IA32_PERF_GLOBAL_CTRL, True),
    Offered("LOAD_IA32_BNDCFGS_ENTRY", MSR_ENTRY, Entry.LOAD_IA32_BNDCFGS),
    Offered("CLEAR_IA32_BNDCFGS_EXIT", MSR_EXIT, Exit.CLEAR_IA32_BNDCFGS),
    Offered("LOAD_CET_STATE_ENTRY", MSR_ENTRY, Entry.LOAD_CET_STATE),
    Offered("LOAD_CET_STATE_EXIT", MSR_EXIT, Exit.LOAD_CET_STATE),
    Offered("VMCS_SHADOWING", MSR_PROC2, ProcBased2.VMCS_SHADOWING, True),
    Offered("ENABLE_RDTSCP", MSR_PROC2, ProcBased2.ENABLE_RDTSCP),
    Offered("RDRAND_EXITING", MSR_PROC2, ProcBased2.RDRAND_EXITING),
    Offered("ENABLE_INVPCID", MSR_PROC2, ProcBased2.ENABLE_INVPCID),
    Offered("RDSEED_EXITING", MSR_PROC2, ProcBased2.RDSEED_EXITING),
    Offered("ENABLE_XSAVES_XRSTORS", MSR_PROC2, ProcBased2.ENABLE_XSAVES_XRSTORS),
    Offered("ENABLE_ENCLS_EXITING", MSR_PROC2, ProcBased2.ENABLE_ENCLS_EXITING),
    Offered("USE_TSC_SCALING", MSR_PROC2, ProcBased2.USE_TSC_SCALING),
    Offered("ENABLE_USER_WAIT_AND_PAUSE", MSR_PROC2, ProcBased2.ENABLE_USER_WAIT_AND_PAUSE),
    Offered("MODE_BASED_EXECUTE_CONTROL", MSR_PROC2, ProcBased2.MODE_BASED_EXECUTE_CONTROL),
)
# fmt: on

check_unique([row.name for row in OFFERED], "OFFERED")

# Members of the fact `vmx_controls` that are no controls.
OTHER_BITS: Final = frozenset(
    {
        "ACTIVITY_WAIT_SIPI",
        "COMPUTED_VMCS_ENUM",
        "EMULATED_UMIP_IN_CR4",
        "EPT_ADVANCED_EXIT_INFORMATION",
        "EPT_PAGE_WALK_5",
        "FIELDS_BY_HARDWARE",
        "NO_HW_ERROR_CODE_CC",
    }
)

EPT_FROM_HARDWARE: Final = (
    EPT_CAP["EXECUTE_ONLY"]
    | EPT_CAP["WALK_LENGTH_4"]
    | EPT_CAP["MEMORY_TYPE_WB"]
    | EPT_CAP["INVEPT"]
)
EPT_EMULATED: Final = (
    EPT_CAP["PAGE_2M"]
    | EPT_CAP["PAGE_1G"]
    | EPT_CAP["INVEPT_SINGLE_CONTEXT"]
    | EPT_CAP["INVEPT_ALL_CONTEXT"]
)
VPID_EMULATED: Final = (
    EPT_CAP["INVVPID"]
    | EPT_CAP["INVVPID_INDIVIDUAL_ADDRESS"]
    | EPT_CAP["INVVPID_SINGLE_CONTEXT"]
    | EPT_CAP["INVVPID_ALL_CONTEXT"]
    | EPT_CAP["INVVPID_RETAINING_GLOBALS"]
)


def nested_vmx_msrs(setup: Setup, caps: Capabilities) -> dict[int, int]:
    """The VMX capability MSRs that L1 gets: `vmcs_config.nested`."""
    model, known = setup.model, setup.release.names("vmx_controls")
    may = _controls(setup, caps)
    msrs = {}
    for plain, (true, default1) in NON_TRUE.items():
        high = may[plain] | default1
        must = _must_be_1(true)
        msrs[true] = high << 32 | must
        msrs[plain] = high << 32 | must | default1
    msrs[MSR_PROC2] = may[MSR_PROC2] << 32
    msrs[MSR_BASIC] = (
        VMCS12_REVISION | VMCS12_SIZE << 32 | WRITE_BACK << 50 | _BASIC["TRUE_CTLS"]
    ) | model.msrs[MSR_BASIC] & _BASIC["INS_OUTS_INFO"]
    if "NO_HW_ERROR_CODE_CC" in known:
        msrs[MSR_BASIC] |= model.msrs[MSR_BASIC] & _BASIC["ERROR_CODE_FREE"]
    msrs[MSR_MISC] = (
        EMULATED_TIMER_RATE
        | model.msrs[MSR_MISC] & _MISC["STORE_LMA"]
        | _MISC["ACTIVITY_HLT"]
        | _MISC["VMWRITE_ANY"]
    )
    if "ACTIVITY_WAIT_SIPI" in known:
        msrs[MSR_MISC] |= _MISC["ACTIVITY_WAIT_FOR_SIPI"]
    msrs[MSR_CR0_FIXED0], msrs[MSR_CR4_FIXED0] = VMXON_CR0_ALWAYS_ON, VMXON_CR4_ALWAYS_ON
    msrs[MSR_CR0_FIXED1] = model.msrs[MSR_CR0_FIXED1]
    msrs[MSR_CR4_FIXED1] = model.msrs[MSR_CR4_FIXED1]
    emulates_umip = model.allows(MSR_PROC2, ProcBased2.DESCRIPTOR_TABLE_EXITING)
    if "EMULATED_UMIP_IN_CR4" in known and emulates_umip:
        msrs[MSR_CR4_FIXED1] |= CR4_UMIP
    msrs[MSR_VMCS_ENUM] = _vmcs_enum(setup)
    msrs[MSR_EPT_VPID] = _ept_vpid(setup)
    vmfunc = setup.ept and model.allows(MSR_PROC2, ProcBased2.ENABLE_VM_FUNCTIONS)
    msrs[MSR_VMFUNC] = int(VmFunction.EPTP_SWITCHING) if vmfunc else 0
    return msrs


def _must_be_1(true: int) -> int:
    """Controls of the default1 class that even the MSR with TRUE forces: most of them."""
    default1 = next(bits for msr, bits in NON_TRUE.values() if msr == true)
    free = {
        MSR_TRUE_PROC: ProcBased.CR3_LOAD_EXITING | ProcBased.CR3_STORE_EXITING,
        MSR_TRUE_EXIT: Exit.SAVE_DEBUG_CONTROLS,
        MSR_TRUE_ENTRY: Entry.LOAD_DEBUG_CONTROLS,
        MSR_TRUE_PIN: 0,
    }
    return default1 & ~int(free[true])


def _controls(setup: Setup, caps: Capabilities) -> dict[int, int]:
    """Controls that may be 1, by the MSR without TRUE."""
    model, known = setup.model, setup.release.names("vmx_controls")
    hardware = {msr: model.msrs.get(msr, 0) >> 32 for msr in WITH_HARDWARE}
    may = {
        msr: hardware[msr] & int(controls) | WITHOUT_HARDWARE[msr]
        for msr, controls in WITH_HARDWARE.items()
    }
    for row in OFFERED:
        if row.name in known:
            may[row.msr] |= int(row.control) & (-1 if row.emulated else hardware[row.msr])
    if setup.apicv:
        may[MSR_PIN] |= PinBased.PROCESS_POSTED_INTERRUPTS
    if setup.ept:
        may[MSR_PROC2] |= ProcBased2.ENABLE_EPT
    if setup.ept_accessed_dirty:
        may[MSR_PROC2] |= ProcBased2.ENABLE_PML
    if setup.vpid:
        may[MSR_PROC2] |= ProcBased2.ENABLE_VPID
    if setup.unrestricted_guest:
        may[MSR_PROC2] |= ProcBased2.UNRESTRICTED_GUEST
    if setup.flexpriority:
        may[MSR_PROC2] |= ProcBased2.VIRTUALIZE_APIC_ACCESSES
    may[MSR_PROC2] |= hardware[MSR_PROC2] & ProcBased2.ENABLE_VM_FUNCTIONS
    if not setup.ept:
        may[MSR_PROC2] &= ~int(ProcBased2.MODE_BASED_EXECUTE_CONTROL)
    if not has(caps, "SGX"):
        may[MSR_PROC2] &= ~int(ProcBased2.ENABLE_ENCLS_EXITING)
    if not (has(caps, "SHSTK") or has(caps, "IBT")):
        may[MSR_ENTRY] &= ~int(Entry.LOAD_CET_STATE)
        may[MSR_EXIT] &= ~int(Exit.LOAD_CET_STATE)
    return may


def _vmcs_enum(setup: Setup) -> int:
    """The highest index of a field of vmcs12, times 2 (nested_vmx_calc_vmcs_enum_msr)."""
    known = setup.release.names("vmx_controls")
    scaling = setup.model.allows(MSR_PROC2, ProcBased2.USE_TSC_SCALING)
    if "COMPUTED_VMCS_ENUM" not in known or ("FIELDS_BY_HARDWARE" in known and not scaling):
        return VMCS_ENUM_CONSTANT
    return VMCS_ENUM_TSC_MULTIPLIER


def _ept_vpid(setup: Setup) -> int:
    known = setup.release.names("vmx_controls")
    value = 0
    if setup.ept:
        wanted = EPT_FROM_HARDWARE
        if "EPT_PAGE_WALK_5" in known:
            wanted |= EPT_CAP["WALK_LENGTH_5"]
        if "EPT_ADVANCED_EXIT_INFORMATION" in known:
            wanted |= EPT_CAP["ADVANCED_EXIT_INFO"]
        value = setup.ept_cap & wanted | EPT_EMULATED
        if setup.ept_accessed_dirty:
            value |= EPT_CAP["ACCESSED_DIRTY"]
    return value | VPID_EMULATED if setup.vpid else value


def feature_msrs(setup: Setup, caps: Capabilities) -> dict[int, int]:
    """KVM_GET_MSR_FEATURE_INDEX_LIST with the value of each, in KVM's order."""
    listed = setup.release.names("feature_msrs")
    msrs: dict[int, int] = {}
    if setup.intel and setup.nested:
        vmx = nested_vmx_msrs(setup, caps)
        order = range(FIRST, LAST + 1) if "VMX_IN_ASCENDING_ORDER" in listed else OLD_ORDER
        msrs |= {index: vmx[index] for index in order}
    if not setup.intel:
        serializes = setup.model.lfence_serializes
        msrs[MSR_AMD64_DE_CFG] = DE_CFG_LFENCE_SERIALIZES if serializes else 0
    msrs[MSR_IA32_UCODE_REV] = setup.model.msrs.get(MSR_IA32_UCODE_REV, 0)
    msrs[MSR_IA32_ARCH_CAPABILITIES] = arch_capabilities(setup)
    if ("IA32_PERF_CAPABILITIES" if setup.intel else "AMD_PERF_CAPABILITIES") in listed:
        msrs[MSR_IA32_PERF_CAPABILITIES] = perf_capabilities(setup)
    if "MSR_PLATFORM_INFO" in listed:
        msrs[MSR_PLATFORM_INFO] = PLATFORM_INFO_CPUID_FAULT
    return msrs


def arch_capabilities(setup: Setup) -> int:
    """IA32_ARCH_CAPABILITIES as KVM gives it: kvm_get_arch_capabilities."""
    model, release = setup.model, setup.release
    added = release.names("arch_capabilities")
    data = model.msrs.get(MSR_IA32_ARCH_CAPABILITIES, 0)
    data &= release.number("arch_capabilities_mask")
    if "PSCHANGE_MC_NO" in added:
        data |= ARCH_CAP_PSCHANGE_MC_NO
    if "SKIP_VMENTRY_L1DFLUSH" in added and model.l1d_flush:
        data |= 1 << SKIP_L1DFLUSH
    for row in FREE_OF:
        if row.name in added and row.name != "TAA_NO" and row.bug not in model.bugs:
            data |= 1 << row.bit
    if "TAA_NO" not in added:
        return data
    if not model.has("RTM"):
        data &= ~ARCH_CAP_TAA_NO
        if "TSX_CTRL_HIDDEN_WITHOUT_RTM" in added:
            data &= ~ARCH_CAP_TSX_CTRL
    elif "TAA" not in model.bugs:
        data |= ARCH_CAP_TAA_NO
    elif "TSX_CTRL_HIDDEN" in added and data & ARCH_CAP_TSX_CTRL:
        data &= ~ARCH_CAP_MDS_NO
    if "TSX_CTRL_HIDDEN" in added:
        data &= ~ARCH_CAP_TSX_CTRL
    return data


def perf_capabilities(setup: Setup) -> int:
    """IA32_PERF_CAPABILITIES: full-width writes, and what the release passes on of the rest."""
    if not setup.intel or not setup.pmu:
        return 0
    passed = setup.release.number("perf_capabilities_mask")
    return PERF_CAP_FW_WRITES | setup.model.msrs.get(MSR_IA32_PERF_CAPABILITIES, 0) & passed
