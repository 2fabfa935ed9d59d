"""Whatever bytes come, reading gives a stream or a StreamError, and a stream gives its bytes."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from emu.migration.qemu_stream import (
    QemuStream,
    StreamError,
    load_checks,
    outline,
    synthesize,
    wrap,
)
from tests.emu.migration.qemu_stream.blobs import svm_blob, vmx_blob

SEEDS = (
    synthesize([vmx_blob(2, flags=1)], ram_bytes=0x3000),
    synthesize([svm_blob(), None], with_description=False),
    synthesize([None], ram_bytes=0x2000),
    wrap(synthesize([vmx_blob(0)]), "<domain/>")[:92] + synthesize([vmx_blob(0)]),
)
HEADER = b"QEVM\0\0\0\3"


def survives(data: bytes) -> None:
    """Read and, if it is a stream, use it in every way that reads its parts."""
    try:
        stream = QemuStream.parse(data)
        load_checks(stream, 8320)
        outline(stream)
    except StreamError as error:
        # More than the length would be a place that is not in the file.
        if not 0 <= error.offset <= len(data):
            raise AssertionError(f"{error} of {len(data)} bytes") from None
        return
    assert data == stream.to_bytes()
    for cpu in stream.vcpus:
        cpu.set_nested_state(svm_blob())
    QemuStream.parse(stream.to_bytes())


@st.composite
def edited(draw):
    """A stream with a few bytes written over, put in or taken out."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.binary(max_size=8))
        old = draw(st.sampled_from((0, len(new), len(new) + 1, 4096)))
        data[at : at + old] = new
    return bytes(data)


@settings(max_examples=250)
@given(edited())
def test_edited_streams(data):
    survives(data)


@settings(max_examples=200)
@given(st.sampled_from(SEEDS), st.integers(8, 400), st.integers(0, 255))
def test_one_wrong_byte_near_the_front(seed, at, value):
    survives(seed[:at] + bytes((value,)) + seed[at + 1 :])


@settings(max_examples=300)
@given(st.binary(max_size=300))
@example(b"\x07\xff\xff\xff\xff")
@example(b"\x04\x00\x00\x00\x01\xff" + b"a" * 300)
def test_any_bytes_behind_the_header(body):
    survives(HEADER + body)


mostly_json = st.text(alphabet='{}[]",:0123456789 devicsnamefldzt_', max_size=200)


@settings(max_examples=300)
@given(mostly_json)
def test_any_text_as_description(text):
    body = ("{" + text).encode()
    stream = SEEDS[2][: QemuStream.parse(SEEDS[2]).description.offset]
    survives(stream + b"\6" + len(body).to_bytes(4, "big") + body)


entries = st.recursive(
    st.fixed_dictionaries(
        {
            "vmsd_name": st.sampled_from(("cpu", "cpu/nested_state", "cpu/xss", "")),
            "version": st.integers(0, 3),
            "fields": st.lists(
                st.fixed_dictionaries({"size": st.sampled_from((0, 1, 8, 1817, 4211, 1 << 40))}),
                max_size=2,
            ),
        }
    ),
    lambda inner: st.builds(
        lambda entry, list_: {**entry, "subsections": list_}, inner, st.lists(inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=80)
@given(st.lists(entries, max_size=3))
def test_any_subsections_in_the_description(subsections):
    stream = QemuStream.parse(SEEDS[0])
    index = stream.vcpus[0].section.device
    data = SEEDS[0][: stream.description.offset]
    survives(data + stream.description.with_subsections({index: subsections}))
