"""The cpu/nested_state subsection against the bytes that the stream format prescribes."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import StateError
from emu.migration.qemu_stream.cursor import Cursor
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.nested import NestedState, SvmState, VmxState
from emu.migration.qemu_stream.subsections import Subsection
from tests.emu.migration.qemu_stream.blobs import NOWHERE, page, svm_blob, vmx_blob

VMX = b"\x05\x18cpu/kvm_nested_state/vmx\0\0\0\1"
SVM = b"\x05\x18cpu/kvm_nested_state/svm\0\0\0\1"
VMCS12 = b"\x05\x1fcpu/kvm_nested_state/vmx/vmcs12\0\0\0\1"
SHADOW = b"\x05\x26cpu/kvm_nested_state/vmx/shadow_vmcs12\0\0\0\1"


def read(payload: bytes) -> NestedState:
    cursor = Cursor(payload)
    state = NestedState.read(cursor)
    assert not cursor.left
    return state


CASES = [
    (vmx_blob(0, vmcs12_pa=NOWHERE), 78, "VMXON, no current VMCS"),
    (vmx_blob(1), 4211, "VMX with vmcs12"),
    (vmx_blob(2, flags=1), 8351, "VMX, L2 running with a shadow VMCS"),
    (svm_blob(), 4164, "SVM, L2 running"),
]


@pytest.mark.parametrize(("blob", "size", "_"), CASES, ids=[case[2] for case in CASES])
def test_subsection_has_the_length_that_qemu_sends(blob, size, _):
    state = NestedState.from_kernel(blob)

    assert size == len(Subsection.of_nested_state(state).to_bytes())


def test_vmx_payload_is_big_endian_words_and_raw_pages():
    blob = vmx_blob(2, flags=0x3, vmxon_pa=0x1122_3344_5566_7000, smm_flags=2)

    assert (
        pack(">HHI", 3, 0, 8320)
        + VMX
        + pack(">QQH", 0x1122_3344_5566_7000, 0x2000, 2)
        + (VMCS12 + page(1))
        + (SHADOW + page(2))
    ) == NestedState.from_kernel(blob).to_payload()


def test_svm_payload_is_big_endian_words_and_a_raw_page():
    assert (
        pack(">HHI", 0x101, 1, 4224) + SVM + pack(">Q", 0x3000) + page(7)
    ) == NestedState.from_kernel(svm_blob()).to_payload()


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(vmx_blob(0, vmxon_pa=NOWHERE, vmcs12_pa=NOWHERE), id="vmx-without-vmxon"),
        pytest.param(vmx_blob(2, vmxon_pa=NOWHERE), id="vmx-without-vmxon-with-pages"),
        pytest.param(svm_blob(0, flags=0x100), id="svm-without-l2"),
        pytest.param(pack("<HHI", 0, 2, 128) + bytes(120), id="unknown-format"),
    ],
)
def test_qemu_sends_nothing(blob):
    assert NestedState.from_kernel(blob) is None


def test_header_bytes_26_to_127_do_not_arrive():
    blob = vmx_blob(1, rest=bytes(range(1, 103)))

    assert vmx_blob(1) == NestedState.from_kernel(blob).to_kernel()


def test_guest_pat_of_an_svm_header_does_not_arrive():
    blob = svm_blob()

    assert blob == NestedState.from_kernel(blob[:16] + pack("<Q", 7) + blob[24:]).to_kernel()


@pytest.mark.parametrize(("size", "pages"), [(129, 1), (1134, 1), (4223, 1), (4225, 2), (8319, 2)])
def test_a_size_inside_a_page_still_carries_the_whole_page(size, pages):
    blob = vmx_blob(pages, size=size)

    assert blob == NestedState.from_kernel(blob).to_kernel()
    assert size == NestedState.from_kernel(blob).size


def test_a_page_that_the_blob_cuts_is_filled_up_with_zeroes():
    blob = vmx_blob(1, size=1134)[:1134]

    assert blob + bytes(4224 - 1134) == NestedState.from_kernel(blob).to_kernel()


def test_bytes_behind_the_used_size_are_left_out():
    assert vmx_blob(1) == NestedState.from_kernel(vmx_blob(1) + bytes(4096)).to_kernel()


@pytest.mark.parametrize(("size", "length"), [(8320, 8320), (0xFFFF_FFFF, 8320), (200, 4224)])
def test_a_size_beyond_what_was_sent_reads_zeroes_up_to_the_largest_blob(size, length):
    """QEMU's buffer is as long as the kernel's maximum; a stream cannot make it longer."""
    payload = pack(">HHI", 0, 0, size) + VMX + pack(">QQH", 0x1000, 0x2000, 0)
    blob = read(payload).to_kernel()

    assert length == len(blob)
    assert pack("<I", size) == blob[4:8]
    assert bytes(length - 24) == blob[24:]


@pytest.mark.parametrize("length", [0, 1, 127])
def test_a_blob_shorter_than_its_header_is_refused(length):
    with pytest.raises(StateError, match=f"the header is 128 bytes, found {length}"):
        NestedState.from_kernel(bytes(length))


def test_a_blob_shorter_than_its_size_is_refused():
    with pytest.raises(StateError, match="size says 4224 bytes, found 4223"):
        NestedState.from_kernel(vmx_blob(1)[:-1])


words = st.integers(0, NOWHERE)
pages = st.integers(0, 2**32 - 1).map(page)
states = st.builds(
    NestedState,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.none()
    | st.builds(
        VmxState, words, words, st.integers(0, 0xFFFF), st.none() | pages, st.none() | pages
    ),
    st.none() | st.builds(SvmState, words, pages),
)


@given(states)
def test_what_is_written_is_read(state):
    assert state == read(state.to_payload())


@given(states)
def test_description_accounts_for_every_byte(state):
    """The struct's size is the payload's, and its members add up to it."""
    (field,) = state.describe()["fields"]

    assert len(state.to_payload()) == field["size"]
    assert field["size"] == described_bytes(field["struct"])


def described_bytes(entry):
    own = sum(field["size"] * field.get("array_len", 1) for field in entry["fields"])
    inner = entry.get("subsections", ())
    return own + sum(6 + len(sub["vmsd_name"]) + described_bytes(sub) for sub in inner)


@pytest.mark.parametrize("length", range(0, 8, 3))
def test_cut_words_are_refused(length):
    with pytest.raises(StreamError, match="flags, format and size"):
        NestedState.read(Cursor(bytes(length)))


@pytest.mark.parametrize("cut", [5, 59, 78, 100, 4000, 8000])
def test_a_payload_cut_inside_a_page_or_a_word_is_refused(cut):
    payload = NestedState.from_kernel(vmx_blob(2)).to_payload()
    subsection = Subsection("cpu/nested_state", 1, payload[:cut])

    with pytest.raises(StreamError):
        subsection.nested_state()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (bytes(8) + VMX.replace(b"vmx", b"vmy"), "QEMU knows no such subsection"),
        (bytes(8) + VMX[:-1] + b"\2", "version 1 expected, found 2"),
        (bytes(8) + VMX + bytes(18) + VMCS12.replace(b"12", b"13"), "QEMU knows no such"),
        (bytes(9), "1 bytes after its last subsection"),
    ],
)
def test_unknown_parts_are_refused_with_their_place(payload, message):
    subsection = Subsection("cpu/nested_state", 1, payload, offset=0x100)

    with pytest.raises(StreamError, match=message) as caught:
        subsection.nested_state()

    assert 0x100 + 22 + 8 <= caught.value.offset <= 0x100 + 22 + len(payload)


def test_the_last_copy_of_a_repeated_page_counts():
    payload = bytes(8) + VMX + bytes(18) + VMCS12 + page(1) + VMCS12 + page(2)

    assert page(2) == read(payload).vmx.vmcs12
