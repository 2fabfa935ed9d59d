"""struct kvm_nested_state: each form has the offsets that a C compiler gives it."""

import ctypes
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64

import numpy as np
import pytest

from vmcs.byte_layout import FieldAt
from vmcs.nested_state import (
    DATA,
    FLAG_WORDS,
    HEADER_ADDITIONS,
    HEADER_SIZE,
    SHADOW_VMCS12_OFFSET,
    SIZE_EMPTY,
    SIZE_WITH_SHADOW_VMCS12,
    SIZE_WITH_VMCB12,
    SIZE_WITH_VMCS12,
    VMCB12_SAVE_OFFSET,
    VMCS12_OFFSET,
    Format,
    NestedFlag,
    SmmFlag,
    VmxHeaderFlag,
    header_dtype,
    header_rows,
    maximum_size,
    union_size,
)
from vmcs.schema import TableError

COMMON = [("flags", c_uint16), ("format", c_uint16), ("size", c_uint32)]
VMX = [("vmxon_pa", c_uint64), ("vmcs12_pa", c_uint64), ("smm_flags", c_uint16)]
DEADLINE = [("vmx_flags", c_uint32), ("preemption_timer_deadline", c_uint64)]
SVM = [("vmcb_pa", c_uint64)]

FORMS = pytest.mark.parametrize(
    ("form", "added", "members", "size"),
    [
        pytest.param(Format.VMX, (), VMX, 24, id="vmx-4.19"),
        pytest.param(
            Format.VMX,
            ("vmx_flags", "preemption_timer_deadline"),
            [*VMX, ("pad", c_uint16), *DEADLINE],
            32,
            id="vmx-5.8",
        ),
        pytest.param(Format.SVM, (), SVM, 8, id="svm-5.8"),
        pytest.param(Format.SVM, ("gpat",), [*SVM, ("gpat", c_uint64)], 16, id="svm-7.2"),
    ],
)


def compiled(members):
    """What a C compiler makes of the union's member, and of the whole header."""
    header = type("Header", (ctypes.Structure,), {"_fields_": members})
    union = type("Union", (ctypes.Union,), {"_fields_": [("h", header), ("pad", c_uint8 * 120)]})
    whole = type("State", (ctypes.Structure,), {"_fields_": [*COMMON, ("hdr", union)]})
    return header, whole


@FORMS
def test_member_stands_where_a_compiler_puts_it(form, added, members, size):
    header, whole = compiled(members)
    rows = {row.name: row for row in header_rows(form, *added)}

    assert 8 == whole.hdr.offset
    for name, kind in COMMON:
        assert getattr(whole, name).offset == rows[name].offset
        assert ctypes.sizeof(kind) == rows[name].size
    for name, kind in members:
        assert whole.hdr.offset + getattr(header, name).offset == rows[name].offset
        assert ctypes.sizeof(kind) == rows[name].size


@FORMS
def test_header_structure_has_its_size(form, added, members, size):
    header, whole = compiled(members)

    assert size == ctypes.sizeof(header) == union_size(form, *added)
    assert HEADER_SIZE == ctypes.sizeof(whole) == header_dtype(form, *added).itemsize


@FORMS
def test_every_byte_of_the_header_is_accounted_for(form, added, members, size):
    covered = [byte for row in header_rows(form, *added) for byte in range(row.offset, row.end)]

    assert list(range(128)) == covered


@FORMS
def test_every_row_says_where_it_was_seen(form, added, members, size):
    assert all(row.seen for row in header_rows(form, *added))


def test_dtype_reads_a_header_made_by_a_compiler():
    _, whole = compiled([*VMX, ("pad", c_uint16), *DEADLINE])
    state = whole(flags=0x3, format=0, size=4224)
    state.hdr.h.vmxon_pa = 0x1000
    state.hdr.h.preemption_timer_deadline = 0x1122_3344_5566_7788
    read = np.frombuffer(bytes(state), header_dtype(Format.VMX, *HEADER_ADDITIONS[Format.VMX]))[0]

    assert (3, 0, 4224) == (read["flags"], read["format"], read["size"])
    assert 0x1000 == read["vmxon_pa"]
    assert 0x1122_3344_5566_7788 == read["preemption_timer_deadline"]


# Nested-state sizes that KVM reports and writes. Linux: kvm_vcpu_ioctl_x86_get_nested_state.
def test_sizes_are_those_that_kvm_reports():
    assert (128, 4224, 8320) == (SIZE_EMPTY, SIZE_WITH_VMCS12, SIZE_WITH_SHADOW_VMCS12)
    assert 4224 == SIZE_WITH_VMCB12
    assert 8320 == maximum_size(Format.VMX)
    assert 4224 == maximum_size(Format.SVM)


def test_data_follows_the_header_without_a_gap():
    assert (128, 4224) == (VMCS12_OFFSET, SHADOW_VMCS12_OFFSET)
    assert 1152 == VMCB12_SAVE_OFFSET
    for form in Format:
        ends = [HEADER_SIZE, *(row.end for row in DATA[form])]

        assert ends[:-1] == [row.offset for row in DATA[form]]


# Linux: arch/x86/include/uapi/asm/kvm.h, 7.3.
@pytest.mark.parametrize(
    ("member", "value", "macro"),
    [
        (NestedFlag.GUEST_MODE, 0x1, "KVM_STATE_NESTED_GUEST_MODE"),
        (NestedFlag.RUN_PENDING, 0x2, "KVM_STATE_NESTED_RUN_PENDING"),
        (NestedFlag.EVMCS, 0x4, "KVM_STATE_NESTED_EVMCS"),
        (NestedFlag.MTF_PENDING, 0x8, "KVM_STATE_NESTED_MTF_PENDING"),
        (NestedFlag.GIF_SET, 0x100, "KVM_STATE_NESTED_GIF_SET"),
        (SmmFlag.GUEST_MODE, 0x1, "KVM_STATE_NESTED_SMM_GUEST_MODE"),
        (SmmFlag.VMXON, 0x2, "KVM_STATE_NESTED_SMM_VMXON"),
        (
            VmxHeaderFlag.PREEMPTION_TIMER_DEADLINE,
            0x1,
            "KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE",
        ),
        (Format.VMX, 0, "KVM_STATE_NESTED_FORMAT_VMX"),
        (Format.SVM, 1, "KVM_STATE_NESTED_FORMAT_SVM"),
    ],
)
def test_number_and_macro_are_the_kernel_s(member, value, macro):
    assert value == member
    assert macro == member.row.macro


def test_flag_words_account_for_every_bit_of_their_member():
    widths = [8 * row.size for row in header_rows(Format.VMX, "vmx_flags") if "flags" in row.name]

    assert widths == [len(word.table) for word in FLAG_WORDS]


def test_kernel_that_does_not_exist_yet_adds_its_own_member():
    row = FieldAt("uinv", 40, "u8", "User-interrupt notification vector", seen="my kernel")
    names = [row.name for row in header_rows(Format.VMX, *HEADER_ADDITIONS[Format.VMX], row)]

    assert ["preemption_timer_deadline", "uinv", "hdr_pad"] == names[-3:]


def test_member_over_a_member_is_refused():
    with pytest.raises(TableError, match="would overwrite vmcs12_pa"):
        header_rows(Format.VMX, FieldAt("late", 16, "u8", seen="my kernel"))


def test_unknown_member_is_a_key_error():
    with pytest.raises(KeyError, match="gpat"):
        header_rows(Format.VMX, "gpat")
