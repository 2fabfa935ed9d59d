"""libvirt save images: unwrapped, rewrapped, and refused with the name of what is wrong."""

from struct import pack, unpack_from

import pytest

from emu.migration.qemu_stream import QemuStream, SaveImage, StreamError, synthesize, wrap
from tests.emu.migration.qemu_stream.blobs import svm_blob

XML = "<domain type='kvm'><name>ä</name></domain>"


def image(stream, *, magic=b"LibvirtQemudSave", order="<", version=2, format_=0, area=None):
    """A save image laid out by hand from libvirt's header."""
    text = XML.encode() + b"\0" + bytes(7)
    size = len(text) if area is None else area
    return magic + pack(f"{order}19I", version, size, 1, format_, 0, *(0,) * 14) + text + stream


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [b"LibvirtQemudSave", b"LibvirtQemudPart"])
def test_image_is_unwrapped_and_written_back_with_its_header(magic, order):
    data = image(synthesize([svm_blob()]), magic=magic, order=order)
    stream = QemuStream.parse(data)

    assert XML == stream.image.xml
    assert stream.image.cookie is None
    assert (magic == b"LibvirtQemudSave") == stream.image.complete
    assert {"<": "little", ">": "big"}[order] == stream.image.byte_order
    assert (2, 1) == (stream.image.version, stream.image.was_running)
    assert svm_blob() == stream.vcpus[0].nested_state
    assert data == stream.to_bytes()


def test_a_changed_body_stays_behind_the_same_header():
    data = image(synthesize([svm_blob()]))
    stream = QemuStream.parse(data)
    stream.vcpus[0].set_nested_state(None)
    written = stream.to_bytes()

    assert data[: stream.image.body] == written[: stream.image.body]
    assert QemuStream.parse(written[stream.image.body :]).vcpus[0].nested_state is None


def test_offsets_count_from_the_first_byte_of_the_file():
    data = image(synthesize())
    body = SaveImage.parse(data).body
    stream = QemuStream.parse(data)

    assert body + 8 == stream.items[0].offset
    with pytest.raises(StreamError) as caught:
        QemuStream.parse(data[:body] + b"QEVX" + data[body + 4 :])
    assert body == caught.value.offset


def test_wrapping_gives_an_image_as_libvirt_lays_it_out():
    data = wrap(synthesize(), XML, cookie="<cookie/>", was_running=False)
    found = SaveImage.parse(data)
    size = len(XML.encode()) + 1 + len("<cookie/>") + 1 + 64 * 1024

    assert b"LibvirtQemudSave" == data[:16]
    assert (2, size, 0, 0, len(XML.encode()) + 1) == unpack_from("<5I", data, 16)
    assert (XML, "<cookie/>") == (found.xml, found.cookie)
    assert synthesize() == data[found.body :]
    assert data == QemuStream.parse(data).to_bytes()


@pytest.mark.parametrize(
    ("number", "name"),
    list(enumerate(("gzip", "bzip2", "xz", "lzop", "zstd", "sparse"), 1)),
)
def test_a_compressed_body_is_named(number, name):
    with pytest.raises(StreamError, match=f"is {name}: make it raw first"):
        QemuStream.parse(image(b"\x1f\x8b", format_=number))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"LibvirtQemudSave", "92 bytes expected, found 16"),
        (image(b"", version=4), "version 1 to 3 expected, found 0x4000000"),
        (image(b"", format_=7), "format 7 of the body is not known"),
        (image(b"", area=1 << 30), "1073741824 bytes expected"),
        (image(b"", area=3), "libvirt XML: no NUL at its end"),
        (image(b"").replace(b"\xc3", b"\xff"), "libvirt XML: invalid start byte"),
        (image(b""), "magic"),
        (image(b"\x1f\x8b\x08\x00"), "not a QEMU migration stream"),
    ],
)
def test_malformed_images_are_refused(data, message):
    with pytest.raises(StreamError, match=message):
        QemuStream.parse(data)


def test_an_image_cut_anywhere_in_its_header_is_refused():
    data = image(synthesize())
    for cut in range(SaveImage.parse(data).body + 8):
        with pytest.raises(StreamError):
            QemuStream.parse(data[:cut])
