import pytest

from emu.cli.judge import _grouped
from emu.migration.capture import shipped
from emu.migration.judge import Judgement
from emu.releases import RELEASES
from tests.emu.cli.bad_files import BLOB, STREAM

KERNEL = 'name = "6.12-strict"\nbase = "6.12"\n[[remove]]\nfact = "nested_flags"\n'
STRICT = KERNEL + 'member = "KVM_STATE_NESTED_MTF_PENDING"\n'


def test_a_state_that_every_kernel_asked_takes_exits_0(nestling):
    answer = nestling("judge", "vmx-l2-running", "--kernel", "5.4,6.12", "--kernel", "7.3")

    assert 0 == answer.code
    assert "5.4 to 7.3  accepted" in answer.out


def test_a_refusal_names_ioctl_errno_rule_value_and_place(nestling):
    answer = nestling("judge", "vmx-l2-mtf-pending", "--kernel", "5.6")

    assert 1 == answer.code
    assert "refused" in answer.out
    assert "flags_known" in answer.out
    assert "KVM_SET_NESTED_STATE: EINVAL" in answer.out
    assert "FLAGS is 0x9: MTF_PENDING (0x8) must be 0" in answer.out
    assert "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl" in answer.out


def test_what_is_lost_is_named_with_its_value(nestling):
    answer = nestling("judge", "vmx-l2-timer", "--kernel", "5.7")

    assert 1 == answer.code
    assert "lost" in answer.out
    assert "preemption_timer_deadline was 0x1b5a3c7e00, no place for it" in answer.out


def test_every_release_is_asked_by_default(nestling):
    [state] = nestling("judge", "svm-l2-running", "--json").json
    every = [verdict["outcome"] for verdict in state["verdicts"]]
    outcome = dict(zip(RELEASES, every, strict=True))

    assert list(RELEASES) == [verdict["kernel"] for verdict in state["verdicts"]]
    assert ("refused", "accepted") == (outcome["5.7"], outcome["5.8"])
    assert nestling("judge", "svm-l2-running", "--all", "--json").json == [state]


def test_json_lists_every_finding(nestling, tmp_path):
    blob = bytearray(BLOB)
    blob[8:16] = (0x1234).to_bytes(8, "little")
    blob[128 + 744 : 128 + 748] = bytes(4)
    path = tmp_path / "state.bin"
    path.write_bytes(blob)
    answer = nestling("judge", path, "--kernel", "6.12", "--json")
    [[verdict]] = [state["verdicts"] for state in answer.json]
    findings = [finding["rule"] for finding in verdict["findings"]]

    assert 1 == answer.code
    assert ("refused", "EINVAL") == (verdict["outcome"], verdict["errno"])
    assert "vmxon_pa_page_address" == verdict["rule"]
    assert ["vmxon_pa_page_address", "pin_reserved"] == findings
    assert all(f["section"] and f["detail"] for f in verdict["findings"])


def test_every_state_of_a_stream_is_judged(nestling, tmp_path):
    path = tmp_path / "guest.stream"
    path.write_bytes(STREAM)
    states = nestling("judge", path, "--kernel", "6.12", "--json").json
    rules = [state["verdicts"][0]["rule"] for state in states]

    assert [f"{path}#vcpu0", f"{path}#vcpu1"] == [state["name"] for state in states]
    assert ["without_svme_only_gif", "without_svme_only_gif"] == rules


def test_a_kernel_of_the_users_own_is_asked(nestling, tmp_path):
    path = tmp_path / "strict.toml"
    path.write_text(STRICT)
    [state] = nestling("judge", "vmx-l2-mtf-pending", "--kernel", path, "--json").json

    assert [("6.12-strict", "flags_known")] == [
        (verdict["kernel"], verdict["rule"]) for verdict in state["verdicts"]
    ]


def test_without_nested_no_kernel_takes_anything(nestling):
    [state] = nestling("judge", "vmx-l1-vmxon", "--no-nested", "--json").json

    assert {"nested_state_offered", "vmxon_needs_guest_vmx", "sregs_cr4_reserved"} == {
        verdict["rule"] for verdict in state["verdicts"]
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--kernel", "9.99"), "no release is named '9.99'"),
        (("--kernel", "missing.toml"), "missing.toml: cannot be read: No such file"),
        (("--cpu", "z80"), "no CPU model is named 'z80'; known: skylake-x, epyc-milan"),
    ],
)
def test_an_option_that_names_nothing_is_refused_in_one_line(nestling, options, words):
    answer = nestling("judge", "vmx-l2-running", *options)

    assert 2 == answer.code
    assert words in answer.complaint


def test_a_malformed_kernel_file_is_refused_with_its_line(nestling, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('name = "bad"\nbase = "6.12"\nbasis = 1\n')
    answer = nestling("judge", "vmx-l2-running", "--kernel", path)

    assert 2 == answer.code
    assert f"nestling: {path}:3: " in answer.complaint


def test_all_and_kernel_exclude_each_other(nestling):
    answer = nestling("judge", "vmx-l2-running", "--all", "--kernel", "5.4")

    assert 2 == answer.code
    assert "--all and --kernel exclude each other" in answer.err


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_capture_is_taken_by_the_newest_kernel(nestling, name):
    assert 0 == nestling("judge", name, "--kernel", "7.3").code


def test_a_stable_tree_with_another_verdict_does_not_part_its_neighbours():
    """5.10.262 stands between 5.10 and 5.11, and has backports that neither of them has."""
    verdicts = [
        Judgement(name, "accepted" if name in ("5.10.262", "6.1") else "lost")
        for name in ("5.9", "5.10", "5.10.262", "5.11", "6.0", "6.1", "6.1.192")
    ]
    groups = [[verdict.kernel for verdict in group] for group in _grouped(verdicts)]

    assert [["5.9", "5.10", "5.11", "6.0"], ["5.10.262"], ["6.1"], ["6.1.192"]] == groups
