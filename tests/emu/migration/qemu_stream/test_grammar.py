"""The walk over a stream: recorded streams, hand-made ones, and every way to break them."""

from dataclasses import replace
from struct import pack

import pytest

from emu.migration.qemu_stream import QemuStream, StreamError, synthesize
from emu.migration.qemu_stream.grammar import (
    Command,
    CommandNumber,
    Configuration,
    DescriptionItem,
    EndOfStream,
    ItemType,
    Section,
)
from tests.emu.migration.qemu_stream.blobs import svm_blob, vmx_blob

RAM = (
    b"\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4" + pack(">QQ", 4, 0x10) + b"\x7e\0\0\0\2"
    b"\3\0\0\0\2" + pack(">Q", 0x10) + b"\x7e\0\0\0\2"
)
HEADER = b"QEVM\0\0\0\3"
MACHINE = b"\7\0\0\0\x02pc"


def full(section_id, name, payload, *, instance_id=0, version_id=1, footer=True):
    head = b"\4" + pack(">I", section_id) + bytes((len(name),)) + name
    tail = b"\x7e" + pack(">I", section_id) if footer else b""
    return head + pack(">II", instance_id, version_id) + payload + tail


def error_of(data):
    with pytest.raises(StreamError) as caught:
        QemuStream.parse(data)
    return caught.value


def test_recorded_stream_is_walked_to_its_last_byte(q35):
    stream = QemuStream.parse(q35)
    kinds = [type(item) for item in stream.items]

    assert Configuration is kinds[0]
    assert [EndOfStream, DescriptionItem] == kinds[-2:]
    assert {Section} == set(kinds[1:-2])
    assert "pc-q35-7.2" == stream.machine
    assert stream.has_footers
    assert len(q35) == stream.items[-1].end
    for before, after in zip(stream.items, stream.items[1:], strict=False):
        assert before.end == after.offset


def test_recorded_ram_is_told_apart_by_kind(q35):
    start, part, end = QemuStream.parse(q35).sections[:3]

    assert [ItemType.SECTION_START, ItemType.SECTION_PART, ItemType.SECTION_END] == [
        section.type for section in (start, part, end)
    ]
    assert {"ZERO": 544, "PAGE": 16, "EOS": 1} == part.ram.records
    assert ["pc.ram", "pc.rom", "pc.bios"] == [block.name for block in start.ram.blocks]


def test_recorded_stream_without_description_is_delimited_by_footers(ignore_shared):
    stream = QemuStream.parse(ignore_shared)

    assert stream.description is None
    assert ("x-ignore-shared",) == stream.items[0].capabilities
    assert ["globalstate"] == [section.name for section in stream.sections][-1:]
    assert [(0,), (0xC_0000,), (0xFFFF_0000,)] == [
        block.extra for block in stream.sections[0].ram.blocks
    ]
    assert 0xFFF0 == stream.vcpus[0].registers["eip"]


def test_description_and_footers_delimit_the_same_sections(q35):
    with_it = QemuStream.parse(q35)
    without = QemuStream.parse(q35[: with_it.description.offset])

    assert [replace(item, device=None) for item in with_it.sections] == list(without.sections)
    assert [cpu.subsections for cpu in with_it.vcpus] == [cpu.subsections for cpu in without.vcpus]


def test_machine_types_before_2_4_have_neither_configuration_nor_footers():
    text = b'{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 3}]}]}'
    ram = RAM.replace(b"\x7e\0\0\0\2", b"")
    data = HEADER + ram + full(9, b"a", b"xyz", footer=False) + b"\0\6"
    data += pack(">I", len(text)) + text
    stream = QemuStream.parse(data)

    assert stream.machine is None
    assert not stream.has_footers
    assert b"xyz" == data[stream.sections[-1].payload : stream.sections[-1].payload_end]
    assert data == stream.to_bytes()


def test_without_footers_and_description_nothing_tells_a_length():
    ram = RAM.replace(b"\x7e\0\0\0\2", b"")
    error = error_of(HEADER + ram + full(9, b"a", b"xyz", footer=False) + b"\0")

    assert "neither a vmdescription nor section footers tell its length" in error.message
    assert len(HEADER + ram) + 15 == error.offset


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 9, 10, 11])
def test_commands_are_passed_over(number):
    command = b"\x08" + pack(">HH", number, 3) + b"abc"
    stream = QemuStream.parse(HEADER + MACHINE + command + RAM + command + b"\0")
    found = [item for item in stream.items if isinstance(item, Command)]

    assert [CommandNumber(number)] * 2 == [item.number for item in found]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "command INVALID: not a migration to a file"),
        (7, "command PACKAGED: not a migration to a file"),
        (8, "command ENABLE_COLO: not a migration to a file"),
        (12, "a command up to 11 expected, found 12"),
    ],
)
def test_commands_that_change_the_grammar_are_refused(number, message):
    error = error_of(HEADER + RAM + b"\x08" + pack(">HH", number, 0) + b"\0")

    assert message in error.message
    assert len(HEADER + RAM) == error.offset


