"""A vCPU's section: subsections that are read, inserted, replaced, removed, reordered."""

import json
from struct import pack

import pytest

from emu.errors import StateError
from emu.migration.qemu_stream import (
    HFlags,
    HFlags2,
    QemuStream,
    StreamError,
    Subsection,
    synthesize,
)
from emu.migration.qemu_stream.subsections import SAVE_ORDER
from tests.emu.migration.qemu_stream.blobs import NOWHERE, svm_blob, vmx_blob
from tests.reference.naive_stream import devices_of

FEATURE_CONTROL = "cpu/msr_ia32_feature_control"


def names_of(cpu):
    return [subsection.name.removeprefix("cpu/") for subsection in cpu.subsections]


def test_recorded_vcpus_are_found_with_their_subsections(q35):
    stream = QemuStream.parse(q35)

    assert [(0, 12), (1, 12)] == [(cpu.index, cpu.version) for cpu in stream.vcpus]
    for cpu in stream.vcpus:
        assert ["poll_control_msr", "msr_ia32_misc_enable"] == names_of(cpu)
        assert b"\4\0\0\0" == q35[cpu.offset : cpu.offset + 4]
        assert HFlags(0) == cpu.hflags
        assert HFlags2.GIF | HFlags2.VGIF == cpu.hflags2
        assert cpu.nested_state is None


def test_values_of_recorded_subsections_are_what_a_field_by_field_reader_finds(q35):
    naive = devices_of(q35)["cpu", 1]
    for subsection in QemuStream.parse(q35).vcpu(1).subsections:
        expected = {f"env.{name}": value for name, value in subsection.values().items()}

        assert expected == naive[subsection.name]
        assert b"\5" == q35[subsection.offset : subsection.offset + 1]


def test_an_unknown_vcpu_is_a_lookup_error(q35):
    with pytest.raises(LookupError, match="no vCPU 2"):
        QemuStream.parse(q35).vcpu(2)


BLOBS = {
    "vmxon-only": vmx_blob(0, vmcs12_pa=NOWHERE),
    "vmcs12": vmx_blob(1),
    "l2-with-shadow": vmx_blob(2, flags=1),
    "svm-l2": svm_blob(),
}


@pytest.mark.parametrize("name", BLOBS)
def test_a_blob_put_into_a_recorded_stream_is_read_back(q35, name):
    stream = QemuStream.parse(q35)
    stream.vcpu(1).set_nested_state(BLOBS[name])
    again = QemuStream.parse(stream.to_bytes())

    assert BLOBS[name] == again.vcpu(1).nested_state
    assert again.vcpu(0).nested_state is None
    assert ["poll_control_msr", "msr_ia32_misc_enable", "nested_state"] == names_of(again.vcpu(1))


@pytest.mark.parametrize("name", BLOBS)
def test_a_field_by_field_reader_agrees_with_the_rewritten_description(q35, name):
    """The vmdescription is what tools read: its structure must lead through the new bytes."""
    stream = QemuStream.parse(q35)
    stream.vcpu(0).set_nested_state(BLOBS[name])
    before, after = devices_of(q35), devices_of(stream.to_bytes())
    found = after["cpu", 0].pop("cpu/nested_state")["env.nested_state"]
    after["cpu", 0]["env.hflags"] = before["cpu", 0]["env.hflags"]

    assert before == after
    assert list(BLOBS[name][:2]) == list(found["flags"].to_bytes(2, "little"))
    if "cpu/kvm_nested_state/svm" in found:
        state = found["cpu/kvm_nested_state/svm"]
        header = pack("<HHIQ", 0x101, 1, 4224, state["hdr.svm.vmcb_pa"]) + bytes(112)
        assert BLOBS[name] == header + bytes(state["data.svm[0].vmcb12"])
    else:
        state = found["cpu/kvm_nested_state/vmx"]
        words = (state[f"hdr.vmx.{word}"] for word in ("vmxon_pa", "vmcs12_pa", "smm.flags"))
        blob = pack("<HHIQQH", found["flags"], 0, found["size"], *words) + bytes(102)
        for page in ("vmcs12", "shadow_vmcs12"):
            pages = state.get(f"cpu/kvm_nested_state/vmx/{page}")
            blob += bytes(pages[f"data.vmx[0].{page}"]) if pages else b""

        assert BLOBS[name] == blob


