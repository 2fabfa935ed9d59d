"""KVM_SET_NESTED_STATE on Intel as one program, in the order in which KVM goes through it.

A row is a check, a return, or an effect on the vCPU; a release has the rows that its fact
`vmx_rules` names.  Where a row is an architecture's check, it is the row of
`vmcs.vmx.entry_checks` itself, with KVM's function beside the manual's section.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EFAULT, EINVAL
from typing import Final

from emu.kvm.nested_vmx.capabilities import (
    EVMCS_SUPPORTED,
    EVMCS_UNSUPPORTED,
    MSR_PROC2,
    MSR_TRUE_ENTRY,
    MSR_TRUE_EXIT,
    MSR_TRUE_PIN,
    MSR_TRUE_PROC,
)
from emu.kvm.nested_vmx.capabilities import EVMCS_UNSUPPORTED_VMFUNC as NO_VMFUNC
from emu.kvm.nested_vmx.words import SHADOW_AT, VMCS12_AT
from vmcs.checks import (
    Kind,
    Predicate,
    Row,
    Shape,
    at_least,
    at_most,
    bits_clear,
    bits_set,
    canonical,
    differs,
    effect,
    equal,
    has,
    has_any,
    is_equal,
    is_in,
    is_not,
    is_not_in,
    lacks,
    lacks_some,
    let,
    one_of,
    returns,
    shifted,
)
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2
from vmcs.vmx.entry_checks.controls import (
    CONTROL_CHECKS,
    DELIVER_CODE,
    ENTRY,
    EXIT,
    INJECTS_HARDWARE,
    PIN,
    PROC,
    RESTRICTED,
    UNRESTRICTED,
    VECTOR,
)
from vmcs.vmx.entry_checks.guest_state import GUEST_STATE_CHECKS
from vmcs.vmx.entry_checks.host_state import HOST_STATE_CHECKS
from vmcs.vmx.vmcs12 import VMCS12_BYTES, VMCS12_REVISION

ALL: Final = 0xFFFF_FFFF_FFFF_FFFF
NONE_PA: Final = ALL

# KVM_STATE_NESTED_* and KVM_STATE_VMX_* (arch/x86/include/uapi/asm/kvm.h).
GUEST_MODE, RUN_PENDING, EVMCS, MTF_PENDING, GIF_SET = 0x1, 0x2, 0x4, 0x8, 0x100
SMM_GUEST_MODE, SMM_VMXON = 0x1, 0x2
DEADLINE_VALID: Final = 0x1

IOCTL: Final = "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl"
SET: Final = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
EXECUTION: Final = "arch/x86/kvm/vmx/nested.c: nested_check_vm_execution_controls"
EXIT_CONTROLS: Final = "arch/x86/kvm/vmx/nested.c: nested_check_vm_exit_controls"
ENTRY_CONTROLS: Final = "arch/x86/kvm/vmx/nested.c: nested_check_vm_entry_controls"
HOST: Final = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
GUEST: Final = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
EVMCS_CONTROLS: Final = "arch/x86/kvm/vmx/hyperv.c: nested_evmcs_check_controls"
ENTER: Final = "arch/x86/kvm/vmx/nested.c: nested_vmx_enter_non_root_mode"
PREPARE: Final = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02"
LOAD_CR3: Final = "arch/x86/kvm/vmx/nested.c: nested_vmx_load_cr3"
STATE_VALID: Final = "arch/x86/kvm/vmx/vmx.c: __vmx_guest_state_valid"

NO_VMXON = is_equal("VMXON_PA", NONE_PA)
VMXON = is_not("VMXON_PA", NONE_PA)
NO_CURRENT = is_equal("VMCS12_PA", NONE_PA)
CURRENT = is_not("VMCS12_PA", NONE_PA)
IN_SMM = has("IN_SMM", 1)
OUTSIDE_SMM = lacks("IN_SMM", 1)
SHORT = Predicate(Shape.AT_MOST, "SIZE", "VMCS12_SHORT_SIZE")
LINKED = is_not("VMCS_LINK_POINTER", NONE_PA)
SHADOWING = has("PROC2", ProcBased2.VMCS_SHADOWING)
PENDING = has("FLAGS", RUN_PENDING)

ARCHITECTURE: Final = {
    row.name: row for row in (*CONTROL_CHECKS, *HOST_STATE_CHECKS, *GUEST_STATE_CHECKS)
}


def architecture(kernel: str, *names: str, when: Iterable[Predicate] = ()) -> tuple[Row, ...]:
    """The manual's checks `names`, made by KVM's function `kernel` and giving EINVAL."""
    return tuple(
        row._replace(section=f"{row.section}; {kernel}", result=EINVAL, when=(*row.when, *when))
        for row in (ARCHITECTURE[name] for name in names)
    )


def refuse(rows: Iterable[Row], errno: int | str) -> tuple[Row, ...]:
    """`rows` with `errno` as the result of the checks that have none."""
    return tuple(
        row._replace(result=errno) if row.kind is Kind.CHECK and row.result == 0 else row
        for row in rows
    )


# fmt: off
HEADER_RULES: Final = refuse((
    at_least("header_readable", IOCTL, "STATE_BYTES", 128, result=EFAULT),
    at_least("size_covers_header", IOCTL, "SIZE", 128),
    bits_clear("flags_known", IOCTL, "FLAGS", "UNKNOWN_FLAGS"),
    bits_set("run_pending_needs_guest_mode", IOCTL, "FLAGS", GUEST_MODE, when=PENDING),
    equal("format_is_vmx", SET, "FORMAT", 0),
    effect("enable_evmcs", SET, when=has("FLAGS", EVMCS)),
    returns("nothing_without_guest_vmx", SET, when=(lacks("GUEST_HAS_VMX"), NO_VMXON)),
    equal("smm_flags_without_vmxon", SET, "SMM_FLAGS", 0, when=NO_VMXON),
    equal("vmcs12_pa_without_vmxon", SET, "VMCS12_PA", NONE_PA, when=NO_VMXON),
    bits_clear("flags_without_vmxon", SET, "FLAGS", 0xFFFF & ~EVMCS, when=NO_VMXON),
    effect("leave_nested_at_once", SET, when=NO_VMXON),
    returns("left_vmx_operation_at_once", SET, when=NO_VMXON),
    bits_set("vmxon_needs_guest_vmx", SET, "GUEST_HAS_VMX", 1, when=VMXON),
    bits_clear("vmxon_pa_page_address", SET, "VMXON_PA", "PAGE_RESERVED", when=VMXON),
    at_least("size_covers_vmcs12", SET, "SIZE", 1006),
    differs("vmcs12_pa_not_vmxon_pa_first", SET, "VMCS12_PA", "VMXON_PA"),
    bits_clear("vmcs12_pa_page_address_first", SET, "VMCS12_PA", "PAGE_RESERVED"),
    bits_clear("smm_guest_mode_excludes_guest_mode", SET, "FLAGS", GUEST_MODE, when=has("SMM_FLAGS", SMM_GUEST_MODE)),
    bits_clear("smm_flags_known", SET, "SMM_FLAGS", 0xFFFF & ~(SMM_GUEST_MODE | SMM_VMXON)),
    bits_clear("vmx_header_flags_known", SET, "VMX_HEADER_FLAGS", 0xFFFF_FFFF & ~DEADLINE_VALID),
    equal("no_flags_in_smm", SET, "FLAGS", 0, when=IN_SMM),
    bits_clear("no_guest_mode_in_smm", SET, "FLAGS", GUEST_MODE | RUN_PENDING, when=IN_SMM),
    equal("smm_flags_outside_smm", SET, "SMM_FLAGS", 0, when=OUTSIDE_SMM),
    bits_set("smm_guest_mode_needs_smm_vmxon", SET, "SMM_FLAGS", SMM_VMXON, when=has("SMM_FLAGS", SMM_GUEST_MODE)),
    bits_set("evmcs_needs_guest_vmx", SET, "GUEST_HAS_VMX", 1, when=has("FLAGS", EVMCS)),
    bits_set("evmcs_needs_capability", SET, "EVMCS_ENABLED", 1, when=has("FLAGS", EVMCS)),
    effect("leave_nested", SET),
    returns("left_vmx_operation", SET, when=NO_VMXON),
    effect("enter_vmx_operation", SET),
    bits_clear("guest_mode_needs_vmcs12", SET, "FLAGS", GUEST_MODE, when=SHORT),
    bits_clear("evmcs_needs_vmcs12", SET, "FLAGS", EVMCS, when=SHORT),
    equal("vmcs12_pa_needs_vmcs12", SET, "VMCS12_PA", NONE_PA, when=SHORT),
    returns("vmxon_without_vmcs12", SET, when=SHORT),
    differs("vmcs12_pa_not_vmxon_pa", SET, "VMCS12_PA", "VMXON_PA", when=CURRENT),
    bits_clear("vmcs12_pa_page_address", SET, "VMCS12_PA", "PAGE_RESERVED", when=CURRENT),
    effect("set_current_vmptr", SET, when=CURRENT),
    differs("evmcs_needs_hyperv", SET, "VMCS12_PA", NONE_PA, when=lacks("HAS_HYPERV")),
    bits_set("vmcs12_pa_or_evmcs", SET, "FLAGS", EVMCS, when=NO_CURRENT),
    effect("owe_vmcs12_to_evmcs", SET, when=NO_CURRENT),
    effect("request_evmcs_page", SET, when=NO_CURRENT),
    effect("mark_evmcs_map_pending", SET, when=NO_CURRENT),
    effect("apply_smm_flags", SET, when=has("SMM_FLAGS", SMM_VMXON)),
    at_least("vmcs12_readable", SET, "STATE_BYTES", VMCS12_AT + VMCS12_BYTES, result=EFAULT),
    effect("copy_vmcs12", SET),
    equal("vmcs12_revision", SET, "VMCS12_FIRST_WORD", VMCS12_REVISION, 0x7FFF_FFFF),
    returns("restored_outside_guest_mode", SET, when=lacks("FLAGS", GUEST_MODE)),
    effect("set_run_pending", SET),
    effect("set_mtf_pending", SET),
    let("PROC2", "SECONDARY_VM_EXEC_CONTROL", when=has(PROC, ProcBased.ACTIVATE_SECONDARY_CONTROLS)),
    Row(Kind.CHECK, "size_covers_shadow_vmcs12", SET, Predicate(Shape.AT_LEAST, "SIZE", "SHADOW_SHORT_SIZE"), (SHADOWING, LINKED)),
    at_least("shadow_vmcs12_readable", SET, "STATE_BYTES", SHADOW_AT + VMCS12_BYTES, when=(SHADOWING, LINKED), result=EFAULT),
    effect("copy_shadow_vmcs12", SET, when=(SHADOWING, LINKED)),
    equal("shadow_vmcs12_revision", SET, "SHADOW_FIRST_WORD", VMCS12_REVISION, 0x7FFF_FFFF, when=(SHADOWING, LINKED)),
    bits_set("shadow_vmcs12_is_shadow", SET, "SHADOW_FIRST_WORD", 1 << 31, when=(SHADOWING, LINKED)),
    effect("set_deadline", SET),
), EINVAL)

# The vectors that KVM itself gives an error code: #CP is not among them before KVM knows CET.
WITH_CODE = (8, 10, 11, 12, 13, 14, 17)
PROTECTED_WITH_CODE = (INJECTS_HARDWARE, lacks("REAL_MODE_L2"))

CONTROL_RULES: Final = (
    *architecture(EXECUTION, "pin_reserved", "proc_reserved", "proc2_reserved", "cr3_target_count",
                  "io_bitmap_a_address", "io_bitmap_b_address", "msr_bitmap_address",
                  "virtual_apic_address", "tpr_threshold_reserved", "apic_access_address",
                  "x2apic_mode_excludes_apic_accesses", "vid_needs_interrupt_exiting",
                  "posted_needs_vid", "posted_needs_acknowledge_on_exit", "posted_vector",
                  "posted_descriptor_aligned", "posted_descriptor_width"),
    *refuse((bits_clear("posted_descriptor_page_aligned", EXECUTION, "POSTED_INTR_DESC_ADDR", 0xFFF, has(PIN, PinBased.PROCESS_POSTED_INTERRUPTS)),), EINVAL),
    *architecture(EXECUTION,
                  "x2apic_mode_needs_tpr_shadow", "apic_registers_need_tpr_shadow",
                  "vid_needs_tpr_shadow", "virtual_nmis_need_nmi_exiting",
                  "nmi_window_needs_virtual_nmis", "pml_needs_ept", "pml_address",
                  "unrestricted_guest_needs_ept", "mode_based_execute_needs_ept",
                  "vmread_bitmap_address", "vmwrite_bitmap_address", "vpid_not_zero",
                  "save_preemption_timer_needs_timer", "eptp_memory_type", "eptp_walk_length",
                  "eptp_reserved", "vm_functions_reserved", "eptp_switching_needs_ept",
                  "eptp_list_address", "tsc_multiplier_not_zero"),
    *architecture(EXIT_CONTROLS, "exit_reserved"),
    *refuse((at_most("exit_msr_load_count", EXIT_CONTROLS, "VM_EXIT_MSR_LOAD_COUNT", "MSR_AREA_LIMIT"),), EINVAL),
    *architecture(EXIT_CONTROLS, "exit_msr_load_area"),
    *refuse((at_most("exit_msr_store_count", EXIT_CONTROLS, "VM_EXIT_MSR_STORE_COUNT", "MSR_AREA_LIMIT"),), EINVAL),
    *architecture(EXIT_CONTROLS, "exit_msr_store_area"),
    *architecture(ENTRY_CONTROLS, "entry_reserved"),
    ARCHITECTURE["let INJECTED"],
    *architecture(ENTRY_CONTROLS, "injected_type_reserved", "injected_other_event_needs_mtf",
                  "injected_nmi_vector", "injected_exception_vector",
                  "injected_other_event_vector", "error_code_only_with_exception",
                  "error_code_not_in_real_mode"),
    let("REAL_MODE_L2", "ONE", when=(UNRESTRICTED, lacks("GUEST_CR0", 1))),
    *refuse((
        bits_set("error_code_wanted", ENTRY_CONTROLS, "INJECTED", DELIVER_CODE, (*PROTECTED_WITH_CODE, is_in("INJECTED", WITH_CODE, VECTOR))),
        bits_clear("error_code_unwanted", ENTRY_CONTROLS, "INJECTED", DELIVER_CODE, (*PROTECTED_WITH_CODE, is_not_in("INJECTED", WITH_CODE, VECTOR))),
        bits_set("error_code_wanted_with_cet", ENTRY_CONTROLS, "INJECTED", DELIVER_CODE, (*PROTECTED_WITH_CODE, lacks("ERROR_CODE_FREE"), is_in("INJECTED", (*WITH_CODE, 21), VECTOR))),
        bits_clear("error_code_unwanted_with_cet", ENTRY_CONTROLS, "INJECTED", DELIVER_CODE, (*PROTECTED_WITH_CODE, lacks("ERROR_CODE_FREE"), is_not_in("INJECTED", (*WITH_CODE, 21), VECTOR))),
        bits_clear("error_code_bit_15", ENTRY_CONTROLS, "VM_ENTRY_EXCEPTION_ERROR_CODE", 0x8000, has("INJECTED", DELIVER_CODE)),
    ), EINVAL),
    *architecture(ENTRY_CONTROLS, "error_code_upper_half", "injected_reserved",
                  "injected_length_above_15", "injected_length_zero"),
    *refuse((at_most("entry_msr_load_count", ENTRY_CONTROLS, "VM_ENTRY_MSR_LOAD_COUNT", "MSR_AREA_LIMIT"),), EINVAL),
    *architecture(ENTRY_CONTROLS, "entry_msr_load_area"),
    *refuse((
        bits_clear("evmcs_pin_controls", EVMCS_CONTROLS, PIN, EVMCS_UNSUPPORTED[MSR_TRUE_PIN], when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_proc2_controls", EVMCS_CONTROLS, "SECONDARY_VM_EXEC_CONTROL", EVMCS_UNSUPPORTED[MSR_PROC2], when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_exit_controls", EVMCS_CONTROLS, EXIT, EVMCS_UNSUPPORTED[MSR_TRUE_EXIT], when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_entry_controls", EVMCS_CONTROLS, ENTRY, EVMCS_UNSUPPORTED[MSR_TRUE_ENTRY], when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_exit_timer", EVMCS_CONTROLS, EXIT, int(Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE), when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_pin_supported", EVMCS_CONTROLS, PIN, ~EVMCS_SUPPORTED[MSR_TRUE_PIN] & 0xFFFF_FFFF, when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_proc_supported", EVMCS_CONTROLS, PROC, ~EVMCS_SUPPORTED[MSR_TRUE_PROC] & 0xFFFF_FFFF, when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_proc2_supported", EVMCS_CONTROLS, "SECONDARY_VM_EXEC_CONTROL", ~EVMCS_SUPPORTED[MSR_PROC2] & 0xFFFF_FFFF, when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_exit_supported", EVMCS_CONTROLS, EXIT, ~EVMCS_SUPPORTED[MSR_TRUE_EXIT] & 0xFFFF_FFFF, when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_entry_supported", EVMCS_CONTROLS, ENTRY, ~EVMCS_SUPPORTED[MSR_TRUE_ENTRY] & 0xFFFF_FFFF, when=has("EVMCS_VISIBLE", 1)),
        bits_clear("evmcs_vm_functions", EVMCS_CONTROLS, "VM_FUNCTION_CONTROL", NO_VMFUNC, when=has("EVMCS_VISIBLE", 1)),
    ), EINVAL),
)

LMA = 1 << 10
HOST_LA57 = has("HOST_CR4", 1 << 12)
NO_HOST_LA57 = lacks("HOST_CR4", 1 << 12)

HOST_RULES: Final = (
    *architecture(HOST, "host_cr0_fixed", "host_cr4_fixed"),
    *refuse((bits_clear("host_cr4_reserved", HOST, "HOST_CR4", "CR4_RESERVED"),), EINVAL),
    *architecture(HOST, "host_cr3_width", "host_cet_needs_wp", "host_sysenter_esp_canonical",
                  "host_sysenter_eip_canonical", "host_pat_memory_types",
                  "host_perf_global_ctrl_reserved", "legacy_mode_excludes_64_bit_host",
                  "long_mode_needs_64_bit_host", "host_64_needs_pae",
                  "host_32_excludes_ia32e_guest", "host_32_excludes_pcide",
                  "host_32_rip_upper_half", "host_cs_rpl_ti", "host_ss_rpl_ti",
                  "host_ds_rpl_ti", "host_es_rpl_ti", "host_fs_rpl_ti", "host_gs_rpl_ti",
                  "host_tr_rpl_ti", "host_cs_not_null", "host_tr_not_null",
                  "host_ss_not_null", "host_fs_base_canonical", "host_gs_base_canonical",
                  "host_gdtr_base_canonical", "host_idtr_base_canonical",
                  "host_tr_base_canonical"),
    *refuse((
        canonical("host_rip_canonical_for_vcpu", HOST, "HOST_RIP", "VCPU_ADDRESS_WIDTH"),
        canonical("host_rip_canonical_48", HOST, "HOST_RIP", 48, when=NO_HOST_LA57),
        canonical("host_rip_canonical_57", HOST, "HOST_RIP", 57, when=HOST_LA57),
    ), EINVAL),
    *architecture(HOST, "host_efer_reserved", "host_efer_long_mode", "host_efer_legacy_mode",
                  "host_s_cet_reserved", "host_s_cet_suppress_and_wait", "host_ssp_aligned",
                  "host_interrupt_ssp_table_canonical"),
    *architecture(HOST, "host_s_cet_canonical", "host_ssp_canonical", when=(has(EXIT, Exit.HOST_ADDRESS_SPACE_SIZE),)),
    *refuse((
        bits_clear("host_32_s_cet_upper_half", HOST, "HOST_S_CET", 0xFFFF_FFFF_0000_0000, (has(EXIT, Exit.LOAD_CET_STATE), lacks(EXIT, Exit.HOST_ADDRESS_SPACE_SIZE))),
    ), EINVAL),
    *architecture(HOST, "host_32_ssp_upper_half"),
)

GUEST_RULES: Final = (
    *architecture(GUEST, "guest_cr0_fixed", "guest_cr0_fixed_unrestricted", "guest_cr4_fixed"),
    *refuse((bits_clear("guest_cr4_reserved", GUEST, "GUEST_CR4", "CR4_RESERVED"),), EINVAL),
    *architecture(GUEST, "guest_cet_needs_wp", "guest_dr7_upper_half", "guest_debugctl_reserved",
                  "guest_pat_memory_types", "vmcs_link_pointer_address"),
    *refuse((bits_set("vmcs_link_pointer_backed", GUEST, "LINK_BACKED", 1, when=LINKED),), EINVAL),
    ARCHITECTURE["let LINK_REVISION"],
    *architecture(GUEST, "vmcs_link_revision", "vmcs_link_is_shadow", "vmcs_link_is_ordinary",
                  "guest_perf_global_ctrl_reserved", "guest_paging_needs_protection",
                  "guest_ia32e_needs_pae", "guest_ia32e_needs_paging"),
    *architecture(GUEST, "guest_efer_reserved", "guest_efer_lma_is_ia32e", "guest_efer_lma_is_lme", when=(PENDING,)),
    *architecture(GUEST, "guest_bndcfgs_canonical", "guest_bndcfgs_reserved",
                  "guest_s_cet_reserved", "guest_s_cet_suppress_and_wait", "guest_ssp_aligned",
                  "guest_interrupt_ssp_table_canonical"),
    *refuse((
        canonical("guest_ssp_upper_bits", GUEST, "GUEST_SSP", 49, when=(has(ENTRY, Entry.LOAD_CET_STATE), is_equal("LINEAR_ADDRESS_WIDTH", 48))),
        canonical("guest_ssp_upper_bits_la57", GUEST, "GUEST_SSP", 58, when=(has(ENTRY, Entry.LOAD_CET_STATE), is_equal("LINEAR_ADDRESS_WIDTH", 57))),
        one_of("guest_activity_active_or_hlt", GUEST, "GUEST_ACTIVITY_STATE", (0, 1), 0xFFFF_FFFF),
        one_of("guest_activity_known", GUEST, "GUEST_ACTIVITY_STATE", (0, 1, 3), 0xFFFF_FFFF),
    ), EINVAL),
)

# Access rights as vmcs02 gives them back; KVM takes "present" from the unusable bit.
AR_S, AR_UNUSABLE = 0x10, 1 << 16
TYPE_DATA_WRITABLE, TYPE_CODE, TYPE_CONFORMING, TYPE_ACCESSED = 0x3, 0x8, 0x4, 0x1
V8086 = has("GUEST_RFLAGS", 1 << 17)
NOT_V8086 = lacks("GUEST_RFLAGS", 1 << 17)
REGISTERS = ("CS", "SS", "DS", "ES", "FS", "GS")


def _usable(segment: str) -> Predicate:
    return lacks(f"GUEST_{segment}_AR_BYTES", AR_UNUSABLE)


def _rights(segment: str) -> str:
    return f"GUEST_{segment}_AR_BYTES"


def _when_checked(rows: Iterable[Row], *conditions: Predicate) -> tuple[Row, ...]:
    return tuple(row._replace(when=(RESTRICTED, *conditions, *row.when)) for row in rows)


STATE_VALID_RULES: Final = refuse((
    *(let(f"{s}_DPL", _rights(s), 0x3, 5) for s in REGISTERS),
    *(let(f"{s}_RPL", f"GUEST_{s}_SELECTOR", 0x3) for s in REGISTERS),
    *_when_checked((
        *(shifted(f"l2_{s.lower()}_base_v8086", STATE_VALID, f"GUEST_{s}_BASE", f"GUEST_{s}_SELECTOR", 4) for s in REGISTERS),
        *(equal(f"l2_{s.lower()}_limit_v8086", STATE_VALID, f"GUEST_{s}_LIMIT", 0xFFFF) for s in REGISTERS),
        equal("l2_cs_rights_v8086", STATE_VALID, _rights("CS"), 0x10, 0x1_F010),
        *(equal(f"l2_{s.lower()}_rights_v8086", STATE_VALID, _rights(s), 0x13, 0x1_F01F) for s in REGISTERS[1:]),
    ), V8086),
    *_when_checked((
        equal("l2_cs_rpl_is_ss_rpl", STATE_VALID, "CS_RPL", "SS_RPL"),
        bits_clear("l2_cs_usable", STATE_VALID, _rights("CS"), AR_UNUSABLE),
        bits_set("l2_cs_accessed_code", STATE_VALID, _rights("CS"), TYPE_CODE | TYPE_ACCESSED),
        bits_set("l2_cs_code_or_data", STATE_VALID, _rights("CS"), AR_S),
        at_most("l2_cs_dpl_conforming", STATE_VALID, "CS_DPL", "CS_RPL", has(_rights("CS"), TYPE_CONFORMING)),
        equal("l2_cs_dpl_nonconforming", STATE_VALID, "CS_DPL", "CS_RPL", when=lacks(_rights("CS"), TYPE_CONFORMING)),
        one_of("l2_ss_type", STATE_VALID, _rights("SS"), (3, 7), 0xF, _usable("SS")),
        bits_set("l2_ss_code_or_data", STATE_VALID, _rights("SS"), AR_S, _usable("SS")),
        equal("l2_ss_dpl_is_rpl", STATE_VALID, "SS_DPL", "SS_RPL", when=_usable("SS")),
        *(bits_set(f"l2_{s.lower()}_code_or_data", STATE_VALID, _rights(s), AR_S, _usable(s)) for s in REGISTERS[2:]),
        *(at_most(f"l2_{s.lower()}_dpl_below_rpl", STATE_VALID, f"{s}_RPL", f"{s}_DPL", (_usable(s), lacks_some(_rights(s), TYPE_CODE | TYPE_CONFORMING))) for s in REGISTERS[2:]),
        bits_clear("l2_tr_usable", STATE_VALID, _rights("TR"), AR_UNUSABLE),
        bits_clear("l2_tr_ti", STATE_VALID, "GUEST_TR_SELECTOR", 0x4),
        one_of("l2_tr_type", STATE_VALID, _rights("TR"), (3, 11), 0xF),
        bits_clear("l2_ldtr_ti", STATE_VALID, "GUEST_LDTR_SELECTOR", 0x4, _usable("LDTR")),
        equal("l2_ldtr_type", STATE_VALID, _rights("LDTR"), 2, 0xF, _usable("LDTR")),
    ), NOT_V8086),
), "ENTRY_STATUS")

PAE_OF_KVM = has_any("L2_PAE_WITHOUT_EPT")

ENTRY_RULES: Final = refuse((
    effect("prepare_vmcs02", ENTER),
    *(ARCHITECTURE[name]._replace(name=f"{name}_on_entry", section=f"{ARCHITECTURE[name].section}; {PREPARE}") for name in ("eptp_memory_type", "eptp_walk_length", "eptp_reserved")),
    *STATE_VALID_RULES,
    bits_clear("l2_cr3_width", LOAD_CR3, "GUEST_CR3", "CR3_RESERVED"),
    let("L2_PAE_WITHOUT_EPT", "GUEST_CR4", 1 << 5, when=(has("GUEST_CR0", 1 << 31), lacks(ENTRY, Entry.IA32E_MODE_GUEST), lacks("PROC2", ProcBased2.ENABLE_EPT))),
    bits_set("l2_pdptes_backed", LOAD_CR3, "PDPTES_BACKED", 1, when=PAE_OF_KVM),
    *(bits_clear(f"l2_pdpte{i}_reserved", LOAD_CR3, f"PDPTE{i}", "PDPTE_RESERVED", (PAE_OF_KVM, has(f"PDPTE{i}", 1))) for i in range(4)),
    effect("load_l2_pdptrs", LOAD_CR3, when=PAE_OF_KVM),
    bits_set("l2_perf_global_ctrl_exists", PREPARE, "PMU_HAS_GLOBAL_CTRL", 1, when=has(ENTRY, Entry.LOAD_IA32_PERF_GLOBAL_CTRL)),
    effect("enter_guest_mode", ENTER),
), "ENTRY_STATUS")
# fmt: on

SET_PROGRAM: Final = HEADER_RULES + CONTROL_RULES + HOST_RULES + GUEST_RULES + ENTRY_RULES
RULE: Final = {row.name: row for row in SET_PROGRAM if row.kind is not Kind.LET}
"""Every row by its name."""
