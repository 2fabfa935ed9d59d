"""VMX controls, a bit a row: pin-based, processor-based, VM-exit, VM-entry and VM-function.

Each word of controls is an `IntFlag` whose members are the rows, reserved bits included, so
`ProcBased.USE_MSR_BITMAPS` is a mask, `ProcBased.table` the table and `ProcBased.names_of(value)`
the names of the bits set in a value. Reserved bits marked `default1` read as 1 in the capability
MSRs of the first processors and must be 1 for software that does not know them.
"""

from typing import Final

from vmcs.schema import BitTable, ControlWord, flag, reserved

ENCLV = "arch/x86/include/asm/vmxfeatures.h: VMX_FEATURE_ENCLV_EXITING, 7.3"


class PinBased(BitTable, width=32, sdm="Pin-Based VM-Execution Controls", macros="PIN_BASED_"):
    """Pin-based VM-execution controls: the handling of asynchronous events."""

    EXTERNAL_INTERRUPT_EXITING = flag(0, "External-interrupt exiting", "EXT_INTR_MASK")
    RESERVED_1_2 = reserved(1, 2, default1=True)
    NMI_EXITING = flag(3, "NMI exiting")
    RESERVED_4 = reserved(4, default1=True)
    VIRTUAL_NMIS = flag(5, "Virtual NMIs")
    ACTIVATE_VMX_PREEMPTION_TIMER = flag(6, "Activate VMX-preemption timer", "VMX_PREEMPTION_TIMER")
    PROCESS_POSTED_INTERRUPTS = flag(7, "Process posted interrupts", "POSTED_INTR")
    RESERVED_8_31 = reserved(8, 31)


class ProcBased(
    BitTable, width=32, sdm="Processor-Based VM-Execution Controls", macros="CPU_BASED_"
):
    """Primary processor-based VM-execution controls: the handling of synchronous events."""

    RESERVED_0 = reserved(0)
    RESERVED_1 = reserved(1, default1=True)
    INTERRUPT_WINDOW_EXITING = flag(2, "Interrupt-window exiting", "INTR_WINDOW_EXITING")
    USE_TSC_OFFSETTING = flag(3, "Use TSC offsetting")
    RESERVED_4_6 = reserved(4, 6, default1=True)
    HLT_EXITING = flag(7, "HLT exiting")
    RESERVED_8 = reserved(8, default1=True)
    INVLPG_EXITING = flag(9, "INVLPG exiting")
    MWAIT_EXITING = flag(10, "MWAIT exiting")
    RDPMC_EXITING = flag(11, "RDPMC exiting")
    RDTSC_EXITING = flag(12, "RDTSC exiting")
    RESERVED_13_14 = reserved(13, 14, default1=True)
    CR3_LOAD_EXITING = flag(15, "CR3-load exiting", default1=True)
    CR3_STORE_EXITING = flag(16, "CR3-store exiting", default1=True)
    ACTIVATE_TERTIARY_CONTROLS = flag(17, "Activate tertiary controls")
    RESERVED_18 = reserved(18)
    CR8_LOAD_EXITING = flag(19, "CR8-load exiting")
    CR8_STORE_EXITING = flag(20, "CR8-store exiting")
    USE_TPR_SHADOW = flag(21, "Use TPR shadow", "TPR_SHADOW")
    NMI_WINDOW_EXITING = flag(22, "NMI-window exiting")
    MOV_DR_EXITING = flag(23, "MOV-DR exiting")
    UNCONDITIONAL_IO_EXITING = flag(24, "Unconditional I/O exiting", "UNCOND_IO_EXITING")
    USE_IO_BITMAPS = flag(25, "Use I/O bitmaps")
    RESERVED_26 = reserved(26, default1=True)
    MONITOR_TRAP_FLAG = flag(27, "Monitor trap flag")
    USE_MSR_BITMAPS = flag(28, "Use MSR bitmaps")
    MONITOR_EXITING = flag(29, "MONITOR exiting")
    PAUSE_EXITING = flag(30, "PAUSE exiting")
    ACTIVATE_SECONDARY_CONTROLS = flag(31, "Activate secondary controls")


