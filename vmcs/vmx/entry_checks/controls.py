"""Checks on VMX controls, in the manual's order (SDM, "Checks on VMX Controls")."""

from vmcs.checks import (
    Predicate,
    Shape,
    allowed,
    at_most,
    bits_clear,
    bits_set,
    check,
    differs,
    equal,
    has,
    has_any,
    is_equal,
    is_in,
    is_not_in,
    lacks,
    let,
    msr_area,
    one_of,
    under,
)
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2, ProcBased3

PIN = "PIN_BASED_VM_EXEC_CONTROL"
PROC = "CPU_BASED_VM_EXEC_CONTROL"
EXIT = "VM_EXIT_CONTROLS"
ENTRY = "VM_ENTRY_CONTROLS"

P1, P2, P3 = ProcBased, ProcBased2, ProcBased3
ACTIVATED2 = has(PROC, P1.ACTIVATE_SECONDARY_CONTROLS)
ACTIVATED3 = has(PROC, P1.ACTIVATE_TERTIARY_CONTROLS)
EXIT2 = has(EXIT, Exit.ACTIVATE_SECONDARY_CONTROLS)
IO_BITMAPS = has(PROC, P1.USE_IO_BITMAPS)
MSR_BITMAPS = has(PROC, P1.USE_MSR_BITMAPS)
TPR_SHADOW = has(PROC, P1.USE_TPR_SHADOW)
NO_TPR_SHADOW = lacks(PROC, P1.USE_TPR_SHADOW)
APIC_ACCESSES = has("PROC2", P2.VIRTUALIZE_APIC_ACCESSES)
NO_APIC_ACCESSES = lacks("PROC2", P2.VIRTUALIZE_APIC_ACCESSES)
X2APIC = has("PROC2", P2.VIRTUALIZE_X2APIC_MODE)
VID = has("PROC2", P2.VIRTUAL_INTERRUPT_DELIVERY)
NO_VID = lacks("PROC2", P2.VIRTUAL_INTERRUPT_DELIVERY)
POSTED = has(PIN, PinBased.PROCESS_POSTED_INTERRUPTS)
EPT = has("PROC2", P2.ENABLE_EPT)
VPID = has("PROC2", P2.ENABLE_VPID)
PML = has("PROC2", P2.ENABLE_PML)
SPP = has("PROC2", P2.SUB_PAGE_WRITE_PERMISSIONS)
UNRESTRICTED = has("PROC2", P2.UNRESTRICTED_GUEST)
RESTRICTED = lacks("PROC2", P2.UNRESTRICTED_GUEST)
MODE_BASED = has("PROC2", P2.MODE_BASED_EXECUTE_CONTROL)
VMFUNC = has("PROC2", P2.ENABLE_VM_FUNCTIONS)
SHADOWING = has("PROC2", P2.VMCS_SHADOWING)
VIOLATION_VE = has("PROC2", P2.EPT_VIOLATION_VE)
PT_GPA = has("PROC2", P2.PT_USES_GUEST_PHYSICAL_ADDRESSES)
PASID = has("PROC2", P2.PASID_TRANSLATION)
TSC_SCALING = has("PROC2", P2.USE_TSC_SCALING)
HLAT = has("PROC3", P3.ENABLE_HLAT)
EPT_FAMILY = has_any(
    "PROC3", P3.ENABLE_HLAT | P3.EPT_PAGING_WRITE_CONTROL | P3.GUEST_PAGING_VERIFICATION
)
IPI = has("PROC3", P3.IPI_VIRTUALIZATION)
EPTP_SWITCHING = has("VM_FUNCTION_CONTROL", 1)

# Interruption information (SDM, "VM-Entry Controls for Event Injection").
VALID, VECTOR, TYPE, DELIVER_CODE = 1 << 31, 0xFF, 0x700, 0x800
EXTERNAL, RESERVED_TYPE, NMI, HARDWARE, SOFTWARE, PRIVILEGED, SOFT_EXCEPTION, OTHER = (
    number << 8 for number in range(8)
)
WITH_CODE = (8, 10, 11, 12, 13, 14, 17, 21)
INJECTS_HARDWARE = is_equal("INJECTED", HARDWARE, TYPE)
INJECTS_SOFTWARE = is_in("INJECTED", (4, 5, 6), TYPE)
PROTECTED = lacks("REAL_MODE_INJECTION")
BOUND_CODES = lacks("ERROR_CODE_FREE")

