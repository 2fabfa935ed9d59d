"""Streams of a real qemu-system-x86_64 (TCG): read, changed, and loaded by it again."""

import pytest

from emu.migration.qemu_stream import (
    HFlags,
    LoadFinding,
    NestedState,
    QemuStream,
    StreamError,
    Subsection,
    load_checks,
    outline,
    synthesize,
)
from emu.migration.qemu_stream.fields import describe, size_of
from emu.migration.qemu_stream.registers import CPU_REGISTERS
from emu.migration.qemu_stream.subsections import FIELDS
from tests.emu.migration.qemu_stream import real_qemu
from tests.emu.migration.qemu_stream.blobs import svm_blob, vmx_blob
from tests.reference.naive_stream import devices_of

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(real_qemu.BINARY is None, reason="qemu-system-x86_64 is not installed"),
]

Q35 = ("-M", "q35", "-m", "32", "-cpu", "qemu64,+svm")
MILAN = ("-M", "q35", "-m", "32", "-cpu", "EPYC-Milan,+svm")
PC_2 = ("-M", "pc", "-m", "48", "-smp", "2", "-cpu", "qemu64,+svm")
DEVICES = (
    *("-device", "e1000", "-device", "virtio-net-pci", "-device", "virtio-rng-pci"),
    *("-device", "qemu-xhci", "-device", "usb-kbd", "-device", "virtio-serial-pci"),
    *("-device", "VGA", "-device", "ich9-intel-hda", "-device", "hda-duplex"),
)


@pytest.fixture(scope="module")
def q35_saved(tmp_path_factory) -> bytes:
    return real_qemu.save(tmp_path_factory.mktemp("qemu"), *Q35)


GUESTS = {
    "q35": (Q35, {}),
    "q35-epyc": (MILAN, {}),
    "q35-running": (Q35, {"run": 0.4}),
    "q35-devices-running": ((*Q35, *DEVICES), {"run": 0.4}),
    "pc-2-vcpus": (PC_2, {}),
    "pc-2-vcpus-running": (PC_2, {"run": 0.4}),
    "pc-before-2.4": (("-M", "pc-i440fx-2.3", "-m", "32"), {}),
    "q35-max": (("-M", "q35", "-m", "32", "-cpu", "max"), {"run": 0.2}),
}


@pytest.mark.parametrize("name", GUESTS)
def test_a_real_stream_is_read_and_written_back(tmp_path, name):
    """RAM that changes while it is sent, and devices with lists of structs, are walked too."""
    arguments, how = GUESTS[name]
    data = real_qemu.save(tmp_path, *arguments, **how)
    stream = QemuStream.parse(data)
    smp = 2 if "-smp" in arguments else 1

    assert data == stream.to_bytes()
    assert list(range(smp)) == [cpu.index for cpu in stream.vcpus]
    assert len(data) == stream.items[-1].end
    assert outline(stream)


def test_compressed_pages_of_a_real_stream_are_passed_over(tmp_path):
    data = real_qemu.save(tmp_path, *Q35, capabilities=("compress",), run=0.4)
    records = QemuStream.parse(data).sections[1].ram.records

    assert 0 < records["COMPRESS_PAGE"]


def test_real_descriptions_are_written_as_ours(q35_saved):
    device = next(
        dev for dev in QemuStream.parse(q35_saved).description.devices if dev.name == "cpu"
    )

    assert describe(CPU_REGISTERS) == device.entry["fields"]
    for subsection in QemuStream.parse(q35_saved).vcpus[0].subsections:
        without = Subsection(subsection.name, subsection.version, subsection.payload)

        assert subsection.describe() == without.describe()


def test_described_and_footer_delimited_sections_are_the_same(tmp_path, q35_saved):
    """suppress-vmdesc leaves out the JSON and nothing else."""
    arguments = ("-M", "q35,suppress-vmdesc=on", *Q35[2:])
    stream = QemuStream.parse(real_qemu.save(tmp_path, *arguments))
    described = QemuStream.parse(q35_saved)

    assert stream.description is None
    assert [(item.name, item.payload_end - item.payload) for item in described.sections[3:]] == [
        (item.name, item.payload_end - item.payload) for item in stream.sections[3:]
    ]


def test_a_stream_without_footers_and_description_is_refused_by_name(tmp_path):
    data = real_qemu.save(tmp_path, "-M", "pc-i440fx-2.2", "-m", "32")
    with pytest.raises(StreamError, match="neither a vmdescription nor section footers"):
        QemuStream.parse(data)


def test_ignore_shared_blocks_carry_their_address(tmp_path):
    memory = tmp_path / "ram"
    backend = f"memory-backend-file,id=ram0,mem-path={memory},size=32M,share=on"
    arguments = ("-M", "q35,memory-backend=ram0", "-m", "32", "-object", backend)
    data = real_qemu.save(tmp_path, *arguments, capabilities=("x-ignore-shared",))
    stream = QemuStream.parse(data)
    (ram, *others) = stream.sections[0].ram.blocks

    assert ("x-ignore-shared",) == stream.items[0].capabilities
    assert ("ram0", (0,)) == (ram.name, ram.extra)
    assert all(len(block.extra) == 1 for block in others)
    assert data == stream.to_bytes()


