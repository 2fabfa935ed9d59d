import gzip
import json
from pathlib import Path

import pytest

from emu.conform import read_recording, replay
from emu.errors import InputError

DATA = Path(__file__).parents[2] / "data" / "real-kernel-verdicts"
FILES = sorted(path.name.removesuffix(".json.gz") for path in DATA.glob("*.json.gz"))
VALUES_OF_A_CASE = 12


def recording(name):
    return read_recording(DATA / f"{name}.json.gz")


def test_every_recording_is_there():
    assert 20 == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_share_of_every_recording_agrees(name):
    """Every 16th single case and every 4th sequence; `make conformance` replays them all."""
    step = 4 if name.startswith("seq") else 16
    made = replay(recording(name), only=lambda case: case["id"] % step == 0)

    assert [] == made.disagreements
    assert made.cases == made.agreeing > 100


@pytest.mark.conformance
@pytest.mark.parametrize("name", FILES)
def test_every_case_of_every_recording_agrees(name):
    made = replay(recording(name))

    assert [] == made.disagreements
    assert made.complete


@pytest.mark.parametrize("name", ["vmx-6.12", "seq-vmx-6.12"])
def test_a_wrong_value_is_reported_with_both_answers(tmp_path, name):
    data = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    data["cases"] = data["cases"][:1]
    expect = data["cases"][0]["expect"] if name == "vmx-6.12" else None
    if expect is None:
        expect = next(op for op in data["cases"][0]["ops"] if op["op"] == "get_sregs")["expect"]
    expect["cr3"] += 4096
    path = tmp_path / f"{name}.json.gz"
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    made = replay(read_recording(path))

    assert not made.complete
    assert [("cr3", 0x11000, 0x10000)] == [
        (d.value, d.recorded, d.emulated) for d in made.disagreements
    ]


def test_counts_stand_by_tag():
    made = replay(recording("vmx-7.2"), only=lambda case: case["tag"] in ("size", "format"))

    assert {"size", "format"} == set(made.by_tag)
    assert made.cases == sum(counts[0] for counts in made.by_tag.values())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not gzip", "no file of recorded verdicts"),
        (gzip.compress(b"[]"), "not a JSON object"),
        (gzip.compress(b'{"vendor": "vmx"}'), "release is missing"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "x.json.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as refusal:
        read_recording(path)

    assert "\n" not in str(refusal.value)
