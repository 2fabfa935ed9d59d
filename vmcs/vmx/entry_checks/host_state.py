"""Checks on the host-state area, in the manual's order (SDM, "Checks on Host ... ")."""

from vmcs.checks import (
    allowed,
    bits_clear,
    bits_set,
    canonical,
    differs,
    equal,
    has,
    lacks,
    memory_types,
    under,
)
from vmcs.vmx.controls import Entry, Exit
from vmcs.vmx.entry_checks.controls import ENTRY, EXIT

LMA, LME, LMA_LME = 1 << 10, 1 << 8, 1 << 10 | 1 << 8
CR0_WP, CR4_PAE, CR4_PCIDE, CR4_CET = 1 << 16, 1 << 5, 1 << 17, 1 << 23
UPPER_HALF = 0xFFFF_FFFF_0000_0000
RPL_TI = 0x7

HOST_64 = has(EXIT, Exit.HOST_ADDRESS_SPACE_SIZE)
HOST_32 = lacks(EXIT, Exit.HOST_ADDRESS_SPACE_SIZE)
LOAD_CET = has(EXIT, Exit.LOAD_CET_STATE)
LOAD_EFER = has(EXIT, Exit.LOAD_IA32_EFER)
LOAD_PERF = has(EXIT, Exit.LOAD_IA32_PERF_GLOBAL_CTRL)
LOAD_PAT = has(EXIT, Exit.LOAD_IA32_PAT)
LOAD_PKRS = has(EXIT, Exit.LOAD_PKRS)
LONG_MODE = has("CURRENT_EFER", LMA)
LEGACY_MODE = lacks("CURRENT_EFER", LMA)

# fmt: off
REGISTER_CHECKS = under(
    "Checks on Host Control Registers, MSRs, and SSP",
    allowed("host_cr0_fixed", "", "HOST_CR0", "CR0_FIXED0", "CR0_FIXED1"),
    allowed("host_cr4_fixed", "", "HOST_CR4", "CR4_FIXED0", "CR4_FIXED1"),
    bits_set("host_cet_needs_wp", "", "HOST_CR0", CR0_WP, has("HOST_CR4", CR4_CET)),
    bits_clear("host_cr3_width", "", "HOST_CR3", "CR3_RESERVED"),
    canonical("host_sysenter_esp_canonical", "", "HOST_IA32_SYSENTER_ESP"),
    canonical("host_sysenter_eip_canonical", "", "HOST_IA32_SYSENTER_EIP"),
    bits_clear("host_perf_global_ctrl_reserved", "", "HOST_IA32_PERF_GLOBAL_CTRL", "PERF_GLOBAL_RESERVED", LOAD_PERF),
    memory_types("host_pat_memory_types", "", "HOST_IA32_PAT", LOAD_PAT),
    bits_clear("host_efer_reserved", "", "HOST_IA32_EFER", "EFER_RESERVED", LOAD_EFER),
    equal("host_efer_long_mode", "", "HOST_IA32_EFER", LMA_LME, LMA_LME, (LOAD_EFER, HOST_64)),
    bits_clear("host_efer_legacy_mode", "", "HOST_IA32_EFER", LMA_LME, (LOAD_EFER, HOST_32)),
    bits_clear("host_s_cet_reserved", "", "HOST_S_CET", "S_CET_RESERVED", LOAD_CET),
    differs("host_s_cet_suppress_and_wait", "", "HOST_S_CET", 0xC00, 0xC00, LOAD_CET),
    canonical("host_s_cet_canonical", "", "HOST_S_CET", when=LOAD_CET),
    bits_clear("host_ssp_aligned", "", "HOST_SSP", 0x3, LOAD_CET),
    canonical("host_interrupt_ssp_table_canonical", "", "HOST_INTR_SSP_TABLE", when=LOAD_CET),
    bits_clear("host_pkrs_upper_half", "", "HOST_IA32_PKRS", UPPER_HALF, LOAD_PKRS),
)

SEGMENT_CHECKS = under(
    "Checks on Host Segment and Descriptor-Table Registers",
    bits_clear("host_es_rpl_ti", "", "HOST_ES_SELECTOR", RPL_TI),
    bits_clear("host_cs_rpl_ti", "", "HOST_CS_SELECTOR", RPL_TI),
    bits_clear("host_ss_rpl_ti", "", "HOST_SS_SELECTOR", RPL_TI),
    bits_clear("host_ds_rpl_ti", "", "HOST_DS_SELECTOR", RPL_TI),
    bits_clear("host_fs_rpl_ti", "", "HOST_FS_SELECTOR", RPL_TI),
    bits_clear("host_gs_rpl_ti", "", "HOST_GS_SELECTOR", RPL_TI),
    bits_clear("host_tr_rpl_ti", "", "HOST_TR_SELECTOR", RPL_TI),
    differs("host_cs_not_null", "", "HOST_CS_SELECTOR", 0),
    differs("host_tr_not_null", "", "HOST_TR_SELECTOR", 0),
    differs("host_ss_not_null", "", "HOST_SS_SELECTOR", 0, when=HOST_32),
    canonical("host_fs_base_canonical", "", "HOST_FS_BASE"),
    canonical("host_gs_base_canonical", "", "HOST_GS_BASE"),
    canonical("host_gdtr_base_canonical", "", "HOST_GDTR_BASE"),
    canonical("host_idtr_base_canonical", "", "HOST_IDTR_BASE"),
    canonical("host_tr_base_canonical", "", "HOST_TR_BASE"),
)

ADDRESS_SPACE_CHECKS = under(
    "Checks Related to Address-Space Size",
    bits_clear("legacy_mode_excludes_ia32e_guest", "", ENTRY, Entry.IA32E_MODE_GUEST, LEGACY_MODE),
    bits_clear("legacy_mode_excludes_64_bit_host", "", EXIT, Exit.HOST_ADDRESS_SPACE_SIZE, LEGACY_MODE),
    bits_set("long_mode_needs_64_bit_host", "", EXIT, Exit.HOST_ADDRESS_SPACE_SIZE, LONG_MODE),
    bits_clear("host_32_excludes_ia32e_guest", "", ENTRY, Entry.IA32E_MODE_GUEST, HOST_32),
    bits_clear("host_32_excludes_pcide", "", "HOST_CR4", CR4_PCIDE, HOST_32),
    bits_clear("host_32_rip_upper_half", "", "HOST_RIP", UPPER_HALF, HOST_32),
    bits_clear("host_32_ssp_upper_half", "", "HOST_SSP", UPPER_HALF, (HOST_32, LOAD_CET)),
    bits_set("host_64_needs_pae", "", "HOST_CR4", CR4_PAE, HOST_64),
    canonical("host_rip_canonical", "", "HOST_RIP", when=HOST_64),
    canonical("host_ssp_canonical", "", "HOST_SSP", when=(HOST_64, LOAD_CET)),
)
# fmt: on

HOST_STATE_CHECKS = REGISTER_CHECKS + SEGMENT_CHECKS + ADDRESS_SPACE_CHECKS