def test_a_uuid_is_read(tmp_path):
    data = real_qemu.save(
        tmp_path,
        *("-M", "q35", "-m", "32", "-uuid", "00112233-4455-6677-8899-aabbccddeeff"),
        capabilities=("validate-uuid",),
    )

    assert ("configuration/uuid",) == QemuStream.parse(data).items[0].subsections


# --- QEMU loads what it should ------------------------------------------------------------------


def test_an_untouched_rewrite_loads(tmp_path, q35_saved):
    loaded = real_qemu.load(tmp_path, QemuStream.parse(q35_saved).to_bytes(), *Q35)

    assert loaded.status is None, loaded.stderr
    assert [] == load_checks(QemuStream.parse(q35_saved), 0, vendor=None)


def test_edited_registers_arrive(tmp_path, q35_saved):
    """QEMU loads the edit, saves once more, and the new stream has it."""
    stream = QemuStream.parse(q35_saved)
    registers = stream.vcpus[0].registers
    edits = {"eip": 0x1234, "cr[2]": 0xCAFE, "star": 0x23_0010_0000_0000, "tsc_aux": 7}
    registers.update(edits)
    general = registers["regs"]
    general[3], general[15] = 0x1122_3344_5566_7788, 0xF15
    registers["regs"] = general
    segments = registers["segs"]
    segments[5] |= {"selector": 0x1000, "base": 0x10000}
    registers["segs"] = segments
    loaded = real_qemu.load(tmp_path, stream.to_bytes(), *Q35, save_again=True)

    assert loaded.status is None, loaded.stderr

    again = QemuStream.parse(loaded.saved_again).vcpus[0].registers

    assert edits == {name: again[name] for name in edits}
    assert general == again["regs"]
    assert segments == again["segs"]


def test_inserted_subsections_arrive(tmp_path, q35_saved):
    stream = QemuStream.parse(q35_saved)
    cpu = stream.vcpus[0]
    cpu.insert(Subsection.of("cpu/msr_ia32_feature_control", msr_ia32_feature_control=5))
    cpu.insert(Subsection.of("cpu/msr_tscdeadline", tsc_deadline=0x1234))
    cpu.insert(Subsection.of("cpu/fpop_ip_dp", fpop=1, fpip=2, fpdp=3))
    loaded = real_qemu.load(tmp_path, stream.to_bytes(), *Q35, save_again=True)

    assert loaded.status is None, loaded.stderr

    again = QemuStream.parse(loaded.saved_again).vcpus[0]

    assert cpu.subsections == again.subsections
    assert [sub.describe() for sub in cpu.subsections] == [
        sub.describe() for sub in again.subsections
    ]


def test_every_plain_subsection_of_7_2_is_known_to_it(tmp_path, q35_saved):
    """All names and lengths of the table at once, but those that came after 7.2."""
    later = {"cpu/xen_vcpu", "cpu/msr_pl0_ssp", "cpu/cet", "cpu/cet_shstk", "cpu/nested_state"}
    stream = QemuStream.parse(q35_saved)
    cpu = stream.vcpus[0]
    for name, rows in FIELDS.items():
        if name not in later:
            cpu.insert(Subsection(name, 1, bytes(size_of(rows))))
    loaded = real_qemu.load(tmp_path, stream.to_bytes(), *Q35)

    assert loaded.status is None, loaded.stderr


def test_removed_and_reordered_subsections_load(tmp_path, q35_saved):
    stream = QemuStream.parse(q35_saved)
    cpu = stream.vcpus[0]
    cpu.insert(
        Subsection.of(
            "cpu/exception_info",
            exception_pending=0,
            exception_injected=0,
            exception_has_payload=0,
            exception_payload=0,
        )
    )
    cpu.subsections.reverse()

    assert real_qemu.load(tmp_path, stream.to_bytes(), *Q35).status is None

    cpu.subsections.clear()

    assert real_qemu.load(tmp_path, stream.to_bytes(), *Q35).status is None


@pytest.mark.parametrize("ram_bytes", [0, 32 << 20])
@pytest.mark.parametrize("with_description", [True, False])
def test_a_minimal_stream_loads(tmp_path, ram_bytes, with_description):
    data = synthesize(
        [None, None],
        ram_bytes=ram_bytes,
        registers={"eip": 0x4321},
        with_description=with_description,
    )
    arguments = ("-M", "pc-q35-7.2", "-m", "32", "-smp", "2")
    loaded = real_qemu.load(tmp_path, data, *arguments, save_again=True)

    assert loaded.status is None, loaded.stderr
    for cpu in QemuStream.parse(loaded.saved_again).vcpus:
        assert 0x4321 == cpu.registers["eip"]


def test_a_device_reader_follows_a_real_stream_with_nested_state(q35_saved):
    """The description still leads a field-by-field reader to the stream's last byte."""
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].set_nested_state(vmx_blob(2, flags=1))
    before, after = devices_of(q35_saved), devices_of(stream.to_bytes())

    assert before["globalstate", 0] == after["globalstate", 0]
    assert "cpu/nested_state" in after["cpu", 0]