def configuration(*subsections):
    return HEADER + MACHINE + b"".join(subsections)


CAPABILITIES = b"\5\x1aconfiguration/capabilities\0\0\0\1"


def test_configuration_subsections_are_read():
    bits = b"\5\x1econfiguration/target-page-bits\0\0\0\1\0\0\0\x0c"
    uuid = b"\5\x12configuration/uuid\0\0\0\1" + bytes(16)
    capabilities = CAPABILITIES + b"\0\0\0\2\x0fx-ignore-shared\x03foo"
    stream = QemuStream.parse(configuration(bits, capabilities, uuid) + RAM + b"\0")

    assert ("x-ignore-shared", "foo") == stream.items[0].capabilities
    assert ["target-page-bits", "capabilities", "uuid"] == [
        name.partition("/")[2] for name in stream.items[0].subsections
    ]


@pytest.mark.parametrize(
    ("data", "offset", "message"),
    [
        (b"", 0, "magic"),
        (b"QE", 0, "4 bytes expected, 2 bytes are left"),
        (b"\x7fELF" + bytes(60), 0, "found 7f 45 4c 46: not a QEMU migration stream"),
        (b"QFI\xfb" + bytes(60), 0, "not a QEMU migration stream"),
        (b"QEVM\0\0\0\2", 4, "stream version 3 expected, found 2"),
        (HEADER, 8, "type of the next section, or EOF"),
        (HEADER + b"\x09", 8, "expected, found 09"),
        (HEADER + b"\x7e\0\0\0\2", 8, "expected, found 7e"),
        (HEADER + RAM + MACHINE, 8 + len(RAM), "expected, found 07"),
        (HEADER + b"\7\xff\xff\xff\xff", 13, "machine name: 4294967295 bytes expected"),
        (HEADER + b"\2\0\0\0\5", 8, "SECTION_PART of section 5, which did not start"),
        (configuration(b"\5\x0fconfiguration/x\0\0\0\1"), 15, "no such subsection is known"),
        (configuration(CAPABILITIES + b"\xff\xff\xff\xff"), 15, "4294967295 capabilities"),
        (configuration(CAPABILITIES + b"\0\0\0\1\x0amapped-ram"), 8, "mapped-ram puts the pages"),
        (HEADER + RAM + b"\0x", 9 + len(RAM), "vmdescription (06) or the end expected, found 78"),
        (HEADER + RAM + b"\0\6\0\0\0\5{", 14 + len(RAM), "5 bytes expected, 1 bytes are left"),
        (HEADER + RAM + b"\0\6\0\0\0\1xy", 9 + len(RAM), "JSON up to the end"),
        (HEADER + b"\4\0\0\0\1\0", 14, "section name: printable ASCII expected, found b''"),
    ],
)
def test_malformed_streams_are_refused_at_their_place(data, offset, message):
    error = error_of(data)

    assert message in error.message
    assert offset == error.offset


def test_ram_of_another_version_is_refused():
    error = error_of(HEADER + RAM.replace(b"\0\0\0\0\0\0\0\4", b"\0\0\0\0\0\0\0\5", 1) + b"\0")

    assert "ram version 4 expected, found 5" == error.message


def test_a_missing_footer_is_refused_as_qemu_does(q35):
    section = QemuStream.parse(q35).vcpus[0].section
    for at in range(section.payload_end, section.end):
        broken = q35[:at] + bytes((q35[at] ^ 1,)) + q35[at + 1 :]
        error = error_of(broken)

        assert "footer of section cpu (7e 00000005) expected, found" in error.message
        assert section.payload_end == error.offset


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_payload_longer_or_shorter_than_described_is_refused(q35, shift):
    section = QemuStream.parse(q35).sections[-1]
    if shift > 0:
        broken = q35[: section.payload] + b"\0" + q35[section.payload :]
    else:
        broken = q35[: section.payload] + q35[section.payload + 1 :]
    error = error_of(broken)

    assert "footer of section globalstate" in error.message


