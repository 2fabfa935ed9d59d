"""Every field of the VMCS, in the order of the manual's appendix on field encodings.

The constructor of a row states width and type, which must agree with bits 14:13 and 11:10 of its
encoding; encodings and names are unique and rise within each table. Names are the kernel's where
it has one, the manual's phrase in upper case elsewhere.
"""

from collections.abc import Callable
from typing import Final

from vmcs.schema import (
    BitTable,
    Field,
    FieldType,
    FieldWidth,
    check_ascending,
    check_cited,
    check_unique,
    flag,
    require,
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

ACCESS_HIGH: Final = 1
RESERVED_ENCODING_BITS: Final = 0xFFFF_9000

EARLIER: Final = "64-Bit Control Fields (editions to 081)"


class Transitions(BitTable, width=1, sdm="64-Bit Control Fields"):
    """What a field depends on that is no VMX control."""

    FRED = flag(0, "FRED transitions")


Constructor = Callable[..., Field]


def _fields(width: FieldWidth, kind: FieldType, section: str) -> Constructor:
    def field(name: str, encoding: int, phrase: str, *exists: BitTable, sdm: str = "") -> Field:
        return Field(name, encoding, width, kind, phrase, exists, sdm=sdm or section)

    return field


_W, _T = FieldWidth, FieldType
control16 = _fields(_W.BITS_16, _T.CONTROL, "16-Bit Control Fields")
guest16 = _fields(_W.BITS_16, _T.GUEST_STATE, "16-Bit Guest-State Fields")
host16 = _fields(_W.BITS_16, _T.HOST_STATE, "16-Bit Host-State Fields")
control64 = _fields(_W.BITS_64, _T.CONTROL, "64-Bit Control Fields")
info64 = _fields(_W.BITS_64, _T.READ_ONLY_DATA, "64-Bit Read-Only Data Fields")
guest64 = _fields(_W.BITS_64, _T.GUEST_STATE, "64-Bit Guest-State Fields")
host64 = _fields(_W.BITS_64, _T.HOST_STATE, "64-Bit Host-State Fields")
control32 = _fields(_W.BITS_32, _T.CONTROL, "32-Bit Control Fields")
info32 = _fields(_W.BITS_32, _T.READ_ONLY_DATA, "32-Bit Read-Only Data Fields")
guest32 = _fields(_W.BITS_32, _T.GUEST_STATE, "32-Bit Guest-State Fields")
host32 = _fields(_W.BITS_32, _T.HOST_STATE, "32-Bit Host-State Field")
control = _fields(_W.NATURAL, _T.CONTROL, "Natural-Width Control Fields")
info = _fields(_W.NATURAL, _T.READ_ONLY_DATA, "Natural-Width Read-Only Data Fields")
guest = _fields(_W.NATURAL, _T.GUEST_STATE, "Natural-Width Guest-State Fields")
host = _fields(_W.NATURAL, _T.HOST_STATE, "Natural-Width Host-State Fields")

MSR_BITMAPS = ProcBased.USE_MSR_BITMAPS
TPR_SHADOW = ProcBased.USE_TPR_SHADOW
POSTED = PinBased.PROCESS_POSTED_INTERRUPTS
TIMER = PinBased.ACTIVATE_VMX_PREEMPTION_TIMER
EPT = ProcBased2.ENABLE_EPT
VPID = ProcBased2.ENABLE_VPID
VID = ProcBased2.VIRTUAL_INTERRUPT_DELIVERY
PML = ProcBased2.ENABLE_PML
VE = ProcBased2.EPT_VIOLATION_VE
SHADOWING = ProcBased2.VMCS_SHADOWING
PLE = ProcBased2.PAUSE_LOOP_EXITING
SPP = ProcBased2.SUB_PAGE_WRITE_PERMISSIONS
PASID = ProcBased2.PASID_TRANSLATION
HLAT = ProcBased3.ENABLE_HLAT
IPI = ProcBased3.IPI_VIRTUALIZATION
SEAM = ProcBased3.SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH
MSR_LIST = ProcBased3.ENABLE_MSR_LIST_INSTRUCTIONS
SPEC_CTRL = ProcBased3.VIRTUALIZE_IA32_SPEC_CTRL
APIC_TIMER = ProcBased3.APIC_TIMER_VIRTUALIZATION
LOAD_FRED, SAVE_FRED, HOST_FRED = Entry.LOAD_FRED, Exit2.SAVE_FRED, Exit2.LOAD_FRED

# fmt: off
FIELDS: Final[tuple[Field, ...]] = (
    control16("VIRTUAL_PROCESSOR_ID", 0x0000, "Virtual-processor identifier (VPID)", VPID),
    control16("POSTED_INTR_NV", 0x0002, "Posted-interrupt notification vector", POSTED),
    control16("EPTP_INDEX", 0x0004, "EPTP index", VE),
    control16("HLAT_PREFIX_SIZE", 0x0006, "HLAT prefix size", HLAT),
    control16("LAST_PID_POINTER_INDEX", 0x0008, "Last PID-pointer index", IPI),
    control16("VIRTUAL_TIMER_VECTOR", 0x000A, "Virtual timer vector", APIC_TIMER),

    guest16("GUEST_ES_SELECTOR", 0x0800, "Guest ES selector"),
    guest16("GUEST_CS_SELECTOR", 0x0802, "Guest CS selector"),
    guest16("GUEST_SS_SELECTOR", 0x0804, "Guest SS selector"),
    guest16("GUEST_DS_SELECTOR", 0x0806, "Guest DS selector"),
    guest16("GUEST_FS_SELECTOR", 0x0808, "Guest FS selector"),
    guest16("GUEST_GS_SELECTOR", 0x080A, "Guest GS selector"),
    guest16("GUEST_LDTR_SELECTOR", 0x080C, "Guest LDTR selector"),
    guest16("GUEST_TR_SELECTOR", 0x080E, "Guest TR selector"),
    guest16("GUEST_INTR_STATUS", 0x0810, "Guest interrupt status", VID),
    guest16("GUEST_PML_INDEX", 0x0812, "PML index", PML),
    guest16("GUEST_UINV", 0x0814, "Guest UINV", Exit.CLEAR_UINV, Entry.LOAD_UINV),

    host16("HOST_ES_SELECTOR", 0x0C00, "Host ES selector"),
    host16("HOST_CS_SELECTOR", 0x0C02, "Host CS selector"),
    host16("HOST_SS_SELECTOR", 0x0C04, "Host SS selector"),
    host16("HOST_DS_SELECTOR", 0x0C06, "Host DS selector"),
    host16("HOST_FS_SELECTOR", 0x0C08, "Host FS selector"),
    host16("HOST_GS_SELECTOR", 0x0C0A, "Host GS selector"),
    host16("HOST_TR_SELECTOR", 0x0C0C, "Host TR selector"),

    control64("IO_BITMAP_A", 0x2000, "Address of I/O bitmap A"),
    control64("IO_BITMAP_B", 0x2002, "Address of I/O bitmap B"),
    control64("MSR_BITMAP", 0x2004, "Address of MSR bitmaps", MSR_BITMAPS),
    control64("VM_EXIT_MSR_STORE_ADDR", 0x2006, "VM-exit MSR-store address"),
    control64("VM_EXIT_MSR_LOAD_ADDR", 0x2008, "VM-exit MSR-load address"),
    control64("VM_ENTRY_MSR_LOAD_ADDR", 0x200A, "VM-entry MSR-load address"),
    control64("EXECUTIVE_VMCS_POINTER", 0x200C, "Executive-VMCS pointer"),
    control64("PML_ADDRESS", 0x200E, "PML address", PML),
    control64("TSC_OFFSET", 0x2010, "TSC offset"),
    control64("VIRTUAL_APIC_PAGE_ADDR", 0x2012, "Virtual-APIC address", TPR_SHADOW),
    control64(
        "APIC_ACCESS_ADDR", 0x2014, "APIC-access address", ProcBased2.VIRTUALIZE_APIC_ACCESSES
    ),
    control64("POSTED_INTR_DESC_ADDR", 0x2016, "Posted-interrupt descriptor address", POSTED),
    control64(
        "VM_FUNCTION_CONTROL", 0x2018, "VM-function controls", ProcBased2.ENABLE_VM_FUNCTIONS
    ),
    control64("EPT_POINTER", 0x201A, "EPT pointer (EPTP)", EPT),
    control64("EOI_EXIT_BITMAP0", 0x201C, "EOI-exit bitmap 0 (EOI_EXIT0)", VID),
    control64("EOI_EXIT_BITMAP1", 0x201E, "EOI-exit bitmap 1 (EOI_EXIT1)", VID),
    control64("EOI_EXIT_BITMAP2", 0x2020, "EOI-exit bitmap 2 (EOI_EXIT2)", VID),
    control64("EOI_EXIT_BITMAP3", 0x2022, "EOI-exit bitmap 3 (EOI_EXIT3)", VID),
    control64("EPTP_LIST_ADDRESS", 0x2024, "EPTP-list address", VmFunction.EPTP_SWITCHING),
    control64("VMREAD_BITMAP", 0x2026, "VMREAD-bitmap address", SHADOWING),
    control64("VMWRITE_BITMAP", 0x2028, "VMWRITE-bitmap address", SHADOWING),
    control64("VE_INFORMATION_ADDRESS", 0x202A, "Virtualization-exception information address", VE),
    control64("XSS_EXIT_BITMAP", 0x202C, "XSS-exiting bitmap", ProcBased2.ENABLE_XSAVES_XRSTORS),
    control64(
        "ENCLS_EXITING_BITMAP", 0x202E, "ENCLS-exiting bitmap", ProcBased2.ENABLE_ENCLS_EXITING
    ),
    control64("SUB_PAGE_PERMISSION_TABLE", 0x2030, "Sub-page-permission-table pointer", SPP),
    control64("TSC_MULTIPLIER", 0x2032, "TSC multiplier", ProcBased2.USE_TSC_SCALING),
    control64(
        "TERTIARY_VM_EXEC_CONTROL", 0x2034, "Tertiary processor-based VM-execution controls",
        ProcBased.ACTIVATE_TERTIARY_CONTROLS,
    ),
    control64(
        "ENCLV_EXITING_BITMAP", 0x2036, "ENCLV-exiting bitmap", ProcBased2.ENABLE_ENCLV_EXITING,
        sdm=EARLIER,
    ),
    control64("LOW_PASID_DIRECTORY", 0x2038, "Low PASID directory address", PASID),
    control64("HIGH_PASID_DIRECTORY", 0x203A, "High PASID directory address", PASID),
    control64("SHARED_EPT_POINTER", 0x203C, "SEAM shared EPT pointer", SEAM),
    control64(
        "PCONFIG_EXITING_BITMAP", 0x203E, "PCONFIG-exiting bitmap", ProcBased2.ENABLE_PCONFIG
    ),
    control64(
        "HLAT_POINTER", 0x2040, "Hypervisor-managed linear-address translation pointer", HLAT
    ),
    control64("PID_POINTER_TABLE", 0x2042, "PID-pointer table address", IPI),
    control64(
        "SECONDARY_VM_EXIT_CONTROLS", 0x2044, "Secondary VM-exit controls",
        Exit.ACTIVATE_SECONDARY_CONTROLS,
    ),
    control64("IA32_SPEC_CTRL_MASK", 0x204A, "IA32_SPEC_CTRL mask", SPEC_CTRL),
    control64("IA32_SPEC_CTRL_SHADOW", 0x204C, "IA32_SPEC_CTRL shadow", SPEC_CTRL),
    control64("GUEST_DEADLINE_SHADOW", 0x204E, "Guest deadline shadow", APIC_TIMER),
    control64("INJECTED_EVENT_DATA", 0x2052, "Injected-event data", Transitions.FRED),

    info64("GUEST_PHYSICAL_ADDRESS", 0x2400, "Guest-physical address", EPT),
    info64("MSR_DATA", 0x2402, "MSR data", MSR_LIST),
    info64("ORIGINAL_EVENT_DATA", 0x2404, "Original-event data", Transitions.FRED),

    guest64("VMCS_LINK_POINTER", 0x2800, "VMCS link pointer"),
    guest64("GUEST_IA32_DEBUGCTL", 0x2802, "Guest IA32_DEBUGCTL"),
    guest64(
        "GUEST_IA32_PAT", 0x2804, "Guest IA32_PAT", Entry.LOAD_IA32_PAT, Exit.SAVE_IA32_PAT
    ),
    guest64(
        "GUEST_IA32_EFER", 0x2806, "Guest IA32_EFER", Entry.LOAD_IA32_EFER, Exit.SAVE_IA32_EFER
    ),
    guest64(
        "GUEST_IA32_PERF_GLOBAL_CTRL", 0x2808, "Guest IA32_PERF_GLOBAL_CTRL",
        Entry.LOAD_IA32_PERF_GLOBAL_CTRL,
    ),
    guest64("GUEST_PDPTR0", 0x280A, "Guest PDPTE0", EPT),
    guest64("GUEST_PDPTR1", 0x280C, "Guest PDPTE1", EPT),
    guest64("GUEST_PDPTR2", 0x280E, "Guest PDPTE2", EPT),
    guest64("GUEST_PDPTR3", 0x2810, "Guest PDPTE3", EPT),
    guest64(
        "GUEST_BNDCFGS", 0x2812, "Guest IA32_BNDCFGS",
        Entry.LOAD_IA32_BNDCFGS, Exit.CLEAR_IA32_BNDCFGS,
    ),
    guest64(
        "GUEST_IA32_RTIT_CTL", 0x2814, "Guest IA32_RTIT_CTL",
        Entry.LOAD_IA32_RTIT_CTL, Exit.CLEAR_IA32_RTIT_CTL,
    ),
    guest64(
        "GUEST_IA32_LBR_CTL", 0x2816, "Guest IA32_LBR_CTL",
        Entry.LOAD_GUEST_IA32_LBR_CTL, Exit.CLEAR_IA32_LBR_CTL,
    ),
    guest64("GUEST_IA32_PKRS", 0x2818, "Guest IA32_PKRS", Entry.LOAD_PKRS),
    guest64("GUEST_IA32_FRED_CONFIG", 0x281A, "Guest IA32_FRED_CONFIG", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_RSP1", 0x281C, "Guest IA32_FRED_RSP1", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_RSP2", 0x281E, "Guest IA32_FRED_RSP2", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_RSP3", 0x2820, "Guest IA32_FRED_RSP3", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_STKLVLS", 0x2822, "Guest IA32_FRED_STKLVLS", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_SSP1", 0x2824, "Guest IA32_FRED_SSP1", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_SSP2", 0x2826, "Guest IA32_FRED_SSP2", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_FRED_SSP3", 0x2828, "Guest IA32_FRED_SSP3", LOAD_FRED, SAVE_FRED),
    guest64("GUEST_IA32_SPEC_CTRL", 0x282E, "Guest IA32_SPEC_CTRL", Entry.LOAD_IA32_SPEC_CTRL),
    guest64("GUEST_DEADLINE", 0x2830, "Guest deadline", APIC_TIMER),

    host64("HOST_IA32_PAT", 0x2C00, "Host IA32_PAT", Exit.LOAD_IA32_PAT),
    host64("HOST_IA32_EFER", 0x2C02, "Host IA32_EFER", Exit.LOAD_IA32_EFER),
    host64(
        "HOST_IA32_PERF_GLOBAL_CTRL", 0x2C04, "Host IA32_PERF_GLOBAL_CTRL",
        Exit.LOAD_IA32_PERF_GLOBAL_CTRL,
    ),
    host64("HOST_IA32_PKRS", 0x2C06, "Host IA32_PKRS", Exit.LOAD_PKRS),
    host64("HOST_IA32_FRED_CONFIG", 0x2C08, "Host IA32_FRED_CONFIG", HOST_FRED),
    host64("HOST_IA32_FRED_RSP1", 0x2C0A, "Host IA32_FRED_RSP1", HOST_FRED),
    host64("HOST_IA32_FRED_RSP2", 0x2C0C, "Host IA32_FRED_RSP2", HOST_FRED),
    host64("HOST_IA32_FRED_RSP3", 0x2C0E, "Host IA32_FRED_RSP3", HOST_FRED),
    host64("HOST_IA32_FRED_STKLVLS", 0x2C10, "Host IA32_FRED_STKLVLS", HOST_FRED),
    host64("HOST_IA32_FRED_SSP1", 0x2C12, "Host IA32_FRED_SSP1", HOST_FRED),
    host64("HOST_IA32_FRED_SSP2", 0x2C14, "Host IA32_FRED_SSP2", HOST_FRED),
    host64("HOST_IA32_FRED_SSP3", 0x2C16, "Host IA32_FRED_SSP3", HOST_FRED),
    host64("HOST_IA32_SPEC_CTRL", 0x2C1A, "Host IA32_SPEC_CTRL", Exit2.LOAD_IA32_SPEC_CTRL),

    control32("PIN_BASED_VM_EXEC_CONTROL", 0x4000, "Pin-based VM-execution controls"),
    control32("CPU_BASED_VM_EXEC_CONTROL", 0x4002, "Primary processor-based VM-execution controls"),
    control32("EXCEPTION_BITMAP", 0x4004, "Exception bitmap"),
    control32("PAGE_FAULT_ERROR_CODE_MASK", 0x4006, "Page-fault error-code mask"),
    control32("PAGE_FAULT_ERROR_CODE_MATCH", 0x4008, "Page-fault error-code match"),
    control32("CR3_TARGET_COUNT", 0x400A, "CR3-target count"),
    control32("VM_EXIT_CONTROLS", 0x400C, "Primary VM-exit controls"),
    control32("VM_EXIT_MSR_STORE_COUNT", 0x400E, "VM-exit MSR-store count"),
    control32("VM_EXIT_MSR_LOAD_COUNT", 0x4010, "VM-exit MSR-load count"),
    control32("VM_ENTRY_CONTROLS", 0x4012, "VM-entry controls"),
    control32("VM_ENTRY_MSR_LOAD_COUNT", 0x4014, "VM-entry MSR-load count"),
    control32("VM_ENTRY_INTR_INFO_FIELD", 0x4016, "Injected-event identification"),
    control32("VM_ENTRY_EXCEPTION_ERROR_CODE", 0x4018, "Injected-event error code"),
    control32("VM_ENTRY_INSTRUCTION_LEN", 0x401A, "VM-entry instruction length"),
    control32("TPR_THRESHOLD", 0x401C, "TPR threshold", TPR_SHADOW),
    control32(
        "SECONDARY_VM_EXEC_CONTROL", 0x401E, "Secondary processor-based VM-execution controls",
        ProcBased.ACTIVATE_SECONDARY_CONTROLS,
    ),
    control32("PLE_GAP", 0x4020, "PLE_Gap", PLE),
    control32("PLE_WINDOW", 0x4022, "PLE_Window", PLE),
    control32(
        "NOTIFY_WINDOW", 0x4024, "Instruction-timeout control", ProcBased2.INSTRUCTION_TIMEOUT
    ),
    control32("SEAM_GUEST_KEYID", 0x4026, "SEAM-guest KeyID", SEAM),

    info32("VM_INSTRUCTION_ERROR", 0x4400, "VM-instruction error"),
    info32("VM_EXIT_REASON", 0x4402, "Exit reason"),
    info32("VM_EXIT_INTR_INFO", 0x4404, "Exiting-event identification"),
    info32("VM_EXIT_INTR_ERROR_CODE", 0x4406, "Exiting-event error code"),
    info32("IDT_VECTORING_INFO_FIELD", 0x4408, "Original-event identification"),
    info32("IDT_VECTORING_ERROR_CODE", 0x440A, "Original-event error code"),
    info32("VM_EXIT_INSTRUCTION_LEN", 0x440C, "VM-exit instruction length"),
    info32("VMX_INSTRUCTION_INFO", 0x440E, "VM-exit instruction information"),

    guest32("GUEST_ES_LIMIT", 0x4800, "Guest ES limit"),
    guest32("GUEST_CS_LIMIT", 0x4802, "Guest CS limit"),
    guest32("GUEST_SS_LIMIT", 0x4804, "Guest SS limit"),
    guest32("GUEST_DS_LIMIT", 0x4806, "Guest DS limit"),
    guest32("GUEST_FS_LIMIT", 0x4808, "Guest FS limit"),
    guest32("GUEST_GS_LIMIT", 0x480A, "Guest GS limit"),
    guest32("GUEST_LDTR_LIMIT", 0x480C, "Guest LDTR limit"),
    guest32("GUEST_TR_LIMIT", 0x480E, "Guest TR limit"),
    guest32("GUEST_GDTR_LIMIT", 0x4810, "Guest GDTR limit"),
    guest32("GUEST_IDTR_LIMIT", 0x4812, "Guest IDTR limit"),
    guest32("GUEST_ES_AR_BYTES", 0x4814, "Guest ES access rights"),
    guest32("GUEST_CS_AR_BYTES", 0x4816, "Guest CS access rights"),
    guest32("GUEST_SS_AR_BYTES", 0x4818, "Guest SS access rights"),
    guest32("GUEST_DS_AR_BYTES", 0x481A, "Guest DS access rights"),
    guest32("GUEST_FS_AR_BYTES", 0x481C, "Guest FS access rights"),
    guest32("GUEST_GS_AR_BYTES", 0x481E, "Guest GS access rights"),
    guest32("GUEST_LDTR_AR_BYTES", 0x4820, "Guest LDTR access rights"),
    guest32("GUEST_TR_AR_BYTES", 0x4822, "Guest TR access rights"),
    guest32("GUEST_INTERRUPTIBILITY_INFO", 0x4824, "Guest interruptibility state"),
    guest32("GUEST_ACTIVITY_STATE", 0x4826, "Guest activity state"),
    guest32("GUEST_SMBASE", 0x4828, "Guest SMBASE"),
    guest32("GUEST_SYSENTER_CS", 0x482A, "Guest IA32_SYSENTER_CS"),
    guest32("VMX_PREEMPTION_TIMER_VALUE", 0x482E, "VMX-preemption timer value", TIMER),

    host32("HOST_IA32_SYSENTER_CS", 0x4C00, "Host IA32_SYSENTER_CS"),

    control("CR0_GUEST_HOST_MASK", 0x6000, "CR0 guest/host mask"),
    control("CR4_GUEST_HOST_MASK", 0x6002, "CR4 guest/host mask"),
    control("CR0_READ_SHADOW", 0x6004, "CR0 read shadow"),
    control("CR4_READ_SHADOW", 0x6006, "CR4 read shadow"),
    control("CR3_TARGET_VALUE0", 0x6008, "CR3-target value 0"),
    control("CR3_TARGET_VALUE1", 0x600A, "CR3-target value 1"),
    control("CR3_TARGET_VALUE2", 0x600C, "CR3-target value 2"),
    control("CR3_TARGET_VALUE3", 0x600E, "CR3-target value 3"),

    info("EXIT_QUALIFICATION", 0x6400, "Exit qualification"),
    info("IO_RCX", 0x6402, "I/O RCX"),
    info("IO_RSI", 0x6404, "I/O RSI"),
    info("IO_RDI", 0x6406, "I/O RDI"),
    info("IO_RIP", 0x6408, "I/O RIP"),
    info("GUEST_LINEAR_ADDRESS", 0x640A, "Guest-linear address"),

    guest("GUEST_CR0", 0x6800, "Guest CR0"),
    guest("GUEST_CR3", 0x6802, "Guest CR3"),
    guest("GUEST_CR4", 0x6804, "Guest CR4"),
    guest("GUEST_ES_BASE", 0x6806, "Guest ES base"),
    guest("GUEST_CS_BASE", 0x6808, "Guest CS base"),
    guest("GUEST_SS_BASE", 0x680A, "Guest SS base"),
    guest("GUEST_DS_BASE", 0x680C, "Guest DS base"),
    guest("GUEST_FS_BASE", 0x680E, "Guest FS base"),
    guest("GUEST_GS_BASE", 0x6810, "Guest GS base"),
    guest("GUEST_LDTR_BASE", 0x6812, "Guest LDTR base"),
    guest("GUEST_TR_BASE", 0x6814, "Guest TR base"),
    guest("GUEST_GDTR_BASE", 0x6816, "Guest GDTR base"),
    guest("GUEST_IDTR_BASE", 0x6818, "Guest IDTR base"),
    guest("GUEST_DR7", 0x681A, "Guest DR7"),
    guest("GUEST_RSP", 0x681C, "Guest RSP"),
    guest("GUEST_RIP", 0x681E, "Guest RIP"),
    guest("GUEST_RFLAGS", 0x6820, "Guest RFLAGS"),
    guest("GUEST_PENDING_DBG_EXCEPTIONS", 0x6822, "Guest pending debug exceptions"),
    guest("GUEST_SYSENTER_ESP", 0x6824, "Guest IA32_SYSENTER_ESP"),
    guest("GUEST_SYSENTER_EIP", 0x6826, "Guest IA32_SYSENTER_EIP"),
    guest("GUEST_S_CET", 0x6828, "Guest IA32_S_CET", Entry.LOAD_CET_STATE),
    guest("GUEST_SSP", 0x682A, "Guest SSP", Entry.LOAD_CET_STATE),
    guest(
        "GUEST_INTR_SSP_TABLE", 0x682C, "Guest IA32_INTERRUPT_SSP_TABLE_ADDR", Entry.LOAD_CET_STATE
    ),

    host("HOST_CR0", 0x6C00, "Host CR0"),
    host("HOST_CR3", 0x6C02, "Host CR3"),
    host("HOST_CR4", 0x6C04, "Host CR4"),
    host("HOST_FS_BASE", 0x6C06, "Host FS base"),
    host("HOST_GS_BASE", 0x6C08, "Host GS base"),
    host("HOST_TR_BASE", 0x6C0A, "Host TR base"),
    host("HOST_GDTR_BASE", 0x6C0C, "Host GDTR base"),
    host("HOST_IDTR_BASE", 0x6C0E, "Host IDTR base"),
    host("HOST_IA32_SYSENTER_ESP", 0x6C10, "Host IA32_SYSENTER_ESP"),
    host("HOST_IA32_SYSENTER_EIP", 0x6C12, "Host IA32_SYSENTER_EIP"),
    host("HOST_RSP", 0x6C14, "Host RSP"),
    host("HOST_RIP", 0x6C16, "Host RIP"),
    host("HOST_S_CET", 0x6C18, "Host IA32_S_CET", Exit.LOAD_CET_STATE),
    host("HOST_SSP", 0x6C1A, "Host SSP", Exit.LOAD_CET_STATE),
    host("HOST_INTR_SSP_TABLE", 0x6C1C, "Host IA32_INTERRUPT_SSP_TABLE_ADDR", Exit.LOAD_CET_STATE),
)
# fmt: on


def width_of(encoding: int) -> FieldWidth:
    """Width that bits 14:13 of an encoding state."""
    return FieldWidth(encoding >> 13 & 3)


def type_of(encoding: int) -> FieldType:
    """Type that bits 11:10 of an encoding state."""
    return FieldType(encoding >> 10 & 3)


def is_well_formed(encoding: int) -> bool:
    """Whether the reserved bits are 0, and high access is asked of 64-bit fields only."""
    if encoding & RESERVED_ENCODING_BITS:
        return False
    return not encoding & ACCESS_HIGH or width_of(encoding) is FieldWidth.BITS_64


def _check() -> None:
    check_cited(FIELDS, "FIELDS")
    check_unique([field.name for field in FIELDS], "FIELDS")
    check_ascending([field.encoding for field in FIELDS], "FIELDS")
    for field in FIELDS:
        at = f"FIELDS: {field.name}"
        require(is_well_formed(field.encoding), f"{at}: {field.encoding:#x} sets reserved bits")
        require(not field.encoding & ACCESS_HIGH, f"{at}: {field.encoding:#x} is a high access")
        require(width_of(field.encoding) is field.width, f"{at}: width disagrees with encoding")
        require(type_of(field.encoding) is field.type, f"{at}: type disagrees with encoding")


_check()

BY_NAME: Final = {field.name: field for field in FIELDS}
BY_ENCODING: Final = {field.encoding: field for field in FIELDS}


def field_named(name: str) -> Field:
    """Field called `name`; raises `KeyError` that names it."""
    return BY_NAME[name]


def field_at(encoding: int) -> tuple[Field, bool] | None:
    """Field that `encoding` accesses and whether it is a high access; None where there is none."""
    if not is_well_formed(encoding):
        return None
    field = BY_ENCODING.get(encoding & ~ACCESS_HIGH)
    return None if field is None else (field, bool(encoding & ACCESS_HIGH))


HIGHEST_INDEX: Final = max(field.index for field in FIELDS)