def test_putting_in_and_taking_out_gives_the_recorded_bytes(q35):
    stream = QemuStream.parse(q35)
    stream.vcpus[0].set_nested_state(vmx_blob(2, flags=1))
    again = QemuStream.parse(stream.to_bytes())
    again.vcpus[0].set_nested_state(None)

    assert len(q35) < len(stream.to_bytes())
    assert q35 == again.to_bytes()


def test_only_the_section_and_its_entry_differ(q35):
    stream = QemuStream.parse(q35)
    cpu = stream.vcpu(1)
    cpu.set_nested_state(svm_blob(), sync_hflags=False)
    written = stream.to_bytes()
    behind, tail = cpu.section.payload_end, stream.description.offset + 5
    new_text = json.loads(written[tail + 4164 :])
    (entry,) = (
        device
        for device in new_text["devices"]
        if (device["name"], device["instance_id"]) == ("cpu", 1)
    )

    assert q35[:behind] == written[:behind]
    assert q35[behind : tail - 4] == written[behind + 4164 : tail - 4 + 4164]
    assert "cpu/nested_state" == entry["subsections"].pop()["vmsd_name"]
    assert json.loads(q35[tail:]) == new_text


def test_replacing_keeps_the_place(q35):
    stream = QemuStream.parse(q35)
    cpu = stream.vcpus[0]
    cpu.set_nested_state(vmx_blob(1))
    cpu.insert(Subsection.of("cpu/pdptrs", pdptrs=[1, 2, 3, 4]))
    cpu.set_nested_state(vmx_blob(2))

    assert names_of(cpu)[-2:] == ["nested_state", "pdptrs"]
    assert vmx_blob(2) == QemuStream.parse(stream.to_bytes()).vcpus[0].nested_state


@pytest.mark.parametrize("name", SAVE_ORDER)
def test_an_inserted_subsection_stands_where_qemu_writes_it(q35, name):
    cpu = QemuStream.parse(q35).vcpus[0]
    for known in reversed(SAVE_ORDER):
        if known != name:
            cpu.insert(Subsection(known, 1, b""))
    cpu.insert(Subsection(name, 1, b""))

    assert list(SAVE_ORDER) == [subsection.name for subsection in cpu.subsections]


def test_an_unknown_subsection_is_appended_and_described_as_bytes(q35):
    stream = QemuStream.parse(q35)
    stream.vcpus[0].insert(Subsection("cpu/new_in_qemu_12", 3, b"12345"))
    again = QemuStream.parse(stream.to_bytes()).vcpus[0].subsections[-1]

    assert Subsection("cpu/new_in_qemu_12", 3, b"12345") == again
    assert {} == again.values()
    assert [{"name": "data", "type": "buffer", "size": 5}] == again.describe()["fields"]


def test_an_unknown_subsection_without_description_is_refused(q35):
    stream = QemuStream.parse(q35)
    stream.vcpus[0].insert(Subsection("cpu/new_in_qemu_12", 3, b"12345"))
    data = stream.to_bytes()
    cut = data[: QemuStream.parse(data).description.offset]
    with pytest.raises(StreamError, match="cpu/new_in_qemu_12 is not known and there is no vmdesc"):
        QemuStream.parse(cut)


def test_order_and_removal_are_kept_as_the_user_makes_them(q35):
    stream = QemuStream.parse(q35)
    stream.vcpu(0).subsections.reverse()
    stream.vcpu(1).remove("cpu/poll_control_msr")
    again = QemuStream.parse(stream.to_bytes())

    assert ["msr_ia32_misc_enable", "poll_control_msr"] == names_of(again.vcpu(0))
    assert ["msr_ia32_misc_enable"] == names_of(again.vcpu(1))
    devices_of(stream.to_bytes())


