"""The VMX capability MSRs, 480H to 493H: what each bit tells, and how they bound the controls.

An MSR that bounds controls holds two halves. Bits 31:0 are the allowed 0-settings: where a bit is
1, the control must be 1. Bits 63:32 are the allowed 1-settings: where a bit is 0, the control must
be 0. The MSRs of the 64-bit controls hold allowed 1-settings only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from vmcs.schema import (
    Cited,
    ControlWord,
    Layout,
    bit,
    bits,
    check_ascending,
    check_cited,
    check_unique,
    gap,
)
from vmcs.vmx.controls import (
    Entry,
    Exit,
    Exit2,
    PinBased,
    ProcBased,
    ProcBased2,
    ProcBased3,
    VmFunction,
)

LOW_HALF: Final = 0xFFFF_FFFF

SEAMRET: Final = "arch/x86/include/asm/vmx.h: VMX_BASIC_NO_SEAMRET_INVD_VMCS, 7.3"

BASIC: Final = Layout(
    "IA32_VMX_BASIC",
    64,
    bits("REVISION_ID", 0, 30, "VMCS revision identifier"),
    gap(31),
    bits("REGION_SIZE", 32, 44, "Number of bytes for VMXON and VMCS regions"),
    gap(45, 47),
    bit("PHYSICAL_WIDTH_32", 48, "VMX structures are limited to 32-bit physical addresses"),
    bit("DUAL_MONITOR", 49, "Dual-monitor treatment of SMIs and SMM is supported"),
    bits("MEMORY_TYPE", 50, 53, "Memory type for VMX structures", {0: "UC", 6: "WB"}),
    bit("INS_OUTS_INFO", 54, "VM exits due to INS and OUTS report instruction information"),
    bit("TRUE_CTLS", 55, "Some default1 controls may be 0; the TRUE capability MSRs exist"),
    bit("ERROR_CODE_FREE", 56, "VM entry delivers any exception with or without an error code"),
    gap(57),
    bit("NESTED_EXCEPTION", 58, "VMX nested-exception support"),
    gap(59),
    bit("SEAMRET_KEEPS_VMCS", 60, "SEAMRET does not invalidate the current VMCS", seen=SEAMRET),
    gap(61, 63),
    sdm="Basic VMX Information",
)

MISC: Final = Layout(
    "IA32_VMX_MISC",
    64,
    bits("TIMER_RATE", 0, 4, "The VMX-preemption timer counts when this TSC bit changes"),
    bit("STORE_LMA", 5, "VM exits store IA32_EFER.LMA into IA-32e mode guest"),
    bit("ACTIVITY_HLT", 6, "Activity state 1 (HLT) is supported"),
    bit("ACTIVITY_SHUTDOWN", 7, "Activity state 2 (shutdown) is supported"),
    bit("ACTIVITY_WAIT_FOR_SIPI", 8, "Activity state 3 (wait-for-SIPI) is supported"),
    gap(9, 13),
    bit("INTEL_PT", 14, "Intel Processor Trace can be used in VMX operation"),
    bit("RDMSR_SMBASE", 15, "RDMSR in SMM can read IA32_SMBASE"),
    bits("CR3_TARGETS", 16, 24, "Number of CR3-target values"),
    bits("MSR_LIST_SIZE", 25, 27, "N, where 512 * (N + 1) is the recommended longest MSR list"),
    bit("VMXOFF_BLOCKS_SMI", 28, "Bit 2 of IA32_SMM_MONITOR_CTL can be 1"),
    bit("VMWRITE_ANY", 29, "VMWRITE can write VM-exit information fields"),
    bit("ZERO_LENGTH_INJECTION", 30, "Software events can be injected with length 0"),
    gap(31),
    bits("MSEG_REVISION_ID", 32, 63, "MSEG revision identifier"),
    sdm="Miscellaneous Data",
)

VMCS_ENUM: Final = Layout(
    "IA32_VMX_VMCS_ENUM",
    64,
    gap(0),
    bits("HIGHEST_INDEX", 1, 9, "Highest index value used for any VMCS encoding"),
    gap(10, 63),
    sdm="VMCS Enumeration",
)

EPT_VPID_CAP: Final = Layout(
    "IA32_VMX_EPT_VPID_CAP",
    64,
    bit("EXECUTE_ONLY", 0, "Execute-only translations by EPT"),
    gap(1, 5),
    bit("WALK_LENGTH_4", 6, "Page-walk length of 4"),
    bit("WALK_LENGTH_5", 7, "Page-walk length of 5"),
    bit("MEMORY_TYPE_UC", 8, "EPT paging structures may be uncacheable"),
    gap(9, 13),
    bit("MEMORY_TYPE_WB", 14, "EPT paging structures may be write-back"),
    gap(15),
    bit("PAGE_2M", 16, "EPT PDE can map a 2-MByte page"),
    bit("PAGE_1G", 17, "EPT PDPTE can map a 1-GByte page"),
    gap(18, 19),
    bit("INVEPT", 20, "INVEPT is supported"),
    bit("ACCESSED_DIRTY", 21, "Accessed and dirty flags for EPT"),
    bit("ADVANCED_EXIT_INFO", 22, "Advanced VM-exit information for EPT violations"),
    bit("SUPERVISOR_SHADOW_STACK", 23, "Supervisor shadow-stack control"),
    gap(24),
    bit("INVEPT_SINGLE_CONTEXT", 25, "Single-context INVEPT type"),
    bit("INVEPT_ALL_CONTEXT", 26, "All-context INVEPT type"),
    gap(27, 31),
    bit("INVVPID", 32, "INVVPID is supported"),
    gap(33, 39),
    bit("INVVPID_INDIVIDUAL_ADDRESS", 40, "Individual-address INVVPID type"),
    bit("INVVPID_SINGLE_CONTEXT", 41, "Single-context INVVPID type"),
    bit("INVVPID_ALL_CONTEXT", 42, "All-context INVVPID type"),
    bit("INVVPID_RETAINING_GLOBALS", 43, "Single-context-retaining-globals INVVPID type"),
    gap(44, 47),
    bits("HLAT_PREFIX_SIZE", 48, 53, "Maximum HLAT prefix size"),
    gap(54, 63),
    sdm="VPID and EPT Capabilities",
)


class Shape(IntEnum):
    """How a capability MSR tells what it tells."""

    BIT_FIELDS = 0
    ALLOWED_SETTINGS = 1
    ALLOWED_1_SETTINGS = 2
    FIXED_BITS = 3


@dataclass(frozen=True)
class CapabilityMsr(Cited):
    """One capability MSR: its format, or the word of controls that it bounds."""

    name: str
    number: int
    shape: Shape
    layout: Layout | None = None
    controls: ControlWord | None = None


def _fields(name: str, number: int, layout: Layout) -> CapabilityMsr:
    return CapabilityMsr(name, number, Shape.BIT_FIELDS, layout, sdm=layout.rows[0].sdm)


def _bounds(name: str, number: int, controls: ControlWord, sdm: str) -> CapabilityMsr:
    return CapabilityMsr(name, number, Shape.ALLOWED_SETTINGS, None, controls, sdm=sdm)


def _ones(name: str, number: int, controls: ControlWord, sdm: str) -> CapabilityMsr:
    return CapabilityMsr(name, number, Shape.ALLOWED_1_SETTINGS, None, controls, sdm=sdm)


def _fixed(name: str, number: int, sdm: str) -> CapabilityMsr:
    return CapabilityMsr(name, number, Shape.FIXED_BITS, sdm=sdm)


PIN = "Pin-Based VM-Execution Controls"
PROC = "Primary Processor-Based VM-Execution Controls"
PROC2 = "Secondary Processor-Based VM-Execution Controls"
PROC3 = "Tertiary Processor-Based VM-Execution Controls"
EXIT = "Primary VM-Exit Controls"
EXIT2 = "Secondary VM-Exit Controls"
ENTRY = "VM-Entry Controls"
CR0 = "VMX-Fixed Bits in CR0"
CR4 = "VMX-Fixed Bits in CR4"

CAPABILITY_MSRS: Final[tuple[CapabilityMsr, ...]] = (
    _fields("IA32_VMX_BASIC", 0x480, BASIC),
    _bounds("IA32_VMX_PINBASED_CTLS", 0x481, PinBased, PIN),
    _bounds("IA32_VMX_PROCBASED_CTLS", 0x482, ProcBased, PROC),
    _bounds("IA32_VMX_EXIT_CTLS", 0x483, Exit, EXIT),
    _bounds("IA32_VMX_ENTRY_CTLS", 0x484, Entry, ENTRY),
    _fields("IA32_VMX_MISC", 0x485, MISC),
    _fixed("IA32_VMX_CR0_FIXED0", 0x486, CR0),
    _fixed("IA32_VMX_CR0_FIXED1", 0x487, CR0),
    _fixed("IA32_VMX_CR4_FIXED0", 0x488, CR4),
    _fixed("IA32_VMX_CR4_FIXED1", 0x489, CR4),
    _fields("IA32_VMX_VMCS_ENUM", 0x48A, VMCS_ENUM),
    _bounds("IA32_VMX_PROCBASED_CTLS2", 0x48B, ProcBased2, PROC2),
    _fields("IA32_VMX_EPT_VPID_CAP", 0x48C, EPT_VPID_CAP),
    _bounds("IA32_VMX_TRUE_PINBASED_CTLS", 0x48D, PinBased, PIN),
    _bounds("IA32_VMX_TRUE_PROCBASED_CTLS", 0x48E, ProcBased, PROC),
    _bounds("IA32_VMX_TRUE_EXIT_CTLS", 0x48F, Exit, EXIT),
    _bounds("IA32_VMX_TRUE_ENTRY_CTLS", 0x490, Entry, ENTRY),
    _ones("IA32_VMX_VMFUNC", 0x491, VmFunction, "VM Functions"),
    _ones("IA32_VMX_PROCBASED_CTLS3", 0x492, ProcBased3, PROC3),
    _ones("IA32_VMX_EXIT_CTLS2", 0x493, Exit2, EXIT2),
)

check_cited(CAPABILITY_MSRS, "CAPABILITY_MSRS")
check_unique([msr.name for msr in CAPABILITY_MSRS], "CAPABILITY_MSRS")
check_ascending([msr.number for msr in CAPABILITY_MSRS], "CAPABILITY_MSRS")

BY_NAME: Final = {msr.name: msr for msr in CAPABILITY_MSRS}
BY_NUMBER: Final = {msr.number: msr for msr in CAPABILITY_MSRS}

# The MSR that bounds the same controls without the default1 class. SDM: Reserved Controls and
# Default Settings.
TRUE_MSR: Final[Mapping[int, int]] = MappingProxyType(
    {0x481: 0x48D, 0x482: 0x48E, 0x483: 0x48F, 0x484: 0x490}
)


def allowed0(msr: int) -> int:
    """Bits 31:0 of a control MSR's value: the controls that must be 1."""
    return msr & LOW_HALF


