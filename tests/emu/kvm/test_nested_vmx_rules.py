import numpy as np
import pytest

from emu.kvm.nested_vmx.rules import RULE, SET_PROGRAM
from emu.kvm.nested_vmx.set import EFFECTS, set_program
from emu.kvm.nested_vmx.set import program_words as environment
from emu.kvm.nested_vmx.words import BLOB_WORDS, KVM_WORDS, NAMES, WHOLE_SIZE
from emu.releases import RELEASES
from tests.emu.kvm.vmx_support import MEMORY, VMX_RELEASES, base_blob, get, make_vcpu, outcome, put
from tests.reference.breaking import break_alone
from tests.reference.naive_checks import failures
from vmcs.checks import Kind
from vmcs.vmx.entry_checks.words import CAPABILITIES, PROCESSOR
from vmcs.vmx.entry_checks.words import MEMORY as OF_MEMORY

CHECKS = [row.name for row in SET_PROGRAM if row.kind is Kind.CHECK]
ENVIRONMENT = {word.name for word in (*KVM_WORDS, *PROCESSOR, *CAPABILITIES, *OF_MEMORY)}

# Words of the environment that a test can bring about; the others are facts of host and release.
SETTABLE = {
    *("STATE_BYTES", "IN_SMM", "EVMCS_ENABLED", "EVMCS_VISIBLE"),
    *("LINK_BACKED", "LINK_FIRST_WORD", "PDPTES_BACKED"),
    *(f"PDPTE{i}" for i in range(4)),
}
LINK_AT = 0x5000


def rows_of(release):
    enforced = RELEASES[release].names("vmx_rules")
    return [row for row in SET_PROGRAM if row.kind is Kind.LET or row.name in enforced]


def releases_with(rule):
    having = [name for name in VMX_RELEASES if RELEASES[name].has("vmx_rules", rule)]
    return sorted({having[0], having[-1]}, key=having.index)


def good_words(vcpu):
    """Words of a state that the release accepts, and of the vCPU that it is given to."""
    blob = base_blob()
    words, _ = environment(vcpu.operations, memoryview(blob), len(blob))
    at = set_program(vcpu.release).vocabulary.index
    values = {name: int(words[at(name)]) for name in NAMES}
    values |= {name: get(blob, name) for name in BLOB_WORDS}
    return values


# A processor that allows whatever a rule is about.
GENEROUS = {
    **{f"{word}_MAY_BE_1": 0xFFFF_FFFF for word in ("PIN", "PROC", "PROC2", "EXIT", "ENTRY")},
    "CR4_FIXED1": (1 << 64) - 1,
    "CR4_RESERVED": 0xFFFF_FFFF_0000_0000,
    "S_CET_RESERVED": 0x3C0,
    "LINK_BACKED": 1,
    "PDPTES_BACKED": 1,
}

# Where the search needs a first step: words that both the condition and the rule ask about.
ALL = (1 << 64) - 1
OUTSIDE = [("VMXON_PA", ALL, ALL), ("VMCS12_PA", ALL, ALL), ("FLAGS", 0, 0xFFFF)]
LINK = [("VMCS_LINK_POINTER", LINK_AT, ALL)]
ORDINARY = [*LINK, ("LINK_FIRST_WORD", 0x11E57ED0, 0xFFFF_FFFF)]
SHADOWING = [
    ("CPU_BASED_VM_EXEC_CONTROL", 1 << 31, 1 << 31),
    ("SECONDARY_VM_EXEC_CONTROL", 1 << 14, 0xFFFF_FFFF),
    ("LINK_FIRST_WORD", 0x91E57ED0, 0xFFFF_FFFF),
    *LINK,
]
GENERAL_PROTECTION = [("VM_ENTRY_INTR_INFO_FIELD", 0x8000_0B0D, 0xFFFF_FFFF)]
HINTS = {
    "header_readable": [*OUTSIDE, ("STATE_BYTES", 127, ALL)],
    "size_covers_header": [*OUTSIDE, ("SIZE", 127, ALL)],
    "vmxon_pa_page_address": [("VMXON_PA", 0x1001, ALL)],
    "vmcs12_pa_page_address": [("VMCS12_PA", 0x2001, ALL)],
    "vmcs12_pa_not_vmxon_pa": [("VMCS12_PA", 0x1000, ALL), ("VMXON_PA", 0x1000, ALL)],
    "smm_guest_mode_needs_smm_vmxon": [("FLAGS", 0, 0x3), ("IN_SMM", 1, 1)],
    "smm_guest_mode_excludes_guest_mode": [("SMM_FLAGS", 3, 3), ("FLAGS", 1, 3)],
    "size_covers_shadow_vmcs12": [*SHADOWING, ("SIZE", 1500, ALL)],
    "shadow_vmcs12_readable": [*SHADOWING, ("STATE_BYTES", 4300, ALL)],
    "shadow_vmcs12_revision": [*SHADOWING, ("SHADOW_FIRST_WORD", 1 << 31, 0xFFFF_FFFF)],
    "shadow_vmcs12_is_shadow": [*SHADOWING, ("SHADOW_FIRST_WORD", 0x11E57ED0, 0xFFFF_FFFF)],
    "error_code_bit_15": [*GENERAL_PROTECTION, ("VM_ENTRY_EXCEPTION_ERROR_CODE", 0x8000, ALL)],
    "error_code_upper_half": [*GENERAL_PROTECTION, ("VM_ENTRY_EXCEPTION_ERROR_CODE", 1 << 16, ALL)],
    "vmcs_link_revision": LINK,
    "l2_new_cr3_width": [("VCPU_CR3", 0x10000, ALL), ("GUEST_CR3", 1 << 60, ALL)],
    "l2_cr3_width_with_new_pdptrs": [("VCPU_CR3", 1 << 60, ALL), ("GUEST_CR3", 1 << 60, ALL)],
    "vmcs_link_is_shadow": [*SHADOWING[:2], *ORDINARY, ("SHADOW_FIRST_WORD", 0x91E57ED0, ALL)],
    "vmcs_link_is_ordinary": [*LINK, ("LINK_FIRST_WORD", 0x91E57ED0, 0xFFFF_FFFF)],
    "vmcs_link_pointer_backed": [*ORDINARY, ("LINK_BACKED", 0, 1)],
}

