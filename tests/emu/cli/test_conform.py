import gzip
import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data" / "real-kernel-verdicts"
SINGLE, SEQUENCES = DATA / "vmx-6.12.json.gz", DATA / "seq-svm-6.12.json.gz"


def shortened(path, folder, change=lambda data: None):
    """The first cases of a recording, changed, as a file of its own."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    data["cases"] = data["cases"][:20]
    change(data)
    made = folder / path.name
    made.write_bytes(gzip.compress(json.dumps(data).encode(), mtime=0))
    return made


def test_files_that_agree_exit_0_with_counts(nestling, tmp_path):
    files = [shortened(path, tmp_path) for path in (SINGLE, SEQUENCES)]
    answer = nestling("conform", *files)
    rows = [line.split() for line in answer.out.splitlines()]

    assert 0 == answer.code
    assert [
        ["vmx-6.12", "20", "20", "0"],
        ["seq-svm-6.12", "20", "20", "0"],
        ["all", "40", "40", "0"],
    ] == rows[1:]


def wrong(data):
    data["cases"][3]["expect"]["get_size"] += 1


def test_a_disagreement_exits_1_with_both_answers(nestling, tmp_path):
    path = shortened(SINGLE, tmp_path, wrong)
    answer, [made] = nestling("conform", path), nestling("conform", path, "--json").json
    [found] = made["disagreements"]

    assert 1 == answer.code
    assert "vmx-6.12: first disagreements" in answer.out
    assert (20, 19) == (made["cases"], made["agree"])
    assert ("get_size", found["emulated"] + 1) == (found["value"], found["recorded"])


def test_agreement_is_told_by_tag(nestling, tmp_path):
    path = shortened(SEQUENCES, tmp_path)
    out = nestling("conform", path, "--tags").out
    [made] = nestling("conform", path, "--json").json

    assert "set_nested" in out
    assert {"cases": 18, "agree": 18} == made["by_tag"]["set_nested"]


def drop(key):
    def change(data):
        del data[key]

    return change


def empty_environment(data):
    data["environment"] = {}


def case_without_patches(data):
    del data["cases"][7]["patches"]


def unknown_release(data):
    data["release"] = "2.6"
    data["environment"]["uname"] = ""


BROKEN = {
    "no environment": (drop("environment"), "environment is missing"),
    "empty environment": (empty_environment, "KeyError: 'feature_msrs'"),
    "case without patches": (case_without_patches, "case 7: 'patches' is missing"),
    "unknown release": (unknown_release, "no release is named '2.6'"),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=list(BROKEN))
def test_a_recording_that_is_none_is_refused_in_one_line(nestling, tmp_path, change, words):
    answer = nestling("conform", shortened(SINGLE, tmp_path, change))

    assert 2 == answer.code
    assert words in answer.complaint


CONTENTS = {
    "empty": b"",
    "no gzip": b"\x89PNG\r\n\x1a\n",
    "gzip, cut": SINGLE.read_bytes()[:5000],
    "gzip, damaged": SINGLE.read_bytes()[:5000] + bytes(3000),
    "no JSON": gzip.compress(b"hello", mtime=0),
    "no object": gzip.compress(b"[]", mtime=0),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))
def test_a_file_of_another_kind_is_refused_in_one_line(nestling, tmp_path, content):
    path = tmp_path / "verdicts.json.gz"
    path.write_bytes(content)
    answer = nestling("conform", path)

    assert 2 == answer.code
    assert f"{path}: no file of recorded verdicts" in answer.complaint


def test_a_file_that_is_not_there_is_refused_before_any_is_replayed(nestling, tmp_path):
    answer = nestling("conform", SINGLE, tmp_path / "none.json.gz")

    assert 2 == answer.code
    assert "none.json.gz: no such file" in answer.complaint
