"""The virtual machine control block: its 4096 bytes, member by member.

Control area at 000h, state save area at 400h, for guests without SEV-ES (those keep their registers
in a page of their own, the VMSA). Members have the names of ``struct vmcb`` in Linux 7.3,
``arch/x86/include/asm/svm.h``; `VMCB_MEMBERS` is that layout. The manual defines members in bytes
which that header reserves; `VMCB_MEMBERS_APM` is the layout with those members too.

A member of a segment register is written ``es.selector``; `expand` turns ``es`` into its four.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmcs.byte_layout import FieldAt, byte_table, carve, dtype_of, padding
from vmcs.schema import cited

CONTROL_AREA = "Layout of VMCB, VMCB Layout, Control Area"
SAVE_AREA = "Layout of VMCB, VMCB Layout, State Save Area"
HEADER_7_3 = "arch/x86/include/asm/svm.h: struct vmcb_save_area, 7.3"

VMCB_SIZE = 0x1000
SAVE_OFFSET = 0x400
"""Offset of the state save area in the VMCB."""

CONTROL_MEMBERS = cited(
    (
        FieldAt("intercepts", 0x000, "u4", "Intercept vectors", 6),
        padding("reserved_1", 0x018, "u4", 9),
        FieldAt("pause_filter_thresh", 0x03C, "u2", "PAUSE Filter Threshold"),
        FieldAt("pause_filter_count", 0x03E, "u2", "PAUSE Filter Count"),
        FieldAt("iopm_base_pa", 0x040, "u8", "IOPM_BASE_PA, physical base address of IOPM"),
        FieldAt("msrpm_base_pa", 0x048, "u8", "MSRPM_BASE_PA, physical base address of MSRPM"),
        FieldAt("tsc_offset", 0x050, "u8", "TSC_OFFSET"),
        FieldAt("asid", 0x058, "u4", "Guest ASID"),
        FieldAt("tlb_ctl", 0x05C, "u1", "TLB_CONTROL"),
        FieldAt("erap_ctl", 0x05D, "u1", "ALLOW_LARGER_RAP, CLEAR_RAP", apm="ERAPS Virtualization"),
        padding("reserved_2", 0x05E, "u1", 2),
        FieldAt("int_ctl", 0x060, "u4", "V_TPR, V_IRQ, ..., AVIC Enable"),
        FieldAt("int_vector", 0x064, "u4", "V_INTR_VECTOR"),
        FieldAt("int_state", 0x068, "u4", "INTERRUPT_SHADOW, GUEST_INTERRUPT_MASK"),
        padding("reserved_3", 0x06C, "u1", 4),
        FieldAt("exit_code", 0x070, "u8", "EXITCODE"),
        FieldAt("exit_info_1", 0x078, "u8", "EXITINFO1"),
        FieldAt("exit_info_2", 0x080, "u8", "EXITINFO2"),
        FieldAt("exit_int_info", 0x088, "u4", "EXITINTINFO, bits 31:0"),
        FieldAt("exit_int_info_err", 0x08C, "u4", "EXITINTINFO, ERRORCODE"),
        FieldAt("misc_ctl", 0x090, "u8", "NP_ENABLE, SEV, ..., PML"),
        FieldAt("avic_vapic_bar", 0x098, "u8", "AVIC APIC_BAR"),
        FieldAt("ghcb_gpa", 0x0A0, "u8", "Guest physical address of GHCB"),
        FieldAt("event_inj", 0x0A8, "u4", "EVENTINJ, bits 31:0"),
        FieldAt("event_inj_err", 0x0AC, "u4", "EVENTINJ, ERRORCODE"),
        FieldAt("nested_cr3", 0x0B0, "u8", "N_CR3, nested page table CR3"),
        FieldAt("misc_ctl2", 0x0B8, "u8", "LBR_VIRTUALIZATION_ENABLE, ..."),
        FieldAt("clean", 0x0C0, "u4", "VMCB Clean Bits"),
        padding("reserved_5", 0x0C4, "u4", 1),
        FieldAt("next_rip", 0x0C8, "u8", "nRIP, next sequential instruction pointer"),
        FieldAt("insn_len", 0x0D0, "u1", "Number of bytes fetched"),
        FieldAt("insn_bytes", 0x0D1, "u1", "Guest instruction bytes", 15),
        FieldAt("avic_backing_page", 0x0E0, "u8", "AVIC APIC_BACKING_PAGE Pointer"),
        padding("reserved_6", 0x0E8, "u1", 8),
        FieldAt("avic_logical_id", 0x0F0, "u8", "AVIC LOGICAL_TABLE Pointer"),
        FieldAt("avic_physical_id", 0x0F8, "u8", "AVIC PHYSICAL_TABLE Pointer and MAX_INDEX"),
        padding("reserved_7", 0x100, "u1", 8),
        FieldAt("vmsa_pa", 0x108, "u8", "VMSA Pointer"),
        padding("reserved_8", 0x110, "u1", 16),
        FieldAt("bus_lock_counter", 0x120, "u2", "Bus Lock Threshold Counter"),
        padding("reserved_9", 0x122, "u1", 22),
        FieldAt("allowed_sev_features", 0x138, "u8", "ALLOWED_SEV_FEATURES"),
        FieldAt("guest_sev_features", 0x140, "u8", "GUEST_SEV_FEATURES"),
        padding("reserved_10", 0x148, "u1", 664),
        FieldAt("reserved_sw", 0x3E0, "u1", "Reserved for host usage", 32),
    ),
    apm=CONTROL_AREA,
)


def _segment(register: str, offset: int) -> tuple[FieldAt, ...]:
    name = register.upper()
    return (
        FieldAt(f"{register}.selector", offset, "u2", f"{name} selector"),
        FieldAt(f"{register}.attrib", offset + 2, "u2", f"{name} attrib"),
        FieldAt(f"{register}.limit", offset + 4, "u4", f"{name} limit"),
        FieldAt(f"{register}.base", offset + 8, "u8", f"{name} base"),
    )


SAVE_MEMBERS = cited(
    (
        *_segment("es", 0x400),
        *_segment("cs", 0x410),
        *_segment("ss", 0x420),
        *_segment("ds", 0x430),
        *_segment("fs", 0x440),
        *_segment("gs", 0x450),
        *_segment("gdtr", 0x460),
        *_segment("ldtr", 0x470),
        *_segment("idtr", 0x480),
        *_segment("tr", 0x490),
        padding("reserved_0xa0", 0x4A0, "u1", 42),
        FieldAt("vmpl", 0x4CA, "u1", "VMPL of a guest with SEV-SNP", seen=HEADER_7_3),
        FieldAt("cpl", 0x4CB, "u1", "CPL"),
        padding("reserved_0xcc", 0x4CC, "u1", 4),
        FieldAt("efer", 0x4D0, "u8", "EFER"),
        padding("reserved_0xd8", 0x4D8, "u1", 112),
        FieldAt("cr4", 0x548, "u8", "CR4"),
        FieldAt("cr3", 0x550, "u8", "CR3"),
        FieldAt("cr0", 0x558, "u8", "CR0"),
        FieldAt("dr7", 0x560, "u8", "DR7"),
        FieldAt("dr6", 0x568, "u8", "DR6"),
        FieldAt("rflags", 0x570, "u8", "RFLAGS"),
        FieldAt("rip", 0x578, "u8", "RIP"),
        padding("reserved_0x180", 0x580, "u1", 88),
        FieldAt("rsp", 0x5D8, "u8", "RSP"),
        FieldAt("s_cet", 0x5E0, "u8", "S_CET"),
        FieldAt("ssp", 0x5E8, "u8", "SSP"),
        FieldAt("isst_addr", 0x5F0, "u8", "ISST_ADDR"),
        FieldAt("rax", 0x5F8, "u8", "RAX"),
        FieldAt("star", 0x600, "u8", "STAR"),
        FieldAt("lstar", 0x608, "u8", "LSTAR"),
        FieldAt("cstar", 0x610, "u8", "CSTAR"),
        FieldAt("sfmask", 0x618, "u8", "SFMASK"),
        FieldAt("kernel_gs_base", 0x620, "u8", "KernelGsBase"),
        FieldAt("sysenter_cs", 0x628, "u8", "SYSENTER_CS"),
        FieldAt("sysenter_esp", 0x630, "u8", "SYSENTER_ESP"),
        FieldAt("sysenter_eip", 0x638, "u8", "SYSENTER_EIP"),
        FieldAt("cr2", 0x640, "u8", "CR2"),
        padding("reserved_0x248", 0x648, "u1", 32),
        FieldAt("g_pat", 0x668, "u8", "G_PAT, guest PAT (only used if nested paging is enabled)"),
        FieldAt("dbgctl", 0x670, "u8", "DBGCTL, guest DebugCtl MSR"),
        FieldAt("br_from", 0x678, "u8", "BR_FROM, guest LastBranchFromIP MSR"),
        FieldAt("br_to", 0x680, "u8", "BR_TO, guest LastBranchToIP MSR"),
        FieldAt("last_excp_from", 0x688, "u8", "LASTEXCPFROM, guest LastIntFromIP MSR"),
        FieldAt("last_excp_to", 0x690, "u8", "LASTEXCPTO, guest LastIntToIP MSR"),
        padding("reserved_0x298", 0x698, "u1", 72),
        FieldAt("spec_ctrl", 0x6E0, "u8", "SPEC_CTRL"),
        padding("reserved_0x2e8", 0x6E8, "u1", 2328),
    ),
    apm=SAVE_AREA,
)

VMCB_MEMBERS = byte_table("VMCB", VMCB_SIZE, *CONTROL_MEMBERS, *SAVE_MEMBERS)
"""Every byte of the VMCB as ``struct vmcb`` of Linux 7.3 has it, reserved bytes in place."""

VMCB = dtype_of(VMCB_MEMBERS, VMCB_SIZE)
"""Dtype of one VMCB page, 4096 bytes: a field a row of `VMCB_MEMBERS`."""

_PMC = "Performance Monitoring Counter Virtualization"
_IBS = "Instruction-Based Sampling Virtualization"
_LBR = "Hardware Acceleration for LBR Virtualization"
_PML = "Page Modification Logging"
_SECURE_AVIC = "Secure AVIC"
_VMGEXIT = "VMGEXIT"

MEMBERS_OF_APM_ONLY = cited(
    (
        FieldAt("vmgexit_rax", 0x110, "u8", "VMGEXIT_RAX", apm=_VMGEXIT),
        FieldAt("vmgexit_cpl", 0x118, "u1", "VMGEXIT_CPL", apm=_VMGEXIT),
        FieldAt("update_irr", 0x134, "u4", "UPDATE_IRR", apm=_SECURE_AVIC),
        FieldAt("requested_irr", 0x150, "u4", "REQUESTED_IRR", 8, apm=_SECURE_AVIC),
        FieldAt("pml_addr", 0x1C8, "u8", "PML_BASE", apm=_PML),
        FieldAt("pml_index", 0x1D0, "u2", "PML_INDEX", apm=_PML),
        FieldAt("perf_ctl0", 0x4E0, "u8", "PERF_CTL0", apm=_PMC),
        FieldAt("perf_ctr0", 0x4E8, "u8", "PERF_CTR0", apm=_PMC),
        FieldAt("perf_ctl1", 0x4F0, "u8", "PERF_CTL1", apm=_PMC),
        FieldAt("perf_ctr1", 0x4F8, "u8", "PERF_CTR1", apm=_PMC),
        FieldAt("perf_ctl2", 0x500, "u8", "PERF_CTL2", apm=_PMC),
        FieldAt("perf_ctr2", 0x508, "u8", "PERF_CTR2", apm=_PMC),
        FieldAt("perf_ctl3", 0x510, "u8", "PERF_CTL3", apm=_PMC),
        FieldAt("perf_ctr3", 0x518, "u8", "PERF_CTR3", apm=_PMC),
        FieldAt("perf_ctl4", 0x520, "u8", "PERF_CTL4", apm=_PMC),
        FieldAt("perf_ctr4", 0x528, "u8", "PERF_CTR4", apm=_PMC),
        FieldAt("perf_ctl5", 0x530, "u8", "PERF_CTL5", apm=_PMC),
        FieldAt("perf_ctr5", 0x538, "u8", "PERF_CTR5", apm=_PMC),
        FieldAt("instr_retired_ctr", 0x5C0, "u8", "INSTR_RETIRED_CTR", apm=_PMC),
        FieldAt("perf_ctr_global_sts", 0x5C8, "u8", "PERF_CTR_GLOBAL_STS", apm=_PMC),
        FieldAt("perf_ctr_global_ctl", 0x5D0, "u8", "PERF_CTR_GLOBAL_CTL", apm=_PMC),
        FieldAt("dbgextnctl", 0x698, "u8", "DBGEXTNCTL, guest DebugExtnCtl MSR", apm=_LBR),
        FieldAt("lbr_stack_from", 0xA70, "u8", "LBR_STACK_FROM", 16, apm=_LBR),
        FieldAt("lbr_stack_to", 0xAF0, "u8", "LBR_STACK_TO", 16, apm=_LBR),
        FieldAt("lbr_select", 0xB70, "u8", "LBR_SELECT", apm=_LBR),
        FieldAt("ibs_fetch_ctl", 0xB78, "u8", "IBS_FETCH_CTL", apm=_IBS),
        FieldAt("ibs_fetch_linaddr", 0xB80, "u8", "IBS_FETCH_LINADDR", apm=_IBS),
        FieldAt("ibs_op_ctl", 0xB88, "u8", "IBS_OP_CTL", apm=_IBS),
        FieldAt("ibs_op_rip", 0xB90, "u8", "IBS_OP_RIP", apm=_IBS),
        FieldAt("ibs_op_data", 0xB98, "u8", "IBS_OP_DATA", apm=_IBS),
        FieldAt("ibs_op_data2", 0xBA0, "u8", "IBS_OP_DATA2", apm=_IBS),
        FieldAt("ibs_op_data3", 0xBA8, "u8", "IBS_OP_DATA3", apm=_IBS),
        FieldAt("ibs_dc_linaddr", 0xBB0, "u8", "IBS_DC_LINADDR", apm=_IBS),
        FieldAt("ibs_brtgt_rip", 0xBB8, "u8", "IBS_BRTGT_RIP", apm=_IBS),
        FieldAt("ibs_fetch_extd_ctl", 0xBC0, "u8", "IBS_FETCH_EXTD_CTL", apm=_IBS),
    )
)
"""Members that the manual defines and Linux 7.3 does not name, in bytes that Linux reserves."""

VMCB_MEMBERS_APM = byte_table("VMCB (APM)", VMCB_SIZE, *carve(VMCB_MEMBERS, *MEMBERS_OF_APM_ONLY))
"""Every byte of the VMCB with the members of the manual."""

SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr")
"""Segment and descriptor-table registers, in the order in which they lie in the save area."""

_PARTS = ("selector", "attrib", "limit", "base")
_BY_NAME = {row.name: row for row in VMCB_MEMBERS_APM} | {row.name: row for row in VMCB_MEMBERS}


def member(name: str) -> FieldAt:
    """The row of a member, e.g. ``int_ctl`` or ``cs.attrib``; raises `KeyError`."""
    return _BY_NAME[name]


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """`names` with each segment register replaced by its four members; raises `KeyError`."""
    full: list[str] = []
    for name in names:
        full += [f"{name}.{part}" for part in _PARTS] if name in SEGMENTS else [member(name).name]
    return tuple(full)


VMRUN_SEGMENTS = ("es", "cs", "ss", "ds", "gdtr", "idtr")
"""The registers of `SEGMENTS` that VMRUN and #VMEXIT exchange; VMLOAD and VMSAVE do the rest."""

