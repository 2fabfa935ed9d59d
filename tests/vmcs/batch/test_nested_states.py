"""Nested states of N vCPUs: headers and structures by name, in the bytes of the ioctl."""

import struct

import pytest

from vmcs.batch import (
    HEADERS,
    VMCS12,
    LayoutError,
    NestedStateBatch,
    Place,
    RecordLayout,
    VmcbBatch,
    VmcsBatch,
    group_named,
    nested_state_layout,
    vmcs12_layout,
)
from vmcs.nested_state import Format, header_rows

VMX = nested_state_layout(Format.VMX)
SVM = nested_state_layout(Format.SVM)


def vmx_state(flags, size, vmxon_pa, vmcs12_pa):
    """A blob as the kernel's structure has it, packed by hand."""
    header = struct.pack("<HHIQQHHIQ", flags, 0, size, vmxon_pa, vmcs12_pa, 1, 0, 1, 99)
    return header.ljust(128, b"\0") + bytes(range(256)) * ((size - 128) // 256)


def test_blobs_have_the_sizes_of_the_interface():
    assert (8320, 4224) == (VMX.size, SVM.size)
    assert (8320, 4224) == (
        NestedStateBatch(VMX, 3).bytes.shape[1],
        NestedStateBatch(SVM, 3).bytes.shape[1],
    )


def test_header_members_lie_where_the_kernel_has_them():
    batch = NestedStateBatch.of_states(Format.VMX, [vmx_state(3, 4224, 0x1000, 0x2000)])
    header = batch.header[0]
    expected = {
        "flags": 3, "format": 0, "size": 4224, "vmxon_pa": 0x1000, "vmcs12_pa": 0x2000,
        "smm_flags": 1, "vmx_flags": 1, "preemption_timer_deadline": 99,
    }  # fmt: skip

    assert expected == header.fields()
    assert expected == {name: batch[0][name] for name in expected}


def test_structures_are_views_of_the_same_bytes():
    batch = NestedStateBatch(VMX, 3)
    batch.vmcs12["GUEST_RIP"] = [1, 2, 3]
    batch.shadow_vmcs12["GUEST_RIP"] = [4, 5, 6]

    assert [1, 2, 3] == batch["vmcs12.GUEST_RIP"].tolist()
    assert [4, 5, 6] == batch["shadow_vmcs12.GUEST_RIP"].tolist()
    assert 2 == int.from_bytes(batch.bytes[1, 128 + 544 : 128 + 552].tobytes(), "little")
    assert 5 == int.from_bytes(batch.bytes[1, 4224 + 544 : 4224 + 552].tobytes(), "little")
    assert 2 == batch[1].vmcs12.GUEST_RIP
    assert isinstance(batch.vmcs12, VmcsBatch)


def test_vmcb12_is_that_of_the_format_of_svm():
    batch = NestedStateBatch(SVM, 2)
    batch.vmcb12["cs.base"] = [7, 8]
    batch["vmcb_pa"] = 0x5000

    assert 8 == int.from_bytes(batch.bytes[1, 128 + 0x418 : 128 + 0x420].tobytes(), "little")
    assert 0x5000 == int.from_bytes(batch.bytes[0, 8:16].tobytes(), "little")
    assert isinstance(batch.vmcb12, VmcbBatch)
    with pytest.raises(LayoutError, match="no part 'vmcs12'"):
        batch.vmcs12  # noqa: B018
    with pytest.raises(LayoutError, match="no part 'vmcb12'"):
        NestedStateBatch(VMX, 1).vmcb12  # noqa: B018


def test_states_go_in_and_come_out():
    states = [vmx_state(0, 128, 1, 2), vmx_state(1, 4224, 3, 4), vmx_state(1, 8320, 5, 6)]
    batch = NestedStateBatch.of_states(Format.VMX, states)

    assert states == batch.states()


def test_a_size_word_beyond_the_buffer_ends_at_the_buffer():
    batch = NestedStateBatch(SVM, 1)
    batch["size"] = 100_000

    assert [4224] == [len(state) for state in batch.states()]


def test_a_blob_that_is_too_long_is_refused():
    with pytest.raises(LayoutError, match="8320 bytes, got 8321"):
        NestedStateBatch.of_states(Format.VMX, [bytes(8321)])


def test_vmcs12_is_remapped_inside_the_blob():
    """A batch of blobs of one release becomes one of another, without unpacking."""
    old = NestedStateBatch(nested_state_layout(Format.VMX, None, vmcs12_layout()), 4)
    for number, name in enumerate(vmcs12_layout().names, 1):
        old.vmcs12[name] = number
    new = old.remapped(VMX)

    assert old.vmcs12.gather(["GUEST_RIP"]).tolist() == new.vmcs12.gather(["GUEST_RIP"]).tolist()
    assert {0} == set(new.bytes[:, 128 + 376 : 128 + 408].ravel().tolist())
    vmcs02 = VmcsBatch(VMCS12, 4)
    vmcs02.copy_from(new.vmcs12, group_named("FULL_STATE"))
    assert new.vmcs12["GUEST_RSP"].tolist() == vmcs02["GUEST_RSP"].tolist()


def test_the_header_of_one_release_may_be_given():
    old = RecordLayout.of_rows("old", 128, header_rows(Format.VMX))
    layout = nested_state_layout(Format.VMX, old)

    assert "vmx_flags" not in layout
    assert "vmx_flags" in VMX
    assert Place("preemption_timer_deadline", 32, 8) in HEADERS[Format.VMX].places
