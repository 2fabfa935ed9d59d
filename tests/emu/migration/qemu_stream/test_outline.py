"""The outline names every part with its place in the file."""

from emu.migration.qemu_stream import QemuStream, Subsection, outline, synthesize, wrap
from tests.emu.migration.qemu_stream.blobs import NOWHERE, svm_blob, vmx_blob


def texts_of(stream):
    return [row.text for row in outline(stream)]


def test_rows_of_the_top_level_cover_the_file(q35):
    stream = QemuStream.parse(q35)
    stream_rows = [row for row in outline(stream) if row.depth == 0]
    position = 8
    for row in stream_rows:
        assert position == row.offset

        position += row.length

    assert len(q35) == position


def test_rows_stand_inside_the_row_above_them(q35):
    above = None
    for row in outline(QemuStream.parse(q35)):
        if row.depth == 0:
            above = row

        assert above.offset <= row.offset
        assert row.offset + row.length <= above.offset + above.length


def test_register_rows_point_at_their_bytes(q35):
    row = next(row for row in outline(QemuStream.parse(q35)) if row.text.startswith("cr[0]"))

    assert (
        f"cr[0] = {int.from_bytes(q35[row.offset : row.offset + row.length], 'big'):#x}" == row.text
    )


def test_nested_state_is_told_word_by_word():
    data = synthesize([vmx_blob(1, flags=3, vmcs12_pa=NOWHERE), svm_blob()])
    texts = texts_of(QemuStream.parse(data))

    for expected in (
        "flags = 0x3, format = 0, size = 4224",
        "vmxon_pa = 0x1000",
        "vmcs12_pa = none",
        "vmcs12: 4096 bytes",
        "shadow_vmcs12: not sent",
        "flags = 0x101, format = 1, size = 4224",
        "vmcb_pa = 0x3000",
    ):
        assert expected in texts


def test_configuration_image_and_new_parts_are_told(ignore_shared):
    stream = QemuStream.parse(wrap(ignore_shared, "<domain/>"))
    stream.vcpus[0].insert(Subsection.of("cpu/pdptrs", pdptrs=[1, 2, 3, 4]))
    texts = texts_of(stream)

    assert "libvirt save image, complete, version 2" == texts[0]
    assert "CONFIGURATION: pc-i440fx-7.2 (configuration/capabilities, x-ignore-shared)" == texts[1]
    assert "cpu/pdptrs, version 1 (to be inserted)" in texts
    assert "pdptrs = 0x1 0x2 0x3 0x4" in texts
    assert "EOF" == texts[-1]


def test_a_row_prints_as_one_line():
    row = outline(QemuStream.parse(synthesize()))[0]

    assert "       0x8         15 CONFIGURATION: pc-q35-7.2" == str(row)
