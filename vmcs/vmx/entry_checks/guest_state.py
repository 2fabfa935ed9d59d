"""Checks on the guest-state area, in the manual's order (SDM, "Checks on the Guest State Area")."""

from vmcs.checks import (
    Predicate,
    Row,
    Shape,
    allowed,
    at_most,
    bits_clear,
    bits_set,
    canonical,
    check,
    differs,
    equal,
    has,
    has_any,
    is_equal,
    is_in,
    is_not,
    lacks,
    lacks_some,
    let,
    memory_types,
    one_of,
    shifted,
    under,
)
from vmcs.vmx.controls import Entry, PinBased
from vmcs.vmx.entry_checks.controls import (
    ENTRY,
    EPT,
    EXTERNAL,
    HARDWARE,
    NMI,
    PIN,
    RESTRICTED,
    SHADOWING,
    TYPE,
    UNRESTRICTED,
    VALID,
    VECTOR,
)
from vmcs.vmx.entry_checks.host_state import (
    CR0_WP,
    CR4_CET,
    CR4_PAE,
    CR4_PCIDE,
    LMA,
    LME,
    UPPER_HALF,
)

CR0_PE, CR0_PG = 1 << 0, 1 << 31
RFLAGS_TF, RFLAGS_IF, RFLAGS_VM = 1 << 8, 1 << 9, 1 << 17
IA32E = has(ENTRY, Entry.IA32E_MODE_GUEST)
NOT_IA32E = lacks(ENTRY, Entry.IA32E_MODE_GUEST)
LOAD_DEBUG = has(ENTRY, Entry.LOAD_DEBUG_CONTROLS)
LOAD_PERF = has(ENTRY, Entry.LOAD_IA32_PERF_GLOBAL_CTRL)
LOAD_PAT = has(ENTRY, Entry.LOAD_IA32_PAT)
LOAD_EFER = has(ENTRY, Entry.LOAD_IA32_EFER)
LOAD_BNDCFGS = has(ENTRY, Entry.LOAD_IA32_BNDCFGS)
LOAD_RTIT = has(ENTRY, Entry.LOAD_IA32_RTIT_CTL)
LOAD_CET = has(ENTRY, Entry.LOAD_CET_STATE)
LOAD_LBR = has(ENTRY, Entry.LOAD_GUEST_IA32_LBR_CTL)
LOAD_PKRS = has(ENTRY, Entry.LOAD_PKRS)
LOAD_UINV = has(ENTRY, Entry.LOAD_UINV)
PAGING = has("GUEST_CR0", CR0_PG)
REAL = lacks("GUEST_CR0", CR0_PE)
V8086 = has("GUEST_RFLAGS", RFLAGS_VM)
NOT_V8086 = lacks("GUEST_RFLAGS", RFLAGS_VM)

# Access rights (SDM, "Guest Register State": Format of Access Rights).
AR_TYPE, AR_S, AR_DPL, AR_P, AR_L, AR_DB, AR_G = 0xF, 0x10, 0x60, 0x80, 1 << 13, 1 << 14, 1 << 15
AR_UNUSABLE, AR_RESERVED = 1 << 16, 0xFFFE_0F00
ACCESSED, READABLE, CODE = 0x1, 0x2, 0x8
DATA = ("SS", "DS", "ES", "FS", "GS")
SEGMENTS = ("CS", *DATA)


def usable(segment: str) -> Predicate:
    """The segment is not marked unusable."""
    return lacks(f"GUEST_{segment}_AR_BYTES", AR_UNUSABLE)


def granularity(segment: str, *when: Predicate) -> tuple[Row, Row]:
    """The two checks that tie the G bit to the limit."""
    rights, limit = f"GUEST_{segment}_AR_BYTES", f"GUEST_{segment}_LIMIT"
    name = f"guest_{segment.lower()}_granularity"
    low, high = lacks_some(limit, 0xFFF), has_any(limit, 0xFFF0_0000)
    return (
        bits_clear(f"{name}_low", "", rights, AR_G, (*when, low)),
        bits_set(f"{name}_high", "", rights, AR_G, (*when, high)),
    )