def allowed1(msr: int) -> int:
    """Bits 63:32 of a control MSR's value: the controls that may be 1."""
    return msr >> 32


def control_msr(must_be_1: int, may_be_1: int) -> int:
    """Value of a control MSR with the given allowed 0- and 1-settings."""
    return may_be_1 << 32 | must_be_1


def allows(msr: int, controls: int) -> bool:
    """Whether a control MSR's value allows `controls`: none missing, none too many."""
    return not allowed0(msr) & ~controls and not controls & ~allowed1(msr)


def with_default1(msr: int, controls: ControlWord) -> int:
    """Value of the MSR without TRUE for a TRUE MSR's value: the default1 class must be 1."""
    return msr | control_msr(controls.default1_mask(), controls.default1_mask())


def describe_msr(number: int, value: int) -> tuple[str, ...]:
    """What `value` says in capability MSR `number`, as text; raises `KeyError` for another MSR.

    A control MSR lists each control that may be 1, ``NAME=1`` where it must be.
    """
    msr = BY_NUMBER[number]
    if msr.layout is not None:
        return msr.layout.describe(value)
    if msr.controls is None:
        return (f"{value:#x}",)
    if msr.shape is Shape.ALLOWED_1_SETTINGS:
        return msr.controls.names_of(value)
    forced = allowed0(value)
    return tuple(
        f"{row.name}=1" if forced & row.mask else row.name
        for row in msr.controls.rows_of(allowed1(value))
    )
