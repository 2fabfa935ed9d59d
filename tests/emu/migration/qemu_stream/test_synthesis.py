"""Minimal streams made without QEMU keep the grammar and the description of real ones."""

import json

import pytest

from emu.errors import StateError
from emu.migration.qemu_stream import HFlags, QemuStream, synthesize
from tests.emu.migration.qemu_stream.blobs import svm_blob, vmx_blob
from tests.reference.naive_stream import devices_of


@pytest.mark.parametrize("with_description", [True, False])
@pytest.mark.parametrize("blobs", [(), (None,), (vmx_blob(2, flags=1), None, svm_blob())])
def test_a_made_stream_is_read_back(blobs, with_description):
    data = synthesize(blobs, ram_bytes=0x8000, with_description=with_description)
    stream = QemuStream.parse(data)

    assert list(blobs) == [cpu.nested_state for cpu in stream.vcpus]
    assert {"ZERO": 8, "EOS": 1} == stream.sections[1].ram.records
    assert with_description == (stream.description is not None)
    assert data == stream.to_bytes()


def test_a_field_by_field_reader_agrees_with_the_description():
    devices = devices_of(synthesize([vmx_blob(1), svm_blob()], ram_bytes=0x3000))

    assert {"cpu_common", "cpu"} == {name for name, _ in devices}
    assert 0xFFF0 == devices["cpu", 1]["env.eip"]
    assert (
        0x3000
        == (
            devices["cpu", 1]["cpu/nested_state"]["env.nested_state"]["cpu/kvm_nested_state/svm"][
                "hdr.svm.vmcb_pa"
            ]
        )
    )


def test_made_sections_are_described_as_recorded_ones(q35):
    recorded = {device.name: device.entry for device in QemuStream.parse(q35).description.devices}
    for device in QemuStream.parse(synthesize()).description.devices:
        assert recorded[device.name]["fields"] == device.entry["fields"]
        assert list(recorded["cpu_common"]) == list(device.entry)


def test_description_is_written_as_qemu_writes_json(q35):
    for data in (q35, synthesize([vmx_blob(1)])):
        text = QemuStream.parse(data).description.text

        assert json.dumps(json.loads(text)) == text


@pytest.mark.parametrize(
    ("blob", "cr4", "efer", "guest"),
    [
        (None, 0, 0, False),
        (vmx_blob(0), 0x2000, 0, False),
        (vmx_blob(1, flags=1), 0x2000, 0, True),
        (svm_blob(), 0, 0x1000, True),
        (svm_blob(0, flags=0x100), 0, 0, False),
    ],
)
def test_registers_fit_the_nested_state(blob, cr4, efer, guest):
    cpu = QemuStream.parse(synthesize([blob])).vcpus[0]

    assert (cr4, efer) == (cpu.registers["cr[4]"], cpu.registers["efer"])
    assert guest == (HFlags.GUEST in cpu.hflags)


def test_a_made_vcpu_is_at_reset_like_a_recorded_one(q35):
    made = QemuStream.parse(synthesize()).vcpus[0].registers
    recorded = QemuStream.parse(q35).vcpus[0].registers
    for name in ("eip", "eflags", "cr[0]", "fpuc", "mxcsr", "pat", "a20_mask", "xcr0", "dr"):
        assert recorded[name] == made[name], name
    for name in ("selector", "base", "limit"):
        assert recorded["segs"][1][name] == made["segs"][1][name], name


def test_registers_and_machine_are_what_the_caller_says():
    data = synthesize(machine="pc-i440fx-9.0", registers={"eip": 0x1234, "cr[4]": 0x20})
    stream = QemuStream.parse(data)

    assert "pc-i440fx-9.0" == stream.machine
    assert (0x1234, 0x20) == tuple(stream.vcpus[0].registers[name] for name in ("eip", "cr[4]"))


def test_what_does_not_fit_is_refused():
    with pytest.raises(StateError):
        synthesize([bytes(100)])
    with pytest.raises(ValueError, match="eip"):
        synthesize(registers={"eip": -1})
    with pytest.raises(KeyError):
        synthesize(registers={"rip": 0})
