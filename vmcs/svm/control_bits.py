"""Words of the VMCB with bits of their own: interrupt control, event injection, clean bits, ...

Words of single bits are `BitTable`; words with fields of several bits are `Layout`. Where Linux has
a macro for a bit, the row cites the header: ``arch/x86/include/asm/svm.h`` of 7.3.
"""

from __future__ import annotations

from types import MappingProxyType

from vmcs.schema import BitTable, CodeTable, Layout, bit, bits, code, flag, gap, reserved, unused
from vmcs.svm.vmcb import CONTROL_AREA, LBR_MEMBERS, SHADOW_STACK_MEMBERS, expand


def _svm_h(macro: str) -> str:
    return f"arch/x86/include/asm/svm.h: {macro}, 7.3"


class TlbControl(CodeTable, apm="TLB Flush", macros="TLB_CONTROL_"):
    """TLB_CONTROL, bits 39:32 of VMCB offset 058h; the encodings not listed are reserved too."""

    DO_NOTHING = code(0, "Do nothing", "DO_NOTHING")
    FLUSH_ALL = code(1, "Flush entire TLB (legacy hardware only)", "FLUSH_ALL_ASID")
    RESERVED_2 = unused(2)
    FLUSH_GUEST = code(3, "Flush this guest's TLB entries", "FLUSH_ASID")
    RESERVED_4 = unused(4)
    RESERVED_5 = unused(5)
    RESERVED_6 = unused(6)
    FLUSH_GUEST_NON_GLOBAL = code(7, "Flush this guest's non-global entries", "FLUSH_ASID_LOCAL")


class ErapControl(BitTable, width=8, apm="ERAPS Virtualization", macros="ERAP_CONTROL_"):
    """Bits 47:40 of VMCB offset 058h: the return address predictor."""

    ALLOW_LARGER_RAP = flag(0, "Guest has the default predictor size", "ALLOW_LARGER_RAP")
    CLEAR_RAP = flag(1, "Clear the return address predictor before entry", "CLEAR_RAP")
    RESERVED_2_7 = reserved(2, 7)


INT_CTL = Layout(
    "int_ctl",
    32,
    bits("V_TPR", 0, 3, "Virtual TPR for the guest", seen=_svm_h("V_TPR_MASK")),
    gap(4, 7),
    bit("V_IRQ", 8, "Virtual INTR is pending", seen=_svm_h("V_IRQ_MASK")),
    bit("V_GIF", 9, "VGIF: virtual interrupts are unmasked", seen=_svm_h("V_GIF_MASK")),
    gap(10),
    bit("V_NMI", 11, "Virtual NMI is pending", seen=_svm_h("V_NMI_PENDING_MASK")),
    bit("V_NMI_MASK", 12, "Virtual NMI is masked", seen=_svm_h("V_NMI_BLOCKING_MASK")),
    gap(13, 15),
    bits("V_INTR_PRIO", 16, 19, "Virtual interrupt priority", seen=_svm_h("V_INTR_PRIO_MASK")),
    bit("V_IGN_TPR", 20, "Virtual interrupt ignores V_TPR", seen=_svm_h("V_IGN_TPR_MASK")),
    gap(21, 23),
    bit("V_INTR_MASKING", 24, "Virtualize interrupt masking", seen=_svm_h("V_INTR_MASKING_MASK")),
    bit("V_GIF_ENABLE", 25, "Virtual GIF enabled", seen=_svm_h("V_GIF_ENABLE_MASK")),
    bit("V_NMI_ENABLE", 26, "NMI virtualization enabled", seen=_svm_h("V_NMI_ENABLE_MASK")),
    gap(27, 29),
    bit("X2AVIC_ENABLE", 30, "x2AVIC enabled", seen=_svm_h("X2APIC_MODE_MASK")),
    bit("AVIC_ENABLE", 31, "AVIC enabled", seen=_svm_h("AVIC_ENABLE_MASK")),
    apm=CONTROL_AREA,
)
"""Bits 31:0 of VMCB offset 060h."""

INT_VECTOR = Layout(
    "int_vector",
    32,
    bits("V_INTR_VECTOR", 0, 7, "Vector to use for the virtual interrupt"),
    gap(8, 31),
    apm=CONTROL_AREA,
)
"""Bits 63:32 of VMCB offset 060h."""


class IntState(BitTable, width=32, apm=CONTROL_AREA, macros="SVM_"):
    """Bits 31:0 of VMCB offset 068h."""

    INTERRUPT_SHADOW = flag(0, "Guest is in an interrupt shadow", "INTERRUPT_SHADOW_MASK")
    GUEST_INTERRUPT_MASK = flag(1, "RFLAGS.IF of an SEV-ES guest", "GUEST_INTERRUPT_MASK")
    RESERVED_2_31 = reserved(2, 31)