# Rules that cannot fail alone: what always fails with them.
COUPLED = {
    "smm_guest_mode_excludes_guest_mode": {"smm_flags_outside_smm"},
    "posted_descriptor_aligned": {"posted_descriptor_page_aligned"},
    "evmcs_exit_timer": {"evmcs_pin_controls"},
}
CASES = [(rule, release) for rule in CHECKS for release in releases_with(rule)]


@pytest.mark.parametrize(("rule", "release"), CASES, ids=lambda value: value)
def test_breaking_one_rule_alone_names_it_and_no_other(rule, release):
    coupled = COUPLED.get(rule, set())
    rows = [row for row in rows_of(release) if row.name not in coupled]
    good = good_words(make_vcpu(release)) | GENEROUS
    words = break_alone(rows, good, rule, hints=HINTS.get(rule, ()))

    assert words is not None
    assert [rule] == failures(rows, words)

    program = set_program(RELEASES[release])
    stop = program.walk(program.words({name: words[name] for name in NAMES}))

    assert stop.name in {rule, *coupled}


def bring_about(vcpu, words):
    """Make the vCPU and its memory what `words` say; False where they cannot be."""
    vcpu.smm = bool(words["IN_SMM"] & 1)
    vcpu.operations.nested.evmcs_enabled = bool(words["EVMCS_ENABLED"] & 1)
    link, cr3 = words["VMCS_LINK_POINTER"], words["GUEST_CR3"] & ~0x1F
    pdptes = b"".join(words[f"PDPTE{i}"].to_bytes(8, "little") for i in range(4))
    first = words["LINK_FIRST_WORD"].to_bytes(8, "little")[:4]
    vcpu.memory.write(cr3, pdptes) if cr3 + 32 <= MEMORY else None
    vcpu.memory.write(link, first) if link + 4096 <= MEMORY else None


def test_breaking_a_rule_in_a_blob_refuses_by_that_rule():
    """As many rules as this processor can show: the ioctl itself names the rule."""
    shown = set()
    for rule, release in CASES:
        vcpu = make_vcpu(release)
        good = good_words(vcpu)
        fixed = ENVIRONMENT - SETTABLE
        hints = HINTS.get(rule, [])
        words = break_alone(rows_of(release), good, rule, hints=hints, fixed=fixed)
        if words is None:
            continue
        blob = base_blob()
        for name in BLOB_WORDS:
            _, width = BLOB_WORDS[name]
            put(blob, name, words[name] & (1 << 8 * width) - 1)
        bring_about(vcpu, words)
        seen, _ = environment(vcpu.operations, memoryview(blob), words["STATE_BYTES"])
        at = set_program(vcpu.release).vocabulary.index
        if any(int(seen[at(name)]) != words[name] for name in SETTABLE):
            continue
        _, refused = outcome(vcpu, bytes(blob[: words["STATE_BYTES"]]))

        assert (release, rule) == (release, refused)

        shown.add(rule)

    assert 150 <= len(shown)


@pytest.mark.parametrize("release", VMX_RELEASES)
def test_the_base_state_is_accepted(release):
    vcpu = make_vcpu(release)

    assert 0 == vcpu.set_nested_state(base_blob())
    assert [] == failures(rows_of(release), good_words(make_vcpu(release)))


def test_every_effect_is_carried_out_and_no_other():
    effects = {row.name for row in SET_PROGRAM if row.kind is Kind.EFFECT}

    assert effects == set(EFFECTS)


def test_every_rule_has_a_section_and_is_enforced_by_some_release():
    enforced = {name for kernel in RELEASES.values() for name in kernel.names("vmx_rules")}

    assert set(RULE) == enforced
    assert all("arch/x86/kvm/" in row.section for row in RULE.values())


def test_every_check_gives_an_errno_or_the_release_s_status():
    without = [row.name for row in RULE.values() if row.kind is Kind.CHECK and not row.result]

    assert [] == without


@pytest.mark.parametrize("release", VMX_RELEASES)
def test_the_walk_of_a_record_agrees_with_the_naive_walk(release):
    """The compiled walk over a blob and the naive walk over words stop at the same row."""
    vcpu = make_vcpu(release)
    rows, program = rows_of(release), set_program(RELEASES[release])
    good = good_words(vcpu)
    for name, value in (("FORMAT", 1), ("HOST_CR3", 1 << 60), ("GUEST_ACTIVITY_STATE", 2)):
        blob = base_blob()
        put(blob, name, value)
        words, _ = environment(vcpu.operations, memoryview(blob), WHOLE_SIZE)
        stop = program.walk_record(np.frombuffer(bytes(blob), np.uint8), words)

        assert failures(rows, {**good, name: value})[0] == stop.name
