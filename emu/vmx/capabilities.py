"""What VMX can do here: its capability MSRs. SDM Vol. 3, VMX Capability Reporting Facility."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from vmcs.schema import ControlWord
from vmcs.vmx.capability_msrs import BASIC, BY_NAME, EPT_VPID_CAP, MISC, VMCS_ENUM, with_default1
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2, VmFunction
from vmcs.vmx.fields import FIELDS

REVISION: Final = 0x4E53_544C
REGION_SIZE: Final = 4096
WRITE_BACK: Final = 6
TIMER_RATE: Final = 0

# what CR0 and CR4 must have in VMX operation: PE, NE and PG; VMXE
CR0_FIXED0: Final = 0x8000_0021
CR0_FIXED1: Final = 0xFFFF_FFFF
CR4_FIXED0: Final = 0x2000

PIN: Final = PinBased.defined_mask()
PROC: Final = ProcBased.defined_mask() & ~ProcBased.ACTIVATE_TERTIARY_CONTROLS
EXIT: Final = (
    Exit.SAVE_DEBUG_CONTROLS
    | Exit.HOST_ADDRESS_SPACE_SIZE
    | Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT
    | Exit.SAVE_IA32_PAT
    | Exit.LOAD_IA32_PAT
    | Exit.SAVE_IA32_EFER
    | Exit.LOAD_IA32_EFER
    | Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE
)
ENTRY: Final = (
    Entry.LOAD_DEBUG_CONTROLS
    | Entry.IA32E_MODE_GUEST
    | Entry.ENTRY_TO_SMM
    | Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT
    | Entry.LOAD_IA32_PAT
    | Entry.LOAD_IA32_EFER
)
PROC2: Final = (
    ProcBased2.VIRTUALIZE_APIC_ACCESSES
    | ProcBased2.ENABLE_EPT
    | ProcBased2.DESCRIPTOR_TABLE_EXITING
    | ProcBased2.ENABLE_RDTSCP
    | ProcBased2.VIRTUALIZE_X2APIC_MODE
    | ProcBased2.ENABLE_VPID
    | ProcBased2.WBINVD_EXITING
    | ProcBased2.UNRESTRICTED_GUEST
    | ProcBased2.APIC_REGISTER_VIRTUALIZATION
    | ProcBased2.VIRTUAL_INTERRUPT_DELIVERY
    | ProcBased2.PAUSE_LOOP_EXITING
    | ProcBased2.RDRAND_EXITING
    | ProcBased2.ENABLE_INVPCID
    | ProcBased2.ENABLE_VM_FUNCTIONS
    | ProcBased2.VMCS_SHADOWING
    | ProcBased2.RDSEED_EXITING
    | ProcBased2.ENABLE_PML
    | ProcBased2.EPT_VIOLATION_VE
    | ProcBased2.ENABLE_XSAVES_XRSTORS
    | ProcBased2.MODE_BASED_EXECUTE_CONTROL
    | ProcBased2.USE_TSC_SCALING
)
NEEDED: Final = {
    ProcBased2.ENABLE_RDTSCP: "RDTSCP",
    ProcBased2.ENABLE_INVPCID: "INVPCID",
    ProcBased2.RDRAND_EXITING: "RDRAND",
    ProcBased2.RDSEED_EXITING: "RDSEED",
    ProcBased2.ENABLE_XSAVES_XRSTORS: "XSAVES",
    ProcBased2.VIRTUALIZE_X2APIC_MODE: "X2APIC",
}
"""Controls that a feature of CPUID brings."""

EPT_VPID: Final = EPT_VPID_CAP.word(
    EXECUTE_ONLY=1, WALK_LENGTH_4=1, MEMORY_TYPE_UC=1, MEMORY_TYPE_WB=1, PAGE_2M=1, PAGE_1G=1,
    INVEPT=1, ACCESSED_DIRTY=1, INVEPT_SINGLE_CONTEXT=1, INVEPT_ALL_CONTEXT=1, INVVPID=1,
    INVVPID_INDIVIDUAL_ADDRESS=1, INVVPID_SINGLE_CONTEXT=1, INVVPID_ALL_CONTEXT=1,
    INVVPID_RETAINING_GLOBALS=1,
)  # fmt: skip


def bounds(controls: ControlWord, may_be_1: int) -> int:
    """Value of the MSR that bounds a word of controls: what is reserved in default1 must be 1."""
    forced = sum(row.mask for row in controls.table if row.default1 and row.reserved)
    return (may_be_1 | forced) << 32 | forced


def capability_msrs(features: Collection[str], cr4: int) -> dict[int, int]:
    """The MSRs by index, for a processor with `features` of CPUID and bits `cr4` of CR4."""
    proc2 = PROC2 & ~sum(bit for bit, name in NEEDED.items() if name not in features)
    supported: dict[ControlWord, int] = {
        PinBased: PIN, ProcBased: PROC, ProcBased2: proc2, Exit: EXIT, Entry: ENTRY,
        VmFunction: VmFunction.EPTP_SWITCHING,
    }  # fmt: skip
    ept = EPT_VPID if "PDPE1GB" in features else EPT_VPID & ~EPT_VPID_CAP.word(PAGE_1G=1)
    if "LA57" in features:
        ept |= EPT_VPID_CAP.word(WALK_LENGTH_5=1)
    highest = max(field.index for field in FIELDS if field.exists_with(supported))
    values = {
        "IA32_VMX_BASIC": BASIC.word(
            REVISION_ID=REVISION, REGION_SIZE=REGION_SIZE, MEMORY_TYPE=WRITE_BACK,
            INS_OUTS_INFO=1, TRUE_CTLS=1, DUAL_MONITOR=0,
        ),
        "IA32_VMX_MISC": MISC.word(
            TIMER_RATE=TIMER_RATE, STORE_LMA=1, ACTIVITY_HLT=1, ACTIVITY_SHUTDOWN=1,
            ACTIVITY_WAIT_FOR_SIPI=1, CR3_TARGETS=4, VMWRITE_ANY=1, ZERO_LENGTH_INJECTION=1,
        ),
        "IA32_VMX_CR0_FIXED0": CR0_FIXED0,
        "IA32_VMX_CR0_FIXED1": CR0_FIXED1,
        "IA32_VMX_CR4_FIXED0": CR4_FIXED0,
        "IA32_VMX_CR4_FIXED1": cr4,
        "IA32_VMX_VMCS_ENUM": VMCS_ENUM.word(HIGHEST_INDEX=highest),
        "IA32_VMX_PROCBASED_CTLS2": bounds(ProcBased2, proc2),
        "IA32_VMX_EPT_VPID_CAP": ept,
        "IA32_VMX_VMFUNC": int(VmFunction.EPTP_SWITCHING),
    }  # fmt: skip
    true = {"PINBASED": PinBased, "PROCBASED": ProcBased, "EXIT": Exit, "ENTRY": Entry}
    for name, word in true.items():
        value = bounds(word, supported[word])
        values[f"IA32_VMX_TRUE_{name}_CTLS"] = value
        values[f"IA32_VMX_{name}_CTLS"] = with_default1(value, word)
    return {BY_NAME[name].number: value for name, value in values.items()}