# fmt: off
REGISTER_CHECKS = under(
    "Checks on Guest Control Registers, Debug Registers, and MSRs",
    allowed("guest_cr0_fixed", "", "GUEST_CR0", "CR0_FIXED0", "CR0_FIXED1", RESTRICTED),
    allowed("guest_cr0_fixed_unrestricted", "", "GUEST_CR0", "CR0_FIXED0_UNRESTRICTED", "CR0_FIXED1", UNRESTRICTED),
    bits_set("guest_paging_needs_protection", "", "GUEST_CR0", CR0_PE, PAGING),
    allowed("guest_cr4_fixed", "", "GUEST_CR4", "CR4_FIXED0", "CR4_FIXED1"),
    bits_set("guest_cet_needs_wp", "", "GUEST_CR0", CR0_WP, has("GUEST_CR4", CR4_CET)),
    bits_clear("guest_debugctl_reserved", "", "GUEST_IA32_DEBUGCTL", "DEBUGCTL_RESERVED", LOAD_DEBUG),
    bits_set("guest_ia32e_needs_paging", "", "GUEST_CR0", CR0_PG, IA32E),
    bits_set("guest_ia32e_needs_pae", "", "GUEST_CR4", CR4_PAE, IA32E),
    bits_clear("guest_pcide_needs_ia32e", "", "GUEST_CR4", CR4_PCIDE, NOT_IA32E),
    bits_clear("guest_cr3_width", "", "GUEST_CR3", "CR3_RESERVED"),
    bits_clear("guest_dr7_upper_half", "", "GUEST_DR7", UPPER_HALF, LOAD_DEBUG),
    canonical("guest_sysenter_esp_canonical", "", "GUEST_SYSENTER_ESP"),
    canonical("guest_sysenter_eip_canonical", "", "GUEST_SYSENTER_EIP"),
    bits_clear("guest_s_cet_reserved", "", "GUEST_S_CET", "S_CET_RESERVED", LOAD_CET),
    differs("guest_s_cet_suppress_and_wait", "", "GUEST_S_CET", 0xC00, 0xC00, LOAD_CET),
    canonical("guest_s_cet_canonical", "", "GUEST_S_CET", when=LOAD_CET),
    canonical("guest_interrupt_ssp_table_canonical", "", "GUEST_INTR_SSP_TABLE", when=LOAD_CET),
    bits_clear("guest_perf_global_ctrl_reserved", "", "GUEST_IA32_PERF_GLOBAL_CTRL", "PERF_GLOBAL_RESERVED", LOAD_PERF),
    memory_types("guest_pat_memory_types", "", "GUEST_IA32_PAT", LOAD_PAT),
    bits_clear("guest_efer_reserved", "", "GUEST_IA32_EFER", "EFER_RESERVED", LOAD_EFER),
    check("guest_efer_lma_is_ia32e", "", Predicate(Shape.SAME, "GUEST_IA32_EFER", ENTRY, LMA, Entry.IA32E_MODE_GUEST), LOAD_EFER),
    check("guest_efer_lma_is_lme", "", Predicate(Shape.SAME, "GUEST_IA32_EFER", "GUEST_IA32_EFER", LMA, LME), (LOAD_EFER, PAGING)),
    bits_clear("guest_bndcfgs_reserved", "", "GUEST_BNDCFGS", 0xFFC, LOAD_BNDCFGS),
    canonical("guest_bndcfgs_canonical", "", "GUEST_BNDCFGS", when=LOAD_BNDCFGS),
    bits_clear("guest_rtit_ctl_reserved", "", "GUEST_IA32_RTIT_CTL", "RTIT_CTL_RESERVED", LOAD_RTIT),
    bits_clear("guest_lbr_ctl_reserved", "", "GUEST_IA32_LBR_CTL", "LBR_CTL_RESERVED", LOAD_LBR),
    bits_clear("guest_pkrs_upper_half", "", "GUEST_IA32_PKRS", UPPER_HALF, LOAD_PKRS),
    bits_clear("guest_uinv_reserved", "", "GUEST_UINV", 0xFF00, LOAD_UINV),
)

