"""Mutated states: no crash, no refusal without a name, nothing changed but what KVM changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import KvmError, StateError
from emu.migration.capture import shipped
from emu.migration.inputs import states_of
from emu.migration.judge import judge
from emu.migration.rulebook import rule_named
from tests.emu.cli.bad_files import STREAM
from tests.emu.migration.fuzzing import (
    changed,
    effects_before,
    everything,
    expected_walk,
    fresh_vcpu,
    kernel,
    mutations,
    vcpu_holding,
)

NESTED = "operations.nested."

# What each step of KVM_SET_NESTED_STATE on Intel may change of the vCPU, beyond `leave_nested`
# (arch/x86/kvm/vmx/nested.c: vmx_set_nested_state).
CHANGES = {
    "enable_evmcs": {f"{NESTED}evmcs_enabled", "operations.msrs"},
    "leave_nested": set(),
    "leave_nested_at_once": set(),
    "enter_vmx_operation": {f"{NESTED}vmxon", f"{NESTED}vmxon_pa"},
    "set_current_vmptr": {
        *(f"{NESTED}{name}" for name in ("vmcs12_pa", "dirty_vmcs12", "owes_vmcs12_to_shadow"))
    },
    "owe_vmcs12_to_evmcs": {f"{NESTED}owes_vmcs12_to_shadow"},
    "request_evmcs_page": {f"{NESTED}pages_requested"},
    "mark_evmcs_map_pending": {f"{NESTED}evmcs"},
    "apply_smm_flags": {f"{NESTED}{name}" for name in ("smm_vmxon", "vmxon", "smm_guest_mode")},
    "copy_vmcs12": {f"{NESTED}vmcs12"},
    "set_run_pending": {f"{NESTED}run_pending"},
    "set_mtf_pending": {f"{NESTED}mtf_pending"},
    "copy_shadow_vmcs12": {f"{NESTED}shadow_vmcs12"},
    "set_deadline": {f"{NESTED}has_deadline", f"{NESTED}deadline"},
    # An entry that fails is undone, but for what vmcs01 never had: the registers that it caches.
    "prepare_vmcs02": {
        *(f"{NESTED}{name}" for name in ("vmcs02", "dirty_vmcs12", "owes_vmcs12_to_shadow")),
        *(f"{NESTED}{name}" for name in ("has_deadline", "deadline", "pages_requested")),
        *("cr0", "cr3", "cr4", "registers[rip]", "registers[rsp]", "pdptrs"),
    },
    "load_l2_pdptrs": {"pdptrs"},
}
EMPTY_VMX = bytes(4) + (128).to_bytes(4, "little") + b"\xff" * 16 + bytes(8320 - 24)

VMX_CASES = [
    (kernel_name, held)
    for kernel_name in ("4.20", "5.4", "5.10.262", "6.12.115", "7.3")
    for held in (None, "vmx-l1-current-vmcs", "vmx-l2-running")
]
SVM_CASES = [
    (kernel_name, held)
    for kernel_name in ("5.8", "5.10.262", "6.12.115", "7.3")
    for held in (None, "svm-l1-gif-clear", "svm-l2-running")
]


def attempt(vcpu, state):
    """Name of the rule that kept the state out; "" where it was taken."""
    try:
        result = vcpu.set_nested_state(state)
    except KvmError as error:
        return error.rule if error.errno > 0 else None
    return vcpu.entry_refusal[0] if result else ""


def complaint(content):
    """What is said of a file that holds no nested state; "" where it holds some."""
    try:
        states = states_of(content, "there")
    except StateError as error:
        return str(error)
    return "" if states and all(len(state.blob) >= 128 for state in states) else None


def make(kernel_name, held, like):
    return fresh_vcpu(kernel_name, like) if held is None else vcpu_holding(kernel_name, held)


def allowed(path, effects):
    return any(path.startswith(prefix) for effect in effects for prefix in CHANGES[effect])


@pytest.mark.parametrize(("kernel_name", "held"), VMX_CASES)
@given(state=mutations(shipped()["vmx-l2-running"].blob, "vmx"))
@settings(max_examples=40)
def test_a_refused_vmx_state_changes_only_what_the_steps_before_changed(kernel_name, held, state):
    vcpu = make(kernel_name, held, "vmx-l2-running")
    twin = make(kernel_name, held, "vmx-l2-running")
    expected, _ = expected_walk(vcpu, "vmx", state)
    before = everything(vcpu)
    rule = attempt(vcpu, state)
    if held != "vmx-l2-running":  # from L2, the checks see what leaving it brings back
        assert expected == rule
    if not rule:
        return

    assert rule_named(rule) is not None

    after = everything(vcpu)
    effects = effects_before(vcpu, "vmx", rule)
    if "leave_nested" in effects:
        assert 0 == twin.set_nested_state(EMPTY_VMX)
        before = everything(twin)

    assert [] == [path for path in sorted(changed(before, after)) if not allowed(path, effects)]


@pytest.mark.parametrize(("kernel_name", "held"), SVM_CASES)
@given(state=mutations(shipped()["svm-l2-running"].blob, "svm"))
@settings(max_examples=40)
def test_a_refused_svm_state_changes_nothing(kernel_name, held, state):
    """Every check of svm_set_nested_state comes before its first effect, but for two."""
    vcpu = make(kernel_name, held, "svm-l2-running")
    expected, effects = expected_walk(vcpu, "svm", state)
    before = everything(vcpu)
    rule = attempt(vcpu, state)
    if not rule:
        return

    assert expected == rule
    assert rule_named(rule) is not None
    assert effects or set() == changed(before, everything(vcpu))


@pytest.mark.parametrize("capture", shipped().values(), ids=list(shipped()))
@given(data=st.data())
@settings(max_examples=25)
def test_a_mutated_state_is_judged_with_names(capture, data):
    blob = data.draw(mutations(capture.blob, capture.format.name.lower()))
    kernel_name = data.draw(st.sampled_from(("4.18", "5.3", "5.7", "5.8", "6.1", "7.0")))
    verdict = judge(capture.with_blob(blob), kernel(kernel_name, capture.name))
    names = [verdict.rule, *(finding.rule for finding in verdict.findings)]

    assert verdict.outcome in ("accepted", "refused", "lost")
    assert (verdict.outcome == "refused") == bool(verdict.rule)
    assert all(rule_named(name) is not None for name in names if name)
    assert bool(verdict.lost) == (verdict.outcome == "lost")


@given(data=st.data())
@settings(max_examples=150)
def test_a_mutated_file_is_read_or_refused_in_one_line(data):
    source = data.draw(st.sampled_from((STREAM, shipped()["vmx-l2-running"].blob)))
    made = bytearray(source)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(made) - 1))
        made[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(made))))
    said = complaint(bytes(made[:cut]))

    assert said == "" or ("there" in said and "\n" not in said)


@given(content=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content):
    said = complaint(content)

    assert said == "" or ("there" in said and "\n" not in said)
