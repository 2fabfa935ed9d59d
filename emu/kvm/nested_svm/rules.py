"""KVM_SET_NESTED_STATE on AMD as a program: every step that can refuse, end or change something.

Rows stand in the order in which KVM takes them.  Where releases differ there is a row for each way;
the fact `svm_rules` of a release says which rows it has.  Effects are carried out by
`emu.kvm.nested_svm.set` under the name that they have here.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL
from typing import Final

from emu.kvm.control_registers import CR0, EFER, RFLAGS
from emu.kvm.nested_svm.words import BLOB_WORDS, WORDS
from emu.kvm.rule_program import RuleProgram
from emu.releases.schema import Release
from vmcs.checks import (
    ALL_BITS,
    Kind,
    Predicate,
    Row,
    When,
    at_least,
    at_least_,
    bits_clear,
    bits_set,
    check,
    effect,
    equal,
    has,
    has_any,
    in_range,
    is_not,
    lacks,
    let,
    memory_types,
    one_of,
    returns,
    under,
)
from vmcs.nested_state import (
    HEADER_SIZE,
    SIZE_WITH_VMCB12,
    VMCB12_SAVE_OFFSET,
    Format,
    NestedFlag,
)
from vmcs.svm.control_bits import EVENT_INJ, INT_CTL, MiscControl, TlbControl
from vmcs.svm.intercepts import intercept
from vmcs.svm.msrs import IOPM_SIZE, MSRPM_SIZE
from vmcs.svm.vmrun_checks import EXCEPTION_INJECTED, VMRUN_CHECKS

IOCTL = "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl, KVM_SET_NESTED_STATE"
SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
BITMAPS = "arch/x86/kvm/svm/nested.c: nested_svm_check_bitmap_pa"
TLB_CTL = "arch/x86/kvm/svm/nested.c: nested_svm_check_tlb_ctl"
EVENT = "arch/x86/kvm/svm/nested.c: nested_svm_check_event_inj"
SAVE = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_save"
CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
LOAD_CR3 = "arch/x86/kvm/svm/nested.c: nested_svm_load_cr3"
MSRPM = "arch/x86/kvm/svm/nested.c: nested_svm_vmrun_msrpm"

GUEST_MODE, RUN_PENDING = NestedFlag.GUEST_MODE, NestedFlag.RUN_PENDING
GIF_SET = NestedFlag.GIF_SET
SVM_FLAGS = GUEST_MODE | RUN_PENDING | GIF_SET
PAGE, PAGE_OFFSET = 0x1000, 0xFFF
LAST_PAGE = ALL_BITS & ~PAGE_OFFSET
V_NMI_ENABLE = INT_CTL["V_NMI_ENABLE"].mask


_MANUAL = {row.name: row for row in VMRUN_CHECKS}


def of_manual(name: str, when: When = ()) -> Row:
    """The check of VMRUN that the manual has under that name, where KVM asks for the same."""
    return check(name, "", _MANUAL[name].predicate, when)


def rounded_up(bitmap: str) -> tuple[Predicate, ...]:
    """The kernel rounds an address inside a page up to the next page, which may wrap to 0."""
    return has_any(f"{bitmap}_BASE_PA", PAGE_OFFSET), is_not(bitmap, LAST_PAGE)


# What an earlier row has seen to: with it, no row fails only because an earlier one does.
FLAGS_KNOWN = lacks("FLAGS", "UNKNOWN_FLAGS")
SIZE_OF_HEADER = at_least_("SIZE", HEADER_SIZE)
HEADER = at_least_("STATE_BYTES", HEADER_SIZE)
CONTROL_AREA = at_least_("STATE_BYTES", VMCB12_SAVE_OFFSET)

TO_L1 = lacks("FLAGS", GUEST_MODE)
WITHOUT_SVME = lacks("VCPU_EFER", EFER.SVME)
NP = has("MISC_CTL_OF_L2", MiscControl.NP_ENABLE)
OWN_PAT = (NP, lacks("SHARED_PAT", 1))
MSRPM_ALIGNED, MSRPM_ROUNDED = lacks("MSRPM_BASE_PA", PAGE_OFFSET), rounded_up("MSRPM")
IOPM_ALIGNED, IOPM_ROUNDED = lacks("IOPM_BASE_PA", PAGE_OFFSET), rounded_up("IOPM")
INTERCEPTS_MSRS = has("INTERCEPTS_3", intercept("MSR_PROT").mask)
L1_IN_LONG_MODE = (has("EFER", EFER.LME), has("CR0", CR0.PG))


# fmt: off
HEADER_RULES = (
    *under(IOCTL,
        at_least("header_readable", "", "STATE_BYTES", HEADER_SIZE, result=EFAULT),
        at_least("size_covers_header", "", "SIZE", HEADER_SIZE),
        bits_clear("flags_known", "", "FLAGS", "UNKNOWN_FLAGS"),
        bits_set("run_pending_needs_guest_mode", "", "FLAGS", GUEST_MODE, has("FLAGS", RUN_PENDING)),
    ),
    *under(SET,
        equal("format_is_svm", "", "FORMAT", Format.SVM),
        bits_clear("flags_of_svm", "", "FLAGS", 0xFFFF & ~SVM_FLAGS, FLAGS_KNOWN),
        equal("without_svme_only_gif", "", "FLAGS", GIF_SET, when=WITHOUT_SVME),
        bits_clear("without_svme_no_guest", "", "FLAGS", 0xFFFF & ~GIF_SET, WITHOUT_SVME),
        bits_clear("smm_outside_guest_mode", "", "FLAGS", GUEST_MODE, has("VCPU_IN_SMM", 1)),
        effect("leave_nested", "", TO_L1),
        effect("set_gif", "", TO_L1),
        returns("left_guest_mode", "", TO_L1),
        bits_clear("vmcb_pa_aligned", "", "VMCB_PA", PAGE_OFFSET),
        bits_clear("vmcb_pa_width", "", "VMCB_PA", "PHYSICAL_RESERVED"),
        at_least("size_covers_vmcb", "", "SIZE", SIZE_WITH_VMCB12, SIZE_OF_HEADER),
        at_least("control_area_readable", "", "STATE_BYTES", VMCB12_SAVE_OFFSET, HEADER, EFAULT),
        at_least("save_area_readable", "", "STATE_BYTES", "SAVE_AREA_END", CONTROL_AREA, EFAULT),
    ),
)

CONTROL_RULES = (
    *under(CACHE,
        let("MISC_CTL_OF_L2", "MISC_CTL", "MISC_CTL_CACHED"),
        let("MSRPM", "MSRPM_BASE_PA", LAST_PAGE),
        let("IOPM", "IOPM_BASE_PA", LAST_PAGE),
    ),
    *under(CONTROLS,
        of_manual("vmrun_intercept"),
        of_manual("asid_not_zero"),
        equal("nested_paging_on_host", "", "NESTED_PAGING", 1, when=NP),
        bits_clear("ncr3_width", "", "NESTED_CR3", "PHYSICAL_RESERVED", NP),
    ),
    *under(BITMAPS,
        in_range("msrpm_page_width", "", "MSRPM", MSRPM_SIZE, when=MSRPM_ALIGNED),
        in_range("msrpm_next_page_width", "", "MSRPM", MSRPM_SIZE + PAGE, when=MSRPM_ROUNDED),
        of_manual("msrpm_width"),
        in_range("iopm_page_width", "", "IOPM", IOPM_SIZE, when=IOPM_ALIGNED),
        in_range("iopm_next_page_width", "", "IOPM", IOPM_SIZE + PAGE, when=IOPM_ROUNDED),
        of_manual("iopm_width"),
    ),
    one_of("tlb_ctl_known", TLB_CTL, "TLB_CTL", (TlbControl.DO_NOTHING, TlbControl.FLUSH_ALL)),
    *under(CONTROLS, of_manual("v_nmi_needs_nmi_intercept", has("INT_CTL", V_NMI_ENABLE))),
    *under(EVENT,
        let("INJECTED", "EVENT_INJ", when=has("EVENT_INJ", EVENT_INJ["V"].mask)),
        of_manual("event_inj_type"),
        of_manual("event_inj_vector", EXCEPTION_INJECTED),
    ),
)

STATE_RULES = (
    *under(SET,
        bits_set("vcpu_cr0_nw_without_cd", "", "VCPU_CR0", CR0.CD, has("VCPU_CR0", CR0.NW)),
        bits_set("cr0_pg", "", "CR0", CR0.PG),
        bits_set("cr0_pe", "", "CR0", CR0.PE),
        bits_clear("rflags_vm", "", "RFLAGS", RFLAGS.VM),
        bits_set("efer_lma_with_lme", "", "EFER", EFER.LME, has("EFER", EFER.LMA)),
    ),
    *under(SAVE,
        of_manual("efer_svme"),
        of_manual("cr0_nw_without_cd"),
        of_manual("cr0_upper_half"),
        of_manual("dr6_upper_half"),
        of_manual("dr7_upper_half"),
        of_manual("long_mode_needs_pae", L1_IN_LONG_MODE),
        bits_clear("cr3_width_in_long_mode", "", "CR3", "CR3_RESERVED", L1_IN_LONG_MODE),
        of_manual("cs_l_and_d", L1_IN_LONG_MODE),
        of_manual("cr4_reserved"),
        of_manual("efer_reserved"),
    ),
    memory_types("gpat_types", SET, "GPAT", OWN_PAT),
    bits_clear("vcpu_cr3_width", LOAD_CR3, "VCPU_CR3", "CR3_RESERVED"),
)

ENTRY_RULES = (
    *under(SET,
        effect("keep_l1_in_hsave", ""),
        effect("leave_guest_mode", "", has("VCPU_IN_L2", 1)),
        effect("move_registers_to_vmcb02", "", lacks("VCPU_IN_L2", 1)),
        effect("set_gif_before_entry", ""),
        effect("set_run_pending", ""),
        effect("load_l1_into_vmcb01", ""),
        effect("load_controls", ""),
        effect("load_gpat", "", OWN_PAT),
        effect("enter_guest_mode", ""),
        bits_clear("vcpu_cr3_width_after_entry", LOAD_CR3, "VCPU_CR3", "CR3_RESERVED"),
        equal("msrpm_in_memory", MSRPM, "MSRPM_IN_MEMORY", 1, when=INTERCEPTS_MSRS),
        effect("request_pages", ""),
        effect("set_gif_after_entry", ""),
    ),
)
# fmt: on


def _refusing(row: Row) -> Row:
    """A check that says nothing else refuses with EINVAL."""
    return row._replace(result=EINVAL) if row.kind is Kind.CHECK and not row.result else row


MANUAL_SECTIONS: Final = {
    row.name: _MANUAL[row.name].section
    for row in (*CONTROL_RULES, *STATE_RULES)
    if row.name in _MANUAL
}
"""Section of the manual for each rule that the processor has too, under the same name."""

SET_RULES: Final = tuple(
    _refusing(row) for row in (*HEADER_RULES, *CONTROL_RULES, *STATE_RULES, *ENTRY_RULES)
)
"""The whole program, of every release."""

RULE = {row.name: row for row in SET_RULES}

BLOB_FIELDS = {word.name: (word.offset, word.width) for word in BLOB_WORDS}


def ioctl_flags(release: Release) -> int:
    """The flags that the ioctl layer of a release accepts, of VMX and of SVM."""
    prefix = "KVM_STATE_NESTED_"
    names = (name.removeprefix(prefix) for name in release.names("nested_flags"))
    return sum(NestedFlag[name] for name in names if name in NestedFlag.__members__)


_PROGRAMS: dict[frozenset[str], RuleProgram] = {}


def set_program(release: Release) -> RuleProgram:
    """The program of a release: the rows that its fact `svm_rules` names, compiled once."""
    enforced = release.names("svm_rules")
    program = _PROGRAMS.get(enforced)
    if program is None:
        program = RuleProgram("KVM_SET_NESTED_STATE", SET_RULES, WORDS, enforced, BLOB_FIELDS)
        _PROGRAMS[enforced] = program
    return program
