"""The processor's consistency checks on VMRUN, as rows in the manual's order.

A row that fails makes VMRUN end in #VMEXIT with VMEXIT_INVALID. `CONSISTENCY_CHECKS` is the list of
the section of that name; the other groups are what further sections add. Checks of the encrypted
state of SEV-ES and SEV-SNP guests, which lies outside the VMCB, are not among them.

Words are the members of the VMCB in upper case, the intercept words as ``INTERCEPTS_n``, and what
the processor contributes (`PROCESSOR_WORDS`). A control bit of a feature that the processor does
not have is not checked.
"""

from __future__ import annotations

from typing import NamedTuple

from vmcs.byte_layout import FieldAt
from vmcs.check_programs import Vocabulary
from vmcs.checks import (
    ALL_BITS,
    Predicate,
    Row,
    Shape,
    at_most,
    bits_clear,
    bits_set,
    check,
    differs,
    has,
    in_range,
    is_equal,
    is_not_in,
    lacks,
    let,
    memory_types,
    not_zero,
    one_of,
    under,
)
from vmcs.schema import check_cited, check_unique
from vmcs.svm.control_bits import AVIC_PHYSICAL_ID, EVENT_INJ, EVENT_TYPES, INT_CTL, MiscControl
from vmcs.svm.control_bits import SEGMENT_ATTRIBUTES as ATTRIBUTES
from vmcs.svm.cpuid import SvmFeature, SvmFeatureEcx
from vmcs.svm.intercepts import intercept
from vmcs.svm.msrs import IOPM_SIZE, MSRPM_SIZE
from vmcs.svm.vmcb import member

# --- words ----------------------------------------------------------------------------------------


class Contributed(NamedTuple):
    """A word that is no member of the VMCB: its name and what it holds."""

    name: str
    meaning: str


# fmt: off
PROCESSOR_WORDS = (
    Contributed("SVM_FEATURES", "CPUID Fn8000_000A_EDX"),
    Contributed("SVM_FEATURES_ECX", "CPUID Fn8000_000A_ECX"),
    Contributed("LONG_MODE", "1 on a processor with long mode"),
    Contributed("PHYSICAL_RESERVED", "bits at and above the physical-address width"),
    Contributed("CR3_RESERVED", "MBZ bits of CR3 in the guest's paging mode"),
    Contributed("CR4_RESERVED", "MBZ bits of CR4"),
    Contributed("EFER_RESERVED", "MBZ bits of EFER"),
    Contributed("S_CET_RESERVED", "reserved bits of S_CET"),
    Contributed("U_CET", "the U_CET MSR"),
    Contributed("U_CET_RESERVED", "reserved bits of U_CET"),
    Contributed("EXCEPTION_VECTORS", "bit n: vector n is an exception of this processor"),
    Contributed("HOST_CR0", "CR0 of the host at VMRUN"),
    Contributed("HOST_IN_64_BIT_MODE", "1 when the host is in 64-bit mode at VMRUN"),
    Contributed("NCR3_RESERVED", "MBZ bits of nCR3 in the host's paging mode"),
    Contributed("MEM_ENCRYPTION", "1 with SYSCFG[MemEncryptionModEn]"),
    Contributed("SMM_LOCK", "1 with HWCR[SmmLock]"),
    Contributed("SEV_ASIDS", "CPUID Fn8000_001F_ECX, number of encrypted guests"),
    Contributed("SEV_NEEDS_64_BIT_HOST", "1 with CPUID Fn8000_001F_EAX[64BitHost]"),
)

MEMORY_WORDS = (
    Contributed("PDPE0", "page-directory-pointer entry 0 at the guest's CR3"),
    Contributed("PDPE1", "page-directory-pointer entry 1 at the guest's CR3"),
    Contributed("PDPE2", "page-directory-pointer entry 2 at the guest's CR3"),
    Contributed("PDPE3", "page-directory-pointer entry 3 at the guest's CR3"),
    Contributed("PDPE_RESERVED", "reserved bits of a present PAE page-directory-pointer entry"),
)

