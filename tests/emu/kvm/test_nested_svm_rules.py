import pytest

from emu.errors import KvmError
from emu.kvm.nested_svm.rules import MANUAL_SECTIONS, RULE, SET_RULES, set_program
from emu.kvm.nested_svm.set import EFFECTS, environment
from emu.kvm.nested_svm.words import BLOB_WORDS, ENVIRONMENT_WORDS
from emu.releases import RELEASES
from tests.emu.kvm.svm_support import (
    ALL64,
    SIZE,
    SVM_RELEASES,
    base_blob,
    get,
    host,
    make_vcpu,
    patched,
    put,
)
from tests.reference.breaking import break_alone
from tests.reference.naive_checks import failures
from vmcs.checks import Kind

CHECKS = [row for row in SET_RULES if row.kind is Kind.CHECK]
WIDTH = {word.name: (1 << 8 * word.width) - 1 for word in BLOB_WORDS}
QUIRK_NESTED_SVM_SHARED_PAT = 1 << 11

# Words of the environment that a test can bring about; the others are facts of host and release.
SETTABLE = {
    *("STATE_BYTES", "VCPU_EFER", "VCPU_CR0", "VCPU_CR3", "VCPU_IN_SMM"),
    *("SHARED_PAT", "MSRPM_IN_MEMORY"),
}

# Where a rule asks for more of a word than its condition does, both leave one choice.
HINTS = {
    "size_covers_vmcb": ("SIZE", 128),
    "control_area_readable": ("STATE_BYTES", 128),
    "save_area_readable": ("STATE_BYTES", 128 + 0x400),
}


def releases_with(rule):
    having = [name for name in SVM_RELEASES if RELEASES[name].has("svm_rules", rule)]
    return sorted({having[0], having[-1]}, key=having.index)


# The host of the tests has nested paging; what it is without has a test of its own.
NEEDS_ANOTHER_HOST = "nested_paging_on_host"
CASES = [
    (row.name, name)
    for row in CHECKS
    for name in releases_with(row.name)
    if row.name != NEEDS_ANOTHER_HOST
]


def rows_of(release):
    enforced = RELEASES[release].names("svm_rules")
    return [row for row in SET_RULES if row.kind is Kind.LET or row.name in enforced]


def good_words(vcpu):
    blob = base_blob()
    words = {name: get(blob, name) for name in WIDTH}
    values = environment(vcpu.operations, memoryview(blob), SIZE)
    words |= {name: int(value) for name, value in zip(ENVIRONMENT_WORDS, values, strict=True)}
    words["MSRPM_IN_MEMORY"] = 1
    return words


def bring_about(vcpu, words):
    """Make the vCPU hold the words of its environment."""
    vcpu.efer, vcpu.cr0, vcpu.cr3 = words["VCPU_EFER"], words["VCPU_CR0"], words["VCPU_CR3"]
    vcpu.smm = bool(words["VCPU_IN_SMM"] & 1)
    if not words["SHARED_PAT"] & 1:
        vcpu.vm.enable_cap(116, QUIRK_NESTED_SVM_SHARED_PAT)
    if not words["MSRPM_IN_MEMORY"]:
        vcpu.vm.set_user_memory_region(0, 0, 0)


@pytest.mark.parametrize(("rule", "release"), CASES, ids=lambda value: value)
def test_breaking_one_rule_alone_refuses_by_that_rule(rule, release):
    vcpu = make_vcpu(release)
    rows = rows_of(release)
    fixed = set(ENVIRONMENT_WORDS) - SETTABLE
    hints = [(*HINTS[rule], ALL64)] if rule in HINTS else []
    words = break_alone(rows, good_words(vcpu), rule, hints=hints, fixed=fixed)

    assert words is not None

    blob = base_blob()
    for name in WIDTH:
        put(blob, name, words[name])
    bring_about(vcpu, words)
    readable = min(words["STATE_BYTES"], SIZE)
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(bytes(blob[:readable]))

    assert rule == refusal.value.rule
    assert RULE[rule].result == refusal.value.errno
    assert [rule] == failures(rows, words)


def test_nested_paging_on_host_refuses_where_npt_is_off():
    vcpu = make_vcpu("6.12", host(npt=False))
    with pytest.raises(KvmError) as refusal:
        vcpu.set_nested_state(patched(MISC_CTL=1))

    assert "nested_paging_on_host" == refusal.value.rule


def test_every_effect_is_carried_out_and_no_other():
    effects = {row.name for row in SET_RULES if row.kind is Kind.EFFECT}

    assert effects == set(EFFECTS)


def test_every_rule_has_a_section_and_is_enforced_by_some_release():
    enforced = {name for kernel in RELEASES.values() for name in kernel.names("svm_rules")}
    named = {row.name for row in SET_RULES if row.kind is not Kind.LET}

    assert named == enforced
    assert all("arch/x86/kvm/" in row.section for row in SET_RULES)


def test_rules_that_the_processor_has_too_name_the_section_of_the_manual():
    assert "Canonicalization and Consistency Checks" == MANUAL_SECTIONS["efer_svme"]
    assert "NMI Virtualization" == MANUAL_SECTIONS["v_nmi_needs_nmi_intercept"]


@pytest.mark.parametrize("release", SVM_RELEASES)
def test_the_base_state_is_accepted(release):
    assert 0 == make_vcpu(release).set_nested_state(base_blob())


def test_a_program_is_compiled_once_a_set_of_rules():
    assert set_program(RELEASES["6.8"]) is set_program(RELEASES["6.9"])