SEGMENT_CHECKS = under(
    "Checks on Guest Segment Registers",
    *(let(f"{s}_DPL", f"GUEST_{s}_AR_BYTES", 0x3, 5) for s in SEGMENTS),
    *(let(f"{s}_RPL", f"GUEST_{s}_SELECTOR", 0x3) for s in SEGMENTS),
    bits_clear("guest_tr_ti", "", "GUEST_TR_SELECTOR", 0x4),
    bits_clear("guest_ldtr_ti", "", "GUEST_LDTR_SELECTOR", 0x4, usable("LDTR")),
    equal("guest_ss_rpl_is_cs_rpl", "", "SS_RPL", "CS_RPL", when=(NOT_V8086, RESTRICTED)),
    *(shifted(f"guest_{s.lower()}_base_v8086", "", f"GUEST_{s}_BASE", f"GUEST_{s}_SELECTOR", 4, V8086) for s in SEGMENTS),
    canonical("guest_tr_base_canonical", "", "GUEST_TR_BASE"),
    canonical("guest_fs_base_canonical", "", "GUEST_FS_BASE", when=NOT_V8086),
    canonical("guest_gs_base_canonical", "", "GUEST_GS_BASE", when=NOT_V8086),
    canonical("guest_ldtr_base_canonical", "", "GUEST_LDTR_BASE", when=usable("LDTR")),
    bits_clear("guest_cs_base_upper_half", "", "GUEST_CS_BASE", UPPER_HALF, NOT_V8086),
    *(bits_clear(f"guest_{s.lower()}_base_upper_half", "", f"GUEST_{s}_BASE", UPPER_HALF, (NOT_V8086, usable(s))) for s in ("SS", "DS", "ES")),
    *(equal(f"guest_{s.lower()}_limit_v8086", "", f"GUEST_{s}_LIMIT", 0xFFFF, when=V8086) for s in SEGMENTS),
    *(equal(f"guest_{s.lower()}_rights_v8086", "", f"GUEST_{s}_AR_BYTES", 0xF3, when=V8086) for s in SEGMENTS),
    one_of("guest_cs_type", "", "GUEST_CS_AR_BYTES", (9, 11, 13, 15), AR_TYPE, (NOT_V8086, RESTRICTED)),
    one_of("guest_cs_type_unrestricted", "", "GUEST_CS_AR_BYTES", (3, 9, 11, 13, 15), AR_TYPE, (NOT_V8086, UNRESTRICTED)),
    one_of("guest_ss_type", "", "GUEST_SS_AR_BYTES", (3, 7), AR_TYPE, (NOT_V8086, usable("SS"))),
    *(bits_set(f"guest_{s.lower()}_accessed", "", f"GUEST_{s}_AR_BYTES", ACCESSED, (NOT_V8086, usable(s))) for s in DATA[1:]),
    *(bits_set(f"guest_{s.lower()}_code_readable", "", f"GUEST_{s}_AR_BYTES", READABLE, (NOT_V8086, usable(s), has(f"GUEST_{s}_AR_BYTES", CODE))) for s in DATA[1:]),
    bits_set("guest_cs_code_or_data", "", "GUEST_CS_AR_BYTES", AR_S, NOT_V8086),
    *(bits_set(f"guest_{s.lower()}_code_or_data", "", f"GUEST_{s}_AR_BYTES", AR_S, (NOT_V8086, usable(s))) for s in DATA),
    equal("guest_cs_dpl_of_data_segment", "", "CS_DPL", 0, when=(NOT_V8086, is_equal("GUEST_CS_AR_BYTES", 3, AR_TYPE))),
    equal("guest_cs_dpl_nonconforming", "", "CS_DPL", "SS_DPL", when=(NOT_V8086, is_in("GUEST_CS_AR_BYTES", (9, 11), AR_TYPE))),
    at_most("guest_cs_dpl_conforming", "", "CS_DPL", "SS_DPL", (NOT_V8086, is_in("GUEST_CS_AR_BYTES", (13, 15), AR_TYPE))),
    equal("guest_ss_dpl_is_rpl", "", "SS_DPL", "SS_RPL", when=(NOT_V8086, RESTRICTED)),
    equal("guest_ss_dpl_with_data_cs", "", "SS_DPL", 0, when=(NOT_V8086, UNRESTRICTED, is_equal("GUEST_CS_AR_BYTES", 3, AR_TYPE))),
    equal("guest_ss_dpl_in_real_mode", "", "SS_DPL", 0, when=(NOT_V8086, UNRESTRICTED, REAL)),
    *(at_most(f"guest_{s.lower()}_dpl_below_rpl", "", f"{s}_RPL", f"{s}_DPL", (NOT_V8086, RESTRICTED, usable(s), is_in(f"GUEST_{s}_AR_BYTES", range(12), AR_TYPE))) for s in DATA[1:]),
    bits_set("guest_cs_present", "", "GUEST_CS_AR_BYTES", AR_P, NOT_V8086),
    *(bits_set(f"guest_{s.lower()}_present", "", f"GUEST_{s}_AR_BYTES", AR_P, (NOT_V8086, usable(s))) for s in DATA),
    bits_clear("guest_cs_rights_reserved", "", "GUEST_CS_AR_BYTES", AR_RESERVED, NOT_V8086),
    *(bits_clear(f"guest_{s.lower()}_rights_reserved", "", f"GUEST_{s}_AR_BYTES", AR_RESERVED, (NOT_V8086, usable(s))) for s in DATA),
    bits_clear("guest_cs_64_bit_default_size", "", "GUEST_CS_AR_BYTES", AR_DB, (NOT_V8086, IA32E, has("GUEST_CS_AR_BYTES", AR_L))),
    *granularity("CS", NOT_V8086),
    *(row for s in DATA for row in granularity(s, NOT_V8086, usable(s))),
    one_of("guest_tr_type_legacy", "", "GUEST_TR_AR_BYTES", (3, 11), AR_TYPE, NOT_IA32E),
    equal("guest_tr_type_ia32e", "", "GUEST_TR_AR_BYTES", 11, AR_TYPE, IA32E),
    bits_clear("guest_tr_system", "", "GUEST_TR_AR_BYTES", AR_S),
    bits_set("guest_tr_present", "", "GUEST_TR_AR_BYTES", AR_P),
    bits_clear("guest_tr_rights_reserved", "", "GUEST_TR_AR_BYTES", AR_RESERVED),
    *granularity("TR"),
    bits_clear("guest_tr_usable", "", "GUEST_TR_AR_BYTES", AR_UNUSABLE),
    equal("guest_ldtr_type", "", "GUEST_LDTR_AR_BYTES", 2, AR_TYPE, usable("LDTR")),
    bits_clear("guest_ldtr_system", "", "GUEST_LDTR_AR_BYTES", AR_S, usable("LDTR")),
    bits_set("guest_ldtr_present", "", "GUEST_LDTR_AR_BYTES", AR_P, usable("LDTR")),
    bits_clear("guest_ldtr_rights_reserved", "", "GUEST_LDTR_AR_BYTES", AR_RESERVED, usable("LDTR")),
    *granularity("LDTR", usable("LDTR")),
)