DERIVED_WORDS = (
    Contributed("MSRPM", "MSRPM_BASE_PA without the low 12 bits, which VMRUN ignores"),
    Contributed("IOPM", "IOPM_BASE_PA without the low 12 bits, which VMRUN ignores"),
    Contributed("INJECTED", "EVENTINJ; 0 when it is not valid"),
    Contributed("AVIC", "1 when AVIC is enabled on a processor that has it"),
    Contributed("X2AVIC", "1 when x2AVIC is enabled on a processor that has it"),
    Contributed("MAX_INDEX", "AVIC_PHYSICAL_MAX_INDEX"),
    Contributed("NESTED_PAGING", "1 when nested paging is enabled on a processor that has it"),
    Contributed("SEV", "1 when SEV is enabled and memory encryption is on"),
    Contributed("SEV_ES", "1 when SEV-ES is enabled too"),
)
# fmt: on

_MEMBERS = (
    *("iopm_base_pa", "msrpm_base_pa", "asid", "int_ctl", "misc_ctl", "avic_backing_page"),
    *("event_inj", "nested_cr3", "avic_logical_id", "avic_physical_id", "cs.attrib", "efer"),
    *("cr4", "cr3", "cr0", "dr7", "dr6", "rflags", "s_cet", "g_pat"),
)


def _intercept_word(number: int) -> FieldAt:
    whole = member("intercepts")
    offset = whole.offset + 4 * number
    return FieldAt(f"INTERCEPTS_{number}", offset, whole.kind, whole.meaning, apm=whole.apm)


def _member_word(name: str) -> FieldAt:
    row = member(name)
    return FieldAt(name.upper(), row.offset, row.kind, row.meaning, apm=row.apm)


VMCB_WORDS = (
    _intercept_word(3),
    _intercept_word(4),
    *(_member_word(name) for name in _MEMBERS),
)
"""Members of the VMCB that the checks read, each with its place and under its word's name."""

check_cited(VMCB_WORDS, "VMCB_WORDS")


def vocabulary() -> Vocabulary:
    """A fresh vocabulary of every word that the checks read or derive."""
    contributed = (*PROCESSOR_WORDS, *MEMORY_WORDS, *DERIVED_WORDS)
    return Vocabulary((*(row.name for row in VMCB_WORDS), *(row.name for row in contributed)))


# --- bits -----------------------------------------------------------------------------------------

CR0_PE, CR0_WP, CR0_NW, CR0_CD, CR0_PG = 1 << 0, 1 << 16, 1 << 29, 1 << 30, 1 << 31
CR4_PAE, CR4_CET = 1 << 5, 1 << 23
EFER_LME, EFER_LMA, EFER_SVME = 1 << 8, 1 << 10, 1 << 12
RFLAGS_VM = 1 << 17
U_CET_SH_STK_EN = 1 << 0
PDPE_PRESENT = 1 << 0
UPPER_HALF = 0xFFFF_FFFF_0000_0000
PAGE = ALL_BITS & ~0xFFF
CS_L, CS_D = ATTRIBUTES["L"].mask, ATTRIBUTES["DB"].mask
TYPE, VECTOR = EVENT_INJ["TYPE"], EVENT_INJ["VECTOR"]
EXCEPTION, SOFTWARE_INTERRUPT = TYPE.placed(3), TYPE.placed(4)
BP, OF, BR = 3, 4, 5
AVIC_ENABLE, X2AVIC_ENABLE = INT_CTL["AVIC_ENABLE"].mask, INT_CTL["X2AVIC_ENABLE"].mask
V_NMI_ENABLE = INT_CTL["V_NMI_ENABLE"].mask
MAX_INDEX = AVIC_PHYSICAL_ID["MAX_INDEX"]
NP, SSS = MiscControl.NP_ENABLE, MiscControl.SSS_CHECK_ENABLE
INTERCEPT_VMRUN, INTERCEPT_NMI = intercept("VMRUN").mask, intercept("NMI").mask

LONG_MODE_PAGING = (has("EFER", EFER_LME), has("CR0", CR0_PG))
IN_64_BIT_MODE = (*LONG_MODE_PAGING, has("CS.ATTRIB", CS_L))
CET = has("CR4", CR4_CET)
PAE_PAGING = (has("CR0", CR0_PG), has("CR4", CR4_PAE), lacks("EFER", EFER_LME))
NESTED = has("NESTED_PAGING", 1)
SHADOW = lacks("NESTED_PAGING", 1)
AVIC = has("AVIC", 1)
XAVIC = (AVIC, lacks("X2AVIC", 1))
X2AVIC = (AVIC, has("X2AVIC", 1))
SEV = has("SEV", 1)
SEV_ES = has("SEV_ES", 1)
EXCEPTION_INJECTED = is_equal("INJECTED", EXCEPTION, TYPE.mask)