# fmt: off
EXECUTION_CHECKS = under(
    "VM-Execution Control Fields",
    allowed("pin_reserved", "", PIN, "PIN_MUST_BE_1", "PIN_MAY_BE_1"),
    allowed("proc_reserved", "", PROC, "PROC_MUST_BE_1", "PROC_MAY_BE_1"),
    let("PROC2", "SECONDARY_VM_EXEC_CONTROL", when=ACTIVATED2),
    allowed("proc2_reserved", "", "PROC2", "PROC2_MUST_BE_1", "PROC2_MAY_BE_1", ACTIVATED2),
    let("PROC3", "TERTIARY_VM_EXEC_CONTROL", when=ACTIVATED3),
    allowed("proc3_reserved", "", "PROC3", 0, "PROC3_MAY_BE_1"),
    at_most("cr3_target_count", "", "CR3_TARGET_COUNT", "CR3_TARGET_LIMIT"),
    bits_clear("io_bitmap_a_address", "", "IO_BITMAP_A", "PAGE_RESERVED", IO_BITMAPS),
    bits_clear("io_bitmap_b_address", "", "IO_BITMAP_B", "PAGE_RESERVED", IO_BITMAPS),
    bits_clear("msr_bitmap_address", "", "MSR_BITMAP", "PAGE_RESERVED", MSR_BITMAPS),
    bits_clear("virtual_apic_address", "", "VIRTUAL_APIC_PAGE_ADDR", "PAGE_RESERVED", TPR_SHADOW),
    bits_clear("tpr_threshold_reserved", "", "TPR_THRESHOLD", 0xFFFF_FFF0, (TPR_SHADOW, NO_VID)),
    at_most("tpr_threshold_above_vtpr", "", "TPR_THRESHOLD", "VIRTUAL_TPR", (TPR_SHADOW, NO_VID, NO_APIC_ACCESSES)),
    bits_clear("x2apic_mode_needs_tpr_shadow", "", "PROC2", P2.VIRTUALIZE_X2APIC_MODE, NO_TPR_SHADOW),
    bits_clear("apic_registers_need_tpr_shadow", "", "PROC2", P2.APIC_REGISTER_VIRTUALIZATION, NO_TPR_SHADOW),
    bits_clear("vid_needs_tpr_shadow", "", "PROC2", P2.VIRTUAL_INTERRUPT_DELIVERY, NO_TPR_SHADOW),
    bits_clear("ipi_virtualization_needs_tpr_shadow", "", "PROC3", P3.IPI_VIRTUALIZATION, NO_TPR_SHADOW),
    bits_clear("virtual_nmis_need_nmi_exiting", "", PIN, PinBased.VIRTUAL_NMIS, lacks(PIN, PinBased.NMI_EXITING)),
    bits_clear("nmi_window_needs_virtual_nmis", "", PROC, P1.NMI_WINDOW_EXITING, lacks(PIN, PinBased.VIRTUAL_NMIS)),
    bits_clear("apic_access_address", "", "APIC_ACCESS_ADDR", "PAGE_RESERVED", APIC_ACCESSES),
    bits_clear("x2apic_mode_excludes_apic_accesses", "", "PROC2", P2.VIRTUALIZE_APIC_ACCESSES, X2APIC),
    bits_set("vid_needs_interrupt_exiting", "", PIN, PinBased.EXTERNAL_INTERRUPT_EXITING, VID),
    bits_set("posted_needs_vid", "", "PROC2", P2.VIRTUAL_INTERRUPT_DELIVERY, POSTED),
    bits_set("posted_needs_acknowledge_on_exit", "", EXIT, Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT, POSTED),
    bits_clear("posted_vector", "", "POSTED_INTR_NV", 0xFF00, POSTED),
    bits_clear("posted_descriptor_aligned", "", "POSTED_INTR_DESC_ADDR", 0x3F, POSTED),
    bits_clear("posted_descriptor_width", "", "POSTED_INTR_DESC_ADDR", "PHYSICAL_RESERVED", POSTED),
    bits_clear("pid_pointer_table_aligned", "", "PID_POINTER_TABLE", 0x7, IPI),
    bits_clear("pid_pointer_table_width", "", "PID_POINTER_TABLE", "PHYSICAL_RESERVED", IPI),
    differs("vpid_not_zero", "", "VIRTUAL_PROCESSOR_ID", 0, when=VPID),
    check("eptp_memory_type", "", Predicate(Shape.MEMBER, "EPT_POINTER", "EPTP_MEMORY_TYPES", 0x7), EPT),
    check("eptp_walk_length", "", Predicate(Shape.MEMBER, "EPT_POINTER", "EPTP_WALK_LENGTHS", 0x38, 3), EPT),
    bits_clear("eptp_reserved", "", "EPT_POINTER", "EPTP_RESERVED", EPT),
    bits_set("pml_needs_ept", "", "PROC2", P2.ENABLE_EPT, PML),
    bits_clear("pml_address", "", "PML_ADDRESS", "PAGE_RESERVED", PML),
    bits_set("unrestricted_guest_needs_ept", "", "PROC2", P2.ENABLE_EPT, UNRESTRICTED),
    bits_set("mode_based_execute_needs_ept", "", "PROC2", P2.ENABLE_EPT, MODE_BASED),
    bits_set("sub_page_permissions_need_ept", "", "PROC2", P2.ENABLE_EPT, SPP),
    bits_clear("sub_page_table_address", "", "SUB_PAGE_PERMISSION_TABLE", "PAGE_RESERVED", SPP),
    bits_clear("vm_functions_reserved", "", "VM_FUNCTION_CONTROL", "VMFUNC_RESERVED", VMFUNC),
    bits_set("eptp_switching_needs_ept", "", "PROC2", P2.ENABLE_EPT, (VMFUNC, EPTP_SWITCHING)),
    bits_clear("eptp_list_address", "", "EPTP_LIST_ADDRESS", "PAGE_RESERVED", (VMFUNC, EPTP_SWITCHING)),
    bits_clear("vmread_bitmap_address", "", "VMREAD_BITMAP", "PAGE_RESERVED", SHADOWING),
    bits_clear("vmwrite_bitmap_address", "", "VMWRITE_BITMAP", "PAGE_RESERVED", SHADOWING),
    bits_clear("ve_information_address", "", "VE_INFORMATION_ADDRESS", "PAGE_RESERVED", VIOLATION_VE),
    bits_set("pt_guest_addresses_need_ept", "", "PROC2", P2.ENABLE_EPT, PT_GPA),
    bits_set("pt_guest_addresses_need_load_rtit", "", ENTRY, Entry.LOAD_IA32_RTIT_CTL, PT_GPA),
    bits_set("pt_guest_addresses_need_clear_rtit", "", EXIT, Exit.CLEAR_IA32_RTIT_CTL, PT_GPA),
    differs("tsc_multiplier_not_zero", "", "TSC_MULTIPLIER", 0, when=TSC_SCALING),
    bits_set("hlat_family_needs_ept", "", "PROC2", P2.ENABLE_EPT, EPT_FAMILY),
    bits_clear("hlat_pointer_reserved", "", "HLAT_POINTER", 0xFE7, HLAT),
    bits_clear("hlat_pointer_width", "", "HLAT_POINTER", "PHYSICAL_RESERVED", HLAT),
    bits_clear("low_pasid_directory_address", "", "LOW_PASID_DIRECTORY", "PAGE_RESERVED", PASID),
    bits_clear("high_pasid_directory_address", "", "HIGH_PASID_DIRECTORY", "PAGE_RESERVED", PASID),
)

