import json

import pytest

from emu.migration.replay import _own_checksum

MOVE = ("migrate", "--from", "6.12", "--to", "5.10", "--state", "svm-l2-entry-pending")


@pytest.fixture
def move(nestling, tmp_path):
    path = tmp_path / "move.json"
    nestling(*MOVE, "--record", path)
    return path


def test_a_recorded_move_is_the_same_bit_for_bit(nestling, move):
    answer = nestling("replay", move)

    assert 0 == answer.code
    assert "bit for bit as recorded: 4 steps" in answer.out
    assert "run_pending  0x1          0x0" in answer.out


def test_json_has_steps_and_no_difference(nestling, move):
    found = nestling("replay", move, "--json").json
    recorded = json.loads(move.read_text())["steps"]

    assert [s["crc32c"] for s in recorded] == [step["crc32c"] for step in found["steps"]]
    assert "lost" == found["verdict"]["outcome"]
    assert found["difference"] is None


def test_the_first_step_that_differs_is_named(nestling, move):
    content = json.loads(move.read_text())
    content["steps"][2]["crc32c"] = "00000000"
    content["crc32c"] = _own_checksum(content)
    move.write_text(json.dumps(content))
    answer, listed = nestling("replay", move), nestling("replay", move, "--json")

    assert (1, 1) == (answer.code, listed.code)
    assert "differs from the recording at step 2" in answer.out
    assert "recorded  restore registers 00000000" in answer.out
    assert 2 == listed.json["difference"]["index"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"kind": "x"}', "\x7fELF", "[" * 100_000]
)
def test_a_file_of_another_kind_is_refused_in_one_line(nestling, tmp_path, content):
    path = tmp_path / "file"
    path.write_text(content)
    answer = nestling("replay", path)

    assert 2 == answer.code
    assert f"{path}: no replay file" in answer.complaint


def test_a_damaged_missing_or_newer_file_is_refused_in_one_line(nestling, move, tmp_path):
    text = move.read_text()
    move.write_text(text.replace('"gif": 1', '"gif": 0').replace('"cr3": 65536', '"cr3": 65537'))
    damaged = nestling("replay", move)
    move.write_text(text[: len(text) // 2])
    cut = nestling("replay", move)
    move.write_text(text.replace('"version": 1', '"version": 9', 1))
    newer = nestling("replay", move)
    missing = nestling("replay", tmp_path / "none")

    assert (2, 2, 2, 2) == (damaged.code, cut.code, newer.code, missing.code)
    assert "damaged: the file does not have the checksum that it states" in damaged.complaint
    assert "no replay file" in cut.complaint
    assert "version 9, this Nestling reads 1" in newer.complaint
    assert "cannot be read: No such file" in missing.complaint