EVENT_TYPES = MappingProxyType({0: "INTR", 2: "NMI", 3: "EXCEPTION", 4: "SOFTWARE_INTERRUPT"})
"""Values of TYPE in EVENTINJ and EXITINTINFO; the others are reserved. APM: Event Injection."""


def _event(name: str, section: str) -> Layout:
    return Layout(
        name,
        32,
        bits("VECTOR", 0, 7, "8-bit IDT vector of the interrupt or exception"),
        bits("TYPE", 8, 10, "Type of the guest exception or interrupt", EVENT_TYPES),
        bit("EV", 11, "Error code valid"),
        gap(12, 30),
        bit("V", 31, "Valid"),
        apm=section,
    )


EVENT_INJ = _event("event_inj", "Event Injection")
"""Bits 31:0 of EVENTINJ, VMCB offset 0A8h; bits 63:32 hold the error code."""

EXIT_INT_INFO = _event("exit_int_info", "Intercepts During IDT Interrupt Delivery")
"""Bits 31:0 of EXITINTINFO, VMCB offset 088h; bits 63:32 hold the error code."""


class MiscControl(BitTable, width=64, apm=CONTROL_AREA, macros="SVM_MISC_ENABLE_"):
    """VMCB offset 090h, `misc_ctl` (``nested_ctl`` in Linux before 7.2)."""

    NP_ENABLE = flag(0, "Enable nested paging", "NP")
    SEV_ENABLE = flag(1, "Enable Secure Encrypted Virtualization", "SEV")
    SEV_ES_ENABLE = flag(2, "Enable encrypted state for SEV", "SEV_ES")
    GMET_ENABLE = flag(3, "Guest Mode Execute Trap", "GMET")
    SSS_CHECK_ENABLE = flag(4, "Supervisor shadow stack restrictions in nested page tables")
    VTE_ENABLE = flag(5, "Virtual Transparent Encryption")
    ROGPT_ENABLE = flag(6, "Enable Read Only Guest Page Tables")
    INVLPGB_TLBSYNC_ENABLE = flag(7, "Enable INVLPGB/TLBSYNC")
    RESERVED_8_10 = reserved(8, 10)
    PML_ENABLE = flag(11, "Enable Page Modification Logging", apm="Page Modification Logging")
    RESERVED_12_63 = reserved(12, 63)


class MiscControl2(BitTable, width=64, apm=CONTROL_AREA, macros="SVM_MISC2_ENABLE_"):
    """VMCB offset 0B8h, `misc_ctl2` (``virt_ext`` in Linux before 7.2)."""

    LBR_VIRTUALIZATION_ENABLE = flag(0, "Enable LBR virtualization", "V_LBR")
    VMSAVE_VMLOAD_ENABLE = flag(1, "Enable virtualized VMSAVE and VMLOAD", "V_VMLOAD_VMSAVE")
    IBS_VIRTUALIZATION_ENABLE = flag(2, "Enable IBS virtualization")
    PMC_VIRTUALIZATION_ENABLE = flag(3, "Enable PMC virtualization")
    RESERVED_4_63 = reserved(4, 63)


class Clean(BitTable, width=32, apm="VMCB Clean Field", macros="VMCB_"):
    """VMCB Clean Bits, VMCB offset 0C0h: 1 lets the processor use its own copy of the members.

    Kernel macros, which number bits, are those of ``arch/x86/kvm/svm/svm.h``.
    """

    INTERCEPTS = flag(0, "I: intercept vectors, TSC offset, Pause Filter Count", "INTERCEPTS")
    IOPM = flag(1, "IOPM: IOPM_BASE, MSRPM_BASE", "PERM_MAP")
    ASID = flag(2, "ASID", "ASID")
    TPR = flag(3, "V_TPR, V_IRQ, V_INTR_PRIO, V_IGN_TPR, V_INTR_MASKING, V_INTR_VECTOR", "INTR")
    NP = flag(4, "Nested paging: NCR3, G_PAT", "NPT")
    CRX = flag(5, "CR0, CR3, CR4, EFER", "CR")
    DRX = flag(6, "DR6, DR7", "DR")
    DT = flag(7, "GDT/IDT limit and base", "DT")
    SEG = flag(8, "CS/DS/SS/ES selector, base, limit, attributes; CPL", "SEG")
    CR2 = flag(9, "CR2", "CR2")
    LBR = flag(10, "DebugCtl MSR, br_from/to, lastint_from/to", "LBR")
    AVIC = flag(11, "AVIC APIC_BAR, APIC_BACKING_PAGE, PHYSICAL_TABLE, LOGICAL_TABLE", "AVIC")
    CET = flag(12, "S_CET, SSP, ISST_ADDR", "CET")
    RESERVED_13_30 = reserved(13, 30)
    HOST = flag(31, "Reserved for the host; the processor never uses it", "SW")