EXIT_CHECKS = under(
    "VM-Exit Control Fields",
    allowed("exit_reserved", "", EXIT, "EXIT_MUST_BE_1", "EXIT_MAY_BE_1"),
    allowed("exit2_reserved", "", "SECONDARY_VM_EXIT_CONTROLS", 0, "EXIT2_MAY_BE_1", EXIT2),
    bits_clear("save_preemption_timer_needs_timer", "", EXIT, Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE, lacks(PIN, PinBased.ACTIVATE_VMX_PREEMPTION_TIMER)),
    msr_area("exit_msr_store_area", "", "VM_EXIT_MSR_STORE_ADDR", "VM_EXIT_MSR_STORE_COUNT"),
    msr_area("exit_msr_load_area", "", "VM_EXIT_MSR_LOAD_ADDR", "VM_EXIT_MSR_LOAD_COUNT"),
)

ENTRY_CHECKS = under(
    "VM-Entry Control Fields",
    allowed("entry_reserved", "", ENTRY, "ENTRY_MUST_BE_1", "ENTRY_MAY_BE_1"),
    let("INJECTED", "VM_ENTRY_INTR_INFO_FIELD", when=has("VM_ENTRY_INTR_INFO_FIELD", VALID)),
    differs("injected_type_reserved", "", "INJECTED", RESERVED_TYPE, TYPE, has("INJECTED", VALID)),
    bits_set("injected_other_event_needs_mtf", "", "PROC_MAY_BE_1", P1.MONITOR_TRAP_FLAG, is_equal("INJECTED", OTHER, TYPE)),
    equal("injected_nmi_vector", "", "INJECTED", 2, VECTOR, is_equal("INJECTED", NMI, TYPE)),
    one_of("injected_exception_vector", "", "INJECTED", range(32), VECTOR, INJECTS_HARDWARE),
    equal("injected_other_event_vector", "", "INJECTED", 0, VECTOR, is_equal("INJECTED", OTHER, TYPE)),
    bits_clear("error_code_only_with_exception", "", "INJECTED", DELIVER_CODE, (has("INJECTED", VALID), is_not_in("INJECTED", (3,), TYPE))),
    bits_clear("error_code_not_in_real_mode", "", "INJECTED", DELIVER_CODE, (UNRESTRICTED, lacks("GUEST_CR0", 1), INJECTS_HARDWARE)),
    let("REAL_MODE_INJECTION", 1, when=(UNRESTRICTED, lacks("GUEST_CR0", 1))),
    bits_set("error_code_wanted_by_vector", "", "INJECTED", DELIVER_CODE, (INJECTS_HARDWARE, PROTECTED, BOUND_CODES, is_in("INJECTED", WITH_CODE, VECTOR))),
    bits_clear("error_code_unwanted_by_vector", "", "INJECTED", DELIVER_CODE, (INJECTS_HARDWARE, PROTECTED, BOUND_CODES, is_not_in("INJECTED", WITH_CODE, VECTOR))),
    bits_clear("injected_reserved", "", "INJECTED", 0x7FFF_F000),
    bits_clear("error_code_upper_half", "", "VM_ENTRY_EXCEPTION_ERROR_CODE", 0xFFFF_0000, has("INJECTED", DELIVER_CODE)),
    at_most("injected_length_above_15", "", "VM_ENTRY_INSTRUCTION_LEN", 15, INJECTS_SOFTWARE),
    differs("injected_length_zero", "", "VM_ENTRY_INSTRUCTION_LEN", 0, when=(INJECTS_SOFTWARE, lacks("ZERO_LENGTH_INJECTION"))),
    msr_area("entry_msr_load_area", "", "VM_ENTRY_MSR_LOAD_ADDR", "VM_ENTRY_MSR_LOAD_COUNT"),
    bits_clear("entry_to_smm_outside_smm", "", ENTRY, Entry.ENTRY_TO_SMM, lacks("IN_SMM")),
    bits_clear("deactivate_dual_monitor_outside_smm", "", ENTRY, Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT, lacks("IN_SMM")),
    bits_clear("entry_to_smm_excludes_deactivate", "", ENTRY, Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT, has(ENTRY, Entry.ENTRY_TO_SMM)),
)
# fmt: on

CONTROL_CHECKS = EXECUTION_CHECKS + EXIT_CHECKS + ENTRY_CHECKS
