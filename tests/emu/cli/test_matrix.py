import pytest

from emu.migration.policy import POLICIES

FEW = ("--kernels", "5.4,5.6,5.7,6.12")
MTF = ("--state", "vmx-l2-mtf-pending")


def test_the_table_has_a_mark_for_every_pair(nestling):
    answer = nestling("matrix", *FEW, *MTF)
    lines = answer.out.splitlines()

    assert 0 == answer.code
    assert ["5.4  ....", "5.6  ....", "5.7  xx++", "6.12  xx++"] == [
        line.strip() for line in lines if line.strip()[-4:].strip("+~x.") == "" and "  " in line
    ]
    assert "+ 4 accepted   x 4 refused   . 8 the source cannot hold this state" in answer.out
    assert "flags_known" in answer.out


def test_column_heads_read_downwards(nestling):
    lines = nestling("matrix", *FEW, *MTF).out.splitlines()
    heads = [line[6:].ljust(4) for line in lines[1:5]]

    assert [" 5.4", " 5.6", " 5.7", "6.12"] == ["".join(head) for head in zip(*heads, strict=True)]


def test_json_has_every_cell_for_every_policy(nestling):
    matrices = nestling("matrix", *FEW, *MTF, "--policy", "flags,size", "--json").json
    outcomes = [[cell["outcome"] for cell in row] for row in matrices[0]["cells"]]

    assert ["flags", "size"] == [made["policy"] for made in matrices]
    assert ["5.4", "5.6", "5.7", "6.12"] == matrices[0]["sources"] == matrices[0]["destinations"]
    assert ["refused", "refused", "accepted", "accepted"] == outcomes[3]
    assert {"accepted": 4, "lost": 0, "refused": 4, "impossible": 8} == matrices[0]["counts"]
    assert {"5.7"} == {cell["source"] for cell in matrices[0]["cells"][2]}


def test_pictures_are_written_and_said(nestling, tmp_path):
    paths = [tmp_path / "map.png", tmp_path / "map.svg"]
    pictures = [part for path in paths for part in ("--picture", path)]
    answer = nestling("matrix", *FEW, *pictures)

    assert 0 == answer.code
    assert [f"wrote {path}" for path in paths] == answer.out.splitlines()[-2:]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in paths[1].read_bytes()


def test_scenarios_count_journeys_for_every_policy(nestling):
    made = nestling("matrix", "--scenarios", "--json").json

    assert [policy.name for policy in POLICIES] == list(made["counts"])
    for row in made["counts"].values():
        journeys = {name: sum(counts.values()) for name, counts in row.items()}
        assert {"old to new": 30, "new to old": 30, "mixed pool": 120, "rollback": 30} == journeys


def test_scenarios_as_a_table_have_a_row_a_policy(nestling):
    out = nestling("matrix", "--scenarios", "--policy", "version").out

    assert "policy   old to new  new to old  mixed pool   rollback" in out
    assert "version  30 / 0 / 0  0 / 0 / 30  90 / 0 / 30  0 / 0 / 30" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--kernels", "5.4,9.9"), "no release is named '9.9'"),
        (("--policy", "luck"), "no policy is named 'luck'; policies: maximum, size"),
        (("--state", "nothing"), "nothing: cannot be read"),
        (("--picture", "map.jpg"), "map.jpg: a picture ends in .png or .svg"),
        (("--picture", "/none/map.png"), "the folder /none does not exist"),
        (("--picture", "/"), "/: is there already, and is no file"),
    ],
)
def test_bad_input_is_refused_in_one_line(nestling, options, words):
    answer = nestling("matrix", *options)

    assert 2 == answer.code
    assert words in answer.complaint


def test_a_picture_that_cannot_be_written_is_one_line(nestling, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device", "map.png")

    monkeypatch.setattr("emu.migration.matrix.draw", full)
    answer = nestling("matrix", "--kernels", "6.12", "--picture", tmp_path / "map.png")

    assert 2 == answer.code
    assert "nestling: map.png: No space left on device\n" == answer.err
