import json

import pytest

import emu.migration.replay
from emu.errors import InputError
from emu.migration.capture import shipped
from emu.migration.policy import POLICIES, policy
from emu.migration.replay import Recorder, _own_checksum, read, record, run, write
from emu.migration.scenarios import example_kernels
from emu.releases import RELEASES, release

L2 = shipped()["vmx-l2-running"]


def recorded(source="6.12", destination="5.10", state="svm-l2-entry-pending", how="flags"):
    return record(shipped()[state], release(source), release(destination), policy(how))


MOVES = [
    ("6.12", "5.10", "svm-l2-entry-pending"),
    ("6.12", "5.4", "vmx-l2-mtf-pending"),
    ("5.4", "6.12", "vmx-l2-mtf-pending"),
    ("5.4", "7.3", "vmx-l2-running"),
    ("6.12", "4.18", "vmx-l1-vmxon"),
]


@pytest.mark.parametrize(("source", "destination", "state"), MOVES)
@pytest.mark.parametrize("how", [how.name for how in POLICIES])
def test_a_move_of_any_outcome_is_the_same_bit_for_bit(tmp_path, source, destination, state, how):
    verdict, content = recorded(source, destination, state, how)
    write(tmp_path / "move.json", content)
    again, difference, steps = run(read(tmp_path / "move.json"), "move.json")

    assert verdict == again
    assert difference is None
    assert [step["crc32c"] for step in content["steps"]] == [f"{s.checksum:08x}" for s in steps]


@pytest.mark.parametrize("kernel", example_kernels(), ids=lambda kernel: kernel.name)
def test_a_grown_kernel_travels_in_the_file(kernel):
    verdict, content = record(L2, kernel, kernel, policy("flags"))
    again, difference, _ = run(json.loads(json.dumps(content)), "move")

    assert "accepted" == verdict.outcome
    assert (verdict, None) == (again, difference)
    assert verdict.grown == again.grown != {}


def test_two_recordings_of_a_move_are_the_same_file(tmp_path):
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        write(path, recorded()[1])

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_replay_needs_nothing_that_nestling_knows_about_the_kernels(monkeypatch):
    verdict, content = recorded()

    def gone(*_arguments):
        raise AssertionError("a replay looked a kernel up")

    monkeypatch.setattr(emu.migration.replay, "kernel_of", gone)
    monkeypatch.setattr("emu.kvm.cpu_models.host_of", gone)
    monkeypatch.setattr("emu.releases.registry.RELEASES", {})

    assert verdict == run(json.loads(json.dumps(content)), "move")[0]


@pytest.mark.parametrize("index", range(4))
def test_the_first_step_that_differs_is_named(index):
    _, content = recorded()
    for step in content["steps"][index:]:
        step["crc32c"] = f"{int(step['crc32c'], 16) ^ 1:08x}"
    _, difference, steps = run(content, "move")

    assert index == difference.index
    assert steps[index] == difference.replayed
    assert content["steps"][index]["name"] == difference.recorded.name


@pytest.mark.parametrize(
    ("change", "index"),
    [
        (lambda content: content["source"]["facts"].update(vmx_maximum_size=4224), None),
        (lambda content: content["destination"]["facts"]["nested_flags"].clear(), 3),
        (lambda content: content["capture"].update(cr3=0x20000), 2),
    ],
    ids=["a fact of the other vendor", "a fact that matters", "the capture"],
)
def test_another_cause_has_another_effect(change, index):
    _, content = recorded()
    change(content)
    _, difference, _ = run(content, "move")

    assert index == (difference.index if difference else None)


def test_a_step_more_or_less_is_a_difference():
    _, content = recorded()
    last = content["steps"].pop()
    _, shorter, _ = run(content, "move")
    content["steps"] += [last, last]
    _, longer, _ = run(content, "move")

    assert (3, None) == (shorter.index, shorter.recorded)
    assert (4, None) == (longer.index, longer.replayed)


def test_checksums_chain_so_that_order_counts():
    one, other = Recorder(), Recorder()
    for step in ("a", "b"):
        one(step, {"x": b"1"})
    for step in ("b", "a"):
        other(step, {"x": b"1"})

    assert one.steps[1].checksum != other.steps[0].checksum
    assert {one.steps[0].checksum} & {other.steps[1].checksum} == set()


def damaged(key, value):
    def change(content):
        content[key] = value

    return change


DAMAGE = {
    "no capture": (damaged("capture", {}), "of kind None"),
    "no steps": (damaged("steps", [{}]), "damaged: 'name'"),
    "unknown policy": (damaged("policy", "luck"), "no policy is named 'luck'"),
    "unknown fact": (
        lambda content: content["source"]["facts"].update(colour=["red"]),
        "a fact 'colour' that this Nestling does not know",
    ),
    "no host": (lambda content: content["source"].pop("host"), "damaged: 'host'"),
    "facts missing": (
        lambda content: content["source"]["facts"].pop("behaviours"),
        "damaged: no fact 'behaviours'",
    ),
    "growth of no kind": (
        lambda content: content["source"].update(growth=[{"place": "page", "name": 5}]),
        "damaged: growth",
    ),
    "host of no kind": (
        lambda content: content["source"]["host"].update(parameters={"speed": 1}),
        "damaged: ",
    ),
}


@pytest.mark.parametrize(("change", "words"), DAMAGE.values(), ids=list(DAMAGE))
def test_a_file_whose_parts_are_wrong_is_bad_input(change, words):
    _, content = recorded()
    change(content)

    with pytest.raises(InputError, match=words):
        run(content, "move")


def test_one_changed_character_is_noticed(tmp_path):
    path = tmp_path / "move.json"
    _, content = recorded()
    write(path, content)
    text = path.read_text()
    at = text.index('"cr3": ') + len('"cr3": ')
    path.write_text(text[:at] + str(9 - int(text[at])) + text[at + 1 :])

    with pytest.raises(InputError, match="damaged: the file does not have the checksum"):
        read(path)


def test_a_file_states_its_own_checksum_whatever_the_order_of_its_keys():
    _, content = recorded()

    assert content["crc32c"] == _own_checksum(dict(reversed(content.items())))


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "move.json"
    path.write_text("old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"move\.json: cannot be written: No space left on device"):
        write(path, {"a": 1})

    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write(tmp_path / "none" / "move.json", {})


def test_releases_are_not_changed_by_a_replay():
    before = {name: dict(kernel.facts) for name, kernel in RELEASES.items()}
    run(recorded()[1], "move")

    assert before == {name: dict(kernel.facts) for name, kernel in RELEASES.items()}
