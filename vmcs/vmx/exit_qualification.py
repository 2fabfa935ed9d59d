"""The exit-qualification field, for each exit reason that gives it a format."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vmcs.schema import BitField, CodeTable, Layout, bit, bits, code, gap, unused
from vmcs.vmx.exit_reasons import ExitReason

SECTION: Final = "Basic VM-Exit Information"
ENTRY_SECTION: Final = "VM-Entry Failures During or After Loading Guest State"
SMM_SECTION: Final = "Recording VM-Exit Information"
IMMEDIATE: Final = "arch/x86/kvm/vmx/vmx.c: handle_rdmsr_imm, 7.3"

REGISTERS: Final[Mapping[int, str]] = MappingProxyType(
    dict(enumerate(("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI")))
    | {number: f"R{number}" for number in range(8, 16)}
)

ASYNCHRONOUS: Final = bit("ASYNCHRONOUS", 16, "Asynchronous to instruction execution")
NMI_UNBLOCKING: Final = bit("NMI_UNBLOCKING", 12, "NMI unblocking due to IRET")


def _table(name: str, *rows: BitField, sdm: str = SECTION) -> Layout:
    return Layout(f"Exit qualification: {name}", 64, *rows, sdm=sdm)


DEBUG_EXCEPTION: Final = _table(
    "debug exceptions",
    bits("B3_B0", 0, 3, "Breakpoint conditions met"),
    gap(4, 10),
    bit("BLD", 11, "Bus lock asserted while OS bus-lock detection was enabled and CPL > 0"),
    gap(12),
    bit("BD", 13, "Debug-register access detected"),
    bit("BS", 14, "Execution of a single instruction, or a taken branch"),
    gap(15),
    bit("RTM", 16, "Inside an RTM region with advanced debugging"),
    gap(17, 63),
)

LINEAR_ADDRESS: Final = _table(
    "page-fault exceptions and INVLPG", bits("LINEAR_ADDRESS", 0, 63, "Linear address")
)

SIPI: Final = _table("start-up IPIs", bits("VECTOR", 0, 7, "SIPI vector"), gap(8, 63))

TASK_SWITCH: Final = _table(
    "task switches",
    bits("TSS_SELECTOR", 0, 15, "Selector of the TSS to which the guest attempted to switch"),
    gap(16, 29),
    bits(
        "SOURCE",
        30,
        31,
        "Source of task-switch initiation",
        {
            0: "CALL instruction",
            1: "IRET instruction",
            2: "JMP instruction",
            3: "Task gate in IDT",
        },
    ),
    gap(32, 63),
)

DISPLACEMENT: Final = _table(
    "instructions with a memory operand",
    bits("DISPLACEMENT", 0, 63, "Displacement of the memory operand, RIP added if RIP-relative"),
)

CR_ACCESS: Final = _table(
    "control-register accesses",
    bits("REGISTER", 0, 3, "Number of control register (0 for CLTS and LMSW)"),
    bits(
        "ACCESS_TYPE",
        4,
        5,
        "Access type",
        {
            0: "MOV to CR",
            1: "MOV from CR",
            2: "CLTS",
            3: "LMSW",
        },
    ),
    bit("LMSW_MEMORY", 6, "LMSW operand type is memory"),
    gap(7),
    bits("GENERAL_REGISTER", 8, 11, "General-purpose register, for MOV CR", REGISTERS),
    gap(12, 15),
    bits("LMSW_SOURCE", 16, 31, "LMSW source data"),
    gap(32, 63),
)

MOV_DR: Final = _table(
    "MOV DR",
    bits("REGISTER", 0, 2, "Number of debug register"),
    gap(3),
    bits("DIRECTION", 4, 4, "Direction of access", {0: "MOV to DR", 1: "MOV from DR"}),
    gap(5, 7),
    bits("GENERAL_REGISTER", 8, 11, "General-purpose register", REGISTERS),
    gap(12, 63),
)

_IO_ROWS = (
    bits("SIZE", 0, 2, "Size of access", {0: "1-byte", 1: "2-byte", 3: "4-byte"}),
    bits("DIRECTION", 3, 3, "Direction of the attempted access", {0: "OUT", 1: "IN"}),
    bit("STRING", 4, "String instruction"),
    bit("REP", 5, "REP prefixed"),
    bits("OPERAND", 6, 6, "Operand encoding", {0: "DX", 1: "immediate"}),
    gap(7, 15),
    bits("PORT", 16, 31, "Port number"),
    gap(32, 63),
)

IO_INSTRUCTION: Final = _table("I/O instructions", *_IO_ROWS)

IO_SMI: Final = _table("SMIs right after an I/O instruction", *_IO_ROWS, sdm=SMM_SECTION)

MWAIT: Final = _table(
    "MWAIT", bit("ARMED", 0, "Address-range monitoring hardware is armed"), gap(1, 63)
)

WBINVD: Final = _table(
    "WBINVD and WBNOINVD",
    bits("INSTRUCTION", 0, 0, "Which instruction", {0: "WBINVD", 1: "WBNOINVD"}),
    gap(1, 63),
)

WRMSR: Final = _table(
    "WRMSR and WRMSRNS",
    bits("INSTRUCTION", 0, 0, "Which instruction", {0: "WRMSR", 1: "WRMSRNS"}),
    gap(1, 63),
)

MSR_LIST: Final = _table(
    "RDMSRLIST and WRMSRLIST",
    bits("MSR", 0, 31, "Index of the MSR whose access caused the VM exit"),
    gap(32, 63),
)

MSR_IMMEDIATE: Final = Layout(
    "Exit qualification: RDMSR and WRMSRNS with immediate operand",
    64,
    bits("MSR", 0, 31, "Index of the MSR"),
    gap(32, 63),
    seen=IMMEDIATE,
)

APIC_ACCESS: Final = _table(
    "linear and guest-physical APIC accesses",
    bits("OFFSET", 0, 11, "Offset of access within the APIC page, for a linear access"),
    bits(
        "ACCESS_TYPE",
        12,
        15,
        "Access type",
        {
            0: "linear access for a data read during instruction execution",
            1: "linear access for a data write during instruction execution",
            2: "linear access for an instruction fetch",
            3: "linear access during event delivery",
            4: "linear access asynchronous to instruction execution",
            10: "guest-physical access during event delivery",
            11: "guest-physical access asynchronous to instruction execution",
            15: "guest-physical access for an instruction fetch or during instruction execution",
        },
    ),
    ASYNCHRONOUS,
    gap(17, 63),
)

VIRTUALIZED_EOI: Final = _table(
    "EOI virtualization",
    bits("VECTOR", 0, 7, "Vector of the virtual interrupt dismissed"),
    gap(8, 63),
)

APIC_WRITE: Final = _table(
    "APIC-write emulation",
    bits("OFFSET", 0, 11, "Page offset of the write access"),
    gap(12, 63),
)

EPT_VIOLATION: Final = _table(
    "EPT violations",
    bit("DATA_READ", 0, "The access was a data read"),
    bit("DATA_WRITE", 1, "The access was a data write"),
    bit("INSTRUCTION_FETCH", 2, "The access was an instruction fetch"),
    bit("READABLE", 3, "The guest-physical address was readable"),
    bit("WRITABLE", 4, "The guest-physical address was writable"),
    bit("EXECUTABLE", 5, "The guest-physical address was executable (supervisor-mode if MBEC)"),
    bit("USER_EXECUTABLE", 6, "The guest-physical address was executable for user mode (MBEC)"),
    bit("LINEAR_ADDRESS_VALID", 7, "The guest-linear address field is valid"),
    bit("TRANSLATED", 8, "The access was to the translation of a linear address"),
    bit("USER_MODE", 9, "The linear address was a user-mode one"),
    bit("PAGING_WRITABLE", 10, "Paging translated the linear address to a read/write page"),
    bit("PAGING_EXECUTE_DISABLE", 11, "Paging translated it to an execute-disable page"),
    NMI_UNBLOCKING,
    bit("SHADOW_STACK", 13, "The access was a shadow-stack access"),
    bit("SUPERVISOR_SHADOW_STACK", 14, "Bit 60 of the EPT entry that maps the page"),
    bit("GUEST_PAGING_VERIFICATION", 15, "Caused by guest-paging verification"),
    ASYNCHRONOUS,
    gap(17, 63),
)

PAGE_MODIFICATION_LOG_FULL: Final = _table(
    "page-modification log full", gap(0, 11), NMI_UNBLOCKING, gap(13, 15), ASYNCHRONOUS, gap(17, 63)
)

SPP_RELATED_EVENT: Final = _table(
    "SPP-related events",
    gap(0, 10),
    bits("EVENT", 11, 11, "Event type", {0: "SPP misconfiguration", 1: "SPP miss"}),
    NMI_UNBLOCKING,
    gap(13, 15),
    ASYNCHRONOUS,
    gap(17, 63),
)

ENQCMD: Final = _table(
    "ENQCMD PASID translation failures",
    bits("PASID", 0, 19, "IA32_PASID bits 19:0"),
    gap(20, 63),
)

ENQCMDS: Final = _table(
    "ENQCMDS PASID translation failures",
    bits("SOURCE", 0, 31, "Low 32 bits of the source operand"),
    gap(32, 63),
)

INSTRUCTION_TIMEOUT: Final = _table(
    "instruction timeouts",
    bit("CONTEXT_INVALID", 0, "The context of the virtual machine is invalid"),
    gap(1, 11),
    NMI_UNBLOCKING,
    gap(13, 63),
)


class InvalidGuestState(CodeTable, sdm=ENTRY_SECTION):
    """The exit qualification of a VM entry that failed due to invalid guest state."""

    OTHER = code(0, "Any other check on guest state")
    UNUSED_1 = unused(1)
    PDPTE = code(2, "Loading the PDPTEs")
    NMI_BLOCKED_BY_STI = code(3, "Injecting an NMI into a guest that blocks events by STI")
    VMCS_LINK_POINTER = code(4, "The VMCS link pointer")


INVALID_GUEST_STATE: Final = _table(
    "VM-entry failures due to invalid guest state",
    bits(
        "CAUSE",
        0,
        63,
        "Cause",
        {row.number: row.name for row in InvalidGuestState.table if not row.reserved},
    ),
    sdm=ENTRY_SECTION,
)

MSR_LOADING: Final = _table(
    "VM-entry failures due to MSR loading",
    bits("ENTRY", 0, 63, "Number of the MSR-load entry that failed, the first being 1"),
    sdm=ENTRY_SECTION,
)

QUALIFICATIONS: Final[Mapping[ExitReason, Layout]] = MappingProxyType(
    {
        ExitReason.SIPI: SIPI,
        ExitReason.IO_SMI: IO_SMI,
        ExitReason.TASK_SWITCH: TASK_SWITCH,
        ExitReason.INVLPG: LINEAR_ADDRESS,
        ExitReason.VMCLEAR: DISPLACEMENT,
        ExitReason.VMPTRLD: DISPLACEMENT,
        ExitReason.VMPTRST: DISPLACEMENT,
        ExitReason.VMREAD: DISPLACEMENT,
        ExitReason.VMWRITE: DISPLACEMENT,
        ExitReason.VMXON: DISPLACEMENT,
        ExitReason.CR_ACCESS: CR_ACCESS,
        ExitReason.MOV_DR: MOV_DR,
        ExitReason.IO_INSTRUCTION: IO_INSTRUCTION,
        ExitReason.WRMSR: WRMSR,
        ExitReason.INVALID_GUEST_STATE: INVALID_GUEST_STATE,
        ExitReason.MSR_LOADING: MSR_LOADING,
        ExitReason.MWAIT: MWAIT,
        ExitReason.APIC_ACCESS: APIC_ACCESS,
        ExitReason.VIRTUALIZED_EOI: VIRTUALIZED_EOI,
        ExitReason.GDTR_OR_IDTR_ACCESS: DISPLACEMENT,
        ExitReason.LDTR_OR_TR_ACCESS: DISPLACEMENT,
        ExitReason.EPT_VIOLATION: EPT_VIOLATION,
        ExitReason.INVEPT: DISPLACEMENT,
        ExitReason.INVVPID: DISPLACEMENT,
        ExitReason.WBINVD: WBINVD,
        ExitReason.APIC_WRITE: APIC_WRITE,
        ExitReason.INVPCID: DISPLACEMENT,
        ExitReason.PAGE_MODIFICATION_LOG_FULL: PAGE_MODIFICATION_LOG_FULL,
        ExitReason.XSAVES: DISPLACEMENT,
        ExitReason.XRSTORS: DISPLACEMENT,
        ExitReason.SPP_RELATED_EVENT: SPP_RELATED_EVENT,
        ExitReason.ENQCMD_PASID_FAILURE: ENQCMD,
        ExitReason.ENQCMDS_PASID_FAILURE: ENQCMDS,
        ExitReason.INSTRUCTION_TIMEOUT: INSTRUCTION_TIMEOUT,
        ExitReason.RDMSRLIST: MSR_LIST,
        ExitReason.WRMSRLIST: MSR_LIST,
        ExitReason.RDMSR_IMMEDIATE: MSR_IMMEDIATE,
        ExitReason.WRMSRNS_IMMEDIATE: MSR_IMMEDIATE,
    }
)

EXCEPTION_QUALIFICATIONS: Final[Mapping[int, Layout]] = MappingProxyType(
    {1: DEBUG_EXCEPTION, 14: LINEAR_ADDRESS}
)


def qualification(reason: int, vector: int | None = None) -> Layout | None:
    """Format of the exit qualification for a basic exit reason; None where it has none.

    For an exception, `vector` says which: debug exceptions and page faults have a format.
    """
    if reason == ExitReason.EXCEPTION_OR_NMI:
        return None if vector is None else EXCEPTION_QUALIFICATIONS.get(vector)
    return QUALIFICATIONS.get(ExitReason(reason)) if ExitReason.name_of(reason) else None