def test_a_register_edit_changes_those_bytes_alone(q35):
    stream = QemuStream.parse(q35)
    cpu = stream.vcpu(1)
    cpu.registers["cr[4]"] = 0x2000
    at = cpu.section.payload + 480
    written = stream.to_bytes()

    assert q35[:at] + pack(">Q", 0x2000) + q35[at + 8 :] == written
    assert written == QemuStream.parse(written).to_bytes()


@pytest.mark.parametrize(
    ("blob", "guest", "gif"),
    [
        (vmx_blob(1, flags=1), True, True),
        (vmx_blob(1), False, True),
        (svm_blob(flags=0x101), True, True),
        (svm_blob(flags=0x001), True, False),
        (svm_blob(0, flags=0x100), False, True),
        (svm_blob(0, flags=0x000), False, False),
        (None, False, True),
    ],
)
def test_hflags_follow_the_blob_as_on_a_source(q35, blob, guest, gif):
    """A VMX blob leaves the GIF bit alone: QEMU keeps it set for a vCPU without SVM."""
    cpu = QemuStream.parse(q35).vcpus[0]
    cpu.registers.assign_bits("hflags", HFlags.GUEST, on=not guest)
    cpu.set_nested_state(blob)

    assert guest == (HFlags.GUEST in cpu.hflags)
    assert gif == (HFlags2.GIF in cpu.hflags2)
    assert HFlags2.VGIF in cpu.hflags2


def test_hflags_can_be_left_as_they_are(q35):
    cpu = QemuStream.parse(q35).vcpus[0]
    before = bytes(cpu.registers.raw)
    cpu.set_nested_state(svm_blob(flags=0x001), sync_hflags=False)

    assert before == bytes(cpu.registers.raw)


@pytest.mark.parametrize(
    ("blob", "guest", "gif", "svm", "flags"),
    [
        (vmx_blob(1, flags=0x3), True, True, False, 0x3),
        (vmx_blob(1, flags=0x3), False, True, False, 0x2),
        (vmx_blob(1, flags=0x102), True, False, False, 0x3),
        (svm_blob(flags=0x001), True, True, True, 0x101),
        (svm_blob(flags=0x101), False, False, True, 0x000),
        (svm_blob(flags=0x101), True, True, False, 0x001),
    ],
)
def test_pushed_flags_come_from_hflags(q35, blob, guest, gif, svm, flags):
    cpu = QemuStream.parse(q35).vcpus[0]
    cpu.set_nested_state(blob, sync_hflags=False)
    cpu.registers.assign_bits("hflags", HFlags.GUEST, on=guest)
    cpu.registers.assign_bits("hflags2", HFlags2.GIF, on=gif)

    assert pack("<H", flags) + blob[2:] == cpu.pushed_nested_state(svm=svm)


def test_nothing_is_pushed_when_nothing_arrived(q35):
    assert QemuStream.parse(q35).vcpus[0].pushed_nested_state(svm=True) is None


def test_a_blob_cut_short_changes_nothing(q35):
    stream = QemuStream.parse(q35)
    with pytest.raises(StateError):
        stream.vcpus[0].set_nested_state(svm_blob()[:-1])

    assert q35 == stream.to_bytes()


@pytest.mark.parametrize("version", [0, 10, 13])
def test_other_versions_of_the_section_are_refused(q35, version):
    section = QemuStream.parse(q35).vcpus[0].section
    data = q35[: section.payload - 4] + pack(">I", version) + q35[section.payload :]
    with pytest.raises(StreamError, match=f"cpu version 11 or 12 expected, found {version}"):
        QemuStream.parse(data)