SEGMENT_ATTRIBUTES = Layout(
    "attrib",
    16,
    bits("TYPE", 0, 3, "Descriptor type", seen=_svm_h("SVM_SELECTOR_TYPE_MASK")),
    bit("S", 4, "System (0) or user (1) segment", seen=_svm_h("SVM_SELECTOR_S_MASK")),
    bits("DPL", 5, 6, "Descriptor privilege level", seen=_svm_h("SVM_SELECTOR_DPL_MASK")),
    bit("P", 7, "Present", seen=_svm_h("SVM_SELECTOR_P_MASK")),
    bit("AVL", 8, "Available to software", seen=_svm_h("SVM_SELECTOR_AVL_MASK")),
    bit("L", 9, "Long mode", seen=_svm_h("SVM_SELECTOR_L_MASK")),
    bit("DB", 10, "Default operand size", seen=_svm_h("SVM_SELECTOR_DB_MASK")),
    bit("G", 11, "Granularity", seen=_svm_h("SVM_SELECTOR_G_MASK")),
    gap(12, 15),
    apm="Segment State in the VMCB",
)
"""Attributes of a segment register: bits 55:52 and 47:40 of its descriptor, joined."""


def _pointer(name: str, phrase: str) -> Layout:
    return Layout(
        name, 64, gap(0, 11), bits("POINTER", 12, 51, phrase), gap(52, 63), apm=CONTROL_AREA
    )


AVIC_VAPIC_BAR = _pointer("avic_vapic_bar", "APIC_BAR: guest physical address of the local APIC")
AVIC_BACKING_PAGE = _pointer("avic_backing_page", "Host physical address of the vAPIC backing page")
AVIC_LOGICAL_ID = _pointer("avic_logical_id", "Host physical address of the logical APIC ID table")
VMSA_PA = _pointer("vmsa_pa", "Host physical address of the VM save area")
AVIC_PHYSICAL_ID = Layout(
    "avic_physical_id",
    64,
    bits("MAX_INDEX", 0, 11, "AVIC_PHYSICAL_MAX_INDEX: index of the last guest core"),
    bits("POINTER", 12, 51, "Host physical address of the physical APIC ID table"),
    gap(52, 63),
    apm=CONTROL_AREA,
)

ALLOWED_SEV_FEATURES = Layout(
    "allowed_sev_features",
    64,
    bits("MASK", 0, 61, "ALLOWED_SEV_FEATURES_MASK"),
    gap(62),
    bit("EN", 63, "Mask enabled", seen=_svm_h("VMCB_ALLOWED_SEV_FEATURES_VALID")),
    apm="Allowed SEV Features",
)
"""VMCB offset 138h: which bits of SEV_FEATURES the hypervisor allows."""

INSN_LEN = Layout(
    "insn_len",
    8,
    bits("COUNT", 0, 3, "Number of bytes fetched"),
    gap(4, 7),
    apm="Nested and Intercepted #PF",
)
"""VMCB offset 0D0h: how many of the guest instruction bytes behind it are valid."""

AVIC_MEMBERS = ("avic_vapic_bar", "avic_backing_page", "avic_logical_id", "avic_physical_id")

CLEAN_COVERS = MappingProxyType(
    {
        Clean.INTERCEPTS: ("intercepts", "tsc_offset", "pause_filter_count"),
        Clean.IOPM: ("iopm_base_pa", "msrpm_base_pa"),
        Clean.ASID: ("asid",),
        Clean.TPR: ("int_ctl", "int_vector"),
        Clean.NP: ("nested_cr3", "g_pat"),
        Clean.CRX: ("cr0", "cr3", "cr4", "efer"),
        Clean.DRX: ("dr6", "dr7"),
        Clean.DT: expand(("gdtr", "idtr")),
        Clean.SEG: (*expand(("cs", "ds", "ss", "es")), "cpl"),
        Clean.CR2: ("cr2",),
        Clean.LBR: LBR_MEMBERS,
        Clean.AVIC: AVIC_MEMBERS,
        Clean.CET: SHADOW_STACK_MEMBERS,
    }
)
"""The members of the VMCB that each clean bit stands for. APM: VMCB Clean Field."""