class ProcBased2(
    BitTable, width=32, sdm="Processor-Based VM-Execution Controls", macros="SECONDARY_EXEC_"
):
    """Secondary processor-based VM-execution controls."""

    VIRTUALIZE_APIC_ACCESSES = flag(0, "Virtualize APIC accesses")
    ENABLE_EPT = flag(1, "Enable EPT")
    DESCRIPTOR_TABLE_EXITING = flag(2, "Descriptor-table exiting", "DESC")
    ENABLE_RDTSCP = flag(3, "Enable RDTSCP")
    VIRTUALIZE_X2APIC_MODE = flag(4, "Virtualize x2APIC mode")
    ENABLE_VPID = flag(5, "Enable VPID")
    WBINVD_EXITING = flag(6, "WBINVD exiting")
    UNRESTRICTED_GUEST = flag(7, "Unrestricted guest")
    APIC_REGISTER_VIRTUALIZATION = flag(8, "APIC-register virtualization", "APIC_REGISTER_VIRT")
    VIRTUAL_INTERRUPT_DELIVERY = flag(9, "Virtual-interrupt delivery", "VIRTUAL_INTR_DELIVERY")
    PAUSE_LOOP_EXITING = flag(10, "PAUSE-loop exiting")
    RDRAND_EXITING = flag(11, "RDRAND exiting")
    ENABLE_INVPCID = flag(12, "Enable INVPCID")
    ENABLE_VM_FUNCTIONS = flag(13, "Enable VM functions", "ENABLE_VMFUNC")
    VMCS_SHADOWING = flag(14, "VMCS shadowing", "SHADOW_VMCS")
    ENABLE_ENCLS_EXITING = flag(15, "Enable ENCLS exiting", "ENCLS_EXITING")
    RDSEED_EXITING = flag(16, "RDSEED exiting")
    ENABLE_PML = flag(17, "Enable PML")
    EPT_VIOLATION_VE = flag(18, "EPT-violation #VE")
    CONCEAL_VMX_FROM_PT = flag(19, "Conceal VMX from PT", "PT_CONCEAL_VMX")
    ENABLE_XSAVES_XRSTORS = flag(20, "Enable XSAVES/XRSTORS", "ENABLE_XSAVES")
    PASID_TRANSLATION = flag(21, "PASID translation")
    MODE_BASED_EXECUTE_CONTROL = flag(
        22, "Mode-based execute control for EPT", "MODE_BASED_EPT_EXEC"
    )
    SUB_PAGE_WRITE_PERMISSIONS = flag(23, "Sub-page write permissions for EPT")
    PT_USES_GUEST_PHYSICAL_ADDRESSES = flag(
        24, "Intel PT uses guest physical addresses", "PT_USE_GPA"
    )
    USE_TSC_SCALING = flag(25, "Use TSC scaling", "TSC_SCALING")
    ENABLE_USER_WAIT_AND_PAUSE = flag(26, "Enable user wait and pause", "ENABLE_USR_WAIT_PAUSE")
    ENABLE_PCONFIG = flag(27, "Enable PCONFIG")
    ENABLE_ENCLV_EXITING = flag(28, "Enable ENCLV exiting", seen=ENCLV)
    RESERVED_29 = reserved(29)
    VMM_BUS_LOCK_DETECTION = flag(30, "VMM bus-lock detection", "BUS_LOCK_DETECTION")
    INSTRUCTION_TIMEOUT = flag(31, "Instruction timeout", "NOTIFY_VM_EXITING")


class ProcBased3(
    BitTable, width=64, sdm="Processor-Based VM-Execution Controls", macros="TERTIARY_EXEC_"
):
    """Tertiary processor-based VM-execution controls."""

    LOADIWKEY_EXITING = flag(0, "LOADIWKEY exiting")
    ENABLE_HLAT = flag(1, "Enable HLAT")
    EPT_PAGING_WRITE_CONTROL = flag(2, "EPT paging-write control")
    GUEST_PAGING_VERIFICATION = flag(3, "Guest-paging verification")
    IPI_VIRTUALIZATION = flag(4, "IPI virtualization", "IPI_VIRT")
    SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH = flag(5, "SEAM guest-physical address width")
    ENABLE_MSR_LIST_INSTRUCTIONS = flag(6, "Enable MSR-list instructions")
    VIRTUALIZE_IA32_SPEC_CTRL = flag(7, "Virtualize IA32_SPEC_CTRL")
    APIC_TIMER_VIRTUALIZATION = flag(8, "APIC-timer virtualization")
    ENABLE_PBNDKB = flag(9, "Enable PBNDKB")
    RESERVED_10_11 = reserved(10, 11)
    PEBS_USES_GUEST_PHYSICAL_ADDRESSES = flag(12, "PEBS uses guest physical addresses")
    RESERVED_13_63 = reserved(13, 63)


