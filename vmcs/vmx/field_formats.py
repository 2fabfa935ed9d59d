"""Formats of VMCS fields: what the bits of a field's value mean, by field name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vmcs.byte_layout import FieldAt, byte_table, padding
from vmcs.schema import (
    BitTable,
    CodeTable,
    ControlWord,
    Layout,
    bit,
    bits,
    code,
    flag,
    gap,
    require,
    reserved,
    unused,
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
from vmcs.vmx.exit_reasons import EXIT_REASON
from vmcs.vmx.fields import BY_NAME
from vmcs.vmx.instruction_errors import InstructionError

REGISTERS_SECTION: Final = "Guest Register State"
NON_REGISTER_SECTION: Final = "Guest Non-Register State"
INJECTION_SECTION: Final = "VM-Entry Controls for Event Injection"
VECTORED_SECTION: Final = "Information for VM Exits Due to Vectored Events"
DELIVERY_SECTION: Final = "Information for VM Exits That Occur During Event Delivery"


class EventType(CodeTable, sdm=INJECTION_SECTION, macros="INTR_TYPE_"):
    """Bits 10:8 of the three event-identification fields."""

    EXTERNAL_INTERRUPT = code(0, "External interrupt", "EXT_INTR")
    RESERVED_1 = unused(1)
    NMI = code(2, "Non-maskable interrupt (NMI)", "NMI_INTR")
    HARDWARE_EXCEPTION = code(3, "Hardware exception", "HARD_EXCEPTION")
    SOFTWARE_INTERRUPT = code(4, "Software interrupt", "SOFT_INTR")
    PRIVILEGED_SOFTWARE_EXCEPTION = code(5, "Privileged software exception", "PRIV_SW_EXCEPTION")
    SOFTWARE_EXCEPTION = code(6, "Software exception", "SOFT_EXCEPTION")
    OTHER_EVENT = code(7, "Other event")


_TYPES = {row.number: row.name for row in EventType.table if not row.reserved}
_VECTOR = bits("VECTOR", 0, 7, "Vector of interrupt or exception")
_TYPE = bits("TYPE", 8, 10, "Event type", _TYPES)
_VALID = bit("VALID", 31, "Valid")

INJECTED_EVENT: Final = Layout(
    "Injected-event identification",
    32,
    _VECTOR,
    _TYPE,
    bit("DELIVER_ERROR_CODE", 11, "Deliver error code"),
    gap(12),
    bit("NESTED_EXCEPTION", 13, "Nested exception, where IA32_VMX_BASIC bit 58 is 1"),
    gap(14, 30),
    _VALID,
    sdm=INJECTION_SECTION,
)

EXITING_EVENT: Final = Layout(
    "Exiting-event identification",
    32,
    _VECTOR,
    _TYPE,
    bit("ERROR_CODE_VALID", 11, "Error code valid"),
    bit("NMI_UNBLOCKING", 12, "NMI unblocking due to IRET"),
    bit("NESTED_EXCEPTION", 13, "Nested exception, during FRED event delivery"),
    gap(14, 30),
    _VALID,
    sdm=VECTORED_SECTION,
)

ORIGINAL_EVENT: Final = Layout(
    "Original-event identification",
    32,
    _VECTOR,
    _TYPE,
    bit("ERROR_CODE_VALID", 11, "Error code valid"),
    gap(12),
    bit("NESTED_EXCEPTION", 13, "Exception nested on FRED event delivery"),
    gap(14, 30),
    _VALID,
    sdm=DELIVERY_SECTION,
)


class Interruptibility(BitTable, width=32, sdm=NON_REGISTER_SECTION, macros="GUEST_INTR_STATE_"):
    """The guest interruptibility-state field."""

    BLOCKING_BY_STI = flag(0, "Blocking by STI", "STI")
    BLOCKING_BY_MOV_SS = flag(1, "Blocking by MOV SS", "MOV_SS")
    BLOCKING_BY_SMI = flag(2, "Blocking by SMI", "SMI")
    BLOCKING_BY_NMI = flag(3, "Blocking by NMI", "NMI")
    ENCLAVE_INTERRUPTION = flag(4, "Enclave interruption", "ENCLAVE_INTR")
    RESERVED_5_31 = reserved(5, 31)


class ActivityState(CodeTable, sdm=NON_REGISTER_SECTION, macros="GUEST_ACTIVITY_"):
    """The guest activity-state field."""

    ACTIVE = code(0, "Active")
    HLT = code(1, "HLT")
    SHUTDOWN = code(2, "Shutdown")
    WAIT_FOR_SIPI = code(3, "Wait-for-SIPI", "WAIT_SIPI")


PENDING_DEBUG_EXCEPTIONS: Final = Layout(
    "Pending debug exceptions",
    64,
    bits("B3_B0", 0, 3, "Breakpoint conditions met"),
    gap(4, 10),
    bit("BLD", 11, "Bus lock asserted while OS bus-lock detection was enabled and CPL > 0"),
    bit("ENABLED_BREAKPOINT", 12, "At least one enabled data or I/O breakpoint was met"),
    gap(13),
    bit("BS", 14, "A debug exception would have been triggered by single-step execution mode"),
    gap(15),
    bit("RTM", 16, "Inside an RTM region with advanced debugging"),
    gap(17, 63),
    sdm=NON_REGISTER_SECTION,
)

ACCESS_RIGHTS: Final = Layout(
    "Access rights",
    32,
    bits("TYPE", 0, 3, "Segment type"),
    bits("S", 4, 4, "Descriptor type", {0: "system", 1: "code or data"}),
    bits("DPL", 5, 6, "Descriptor privilege level"),
    bit("P", 7, "Segment present"),
    gap(8, 11),
    bit("AVL", 12, "Available for use by system software"),
    bit("L", 13, "64-bit mode active (for CS only)"),
    bit("DB", 14, "Default operation size is 32 bits"),
    bit("G", 15, "Granularity"),
    bit("UNUSABLE", 16, "Segment unusable"),
    gap(17, 31),
    sdm=REGISTERS_SECTION,
)

GUEST_INTERRUPT_STATUS: Final = Layout(
    "Guest interrupt status",
    16,
    bits("RVI", 0, 7, "Requesting virtual interrupt"),
    bits("SVI", 8, 15, "Servicing virtual interrupt"),
    sdm=NON_REGISTER_SECTION,
)

EPTP: Final = Layout(
    "EPT pointer",
    64,
    bits("MEMORY_TYPE", 0, 2, "EPT paging-structure memory type", {0: "UC", 6: "WB"}),
    bits("WALK_LENGTH_MINUS_1", 3, 5, "1 less than the EPT page-walk length"),
    bit("ACCESSED_DIRTY", 6, "Accessed and dirty flags for EPT"),
    bit("SUPERVISOR_SHADOW_STACK", 7, "Access rights for supervisor shadow-stack pages"),
    gap(8, 11),
    bits("ADDRESS", 12, 51, "Bits 51:12 of the address of the EPT PML4 or PML5 table"),
    gap(52, 63),
    sdm="Extended-Page-Table Pointer (EPTP)",
)

HLATP: Final = Layout(
    "HLAT pointer",
    64,
    gap(0, 2),
    bit("PWT", 3, "Page-level write-through"),
    bit("PCD", 4, "Page-level cache disable"),
    gap(5, 11),
    bits("ADDRESS", 12, 51, "Bits 51:12 of the address of the first HLAT paging structure"),
    gap(52, 63),
    sdm="Fields Related to Hypervisor-Managed Linear-Address Translation",
)

TPR_THRESHOLD: Final = Layout(
    "TPR threshold",
    32,
    bits("THRESHOLD", 0, 3, "Threshold below which bits 7:4 of VTPR cannot fall"),
    gap(4, 31),
    sdm="Controls for APIC Virtualization",
)


class VmxAbort(CodeTable, sdm="VMX Aborts", macros="VMX_ABORT_"):
    """The VMX-abort indicator: bytes 7:4 of the VMCS region."""

    SAVING_GUEST_MSRS = code(1, "There was a failure in saving guest MSRs", "SAVE_GUEST_MSR_FAIL")
    HOST_PDPTES = code(2, "Host checking of the PDPTEs failed", "LOAD_HOST_PDPTE_FAIL")
    CURRENT_VMCS_CORRUPTED = code(3, "The current VMCS has been corrupted")
    LOADING_HOST_MSRS = code(4, "There was a failure on loading host MSRs", "LOAD_HOST_MSR_FAIL")
    MACHINE_CHECK = code(5, "There was a machine-check event during VM exit")
    HOST_NOT_64_BIT = code(6, "VM exit from IA-32e mode to a host that is not in 64-bit mode")


MSR_ENTRY_SIZE: Final = 16

MSR_ENTRY: Final = byte_table(
    "MSR entry",
    MSR_ENTRY_SIZE,
    FieldAt("index", 0, "u4", "MSR index"),
    padding("reserved", 4, "u4", 1),
    FieldAt("data", 8, "u8", "MSR data"),
    sdm="VM-Exit Controls for MSRs",
)

Format = Layout | ControlWord | type[CodeTable]

FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "GUEST_INTR_STATUS": GUEST_INTERRUPT_STATUS,
        "VM_FUNCTION_CONTROL": VmFunction,
        "EPT_POINTER": EPTP,
        "TERTIARY_VM_EXEC_CONTROL": ProcBased3,
        "HLAT_POINTER": HLATP,
        "SECONDARY_VM_EXIT_CONTROLS": Exit2,
        "PIN_BASED_VM_EXEC_CONTROL": PinBased,
        "CPU_BASED_VM_EXEC_CONTROL": ProcBased,
        "VM_EXIT_CONTROLS": Exit,
        "VM_ENTRY_CONTROLS": Entry,
        "VM_ENTRY_INTR_INFO_FIELD": INJECTED_EVENT,
        "TPR_THRESHOLD": TPR_THRESHOLD,
        "SECONDARY_VM_EXEC_CONTROL": ProcBased2,
        "VM_INSTRUCTION_ERROR": InstructionError,
        "VM_EXIT_REASON": EXIT_REASON,
        "VM_EXIT_INTR_INFO": EXITING_EVENT,
        "IDT_VECTORING_INFO_FIELD": ORIGINAL_EVENT,
        **{name: ACCESS_RIGHTS for name in BY_NAME if name.endswith("_AR_BYTES")},
        "GUEST_INTERRUPTIBILITY_INFO": Interruptibility,
        "GUEST_ACTIVITY_STATE": ActivityState,
        "GUEST_PENDING_DBG_EXCEPTIONS": PENDING_DEBUG_EXCEPTIONS,
    }
)


def describe_field(name: str, value: int) -> tuple[str, ...]:
    """What `value` says in the VMCS field called `name`, as text; empty where it has no format.

    Raises `KeyError` for an unknown field, `ValueError` for a value wider than the field.
    """
    field = BY_NAME[name]
    if value < 0 or value >> 8 * field.size:
        raise ValueError(f"{value:#x} does not fit the {8 * field.size} bits of {name}")
    shape = FORMATS.get(name)
    if shape is None:
        return ()
    if isinstance(shape, Layout):
        return shape.describe(value)
    if issubclass(shape, BitTable):
        return shape.names_of(value)
    return (shape.name_of(value) or f"unknown {value}",)


def _check() -> None:
    for name, shape in FORMATS.items():
        require(name in BY_NAME, f"FORMATS: {name} is no VMCS field")
        if isinstance(shape, Layout) or issubclass(shape, BitTable):
            require(shape.width == 8 * BY_NAME[name].size, f"FORMATS: {name} has another width")


_check()