# --- rows -----------------------------------------------------------------------------------------

# fmt: off
DERIVED: tuple[Row, ...] = (
    let("MSRPM", "MSRPM_BASE_PA", PAGE, section="MSR Intercepts"),
    let("IOPM", "IOPM_BASE_PA", PAGE, section="I/O Permissions Map"),
    let("INJECTED", "EVENT_INJ", when=has("EVENT_INJ", EVENT_INJ["V"].mask), section="Event Injection"),
    let("AVIC", 1, when=(has("INT_CTL", AVIC_ENABLE), has("SVM_FEATURES", SvmFeature.AVIC)), section="AVIC CPUID Feature Flags"),
    let("X2AVIC", 1, when=(has("INT_CTL", X2AVIC_ENABLE), has("SVM_FEATURES", SvmFeature.X2AVIC)), section="AVIC CPUID Feature Flags"),
    let("MAX_INDEX", "AVIC_PHYSICAL_ID", MAX_INDEX.mask, section="AVIC VMCB Fields"),
    let("NESTED_PAGING", 1, when=(has("MISC_CTL", NP), has("SVM_FEATURES", SvmFeature.NP)), section="Enabling Nested Paging"),
    let("SEV", 1, when=(has("MISC_CTL", MiscControl.SEV_ENABLE), has("MEM_ENCRYPTION", 1)), section="Enabling SEV"),
    let("SEV_ES", 1, when=(has("MISC_CTL", MiscControl.SEV_ES_ENABLE), SEV), section="Enabling SEV-ES"),
)

EVENT_INJECTION_CHECKS = under(
    "Event Injection",
    one_of("event_inj_type", "", "INJECTED", EVENT_TYPES, TYPE.mask),
    check("event_inj_vector", "", Predicate(Shape.MEMBER, "INJECTED", "EXCEPTION_VECTORS", VECTOR.mask), EXCEPTION_INJECTED),
    differs("event_inj_br_in_64_bit_mode", "", "INJECTED", BR, VECTOR.mask, (EXCEPTION_INJECTED, *IN_64_BIT_MODE)),
)
"""Illegal event injection, an item of the list of `CONSISTENCY_CHECKS` that another section details."""

CONSISTENCY_CHECKS = under(
    "Canonicalization and Consistency Checks",
    bits_set("efer_svme", "", "EFER", EFER_SVME),
    differs("cr0_nw_without_cd", "", "CR0", CR0_NW, CR0_NW | CR0_CD),
    bits_clear("cr0_upper_half", "", "CR0", UPPER_HALF),
    bits_clear("cr3_reserved", "", "CR3", "CR3_RESERVED"),
    bits_clear("cr4_reserved", "", "CR4", "CR4_RESERVED"),
    bits_clear("dr6_upper_half", "", "DR6", UPPER_HALF),
    bits_clear("dr7_upper_half", "", "DR7", UPPER_HALF),
    bits_clear("efer_reserved", "", "EFER", "EFER_RESERVED"),
    bits_clear("efer_needs_long_mode", "", "EFER", EFER_LMA | EFER_LME, lacks("LONG_MODE", 1)),
    bits_set("long_mode_needs_pae", "", "CR4", CR4_PAE, LONG_MODE_PAGING),
    bits_set("long_mode_needs_pe", "", "CR0", CR0_PE, LONG_MODE_PAGING),
    differs("cs_l_and_d", "", "CS.ATTRIB", CS_L | CS_D, CS_L | CS_D, (*LONG_MODE_PAGING, has("CR4", CR4_PAE))),
    bits_set("vmrun_intercept", "", "INTERCEPTS_4", INTERCEPT_VMRUN),
    in_range("msrpm_width", "", "MSRPM", MSRPM_SIZE),
    in_range("iopm_width", "", "IOPM", IOPM_SIZE),
    *EVENT_INJECTION_CHECKS,
    not_zero("asid_not_zero", "", "ASID"),
    bits_clear("s_cet_reserved", "", "S_CET", "S_CET_RESERVED"),
    bits_set("cet_needs_wp", "", "CR0", CR0_WP, CET),
    bits_clear("cet_excludes_virtual_8086", "", "U_CET", U_CET_SH_STK_EN, (CET, has("RFLAGS", RFLAGS_VM))),
    bits_clear("u_cet_reserved", "", "U_CET", "U_CET_RESERVED", SEV_ES),
)
"""The conditions of the section of that name, in its order."""

