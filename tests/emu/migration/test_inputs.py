import json

import pytest

from emu.errors import StateError
from emu.migration.capture import Capture, shipped
from emu.migration.inputs import capture_of_cpu, read_states, states_of
from emu.migration.qemu_stream import QemuStream, wrap
from tests.emu.cli.bad_files import BAD_FILES, STREAM

CAPTURE = shipped()["vmx-l2-running"]
BLOB = CAPTURE.blob


def test_a_name_that_is_no_file_is_a_shipped_capture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert [CAPTURE] == read_states("vmx-l2-running")

    (tmp_path / "vmx-l2-running").write_bytes(shipped()["vmx-l1-vmxon"].blob)

    assert shipped()["vmx-l1-vmxon"].blob == read_states("vmx-l2-running")[0].blob


@pytest.mark.parametrize(
    "data",
    [
        BLOB,
        BLOB.hex().encode(),
        BLOB.hex().upper().encode() + b"\n",
        json.dumps(CAPTURE.to_json()).encode(),
        b"\n " + json.dumps([CAPTURE.to_json()]).encode(),
    ],
    ids=["raw", "hexadecimal", "upper case", "capture", "list"],
)
def test_every_form_holds_the_same_blob(data):
    [found] = states_of(data, "there")

    assert BLOB == found.blob
    assert (CAPTURE.cr3, CAPTURE.efer) == (found.cr3, found.efer)


def test_a_list_of_captures_is_numbered():
    data = [CAPTURE.to_json(), {"kind": "nestling-capture", "version": 1, "blob": BLOB.hex()}]
    states = states_of(json.dumps(data).encode(), "there")

    assert [CAPTURE.name, "there[1]"] == [state.name for state in states]


@pytest.mark.parametrize("data", [STREAM, wrap(STREAM, "<domain/>")], ids=["stream", "libvirt save image"])
def test_states_of_a_stream_come_with_the_registers_beside_them(data):
    states = states_of(data, "there")
    registers = QemuStream.parse(data).vcpus[0].registers

    assert ["there#vcpu0", "there#vcpu1"] == [state.name for state in states]
    assert [4224, 4224] == [len(state.blob) for state in states]
    assert registers["cr[0]"] == states[0].cr0 == 0x60000010
    assert registers["efer"] == states[0].efer


def test_a_vcpu_without_nested_state_has_no_capture():
    cpu = QemuStream.parse(STREAM).vcpus[0]
    cpu.set_nested_state(None)

    with pytest.raises(StateError, match="vcpu: has no nested state"):
        capture_of_cpu(cpu, "vcpu")


@pytest.mark.parametrize(("data", "words"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_anything_else_is_refused(data, words):
    with pytest.raises(StateError) as caught:
        states_of(data, "there")

    assert words in str(caught.value)
    assert "there" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_provenance_names_the_file():
    assert "there (raw)" == states_of(BLOB, "there")[0].provenance
    assert isinstance(states_of(BLOB, "there")[0], Capture)
