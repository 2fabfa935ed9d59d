import pytest

from emu.kvm import Kvm
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.migration.capture import shipped
from emu.migration.judge import judge, judge_all
from emu.migration.matrix import kernel_of
from emu.releases import RELEASES, release
from vmcs.vmx.vmcs12 import VMCS12_BASE, members_of

ORDER = list(RELEASES)
MEMBERS = members_of(VMCS12_BASE)

# The first release that takes each capture whole, and what the releases before it say, from
# "4.18 has no such ioctl" on: (first release that says so, outcome, rule or lost content).
HISTORY = {
    "vmx-l1-vmxon": (("4.19", "refused", "size_covers_vmcs12"), ("4.20", "accepted", "")),
    "vmx-l1-current-vmcs": (("4.19", "accepted", ""),),
    "vmx-l2-running": (("4.19", "accepted", ""),),
    "vmx-l2-entry-pending": (("4.19", "accepted", ""),),
    "vmx-l2-mtf-pending": (("4.19", "refused", "flags_known"), ("5.7", "accepted", "")),
    "vmx-l2-timer": (("4.19", "lost", "preemption_timer"), ("5.8", "accepted", "")),
    "svm-l1-gif-clear": (("5.8", "accepted", ""),),
    "svm-l2-running": (("5.8", "accepted", ""),),
    "svm-l2-entry-pending": (("5.8", "lost", "run_pending"), ("5.11", "accepted", "")),
}


def patched(name, field, value):
    capture = shipped()[name]
    row = MEMBERS[field]
    blob = bytearray(capture.blob)
    blob[128 + row.offset : 128 + row.end] = value.to_bytes(row.size, "little")
    return capture.with_blob(bytes(blob))


@pytest.mark.parametrize("name", HISTORY)
def test_a_capture_is_judged_as_its_history_says(name):
    capture = shipped()[name]
    found = judge_all(capture, list(RELEASES.values()), kernel_of)
    expected = []
    for kernel in ORDER:
        said = ("refused", "nested_state_offered")
        for since, *what in HISTORY[name]:
            if ORDER.index(kernel) >= ORDER.index(since):
                said = tuple(what)
        expected.append((kernel, *said))

    assert set(HISTORY) == set(shipped())
    assert expected == [
        (v.kernel, v.outcome, v.rule or (v.lost[0].name if v.lost else "")) for v in found
    ]


def test_a_refusal_has_the_place_of_its_rule_and_the_value():
    capture = shipped()["vmx-l2-mtf-pending"]
    verdict = judge(capture, kernel_of(release("5.6"), capture))

    assert ("KVM_SET_NESTED_STATE", 22, "flags_known") == (
        verdict.ioctl,
        verdict.errno,
        verdict.rule,
    )
    assert "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl" == verdict.section
    assert verdict.detail.startswith("FLAGS is 0x9: MTF_PENDING (0x8) must be 0 (UNKNOWN_FLAGS: ")


def test_every_broken_rule_is_found_in_the_kernels_order():
    capture = patched("vmx-l2-running", "HOST_CR3", 1 << 60)
    blob = bytearray(capture.blob)
    blob[8:16] = (1).to_bytes(8, "little")
    verdict = judge(capture.with_blob(bytes(blob)), kernel_of(release("6.12"), capture))

    assert "vmxon_pa_page_address" == verdict.rule
    assert ["vmxon_pa_page_address", "host_cr3_width"] == [f.rule for f in verdict.findings]
    assert "0x1000000000000000" in verdict.findings[1].detail
    assert "Control Registers" in verdict.findings[1].section


def test_a_positive_status_is_told_with_the_rule_that_kept_l2_out():
    """A caller that only looks for -1 takes it for success."""
    capture = patched("vmx-l2-running", "GUEST_CR3", 1 << 60)
    verdict = judge(capture, kernel_of(release("6.12"), capture))

    assert ("lost", 2, 0) == (verdict.outcome, verdict.result, verdict.errno)
    assert ["l2_cr3_width"] == [finding.rule for finding in verdict.findings]
    assert "guest_mode" in [item.name for item in verdict.lost]


def test_registers_that_are_refused_end_the_judgement():
    capture = shipped()["vmx-l2-running"]
    foreign = Kvm("6.12", host_of("epyc-milan", release("6.12"), ModuleParameters(nested=True)))
    verdict = judge(capture, foreign)

    assert ("KVM_SET_SREGS", "sregs_cr4_reserved") == (verdict.ioctl, verdict.rule)
    assert () == verdict.findings


def test_progress_is_told_for_each_kernel():
    capture, seen = shipped()["svm-l1-gif-clear"], []
    judge_all(capture, [release("5.8"), release("7.3")], kernel_of, lambda *at: seen.append(at))

    assert [(1, 2), (2, 2)] == seen
