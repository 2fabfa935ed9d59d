"""Basic exit reasons, and the exit-reason field that carries them."""

from typing import Final

from vmcs.schema import CodeTable, Layout, bit, bits, code, gap, unused

IMMEDIATE: Final = "arch/x86/include/uapi/asm/vmx.h: EXIT_REASON_MSR_READ_IMM, 7.3"


class ExitReason(CodeTable, sdm="VMX Basic Exit Reasons", macros="EXIT_REASON_"):
    """Bits 15:0 of the exit-reason field."""

    EXCEPTION_OR_NMI = code(0, "Exception or non-maskable interrupt (NMI)", "EXCEPTION_NMI")
    EXTERNAL_INTERRUPT = code(1, "External interrupt")
    TRIPLE_FAULT = code(2, "Triple fault")
    INIT_SIGNAL = code(3, "INIT signal")
    SIPI = code(4, "Start-up IPI (SIPI)", "SIPI_SIGNAL")
    IO_SMI = code(5, "I/O system-management interrupt (SMI)")
    OTHER_SMI = code(6, "Other SMI")
    INTERRUPT_WINDOW = code(7, "Interrupt window")
    NMI_WINDOW = code(8, "NMI window")
    TASK_SWITCH = code(9, "Task switch")
    CPUID = code(10, "CPUID")
    GETSEC = code(11, "GETSEC")
    HLT = code(12, "HLT")
    INVD = code(13, "INVD")
    INVLPG = code(14, "INVLPG")
    RDPMC = code(15, "RDPMC")
    RDTSC = code(16, "RDTSC")
    RSM = code(17, "RSM")
    VMCALL = code(18, "VMCALL")
    VMCLEAR = code(19, "VMCLEAR")
    VMLAUNCH = code(20, "VMLAUNCH")
    VMPTRLD = code(21, "VMPTRLD")
    VMPTRST = code(22, "VMPTRST")
    VMREAD = code(23, "VMREAD")
    VMRESUME = code(24, "VMRESUME")
    VMWRITE = code(25, "VMWRITE")
    VMXOFF = code(26, "VMXOFF", "VMOFF")
    VMXON = code(27, "VMXON", "VMON")
    CR_ACCESS = code(28, "Control-register accesses")
    MOV_DR = code(29, "MOV DR", "DR_ACCESS")
    IO_INSTRUCTION = code(30, "I/O instruction")
    RDMSR = code(31, "RDMSR", "MSR_READ")
    WRMSR = code(32, "WRMSR or WRMSRNS", "MSR_WRITE")
    INVALID_GUEST_STATE = code(33, "VM-entry failure due to invalid guest state", "INVALID_STATE")
    MSR_LOADING = code(34, "VM-entry failure due to MSR loading", "MSR_LOAD_FAIL")
    UNUSED_35 = unused(35)
    MWAIT = code(36, "MWAIT", "MWAIT_INSTRUCTION")
    MONITOR_TRAP_FLAG = code(37, "Monitor trap flag")
    UNUSED_38 = unused(38)
    MONITOR = code(39, "MONITOR", "MONITOR_INSTRUCTION")
    PAUSE = code(40, "PAUSE", "PAUSE_INSTRUCTION")
    MACHINE_CHECK = code(41, "VM-entry failure due to machine-check event", "MCE_DURING_VMENTRY")
    UNUSED_42 = unused(42)
    TPR_BELOW_THRESHOLD = code(43, "TPR below threshold")
    APIC_ACCESS = code(44, "APIC access")
    VIRTUALIZED_EOI = code(45, "Virtualized EOI", "EOI_INDUCED")
    GDTR_OR_IDTR_ACCESS = code(46, "Access to GDTR or IDTR", "GDTR_IDTR")
    LDTR_OR_TR_ACCESS = code(47, "Access to LDTR or TR", "LDTR_TR")
    EPT_VIOLATION = code(48, "EPT violation")
    EPT_MISCONFIGURATION = code(49, "EPT misconfiguration", "EPT_MISCONFIG")
    INVEPT = code(50, "INVEPT")
    RDTSCP = code(51, "RDTSCP")
    VMX_PREEMPTION_TIMER = code(52, "VMX-preemption timer expired", "PREEMPTION_TIMER")
    INVVPID = code(53, "INVVPID")
    WBINVD = code(54, "WBINVD or WBNOINVD")
    XSETBV = code(55, "XSETBV")
    APIC_WRITE = code(56, "APIC write")
    RDRAND = code(57, "RDRAND")
    INVPCID = code(58, "INVPCID")
    VMFUNC = code(59, "VMFUNC")
    ENCLS = code(60, "ENCLS")
    RDSEED = code(61, "RDSEED")
    PAGE_MODIFICATION_LOG_FULL = code(62, "Page-modification log full", "PML_FULL")
    XSAVES = code(63, "XSAVES")
    XRSTORS = code(64, "XRSTORS")
    PCONFIG = code(65, "PCONFIG")
    SPP_RELATED_EVENT = code(66, "SPP-related event")
    UMWAIT = code(67, "UMWAIT")
    TPAUSE = code(68, "TPAUSE")
    LOADIWKEY = code(69, "LOADIWKEY")
    ENCLV = code(70, "ENCLV", sdm="VMX Basic Exit Reasons (editions to 081)")
    UNUSED_71 = unused(71)
    ENQCMD_PASID_FAILURE = code(72, "ENQCMD PASID translation failure")
    ENQCMDS_PASID_FAILURE = code(73, "ENQCMDS PASID translation failure")
    BUS_LOCK = code(74, "Bus lock")
    INSTRUCTION_TIMEOUT = code(75, "Instruction timeout", "NOTIFY")
    SEAMCALL = code(76, "SEAMCALL")
    TDCALL = code(77, "TDCALL")
    RDMSRLIST = code(78, "RDMSRLIST")
    WRMSRLIST = code(79, "WRMSRLIST")
    URDMSR = code(80, "URDMSR")
    UWRMSR = code(81, "UWRMSR")
    UNUSED_82 = unused(82)
    UNUSED_83 = unused(83)
    RDMSR_IMMEDIATE = code(84, "RDMSR with immediate operand", "MSR_READ_IMM", seen=IMMEDIATE)
    WRMSRNS_IMMEDIATE = code(85, "WRMSRNS with immediate operand", "MSR_WRITE_IMM", seen=IMMEDIATE)