class Exit(BitTable, width=32, sdm="VM-Exit Controls", macros="VM_EXIT_"):
    """Primary VM-exit controls: the basic operation of VM exits."""

    RESERVED_0_1 = reserved(0, 1, default1=True)
    SAVE_DEBUG_CONTROLS = flag(2, "Save debug controls", default1=True)
    RESERVED_3_8 = reserved(3, 8, default1=True)
    HOST_ADDRESS_SPACE_SIZE = flag(9, "Host address-space size", "HOST_ADDR_SPACE_SIZE")
    RESERVED_10_11 = reserved(10, 11, default1=True)
    LOAD_IA32_PERF_GLOBAL_CTRL = flag(12, "Load IA32_PERF_GLOBAL_CTRL")
    RESERVED_13_14 = reserved(13, 14, default1=True)
    ACKNOWLEDGE_INTERRUPT_ON_EXIT = flag(15, "Acknowledge interrupt on exit", "ACK_INTR_ON_EXIT")
    RESERVED_16_17 = reserved(16, 17, default1=True)
    SAVE_IA32_PAT = flag(18, "Save IA32_PAT")
    LOAD_IA32_PAT = flag(19, "Load IA32_PAT")
    SAVE_IA32_EFER = flag(20, "Save IA32_EFER")
    LOAD_IA32_EFER = flag(21, "Load IA32_EFER")
    SAVE_VMX_PREEMPTION_TIMER_VALUE = flag(
        22, "Save VMX-preemption timer value", "SAVE_VMX_PREEMPTION_TIMER"
    )
    CLEAR_IA32_BNDCFGS = flag(23, "Clear IA32_BNDCFGS", "CLEAR_BNDCFGS")
    CONCEAL_VMX_FROM_PT = flag(24, "Conceal VMX from PT", "PT_CONCEAL_PIP")
    CLEAR_IA32_RTIT_CTL = flag(25, "Clear IA32_RTIT_CTL")
    CLEAR_IA32_LBR_CTL = flag(26, "Clear IA32_LBR_CTL")
    CLEAR_UINV = flag(27, "Clear UINV")
    LOAD_CET_STATE = flag(28, "Load CET state")
    LOAD_PKRS = flag(29, "Load PKRS")
    SAVE_IA32_PERF_GLOBAL_CTL = flag(30, "Save IA32_PERF_GLOBAL_CTL", "SAVE_IA32_PERF_GLOBAL_CTRL")
    ACTIVATE_SECONDARY_CONTROLS = flag(31, "Activate secondary controls")


class Exit2(BitTable, width=64, sdm="VM-Exit Controls", macros="SECONDARY_VM_EXIT_"):
    """Secondary VM-exit controls."""

    SAVE_FRED = flag(0, "Save FRED")
    LOAD_FRED = flag(1, "Load FRED")
    LOAD_IA32_SPEC_CTRL = flag(2, "Load IA32_SPEC_CTRL")
    PREMATURELY_BUSY_SHADOW_STACK = flag(3, "Prematurely busy shadow stack")
    RESERVED_4_63 = reserved(4, 63)


class Entry(BitTable, width=32, sdm="VM-Entry Controls", macros="VM_ENTRY_"):
    """VM-entry controls: the basic operation of VM entries."""

    RESERVED_0_1 = reserved(0, 1, default1=True)
    LOAD_DEBUG_CONTROLS = flag(2, "Load debug controls", default1=True)
    RESERVED_3_8 = reserved(3, 8, default1=True)
    IA32E_MODE_GUEST = flag(9, "IA-32e mode guest", "IA32E_MODE")
    ENTRY_TO_SMM = flag(10, "Entry to SMM", "SMM")
    DEACTIVATE_DUAL_MONITOR_TREATMENT = flag(
        11, "Deactivate dual-monitor treatment", "DEACT_DUAL_MONITOR"
    )
    RESERVED_12 = reserved(12, default1=True)
    LOAD_IA32_PERF_GLOBAL_CTRL = flag(13, "Load IA32_PERF_GLOBAL_CTRL")
    LOAD_IA32_PAT = flag(14, "Load IA32_PAT")
    LOAD_IA32_EFER = flag(15, "Load IA32_EFER")
    LOAD_IA32_BNDCFGS = flag(16, "Load IA32_BNDCFGS", "LOAD_BNDCFGS")
    CONCEAL_VMX_FROM_PT = flag(17, "Conceal VMX from PT", "PT_CONCEAL_PIP")
    LOAD_IA32_RTIT_CTL = flag(18, "Load IA32_RTIT_CTL")
    LOAD_UINV = flag(19, "Load UINV")
    LOAD_CET_STATE = flag(20, "Load CET state")
    LOAD_GUEST_IA32_LBR_CTL = flag(21, "Load guest IA32_LBR_CTL")
    LOAD_PKRS = flag(22, "Load PKRS")
    LOAD_FRED = flag(23, "Load FRED")
    LOAD_IA32_SPEC_CTRL = flag(24, "Load IA32_SPEC_CTRL")
    ALLOW_SEAM_GUEST_TELEMETRY = flag(25, "Allow SEAM-guest telemetry")
    RESERVED_26_31 = reserved(26, 31)


class VmFunction(BitTable, width=64, sdm="VM-Function Controls", macros="VMX_VMFUNC_"):
    """VM-function controls: the VM functions that VMFUNC may invoke."""

    EPTP_SWITCHING = flag(0, "EPTP switching")
    RESERVED_1_63 = reserved(1, 63)


CONTROL_WORDS: Final[tuple[ControlWord, ...]] = (
    PinBased,
    ProcBased,
    ProcBased2,
    ProcBased3,
    Exit,
    Exit2,
    Entry,
    VmFunction,
)
