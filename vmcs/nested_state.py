"""struct kvm_nested_state: what KVM_GET_NESTED_STATE hands out, byte by byte.

A 128-byte header (flags, format, size, and a union of 120 bytes for each format) is followed by
data: vmcs12 and shadow vmcs12 for VMX, vmcb12 for SVM. The header only ever grew: a member took
bytes that were padding before. `HEADER_BASE` is the header of the first release for each format,
`HEADER_ADDITIONS` the members that later releases carved from its padding, by format and name.
`vmcs12_pa` was called `vmcs_pa` before 5.2; its place did not change.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

import numpy as np

from vmcs.byte_layout import FieldAt, byte_table, carve, check_bytes, dtype_of, padding
from vmcs.schema import BitTable, CodeTable, check_cited, code, flag, reserved

UAPI: Final = "arch/x86/include/uapi/asm/kvm.h"

HEADER_SIZE: Final = 128
UNION_OFFSET: Final = 8
VMCS12_PAGE: Final = 0x1000
VMCB12_PAGE: Final = 0x1000

VMCS12_OFFSET: Final = HEADER_SIZE
SHADOW_VMCS12_OFFSET: Final = HEADER_SIZE + VMCS12_PAGE
VMCB12_OFFSET: Final = HEADER_SIZE
VMCB12_SAVE_OFFSET: Final = HEADER_SIZE + 0x400

SIZE_EMPTY: Final = HEADER_SIZE
SIZE_WITH_VMCS12: Final = HEADER_SIZE + VMCS12_PAGE
SIZE_WITH_SHADOW_VMCS12: Final = HEADER_SIZE + 2 * VMCS12_PAGE
SIZE_WITH_VMCB12: Final = HEADER_SIZE + VMCB12_PAGE

INVALID_GPA: Final = 0xFFFF_FFFF_FFFF_FFFF


class Format(CodeTable, seen=f"{UAPI}: KVM_STATE_NESTED_FORMAT_VMX, 5.2", macros="KVM_STATE_"):
    """The `format` word."""

    VMX = code(0, "Header and data of VMX", "NESTED_FORMAT_VMX")
    SVM = code(1, "Header and data of SVM", "NESTED_FORMAT_SVM")


EVMCS_SEEN: Final = f"{UAPI}: KVM_STATE_NESTED_EVMCS, 4.20"
MTF_SEEN: Final = f"{UAPI}: KVM_STATE_NESTED_MTF_PENDING, 5.6"
GIF_SEEN: Final = f"{UAPI}: KVM_STATE_NESTED_GIF_SET, 5.8"


class NestedFlag(
    BitTable, width=16, seen=f"{UAPI}: KVM_STATE_NESTED_GUEST_MODE, 4.19", macros="KVM_STATE_"
):
    """The `flags` word."""

    GUEST_MODE = flag(0, "The vCPU runs L2", "NESTED_GUEST_MODE")
    RUN_PENDING = flag(1, "VM entry to L2 has not completed", "NESTED_RUN_PENDING")
    EVMCS = flag(2, "L1 uses an enlightened VMCS", "NESTED_EVMCS", seen=EVMCS_SEEN)
    MTF_PENDING = flag(3, "An MTF VM exit is pending", "NESTED_MTF_PENDING", seen=MTF_SEEN)
    RESERVED_4_7 = reserved(4, 7)
    GIF_SET = flag(8, "The global interrupt flag is 1", "NESTED_GIF_SET", seen=GIF_SEEN)
    RESERVED_9_15 = reserved(9, 15)


class SmmFlag(
    BitTable,
    width=16,
    seen=f"{UAPI}: KVM_STATE_NESTED_SMM_GUEST_MODE, 4.19",
    macros="KVM_STATE_NESTED_SMM_",
):
    """The `hdr.vmx.smm.flags` word: what RSM returns to."""

    GUEST_MODE = flag(0, "The vCPU ran L2 when it entered SMM", "GUEST_MODE")
    VMXON = flag(1, "The vCPU was in VMX operation when it entered SMM", "VMXON")
    RESERVED_2_15 = reserved(2, 15)


class VmxHeaderFlag(
    BitTable,
    width=32,
    seen=f"{UAPI}: KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE, 5.8",
    macros="KVM_STATE_VMX_",
):
    """The `hdr.vmx.flags` word: which later members of the header hold something."""

    PREEMPTION_TIMER_DEADLINE = flag(
        0, "preemption_timer_deadline is valid", "PREEMPTION_TIMER_DEADLINE"
    )
    RESERVED_1_31 = reserved(1, 31)


FLAG_WORDS: Final = (NestedFlag, SmmFlag, VmxHeaderFlag)

FIRST: Final = f"{UAPI}: struct kvm_nested_state, 4.19"
DEADLINE: Final = f"{UAPI}: struct kvm_vmx_nested_state_hdr, 5.8"
SVM_FIRST: Final = f"{UAPI}: struct kvm_svm_nested_state_hdr, 5.8"
SVM_GPAT: Final = f"{UAPI}: struct kvm_svm_nested_state_hdr, 7.2"

COMMON: Final = (
    FieldAt("flags", 0, "u2", "KVM_STATE_NESTED_ flags", seen=FIRST),
    FieldAt("format", 2, "u2", "KVM_STATE_NESTED_FORMAT_ number", seen=FIRST),
    FieldAt("size", 4, "u4", "Size of header and data in bytes", seen=FIRST),
)

VMX_BASE: Final = byte_table(
    "kvm_nested_state, VMX",
    HEADER_SIZE,
    *COMMON,
    FieldAt("vmxon_pa", 8, "u8", "VMXON pointer of L1, or all ones"),
    FieldAt("vmcs12_pa", 16, "u8", "Current-VMCS pointer of L1, or all ones"),
    FieldAt("smm_flags", 24, "u2", "KVM_STATE_NESTED_SMM_ flags"),
    padding("pad", 26, "u2", 1),
    padding("hdr_pad", 28, "u1", 100),
    seen=FIRST,
)

SVM_BASE: Final = byte_table(
    "kvm_nested_state, SVM",
    HEADER_SIZE,
    *COMMON,
    FieldAt("vmcb_pa", 8, "u8", "Address of vmcb12, when in guest mode"),
    padding("hdr_pad", 16, "u1", 112),
    seen=SVM_FIRST,
)

HEADER_BASE: Final[Mapping[Format, tuple[FieldAt, ...]]] = MappingProxyType(
    {Format.VMX: VMX_BASE, Format.SVM: SVM_BASE}
)

VMX_ADDED: Final = (
    FieldAt("vmx_flags", 28, "u4", "KVM_STATE_VMX_ flags", seen=DEADLINE),
    FieldAt("preemption_timer_deadline", 32, "u8", "Scaled TSC of expiry", seen=DEADLINE),
)
SVM_ADDED: Final = (
    FieldAt("gpat", 16, "u8", "Guest PAT of L2 under nested paging", seen=SVM_GPAT),
)

HEADER_ADDITIONS: Final[Mapping[Format, Mapping[str, FieldAt]]] = MappingProxyType(
    {
        Format.VMX: MappingProxyType({row.name: row for row in VMX_ADDED}),
        Format.SVM: MappingProxyType({row.name: row for row in SVM_ADDED}),
    }
)

DATA: Final[Mapping[Format, tuple[FieldAt, ...]]] = MappingProxyType(
    {
        Format.VMX: (
            FieldAt("vmcs12", VMCS12_OFFSET, "u1", "vmcs12 page", VMCS12_PAGE, seen=FIRST),
            FieldAt(
                "shadow_vmcs12",
                SHADOW_VMCS12_OFFSET,
                "u1",
                "Page of the vmcs12 that the link pointer names",
                VMCS12_PAGE,
                seen=FIRST,
            ),
        ),
        Format.SVM: (
            FieldAt("vmcb12", VMCB12_OFFSET, "u1", "vmcb12 page", VMCB12_PAGE, seen=SVM_FIRST),
        ),
    }
)


@cache
def header_rows(form: Format, *added: str | FieldAt) -> tuple[FieldAt, ...]:
    """Rows of the 128-byte header of one format with the given additions, by offset.

    An addition is a member name of `HEADER_ADDITIONS`, or a row for a kernel that does not exist
    yet. Raises `KeyError` for an unknown name and `TableError` for bytes that are already taken.
    """
    extra = [HEADER_ADDITIONS[form][row] if isinstance(row, str) else row for row in added]
    rows = carve(HEADER_BASE[form], *extra)
    check_bytes(rows, HEADER_SIZE, f"kvm_nested_state, {form.name}")
    return rows


def header_dtype(form: Format, *added: str | FieldAt) -> np.dtype[np.void]:
    """Numpy dtype of the 128-byte header of one format with the given additions."""
    return dtype_of(header_rows(form, *added), HEADER_SIZE)


def union_size(form: Format, *added: str | FieldAt) -> int:
    """Size in bytes of the format's own header structure, to its last member."""
    last = max(row.end for row in header_rows(form, *added) if not row.reserved)
    return -(-last // 8) * 8 - UNION_OFFSET


def maximum_size(form: Format) -> int:
    """Size in bytes of header and all data of a format: what KVM_CHECK_EXTENSION answers."""
    return DATA[form][-1].end


def _check() -> None:
    for form in Format:
        added = HEADER_ADDITIONS[form]
        header_rows(form, *added)
        check_cited([*added.values(), *DATA[form]], "kvm_nested_state")


_check()