def test_two_places_for_a_footer_are_refused():
    """A payload that holds its own footer and another section's header is not guessed at."""
    inner = b"\x7e\0\0\0\x09" + full(8, b"b", b"")[:14]
    data = HEADER + RAM + full(9, b"a", b"12" + inner + b"34") + b"\0"
    error = error_of(data)

    assert "no vmdescription tells its length, and it can end at" in error.message


def test_a_footer_inside_a_payload_alone_is_no_place():
    data = HEADER + RAM + full(9, b"a", b"12\x7e\0\0\0\x0934") + full(10, b"b", b"") + b"\0"
    stream = QemuStream.parse(data)

    assert ["a", "b"] == [section.name for section in stream.sections[2:]]
    assert 9 == stream.sections[2].payload_end - stream.sections[2].payload


def test_a_section_that_never_ends_is_refused():
    error = error_of(HEADER + RAM + full(9, b"a", b"1234", footer=False) + b"\0")

    assert "no footer (7e 00000009) with another section behind it was found" in error.message


def test_a_section_that_the_description_leaves_out_ends_at_its_footer():
    text = b'{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 3}]}]}'
    sections = full(8, b"other", b"12345") + full(9, b"a", b"xyz") + full(10, b"a", b"longer")
    data = HEADER + RAM + sections + b"\0\6" + pack(">I", len(text)) + text
    lengths = [
        section.payload_end - section.payload for section in QemuStream.parse(data).sections[2:]
    ]

    assert [5, 3, 6] == lengths


def test_an_iterative_section_other_than_ram_ends_at_its_only_footer():
    start = b"\1\0\0\0\7\5block\0\0\0\0\0\0\0\1data\x7e\0\0\0\7"
    stream = QemuStream.parse(HEADER + start + RAM + b"\0")

    assert ["block", "ram", "ram"] == [section.name for section in stream.sections]


def test_pages_of_another_size_are_refused():
    text = b'{"page_size": 65536, "devices": []}'
    error = error_of(HEADER + RAM + b"\0\6" + pack(">I", len(text)) + text)

    assert "pages of 4096 bytes expected, found 65536: not an x86 guest" in error.message


@pytest.mark.parametrize("padding", [1, 3, 4096])
@pytest.mark.parametrize("with_description", [True, False])
def test_zeroes_that_pad_a_file_are_kept(padding, with_description):
    data = synthesize([svm_blob()], with_description=with_description) + bytes(padding)
    stream = QemuStream.parse(data)

    assert data == stream.to_bytes()
    assert svm_blob() == stream.vcpus[0].nested_state


@pytest.mark.parametrize("with_description", [True, False])
def test_a_stream_cut_anywhere_is_refused(with_description):
    """But for the one place behind EOF, where a stream without vmdescription ends."""
    data = synthesize([svm_blob()], ram_bytes=0x5000, with_description=with_description)
    end_of_sections = next(
        item.end for item in QemuStream.parse(data).items if isinstance(item, EndOfStream)
    )
    for cut in (*range(0, end_of_sections, 3), *range(end_of_sections + 1, len(data), 101)):
        with pytest.raises(StreamError) as caught:
            QemuStream.parse(data[:cut])

        assert 0 <= caught.value.offset <= cut


def test_a_recorded_stream_cut_at_many_places_is_refused(q35):
    for cut in range(0, len(q35), 1009):
        with pytest.raises(StreamError):
            QemuStream.parse(q35[:cut])


def test_memory_does_not_grow_with_the_guests_ram(tracked_peak):
    data = synthesize([vmx_blob(2)], ram_bytes=64 << 20)
    peak = tracked_peak(lambda: QemuStream.parse(data))

    assert 512 * 1024 > peak


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEADER + b"\x7e\0\0\0\2\0" * 100_000, id="footers"),
        pytest.param(HEADER + RAM + full(9, b"a", b"\x7e\0\0\0\x09\2" * 100_000), id="same-footer"),
        pytest.param(HEADER + b"\0\6\0\0\0\2{" * 100_000 + b"\0", id="descriptions"),
        pytest.param(HEADER + RAM + full(9, b"a", b"") * 20_000 + b"\0", id="one-id"),
        pytest.param(HEADER + pack(">I", 0x08000100) * 100_000, id="commands"),
    ],
)
def test_streams_made_to_be_slow_are_refused(data):
    error_of(data)