def test_version_11_is_read_and_written():
    data = synthesize([svm_blob()], with_description=False)
    section = QemuStream.parse(data).vcpus[0].section
    old = data[: section.payload - 4] + pack(">I", 11) + data[section.payload :][:1545]
    old += data[section.payload + 1817 :]
    stream = QemuStream.parse(old)

    assert 11 == stream.vcpus[0].version
    assert svm_blob() == stream.vcpus[0].nested_state
    assert old == stream.to_bytes()


def test_registers_of_another_length_are_refused(q35):
    """A 32-bit guest's section has the same version and other fields."""
    wide = b'"env.eip", "type": "uint64", "size": 8'
    data = q35.replace(wide, wide[:-1] + b"4", 1)
    section = QemuStream.parse(q35).vcpus[0].section
    data = data[: section.payload + 128] + data[section.payload + 132 :]
    with pytest.raises(StreamError, match=r"an x86-64 guest has 1817 bytes.*says 1813"):
        QemuStream.parse(data)


def test_a_subsection_other_than_described_is_refused(q35):
    entry = b'"vmsd_name": "cpu/poll_control_msr", "version": 1'
    data = q35.replace(entry, entry[:-1] + b"2", 1)
    with pytest.raises(
        StreamError, match=r"says cpu/poll_control_msr version 2, found .* version 1"
    ):
        QemuStream.parse(data)


def test_known_companions_are_decoded():
    made = [
        Subsection.of(
            "cpu/exception_info",
            exception_pending=1,
            exception_injected=0,
            exception_has_payload=1,
            exception_payload=0xDEAD_B000,
        ),
        Subsection.of(FEATURE_CONTROL, msr_ia32_feature_control=5),
        Subsection.of("cpu/pdptrs", pdptrs=[0x1001, 0x2001, 0x3001, 0x4001]),
    ]
    cpu = QemuStream.parse(synthesize([vmx_blob(1)], subsections=made)).vcpus[0]

    assert [
        "exception_info",
        "msr_ia32_feature_control",
        "nested_state",
        "pdptrs",
    ] == names_of(cpu)
    assert b"\1\0\1" + pack(">Q", 0xDEAD_B000) == cpu.find("cpu/exception_info").payload
    assert 0xDEAD_B000 == cpu.find("cpu/exception_info").values()["exception_payload"]
    assert {"msr_ia32_feature_control": 5} == cpu.find(FEATURE_CONTROL).values()
    assert [0x1001, 0x2001, 0x3001, 0x4001] == cpu.find("cpu/pdptrs").values()["pdptrs"]


def test_subsections_of_subsections_stay_in_their_owner():
    """cpu/cet has one of its own, cpu/cet_shstk; without a description both are known."""
    inner = Subsection.of(
        "cpu/cet_shstk", pl1_ssp=1, pl2_ssp=2, pl3_ssp=3, int_ssp_table=4, guest_ssp=5
    )
    outer = Subsection.of("cpu/cet", u_cet=6, s_cet=7)
    whole = Subsection("cpu/cet", 1, outer.payload + inner.to_bytes())
    data = synthesize(subsections=[whole], with_description=False)
    cpu = QemuStream.parse(data).vcpus[0]

    assert ["cet"] == names_of(cpu)
    assert {"u_cet": 6, "s_cet": 7} == cpu.subsections[0].values()
    assert data == QemuStream.parse(data).to_bytes()


@pytest.mark.parametrize("values", [{}, {"pdptrs": [1]}, {"pdptrs": [1, 2, 3, 4], "more": 1}])
def test_subsections_with_other_fields_cannot_be_made(values):
    with pytest.raises(ValueError, match="pdptrs"):
        Subsection.of("cpu/pdptrs", **values)


def test_a_known_subsection_of_another_length_is_refused_when_decoded():
    with pytest.raises(StreamError, match="cpu/pdptrs: 32 bytes expected, found 3"):
        Subsection("cpu/pdptrs", 1, b"123").values()
