"""The `cpu/nested_state` subsection, and its conversion to and from `struct kvm_nested_state`.

QEMU carries the named words and the 4 KiB pages of the kernel's blob, nothing else: bytes 26 to 127
of the blob's header (of an SVM blob: bytes 16 to 127) are zero on the destination, among them the
VMX-preemption timer's deadline and hdr.svm.gpat.
In the stream the words are big-endian; the pages stay in the kernel's layout.

Read in QEMU 8.2, target/i386/machine.c: vmstate_nested_state, vmstate_kvm_nested_state,
vmstate_vmx_nested_state, vmstate_svm_nested_state, nested_state_needed. What QEMU carries of the
header is what the first kernels had: `vmcs.nested_state.HEADER_BASE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from emu.errors import StateError
from emu.migration.qemu_stream.cursor import Cursor
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.fields import (
    peek_subsection,
    read_subsection_header,
    subsection_header,
)
from vmcs.nested_state import (
    HEADER_SIZE,
    INVALID_GPA,
    SHADOW_VMCS12_OFFSET,
    SIZE_EMPTY,
    SIZE_WITH_SHADOW_VMCS12,
    SIZE_WITH_VMCB12,
    SIZE_WITH_VMCS12,
    VMCB12_OFFSET,
    VMCS12_OFFSET,
    VMCS12_PAGE,
    Format,
    header_dtype,
)

NESTED_STATE = "cpu/nested_state"
KVM_NESTED_STATE = "cpu/kvm_nested_state"
VMX_STATE = "cpu/kvm_nested_state/vmx"
SVM_STATE = "cpu/kvm_nested_state/svm"
VMCS12 = "cpu/kvm_nested_state/vmx/vmcs12"
SHADOW_VMCS12 = "cpu/kvm_nested_state/vmx/shadow_vmcs12"

_VMX_HEADER = header_dtype(Format.VMX)
_SVM_HEADER = header_dtype(Format.SVM)
_STREAM_HEADER = Struct(">HHI")
_STREAM_VMX = Struct(">QQH")
_STREAM_SVM = Struct(">Q")


class VmxState(NamedTuple):
    """What `cpu/kvm_nested_state/vmx` carries; a page that was not sent is None."""

    vmxon_pa: int
    vmcs12_pa: int
    smm_flags: int
    vmcs12: bytes | None = None
    shadow_vmcs12: bytes | None = None


class SvmState(NamedTuple):
    """What `cpu/kvm_nested_state/svm` carries."""

    vmcb_pa: int
    vmcb12: bytes


@dataclass(frozen=True)
class NestedState:
    """The contents of one `cpu/nested_state` subsection.

    `size` is what the source kernel returned, not the bytes that are in the stream: those are
    always whole pages.
    """

    flags: int
    format: int
    size: int
    vmx: VmxState | None = None
    svm: SvmState | None = None

    @classmethod
    def from_kernel(cls, blob: bytes) -> NestedState | None:
        """What QEMU sends for the blob that KVM_GET_NESTED_STATE returned; None: nothing at all.

        Nothing is sent for a VMX blob outside VMX operation and for an SVM blob without data.
        A page of which `size` covers a part is sent whole. Raises `StateError` for a blob that is
        shorter than its header or than its `size`.
        """
        if len(blob) < HEADER_SIZE:
            raise StateError(f"the header is {HEADER_SIZE} bytes, found {len(blob)}", len(blob))
        header = np.frombuffer(blob, _VMX_HEADER, 1)[0]
        flags, kind, size = (int(header[name]) for name in ("flags", "format", "size"))
        if size > len(blob):
            raise StateError(f"size says {size} bytes, found {len(blob)}", 4)
        if kind == Format.VMX and header["vmxon_pa"] != INVALID_GPA:
            vmxon_pa, vmcs12_pa = int(header["vmxon_pa"]), int(header["vmcs12_pa"])
            smm_flags = int(header["smm_flags"])
            vmcs12 = _page(blob, VMCS12_OFFSET) if size > VMCS12_OFFSET else None
            shadow = _page(blob, SHADOW_VMCS12_OFFSET) if size > SHADOW_VMCS12_OFFSET else None
            return cls(
                flags, kind, size, vmx=VmxState(vmxon_pa, vmcs12_pa, smm_flags, vmcs12, shadow)
            )
        if kind == Format.SVM and size > HEADER_SIZE:
            vmcb_pa = int(np.frombuffer(blob, _SVM_HEADER, 1)["vmcb_pa"][0])
            return cls(flags, kind, size, svm=SvmState(vmcb_pa, _page(blob, VMCB12_OFFSET)))
        return None

    def to_kernel(self) -> bytes:
        """The blob that the destination's QEMU holds after loading: 128, 4224 or 8320 bytes.

        Whole pages even when `size` ends inside one, as QEMU's buffer has them; what the stream
        does not carry is zero.
        """
        blob = bytearray(SIZE_WITH_SHADOW_VMCS12)
        header = np.frombuffer(blob, _VMX_HEADER, 1)
        header["flags"], header["format"], header["size"] = self.flags, self.format, self.size
        end = min(self.size, len(blob))
        if self.vmx is not None:
            header["vmxon_pa"], header["vmcs12_pa"] = self.vmx.vmxon_pa, self.vmx.vmcs12_pa
            header["smm_flags"] = self.vmx.smm_flags
            for offset, page in (
                (VMCS12_OFFSET, self.vmx.vmcs12),
                (SHADOW_VMCS12_OFFSET, self.vmx.shadow_vmcs12),
            ):
                if page is not None:
                    blob[offset : offset + VMCS12_PAGE] = page
                    end = max(end, offset + VMCS12_PAGE)
        if self.svm is not None:
            np.frombuffer(blob, _SVM_HEADER, 1)["vmcb_pa"] = self.svm.vmcb_pa
            blob[VMCB12_OFFSET:SIZE_WITH_VMCB12] = self.svm.vmcb12
            end = max(end, SIZE_WITH_VMCB12)
        whole = (SIZE_EMPTY, SIZE_WITH_VMCS12, SIZE_WITH_SHADOW_VMCS12)
        return bytes(blob[: next(size for size in whole if size >= end)])

    @classmethod
    def read(cls, cursor: Cursor) -> NestedState:
        """Read the payload of `cpu/nested_state` as QEMU's loader does; raises `StreamError`."""
        at = cursor.skip(_STREAM_HEADER.size, "flags, format and size of cpu/nested_state")
        flags, kind, size = _STREAM_HEADER.unpack_from(cursor.data, at)
        vmx: VmxState | None = None
        svm: SvmState | None = None
        while (name := peek_subsection(cursor, KVM_NESTED_STATE)) is not None:
            _read_header(cursor)
            if name == VMX_STATE:
                vmx = _read_vmx(cursor)
            elif name == SVM_STATE:
                at = cursor.skip(_STREAM_SVM.size, "vmcb_pa")
                (vmcb_pa,) = _STREAM_SVM.unpack_from(cursor.data, at)
                svm = SvmState(vmcb_pa, cursor.take(VMCS12_PAGE, "vmcb12"))
            else:
                raise StreamError(cursor.position, f"{name}: QEMU knows no such subsection")
        return cls(flags, kind, size, vmx, svm)

    def to_payload(self) -> bytes:
        """The payload of `cpu/nested_state`, as QEMU writes it."""
        parts = [_STREAM_HEADER.pack(self.flags, self.format, self.size)]
        if self.vmx is not None:
            parts += [subsection_header(VMX_STATE, 1), _STREAM_VMX.pack(*self.vmx[:3])]
            if self.vmx.vmcs12 is not None:
                parts += [subsection_header(VMCS12, 1), self.vmx.vmcs12]
            if self.vmx.shadow_vmcs12 is not None:
                parts += [subsection_header(SHADOW_VMCS12, 1), self.vmx.shadow_vmcs12]
        if self.svm is not None:
            parts += [subsection_header(SVM_STATE, 1), _STREAM_SVM.pack(self.svm.vmcb_pa)]
            parts.append(self.svm.vmcb12)
        return b"".join(parts)

    def describe(self) -> dict[str, Any]:
        """The entry that QEMU's vmdescription holds for this subsection."""
        words = [
            _field("flags", "uint16", 2),
            _field("format", "uint16", 2),
            _field("size", "uint32", 4),
        ]
        inner = _entry(KVM_NESTED_STATE, words)
        subsections = []
        if self.vmx is not None:
            subsections.append(_describe_vmx(self.vmx))
        if self.svm is not None:
            fields = [_field("hdr.svm.vmcb_pa", "uint64", 8), _page_field("data.svm[0].vmcb12")]
            subsections.append(_entry(SVM_STATE, fields))
        if subsections:
            inner["subsections"] = subsections
        outer = {"name": "env.nested_state", "type": "struct", "struct": inner}
        return _entry(NESTED_STATE, [{**outer, "size": len(self.to_payload())}])