EXIT_REASON: Final = Layout(
    "Exit reason",
    32,
    bits(
        "BASIC",
        0,
        15,
        "Basic exit reason",
        {row.number: row.name for row in ExitReason.table if not row.reserved},
    ),
    gap(16),
    gap(17, 24),
    bit("SHADOW_STACK_BUSY", 25, "The VM exit caused a shadow stack to become prematurely busy"),
    bit("BUS_LOCK", 26, "The VM exit occurred after assertion of a bus lock"),
    bit("ENCLAVE_MODE", 27, "The VM exit is incident to enclave mode"),
    bit("PENDING_MTF", 28, "Pending MTF VM exit"),
    bit("FROM_ROOT", 29, "VM exit from VMX root operation"),
    gap(30),
    bit("ENTRY_FAILURE", 31, "VM-entry failure"),
    sdm="Basic VM-Exit Information",
)

# Reasons that report a VM entry which failed while it loaded guest state.
# SDM: VM-Entry Failures During or After Loading Guest State.
ENTRY_FAILURES: Final = (
    ExitReason.INVALID_GUEST_STATE,
    ExitReason.MSR_LOADING,
    ExitReason.MACHINE_CHECK,
)


def basic(reason: int) -> int:
    """Bits 15:0 of the exit-reason field."""
    return reason & 0xFFFF


def is_entry_failure(reason: int) -> bool:
    """Whether bit 31 of the exit-reason field says that VM entry failed."""
    return bool(EXIT_REASON.get(reason, "ENTRY_FAILURE"))


def describe(reason: int) -> str:
    """The exit-reason field as one line, e.g. ``33 INVALID_GUEST_STATE, ENTRY_FAILURE``."""
    number = basic(reason)
    name = ExitReason.name_of(number) or "unknown"
    return ", ".join((f"{number} {name}", *EXIT_REASON.describe(reason & ~0xFFFF)[1:]))