# --- QEMU refuses what it should, in the words of the checks ------------------------------------


def refused(tmp_path, stream: QemuStream, *arguments: str, **destination) -> LoadFinding:
    """The first finding, after seeing that QEMU's outcome and words are the same."""
    finding = load_checks(stream, 0, **destination)[0]
    loaded = real_qemu.load(tmp_path, stream.to_bytes(), *(arguments or Q35))

    assert finding.text in loaded.stderr
    if finding.outcome == "SIGABRT":
        assert -6 == loaded.status
    else:
        assert 1 == loaded.status
        assert finding.outcome in loaded.stderr
    return finding


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(vmx_blob(0), id="vmx-header"),
        pytest.param(vmx_blob(1), id="vmcs12"),
        pytest.param(vmx_blob(2, flags=1), id="shadow-vmcs12"),
        pytest.param(svm_blob(), id="vmcb12"),
    ],
)
def test_nested_state_at_a_vcpu_without_a_buffer_aborts(tmp_path, q35_saved, blob):
    """Incident S-01: QEMU knows the subsection, and has nowhere to put it under TCG."""
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].set_nested_state(blob)
    finding = refused(tmp_path, stream, vendor=None)

    assert "nested_buffer_allocated" == finding.check.name


def test_an_unknown_subsection_is_refused(tmp_path, q35_saved):
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].insert(Subsection("cpu/nested_state_v2", 1, bytes(8)))
    finding = refused(tmp_path, stream, vendor=None)

    assert "subsection_known" == finding.check.name


def test_an_unknown_subsection_of_the_second_vcpu_is_named_by_its_index(tmp_path):
    stream = QemuStream.parse(real_qemu.save(tmp_path, *PC_2))
    stream.vcpu(1).insert(Subsection("cpu/nested_state_v2", 1, bytes(8)))
    finding = refused(tmp_path, stream, *PC_2, vendor=None)

    assert "instance 0x1" in finding.text


def test_guest_mode_without_nested_state_is_refused(tmp_path, q35_saved):
    """Incident S-07: also shows that bit 21 of hflags is the guest-mode bit."""
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].registers.assign_bits("hflags", HFlags.GUEST, on=True)
    finding = refused(tmp_path, stream, vendor=None)

    assert "guest_mode_has_nested_state" == finding.check.name


def test_an_old_floating_point_format_is_refused(tmp_path, q35_saved):
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].registers["fpregs_format_vmstate"] = 1
    finding = refused(tmp_path, stream, vendor=None)

    assert "softfloat_registers" == finding.check.name


def test_another_tsc_frequency_is_refused(tmp_path, q35_saved):
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].insert(Subsection.of("cpu/tsc_khz", tsc_khz=1_000_000))
    arguments = (*Q35[:-1], "qemu64,+svm,tsc-frequency=2000000000")
    finding = refused(tmp_path, stream, *arguments, vendor=None, user_tsc_khz=2_000_000)

    assert "tsc_khz_matches" == finding.check.name


def patched(stream: bytes, at: int, new: bytes) -> bytes:
    return stream[:at] + new + stream[at + len(new) :]


REFUSALS = {
    "footer": (lambda cpu: (cpu.payload_end, b"\x7d"), "Missing section footer for cpu"),
    "version-13": (lambda cpu: (cpu.payload - 1, b"\x0d"), "unsupported version 13 for 'cpu' v12"),
    "version-10": (
        lambda cpu: (cpu.payload - 1, b"\x0a"),
        "cpu: incoming version_id 10 is too old for local minimum version_id  11",
    ),
    "magic": (lambda _: (0, b"X"), "Not a migration stream"),
    "stream-version": (lambda _: (7, b"\x04"), "Unsupported migration stream version"),
    "section-type": (lambda cpu: (cpu.offset, b"\x09"), "Unknown savevm section type 9"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_qemu_refuses_to_load_is_no_stream_here_either(tmp_path, q35_saved, name):
    edit, message = REFUSALS[name]
    at, new = edit(QemuStream.parse(q35_saved).vcpus[0].section)
    broken = patched(q35_saved, at, new)
    loaded = real_qemu.load(tmp_path, broken, *Q35)

    assert 1 == loaded.status
    assert message in loaded.stderr
    with pytest.raises(StreamError):
        QemuStream.parse(broken)


def test_another_machine_type_is_refused(tmp_path, q35_saved):
    loaded = real_qemu.load(tmp_path, q35_saved, "-M", "pc-q35-7.1", *Q35[2:])

    assert 1 == loaded.status
    assert "Machine type received is 'pc-q35-7.2' and local is 'pc-q35-7.1'" in loaded.stderr


def test_a_nested_state_that_no_kernel_writes_still_aborts_first(tmp_path, q35_saved):
    """The pointer is checked before the words behind it are read."""
    stream = QemuStream.parse(q35_saved)
    stream.vcpus[0].insert(Subsection.of_nested_state(NestedState(flags=0, format=9, size=1)))
    finding = refused(tmp_path, stream, vendor=None)

    assert "nested_buffer_allocated" == finding.check.name