PDPE_CHECKS = under(
    "Basic Operation",
    bits_clear("pdpe0_reserved", "", "PDPE0", "PDPE_RESERVED", (SHADOW, *PAE_PAGING, has("PDPE0", PDPE_PRESENT))),
    bits_clear("pdpe1_reserved", "", "PDPE1", "PDPE_RESERVED", (SHADOW, *PAE_PAGING, has("PDPE1", PDPE_PRESENT))),
    bits_clear("pdpe2_reserved", "", "PDPE2", "PDPE_RESERVED", (SHADOW, *PAE_PAGING, has("PDPE2", PDPE_PRESENT))),
    bits_clear("pdpe3_reserved", "", "PDPE3", "PDPE_RESERVED", (SHADOW, *PAE_PAGING, has("PDPE3", PDPE_PRESENT))),
)
"""The entries that VMRUN reads for a guest in PAE mode without nested paging."""

NMI_CHECKS = under(
    "NMI Virtualization",
    bits_set("v_nmi_needs_nmi_intercept", "", "INTERCEPTS_3", INTERCEPT_NMI, (has("INT_CTL", V_NMI_ENABLE), has("SVM_FEATURES", SvmFeature.VNMI))),
)

NESTED_PAGING_CHECKS = (
    bits_set("np_needs_host_paging", "Enabling Nested Paging", "HOST_CR0", CR0_PG, NESTED),
    bits_clear("ncr3_reserved", "Nested Paging and VMRUN/#VMEXIT", "NESTED_CR3", "NCR3_RESERVED", NESTED),
    memory_types("g_pat_memory_types", "Nested Paging and VMRUN/#VMEXIT", "G_PAT", NESTED),
    bits_set("sss_needs_np", "Supervisor Shadow Stacks", "NESTED_PAGING", 1, (has("MISC_CTL", SSS), has("SVM_FEATURES", SvmFeature.SSS_CHECK))),
)

AVIC_CHECKS = (
    bits_set("x2avic_needs_avic", "VMCB Virtual Interrupt Control Word", "INT_CTL", AVIC_ENABLE, has("X2AVIC", 1)),
    *under(
        "Physical Address Pointer Restrictions",
        bits_clear("avic_backing_page_width", "", "AVIC_BACKING_PAGE", "PHYSICAL_RESERVED", AVIC),
        bits_clear("avic_logical_id_width", "", "AVIC_LOGICAL_ID", "PHYSICAL_RESERVED", XAVIC),
        bits_clear("avic_physical_id_width", "", "AVIC_PHYSICAL_ID", "PHYSICAL_RESERVED", AVIC),
        at_most("xavic_max_index", "", "MAX_INDEX", 255, XAVIC),
        at_most("x2avic_max_index", "", "MAX_INDEX", 511, (*X2AVIC, lacks("SVM_FEATURES_ECX", SvmFeatureEcx.X2AVIC_EXT))),
    ),
)

SEV_CHECKS = (
    *under(
        "Enabling SEV",
        bits_set("sev_needs_np", "", "NESTED_PAGING", 1, SEV),
        bits_set("sev_needs_smm_lock", "", "SMM_LOCK", 1, SEV),
        at_most("sev_asid", "", "ASID", "SEV_ASIDS", SEV),
        bits_set("sev_needs_64_bit_host", "", "HOST_IN_64_BIT_MODE", 1, (SEV, has("SEV_NEEDS_64_BIT_HOST", 1))),
    ),
    *under(
        "SEV-ES, VMRUN",
        differs("sev_es_software_interrupt", "", "INJECTED", SOFTWARE_INTERRUPT, TYPE.mask, SEV_ES),
        check("sev_es_bp_or_of", "", is_not_in("INJECTED", (BP, OF), VECTOR.mask), (SEV_ES, EXCEPTION_INJECTED)),
    ),
)
# fmt: on

VMRUN_CHECKS: tuple[Row, ...] = (
    *DERIVED,
    *CONSISTENCY_CHECKS,
    *PDPE_CHECKS,
    *NMI_CHECKS,
    *NESTED_PAGING_CHECKS,
    *AVIC_CHECKS,
    *SEV_CHECKS,
)
"""Every check of VMRUN: the list of the manual, then what further sections add, in their order."""

check_unique([row.name for row in VMRUN_CHECKS], "VMRUN_CHECKS")
