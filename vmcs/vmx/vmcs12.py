"""KVM's vmcs12: the layout in which KVM keeps L1's VMCS, in L1's memory and in the stream.

The layout never moved a member; it gained members in the place of reserved bytes and retired four.
`VMCS12_BASE` is the layout that every release began with; `VMCS12_ADDITIONS` are the rows that
later releases put in the place of its bytes, by member name. A release names the additions that it
has, and `vmcs12_rows` gives its whole layout, every byte of 0 to 997 accounted for::

    vmcs12_rows("dead_space", "encls_exiting_bitmap", "tsc_multiplier")   # as in 5.14 to 6.14

The row's `meaning` is the VMCS field that the member holds.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

from vmcs.byte_layout import FieldAt, byte_table, carve, check_bytes, dtype_of, padding
from vmcs.schema import Layout, bit, bits, check_cited, check_unique, require
from vmcs.vmx.fields import BY_NAME, field_at

VMCS12_REVISION: Final = 0x11E57ED0
VMCS12_SIZE: Final = 0x1000
VMCS12_BYTES: Final = 998

LAUNCH_STATE_CLEAR: Final = 0
LAUNCH_STATE_LAUNCHED: Final = 1

HEADER: Final = Layout(
    "hdr",
    32,
    bits("REVISION_ID", 0, 30, "VMCS revision identifier"),
    bit("SHADOW_VMCS", 31, "Shadow-VMCS indicator"),
    sdm="Format of the VMCS Region",
)

SOURCE: Final = "arch/x86/kvm/vmx/vmcs12.h: struct vmcs12"


def u16(name: str, offset: int, meaning: str, *, seen: str = "") -> FieldAt:
    """Row of a 16-bit member."""
    return FieldAt(name, offset, "u2", meaning, seen=seen)


def u32(name: str, offset: int, meaning: str, *, seen: str = "") -> FieldAt:
    """Row of a 32-bit member."""
    return FieldAt(name, offset, "u4", meaning, seen=seen)


def u64(name: str, offset: int, meaning: str, *, seen: str = "") -> FieldAt:
    """Row of a 64-bit member."""
    return FieldAt(name, offset, "u8", meaning, seen=seen)


natural = u64

VMCS12_BASE: Final = byte_table(
    "VMCS12_BASE",
    VMCS12_BYTES,
    u32("hdr", 0, "Revision identifier and shadow-VMCS indicator"),
    u32("abort", 4, "VMX-abort indicator"),
    u32("launch_state", 8, "0 after VMCLEAR, 1 after VMLAUNCH"),
    padding("padding", 12, "u4", 7),
    u64("io_bitmap_a", 40, "IO_BITMAP_A"),
    u64("io_bitmap_b", 48, "IO_BITMAP_B"),
    u64("msr_bitmap", 56, "MSR_BITMAP"),
    u64("vm_exit_msr_store_addr", 64, "VM_EXIT_MSR_STORE_ADDR"),
    u64("vm_exit_msr_load_addr", 72, "VM_EXIT_MSR_LOAD_ADDR"),
    u64("vm_entry_msr_load_addr", 80, "VM_ENTRY_MSR_LOAD_ADDR"),
    u64("tsc_offset", 88, "TSC_OFFSET"),
    u64("virtual_apic_page_addr", 96, "VIRTUAL_APIC_PAGE_ADDR"),
    u64("apic_access_addr", 104, "APIC_ACCESS_ADDR"),
    u64("posted_intr_desc_addr", 112, "POSTED_INTR_DESC_ADDR"),
    u64("ept_pointer", 120, "EPT_POINTER"),
    u64("eoi_exit_bitmap0", 128, "EOI_EXIT_BITMAP0"),
    u64("eoi_exit_bitmap1", 136, "EOI_EXIT_BITMAP1"),
    u64("eoi_exit_bitmap2", 144, "EOI_EXIT_BITMAP2"),
    u64("eoi_exit_bitmap3", 152, "EOI_EXIT_BITMAP3"),
    u64("xss_exit_bitmap", 160, "XSS_EXIT_BITMAP"),
    u64("guest_physical_address", 168, "GUEST_PHYSICAL_ADDRESS"),
    u64("vmcs_link_pointer", 176, "VMCS_LINK_POINTER"),
    u64("guest_ia32_debugctl", 184, "GUEST_IA32_DEBUGCTL"),
    u64("guest_ia32_pat", 192, "GUEST_IA32_PAT"),
    u64("guest_ia32_efer", 200, "GUEST_IA32_EFER"),
    u64("guest_ia32_perf_global_ctrl", 208, "GUEST_IA32_PERF_GLOBAL_CTRL"),
    u64("guest_pdptr0", 216, "GUEST_PDPTR0"),
    u64("guest_pdptr1", 224, "GUEST_PDPTR1"),
    u64("guest_pdptr2", 232, "GUEST_PDPTR2"),
    u64("guest_pdptr3", 240, "GUEST_PDPTR3"),
    u64("guest_bndcfgs", 248, "GUEST_BNDCFGS"),
    u64("host_ia32_pat", 256, "HOST_IA32_PAT"),
    u64("host_ia32_efer", 264, "HOST_IA32_EFER"),
    u64("host_ia32_perf_global_ctrl", 272, "HOST_IA32_PERF_GLOBAL_CTRL"),
    u64("vmread_bitmap", 280, "VMREAD_BITMAP"),
    u64("vmwrite_bitmap", 288, "VMWRITE_BITMAP"),
    u64("vm_function_control", 296, "VM_FUNCTION_CONTROL"),
    u64("eptp_list_address", 304, "EPTP_LIST_ADDRESS"),
    u64("pml_address", 312, "PML_ADDRESS"),
    padding("padding64", 320, "u8", 3),
    natural("cr0_guest_host_mask", 344, "CR0_GUEST_HOST_MASK"),
    natural("cr4_guest_host_mask", 352, "CR4_GUEST_HOST_MASK"),
    natural("cr0_read_shadow", 360, "CR0_READ_SHADOW"),
    natural("cr4_read_shadow", 368, "CR4_READ_SHADOW"),
    natural("cr3_target_value0", 376, "CR3_TARGET_VALUE0"),
    natural("cr3_target_value1", 384, "CR3_TARGET_VALUE1"),
    natural("cr3_target_value2", 392, "CR3_TARGET_VALUE2"),
    natural("cr3_target_value3", 400, "CR3_TARGET_VALUE3"),
    natural("exit_qualification", 408, "EXIT_QUALIFICATION"),
    natural("guest_linear_address", 416, "GUEST_LINEAR_ADDRESS"),
    natural("guest_cr0", 424, "GUEST_CR0"),
    natural("guest_cr3", 432, "GUEST_CR3"),
    natural("guest_cr4", 440, "GUEST_CR4"),
    natural("guest_es_base", 448, "GUEST_ES_BASE"),
    natural("guest_cs_base", 456, "GUEST_CS_BASE"),
    natural("guest_ss_base", 464, "GUEST_SS_BASE"),
    natural("guest_ds_base", 472, "GUEST_DS_BASE"),
    natural("guest_fs_base", 480, "GUEST_FS_BASE"),
    natural("guest_gs_base", 488, "GUEST_GS_BASE"),
    natural("guest_ldtr_base", 496, "GUEST_LDTR_BASE"),
    natural("guest_tr_base", 504, "GUEST_TR_BASE"),
    natural("guest_gdtr_base", 512, "GUEST_GDTR_BASE"),
    natural("guest_idtr_base", 520, "GUEST_IDTR_BASE"),
    natural("guest_dr7", 528, "GUEST_DR7"),
    natural("guest_rsp", 536, "GUEST_RSP"),
    natural("guest_rip", 544, "GUEST_RIP"),
    natural("guest_rflags", 552, "GUEST_RFLAGS"),
    natural("guest_pending_dbg_exceptions", 560, "GUEST_PENDING_DBG_EXCEPTIONS"),
    natural("guest_sysenter_esp", 568, "GUEST_SYSENTER_ESP"),
    natural("guest_sysenter_eip", 576, "GUEST_SYSENTER_EIP"),
    natural("host_cr0", 584, "HOST_CR0"),
    natural("host_cr3", 592, "HOST_CR3"),
    natural("host_cr4", 600, "HOST_CR4"),
    natural("host_fs_base", 608, "HOST_FS_BASE"),
    natural("host_gs_base", 616, "HOST_GS_BASE"),
    natural("host_tr_base", 624, "HOST_TR_BASE"),
    natural("host_gdtr_base", 632, "HOST_GDTR_BASE"),
    natural("host_idtr_base", 640, "HOST_IDTR_BASE"),
    natural("host_ia32_sysenter_esp", 648, "HOST_IA32_SYSENTER_ESP"),
    natural("host_ia32_sysenter_eip", 656, "HOST_IA32_SYSENTER_EIP"),
    natural("host_rsp", 664, "HOST_RSP"),
    natural("host_rip", 672, "HOST_RIP"),
    padding("paddingl", 680, "u8", 8),
    u32("pin_based_vm_exec_control", 744, "PIN_BASED_VM_EXEC_CONTROL"),
    u32("cpu_based_vm_exec_control", 748, "CPU_BASED_VM_EXEC_CONTROL"),
    u32("exception_bitmap", 752, "EXCEPTION_BITMAP"),
    u32("page_fault_error_code_mask", 756, "PAGE_FAULT_ERROR_CODE_MASK"),
    u32("page_fault_error_code_match", 760, "PAGE_FAULT_ERROR_CODE_MATCH"),
    u32("cr3_target_count", 764, "CR3_TARGET_COUNT"),
    u32("vm_exit_controls", 768, "VM_EXIT_CONTROLS"),
    u32("vm_exit_msr_store_count", 772, "VM_EXIT_MSR_STORE_COUNT"),
    u32("vm_exit_msr_load_count", 776, "VM_EXIT_MSR_LOAD_COUNT"),
    u32("vm_entry_controls", 780, "VM_ENTRY_CONTROLS"),
    u32("vm_entry_msr_load_count", 784, "VM_ENTRY_MSR_LOAD_COUNT"),
    u32("vm_entry_intr_info_field", 788, "VM_ENTRY_INTR_INFO_FIELD"),
    u32("vm_entry_exception_error_code", 792, "VM_ENTRY_EXCEPTION_ERROR_CODE"),
    u32("vm_entry_instruction_len", 796, "VM_ENTRY_INSTRUCTION_LEN"),
    u32("tpr_threshold", 800, "TPR_THRESHOLD"),
    u32("secondary_vm_exec_control", 804, "SECONDARY_VM_EXEC_CONTROL"),
    u32("vm_instruction_error", 808, "VM_INSTRUCTION_ERROR"),
    u32("vm_exit_reason", 812, "VM_EXIT_REASON"),
    u32("vm_exit_intr_info", 816, "VM_EXIT_INTR_INFO"),
    u32("vm_exit_intr_error_code", 820, "VM_EXIT_INTR_ERROR_CODE"),
    u32("idt_vectoring_info_field", 824, "IDT_VECTORING_INFO_FIELD"),
    u32("idt_vectoring_error_code", 828, "IDT_VECTORING_ERROR_CODE"),
    u32("vm_exit_instruction_len", 832, "VM_EXIT_INSTRUCTION_LEN"),
    u32("vmx_instruction_info", 836, "VMX_INSTRUCTION_INFO"),
    u32("guest_es_limit", 840, "GUEST_ES_LIMIT"),
    u32("guest_cs_limit", 844, "GUEST_CS_LIMIT"),
    u32("guest_ss_limit", 848, "GUEST_SS_LIMIT"),
    u32("guest_ds_limit", 852, "GUEST_DS_LIMIT"),
    u32("guest_fs_limit", 856, "GUEST_FS_LIMIT"),
    u32("guest_gs_limit", 860, "GUEST_GS_LIMIT"),
    u32("guest_ldtr_limit", 864, "GUEST_LDTR_LIMIT"),
    u32("guest_tr_limit", 868, "GUEST_TR_LIMIT"),
    u32("guest_gdtr_limit", 872, "GUEST_GDTR_LIMIT"),
    u32("guest_idtr_limit", 876, "GUEST_IDTR_LIMIT"),
    u32("guest_es_ar_bytes", 880, "GUEST_ES_AR_BYTES"),
    u32("guest_cs_ar_bytes", 884, "GUEST_CS_AR_BYTES"),
    u32("guest_ss_ar_bytes", 888, "GUEST_SS_AR_BYTES"),
    u32("guest_ds_ar_bytes", 892, "GUEST_DS_AR_BYTES"),
    u32("guest_fs_ar_bytes", 896, "GUEST_FS_AR_BYTES"),
    u32("guest_gs_ar_bytes", 900, "GUEST_GS_AR_BYTES"),
    u32("guest_ldtr_ar_bytes", 904, "GUEST_LDTR_AR_BYTES"),
    u32("guest_tr_ar_bytes", 908, "GUEST_TR_AR_BYTES"),
    u32("guest_interruptibility_info", 912, "GUEST_INTERRUPTIBILITY_INFO"),
    u32("guest_activity_state", 916, "GUEST_ACTIVITY_STATE"),
    u32("guest_sysenter_cs", 920, "GUEST_SYSENTER_CS"),
    u32("host_ia32_sysenter_cs", 924, "HOST_IA32_SYSENTER_CS"),
    u32("vmx_preemption_timer_value", 928, "VMX_PREEMPTION_TIMER_VALUE"),
    padding("padding32", 932, "u4", 7),
    u16("virtual_processor_id", 960, "VIRTUAL_PROCESSOR_ID"),
    u16("posted_intr_nv", 962, "POSTED_INTR_NV"),
    u16("guest_es_selector", 964, "GUEST_ES_SELECTOR"),
    u16("guest_cs_selector", 966, "GUEST_CS_SELECTOR"),
    u16("guest_ss_selector", 968, "GUEST_SS_SELECTOR"),
    u16("guest_ds_selector", 970, "GUEST_DS_SELECTOR"),
    u16("guest_fs_selector", 972, "GUEST_FS_SELECTOR"),
    u16("guest_gs_selector", 974, "GUEST_GS_SELECTOR"),
    u16("guest_ldtr_selector", 976, "GUEST_LDTR_SELECTOR"),
    u16("guest_tr_selector", 978, "GUEST_TR_SELECTOR"),
    u16("guest_intr_status", 980, "GUEST_INTR_STATUS"),
    u16("host_es_selector", 982, "HOST_ES_SELECTOR"),
    u16("host_cs_selector", 984, "HOST_CS_SELECTOR"),
    u16("host_ss_selector", 986, "HOST_SS_SELECTOR"),
    u16("host_ds_selector", 988, "HOST_DS_SELECTOR"),
    u16("host_fs_selector", 990, "HOST_FS_SELECTOR"),
    u16("host_gs_selector", 992, "HOST_GS_SELECTOR"),
    u16("host_tr_selector", 994, "HOST_TR_SELECTOR"),
    u16("guest_pml_index", 996, "GUEST_PML_INDEX"),
    seen=f"{SOURCE}, 4.18",
)

TARGETS = f"{SOURCE}, 5.8"
SCALING = f"{SOURCE}, 5.14"
CET = f"{SOURCE}, 6.18"

ADDED_ROWS: Final = (
    u64("encls_exiting_bitmap", 320, "ENCLS_EXITING_BITMAP", seen=SCALING),
    u64("tsc_multiplier", 328, "TSC_MULTIPLIER", seen=SCALING),
    padding("dead_space", 376, "u8", 4, seen=TARGETS),
    natural("host_s_cet", 680, "HOST_S_CET", seen=CET),
    natural("host_ssp", 688, "HOST_SSP", seen=CET),
    natural("host_ssp_tbl", 696, "HOST_INTR_SSP_TABLE", seen=CET),
    natural("guest_s_cet", 704, "GUEST_S_CET", seen=CET),
    natural("guest_ssp", 712, "GUEST_SSP", seen=CET),
    natural("guest_ssp_tbl", 720, "GUEST_INTR_SSP_TABLE", seen=CET),
)

VMCS12_ADDITIONS: Final = {row.name: row for row in ADDED_ROWS}

CET_MEMBERS: Final = tuple(row.name for row in ADDED_ROWS if row.seen == CET)

# The rest of the 4-KByte page: KVM copies it with the page but gives it no meaning.
TAIL: Final = FieldAt(
    "tail",
    VMCS12_BYTES,
    "u1",
    "Reserved",
    VMCS12_SIZE - VMCS12_BYTES,
    reserved=True,
    seen="arch/x86/kvm/vmx/vmcs12.h: VMCS12_SIZE, 4.18",
)


@cache
def vmcs12_rows(*added: str | FieldAt) -> tuple[FieldAt, ...]:
    """Rows of the layout with the given additions, by offset.

    An addition is a member name of `VMCS12_ADDITIONS`, or a row for a kernel that does not exist
    yet. Raises `KeyError` for an unknown name and `TableError` for bytes that are already taken.
    """
    extra = [VMCS12_ADDITIONS[row] if isinstance(row, str) else row for row in added]
    rows = carve(VMCS12_BASE, *extra)
    check_bytes(rows, VMCS12_BYTES, "vmcs12")
    return rows


def vmcs12_dtype(*added: str | FieldAt) -> np.dtype[np.void]:
    """Numpy dtype of the 4096-byte page with the given additions; `tail` is bytes 998 to 4095."""
    return dtype_of((*vmcs12_rows(*added), TAIL), VMCS12_SIZE)


def fields_of(rows: Sequence[FieldAt]) -> dict[str, str]:
    """Name of the VMCS field that each member holds, for the members that hold one."""
    return {row.name: row.meaning for row in rows if row.meaning in BY_NAME}


def members_of(rows: Sequence[FieldAt]) -> dict[str, FieldAt]:
    """Row of the member that holds each VMCS field, by the field's name."""
    return {row.meaning: row for row in rows if row.meaning in BY_NAME}


def access(rows: Sequence[FieldAt], encoding: int) -> tuple[int, int] | None:
    """Offset and size in bytes of what VMREAD of `encoding` reads; None where `rows` have none."""
    found = field_at(encoding)
    if found is None:
        return None
    field, high = found
    member = members_of(rows).get(field.name)
    if member is None:
        return None
    return (member.offset + 4, 4) if high else (member.offset, member.size)


def _check() -> None:
    check_cited(ADDED_ROWS, "ADDED_ROWS")
    rows = (*VMCS12_BASE, *ADDED_ROWS)
    held = [row for row in rows if not row.reserved and row.offset >= 40]
    for row in held:
        require(row.meaning in BY_NAME, f"vmcs12: {row.name} holds no VMCS field")
        require(row.size == BY_NAME[row.meaning].size, f"vmcs12: {row.name} has another width")
    check_unique([row.meaning for row in held], "vmcs12")
    vmcs12_rows(*VMCS12_ADDITIONS)


_check()