TABLE_CHECKS = under(
    "Checks on Guest Descriptor-Table Registers",
    canonical("guest_gdtr_base_canonical", "", "GUEST_GDTR_BASE"),
    canonical("guest_idtr_base_canonical", "", "GUEST_IDTR_BASE"),
    bits_clear("guest_gdtr_limit", "", "GUEST_GDTR_LIMIT", 0xFFFF_0000),
    bits_clear("guest_idtr_limit", "", "GUEST_IDTR_LIMIT", 0xFFFF_0000),
)

CS_64 = has("GUEST_CS_AR_BYTES", AR_L)
CS_NOT_64 = lacks("GUEST_CS_AR_BYTES", AR_L)
RIP_CHECKS = under(
    "Checks on Guest RIP, RFLAGS, and SSP",
    bits_clear("guest_rip_upper_half_legacy", "", "GUEST_RIP", UPPER_HALF, NOT_IA32E),
    bits_clear("guest_rip_upper_half_compatibility", "", "GUEST_RIP", UPPER_HALF, (IA32E, CS_NOT_64)),
    canonical("guest_rip_canonical", "", "GUEST_RIP", when=(IA32E, CS_64)),
    bits_clear("guest_rflags_reserved", "", "GUEST_RFLAGS", 0xFFFF_FFFF_FFC0_8028),
    bits_set("guest_rflags_bit_1", "", "GUEST_RFLAGS", 0x2),
    bits_clear("guest_v8086_excludes_ia32e", "", "GUEST_RFLAGS", RFLAGS_VM, IA32E),
    bits_clear("guest_v8086_needs_protection", "", "GUEST_RFLAGS", RFLAGS_VM, REAL),
    bits_set("guest_injected_interrupt_needs_if", "", "GUEST_RFLAGS", RFLAGS_IF, (has("INJECTED", VALID), is_equal("INJECTED", EXTERNAL, TYPE))),
    bits_clear("guest_ssp_aligned", "", "GUEST_SSP", 0x3, LOAD_CET),
    bits_clear("guest_ssp_upper_half_legacy", "", "GUEST_SSP", UPPER_HALF, (LOAD_CET, NOT_IA32E)),
    bits_clear("guest_ssp_upper_half_compatibility", "", "GUEST_SSP", UPPER_HALF, (LOAD_CET, IA32E, CS_NOT_64)),
    canonical("guest_ssp_canonical", "", "GUEST_SSP", when=(LOAD_CET, IA32E, CS_64)),
)

