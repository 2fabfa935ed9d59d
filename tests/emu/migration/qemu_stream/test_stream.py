"""A stream as one object: written back byte for byte, from every kind of buffer."""

import io
import mmap

import pytest

from emu.migration.qemu_stream import QemuStream
from tests.emu.migration.qemu_stream.blobs import svm_blob


def test_recorded_streams_are_written_back_byte_for_byte(q35, ignore_shared):
    for data in (q35, ignore_shared):
        assert data == QemuStream.parse(data).to_bytes()


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_buffers_are_copied(q35, kind):
    assert q35 == QemuStream.parse(kind(q35)).to_bytes()


def test_a_mapped_file_is_read_in_place(q35, tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(q35)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stream = QemuStream.parse(mapped)
        stream.vcpus[0].set_nested_state(svm_blob())
        out = io.BytesIO()
        stream.write(out)

        assert mapped is stream.data

    assert svm_blob() == QemuStream.parse(out.getvalue()).vcpus[0].nested_state


def test_writing_in_pieces_gives_the_same_bytes(q35):
    stream = QemuStream.parse(q35)
    stream.vcpu(1).set_nested_state(svm_blob())
    out = io.BytesIO()
    stream.write(out)

    assert stream.to_bytes() == out.getvalue()


def test_a_stream_without_description_takes_nested_state_too(ignore_shared):
    stream = QemuStream.parse(ignore_shared)
    stream.vcpus[0].set_nested_state(svm_blob())
    again = QemuStream.parse(stream.to_bytes())

    assert svm_blob() == again.vcpus[0].nested_state

    again.vcpus[0].set_nested_state(None)

    assert ignore_shared == again.to_bytes()