def _page(blob: bytes, offset: int) -> bytes:
    """The page at `offset`, filled up with the zeroes that QEMU's buffer has after the blob."""
    return blob[offset : offset + VMCS12_PAGE].ljust(VMCS12_PAGE, b"\0")


def _read_header(cursor: Cursor) -> None:
    begin = cursor.position
    name, version = read_subsection_header(cursor)
    if version != 1:
        raise StreamError(begin, f"{name}: version 1 expected, found {version}")


def _read_vmx(cursor: Cursor) -> VmxState:
    begin = cursor.skip(_STREAM_VMX.size, "vmxon_pa, vmcs12_pa and smm.flags")
    vmxon_pa, vmcs12_pa, smm_flags = _STREAM_VMX.unpack_from(cursor.data, begin)
    pages: dict[str, bytes] = {}
    while (name := peek_subsection(cursor, VMX_STATE)) is not None:
        if name not in (VMCS12, SHADOW_VMCS12):
            raise StreamError(cursor.position, f"{name}: QEMU knows no such subsection")
        _read_header(cursor)
        pages[name] = cursor.take(VMCS12_PAGE, name)
    return VmxState(vmxon_pa, vmcs12_pa, smm_flags, pages.get(VMCS12), pages.get(SHADOW_VMCS12))


def _entry(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vmsd_name": name, "version": 1, "fields": fields}


def _field(name: str, type_name: str, size: int) -> dict[str, Any]:
    return {"name": name, "type": type_name, "size": size}


def _page_field(name: str) -> dict[str, Any]:
    return {"name": name, "array_len": VMCS12_PAGE, "type": "uint8", "size": 1}


def _describe_vmx(vmx: VmxState) -> dict[str, Any]:
    words = [
        _field("hdr.vmx.vmxon_pa", "uint64", 8),
        _field("hdr.vmx.vmcs12_pa", "uint64", 8),
        _field("hdr.vmx.smm.flags", "uint16", 2),
    ]
    entry = _entry(VMX_STATE, words)
    pages = [
        _entry(name, [_page_field(f"data.vmx[0].{name.rpartition('/')[2]}")])
        for name, page in ((VMCS12, vmx.vmcs12), (SHADOW_VMCS12, vmx.shadow_vmcs12))
        if page is not None
    ]
    if pages:
        entry["subsections"] = pages
    return entry