ACTIVE, HLT, SHUTDOWN, WAIT_FOR_SIPI = range(4)
STI, MOV_SS, SMI, NMI_BLOCKING, ENCLAVE = (1 << bit for bit in range(5))
INJECTS = has("INJECTED", VALID)
DEBUG_BS = 1 << 14
DEBUG_RTM = 1 << 16
SHADOW = has_any("GUEST_INTERRUPTIBILITY_INFO", STI | MOV_SS)
TRAP_PENDING = (has("GUEST_RFLAGS", RFLAGS_TF), lacks("GUEST_IA32_DEBUGCTL", 0x2))
HALTED = is_equal("GUEST_ACTIVITY_STATE", HLT)
LINKED = is_not("VMCS_LINK_POINTER", 0xFFFF_FFFF_FFFF_FFFF)
INFO = "GUEST_INTERRUPTIBILITY_INFO"
PENDING = "GUEST_PENDING_DBG_EXCEPTIONS"
NON_REGISTER_CHECKS = under(
    "Checks on Guest Non-Register State",
    check("guest_activity_supported", "", Predicate(Shape.MEMBER, "GUEST_ACTIVITY_STATE", "ACTIVITY_STATES", 0xFFFF_FFFF)),
    equal("guest_hlt_needs_ss_dpl_0", "", "SS_DPL", 0, when=HALTED),
    bits_clear("guest_inactive_excludes_shadow", "", INFO, STI | MOV_SS, is_not("GUEST_ACTIVITY_STATE", ACTIVE)),
    one_of("guest_hlt_injection_type", "", "INJECTED", (0, 2, 3, 7), TYPE, (HALTED, INJECTS)),
    one_of("guest_hlt_injection_vector", "", "INJECTED", (1, 18), VECTOR, (HALTED, INJECTS, is_equal("INJECTED", HARDWARE, TYPE))),
    one_of("guest_shutdown_injection_type", "", "INJECTED", (2, 3), TYPE, (is_equal("GUEST_ACTIVITY_STATE", SHUTDOWN), INJECTS)),
    equal("guest_shutdown_injection_vector", "", "INJECTED", 18, VECTOR, (is_equal("GUEST_ACTIVITY_STATE", SHUTDOWN), INJECTS, is_equal("INJECTED", HARDWARE, TYPE))),
    bits_clear("guest_wait_for_sipi_injection", "", "INJECTED", VALID, is_equal("GUEST_ACTIVITY_STATE", WAIT_FOR_SIPI)),
    differs("guest_wait_for_sipi_to_smm", "", "GUEST_ACTIVITY_STATE", WAIT_FOR_SIPI, when=has(ENTRY, Entry.ENTRY_TO_SMM)),
    bits_clear("guest_interruptibility_reserved", "", INFO, 0xFFFF_FFE0),
    differs("guest_sti_excludes_mov_ss", "", INFO, STI | MOV_SS, STI | MOV_SS),
    bits_clear("guest_sti_needs_if", "", INFO, STI, lacks("GUEST_RFLAGS", RFLAGS_IF)),
    bits_clear("guest_injected_interrupt_excludes_shadow", "", INFO, STI | MOV_SS, (INJECTS, is_equal("INJECTED", EXTERNAL, TYPE))),
    bits_clear("guest_injected_nmi_excludes_mov_ss", "", INFO, MOV_SS, (INJECTS, is_equal("INJECTED", NMI, TYPE))),
    bits_clear("guest_smi_blocking_outside_smm", "", INFO, SMI, lacks("IN_SMM")),
    bits_set("guest_entry_to_smm_needs_smi_blocking", "", INFO, SMI, has(ENTRY, Entry.ENTRY_TO_SMM)),
    bits_clear("guest_injected_nmi_excludes_nmi_blocking", "", INFO, NMI_BLOCKING, (has(PIN, PinBased.VIRTUAL_NMIS), INJECTS, is_equal("INJECTED", NMI, TYPE))),
    bits_clear("guest_enclave_excludes_mov_ss", "", INFO, MOV_SS, has(INFO, ENCLAVE)),
    bits_clear("guest_pending_debug_reserved", "", PENDING, 0xFFFF_FFFF_FFFE_A7F0),
    bits_set("guest_pending_debug_single_step", "", PENDING, DEBUG_BS, (SHADOW, *TRAP_PENDING)),
    bits_set("guest_pending_debug_single_step_hlt", "", PENDING, DEBUG_BS, (HALTED, *TRAP_PENDING)),
    bits_clear("guest_pending_debug_no_trap_flag", "", PENDING, DEBUG_BS, (SHADOW, lacks("GUEST_RFLAGS", RFLAGS_TF))),
    bits_clear("guest_pending_debug_branch_trap", "", PENDING, DEBUG_BS, (SHADOW, has("GUEST_RFLAGS", RFLAGS_TF), has("GUEST_IA32_DEBUGCTL", 0x2))),
    equal("guest_pending_debug_rtm", "", PENDING, 0x1000, 0x1_FFFF & ~DEBUG_RTM, has(PENDING, DEBUG_RTM)),
    bits_clear("guest_pending_debug_rtm_excludes_mov_ss", "", INFO, MOV_SS, has(PENDING, DEBUG_RTM)),
    bits_clear("vmcs_link_pointer_address", "", "VMCS_LINK_POINTER", "PAGE_RESERVED", LINKED),
    let("LINK_REVISION", "LINK_FIRST_WORD", 0x7FFF_FFFF),
    equal("vmcs_link_revision", "", "LINK_REVISION", "VMCS_REVISION", when=LINKED),
    bits_set("vmcs_link_is_shadow", "", "LINK_FIRST_WORD", 1 << 31, (LINKED, SHADOWING)),
    bits_clear("vmcs_link_is_ordinary", "", "LINK_FIRST_WORD", 1 << 31, (LINKED, is_equal("PROC2", 0, 1 << 14))),
    differs("vmcs_link_not_current", "", "VMCS_LINK_POINTER", "CURRENT_VMCS", when=(LINKED, has("IN_SMM", 1))),
)

PDPTE_CHECKS = under(
    "Checks on Guest Page-Directory-Pointer-Table Entries",
    let("PAE_PAGING", "GUEST_CR4", CR4_PAE, when=(PAGING, NOT_IA32E)),
    *(bits_clear(f"guest_pdpte{i}_reserved", "", f"GUEST_PDPTR{i}", "PDPTE_RESERVED", (has_any("PAE_PAGING"), EPT, has(f"GUEST_PDPTR{i}", 1))) for i in range(4)),
    *(bits_clear(f"memory_pdpte{i}_reserved", "", f"PDPTE{i}", "PDPTE_RESERVED", (has_any("PAE_PAGING"), lacks("PROC2", 0x2), has(f"PDPTE{i}", 1))) for i in range(4)),
)
# fmt: on

GUEST_STATE_CHECKS = (
    REGISTER_CHECKS
    + SEGMENT_CHECKS
    + TABLE_CHECKS
    + RIP_CHECKS
    + NON_REGISTER_CHECKS
    + PDPTE_CHECKS
)