_EXCHANGED = (*VMRUN_SEGMENTS, "cr0", "cr3", "cr4", "efer", "rflags", "rip", "rsp", "rax")

VMRUN_LOADS = expand((*_EXCHANGED, "cr2", "dr6", "dr7", "cpl"))
"""Guest state that VMRUN loads and #VMEXIT saves. APM: VMRUN Instruction, Basic Operation."""

HOST_STATE = expand(_EXCHANGED)
"""State of the host that VMRUN saves and #VMEXIT reloads. APM: Basic Operation, #VMEXIT."""

SYSTEM_CALL_MEMBERS = ("kernel_gs_base", "star", "lstar", "cstar", "sfmask")
SYSENTER_MEMBERS = ("sysenter_cs", "sysenter_esp", "sysenter_eip")

VMLOAD_LOADS = expand(("fs", "gs", "tr", "ldtr", *SYSTEM_CALL_MEMBERS, *SYSENTER_MEMBERS))
"""Guest state that VMLOAD loads and VMSAVE stores. APM: VMSAVE and VMLOAD Instructions."""

LBR_MEMBERS = ("dbgctl", "br_from", "br_to", "last_excp_from", "last_excp_to")
"""Exchanged when LBR virtualization is on. APM: Hardware Acceleration for LBR Virtualization."""

SHADOW_STACK_MEMBERS = ("s_cet", "ssp", "isst_addr")
"""Shadow-stack state of the guest. APM: VMCB Clean Field, bit CET."""

CANONICALIZED = ("ssp", "isst_addr", *(f"{register}.base" for register in SEGMENTS))
"""Members that are sign-extended when loaded. APM: Canonicalization and Consistency Checks."""
