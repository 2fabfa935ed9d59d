import json

import pytest

MTF = ("--state", "vmx-l2-mtf-pending")


@pytest.mark.parametrize(
    ("options", "code", "outcome"),
    [
        (("--from", "5.4", "--to", "6.12"), 0, "accepted"),
        (("--from", "6.12", "--to", "5.7", *MTF), 0, "accepted"),
        (("--from", "6.12", "--to", "5.6", *MTF), 1, "refused"),
        (("--from", "5.4", "--to", "6.12", *MTF), 1, "impossible"),
        (("--from", "6.12", "--to", "5.7", "--state", "vmx-l2-timer"), 1, "lost"),
        (("--from", "6.12", "--to", "5.10", "--state", "svm-l2-entry-pending"), 1, "lost"),
        (("--from", "6.12", "--to", "5.10.262", "--state", "svm-l2-running"), 0, "accepted"),
    ],
)
def test_the_verdict_is_printed_and_is_the_exit_code(nestling, options, code, outcome):
    answer, listed = nestling("migrate", *options), nestling("migrate", *options, "--json")

    assert (code, code) == (answer.code, listed.code)
    assert answer.out.splitlines()[0].endswith(f"policy flags that announce content: {outcome}")
    assert outcome == listed.json["outcome"]


def test_a_refusal_says_where_and_why(nestling):
    verdict = nestling("migrate", "--from", "6.12", "--to", "5.6", *MTF, "--json").json

    assert {
        "source": "6.12",
        "destination": "5.6",
        "policy": "flags",
        "outcome": "refused",
        "stage": "restore nested state",
        "rule": "flags_known",
        "errno": "EINVAL",
        "detail": "FLAGS (0x9) has no bit of UNKNOWN_FLAGS (0xfff8)",
        "result": 0,
        "lost": [],
        "withheld": [],
    } == verdict


def test_what_is_lost_has_both_values(nestling):
    options = ("--from", "6.12", "--to", "5.10", "--state", "svm-l2-entry-pending")
    out, verdict = nestling("migrate", *options).out, nestling("migrate", *options, "--json").json

    assert [{"name": "run_pending", "was": 1, "now": 0}] == verdict["lost"]
    assert "run_pending  0x1          0x0" in out


def test_a_grown_kernel_of_the_users_own_can_be_either_side(nestling, tmp_path):
    path = tmp_path / "v2.toml"
    path.write_text(
        'name = "v2"\nbase = "6.12"\n[[grow]]\nplace = "header"\nname = "word"\n'
        "offset = 48\nwidth = 8\nsample = 0x77\n"
    )
    back = nestling("migrate", "--from", path, "--to", "6.12", "--json", "--policy", "size")
    unused = nestling("migrate", "--from", path, "--to", "6.12", "--unused", "--policy", "size")
    stay = nestling("migrate", "--from", path, "--to", path, "--json")

    assert [{"name": "grown.word", "was": 0x77, "now": None}] == back.json["lost"]
    assert 0 == unused.code
    assert "accepted" == stay.json["outcome"]


def test_withheld_content_is_told(nestling, tmp_path):
    path = tmp_path / "v2.toml"
    path.write_text(
        'name = "v2"\nbase = "6.12"\n[[grow]]\nplace = "header"\nname = "word"\n'
        "offset = 48\nwidth = 8\nsample = 0x77\n"
    )
    answer = nestling("migrate", "--from", path, "--to", "6.12", "--policy", "quirk")

    assert 0 == answer.code
    assert "the guest was never offered: word" in answer.out


def test_a_replay_file_is_written_as_a_whole(nestling, tmp_path):
    path = tmp_path / "move.json"
    answer = nestling("migrate", "--from", "5.4", "--to", "6.12", "--record", path)

    assert 0 == answer.code
    assert f"recorded in {path}: nestling replay {path}" in answer.out
    assert "nestling-replay" == json.loads(path.read_text())["kind"]
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "3.10", "--to", "6.12"), "no release is named '3.10'"),
        (("--from", "6.12", "--to", "x.toml"), "x.toml: cannot be read"),
        (("--from", "5.4", "--to", "6.12", "--policy", "luck"), "no policy is named 'luck'"),
        (("--from", "5.4", "--to", "6.12", "--state", "no"), "No such file or directory; shipped"),
        (("--from", "5.4", "--to", "6.12", "--vcpu", "1"), "has 1 nested states, no number 1"),
        (("--from", "5.4", "--to", "6.12", "--vcpu", "-1"), "has 1 nested states, no number -1"),
        (("--from", "5.4", "--to", "6.12", "--record", "/none/x"), "folder /none does not exist"),
        (("--from", "5.4", "--to", "6.12", "--record", "/dev/null"), "there already, and is no f"),
    ],
)
def test_bad_input_is_refused_in_one_line(nestling, options, words):
    answer = nestling("migrate", *options)

    assert 2 == answer.code
    assert words in answer.complaint
