"""What a vCPU holds of VMX nested state, by name: its header's words, vmcs12 and shadow vmcs12."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from vmcs.nested_state import (
    INVALID_GPA,
    SHADOW_VMCS12_OFFSET,
    VMCS12_OFFSET,
    VMCS12_PAGE,
    SmmFlag,
    VmxHeaderFlag,
)
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, VMCS12_BYTES, vmcs12_rows

if TYPE_CHECKING:
    from emu.kvm.vmx import Vmx

PAGES: Final = (("vmcs12", VMCS12_OFFSET), ("shadow_vmcs12", SHADOW_VMCS12_OFFSET))


def held_by(vmx: Vmx, blob: bytes) -> dict[str, int]:
    """What the vCPU of `vmx` holds; `blob` is its own KVM_GET_NESTED_STATE of this moment."""
    nested, release = vmx.nested, vmx.vcpu.release
    held = {"vmxon": int(nested.vmxon), "guest_mode": int(nested.guest_mode)}
    if not nested.in_vmx_operation:
        return held
    held |= {
        "vmxon_pa": nested.vmxon_pa,
        "vmcs12_pa": nested.vmcs12_pa,
        "smm.vmxon": int(nested.smm_vmxon),
        "smm.guest_mode": int(nested.smm_guest_mode),
        "evmcs": int(nested.evmcs != -1),
    }
    if nested.guest_mode:
        held["run_pending"] = int(nested.run_pending)
        if release.has("nested_flags", "KVM_STATE_NESTED_MTF_PENDING"):
            held["mtf_pending"] = int(nested.mtf_pending)
        if release.has("vmx_header", "preemption_timer_deadline"):
            held["preemption_timer"] = int(nested.has_deadline)
            held["preemption_timer_deadline"] = nested.deadline if nested.has_deadline else 0
    size = int.from_bytes(blob[4:8], "little")
    known = release.names("vmcs12_fields")
    for title, start in PAGES:
        if size >= start + VMCS12_PAGE:
            held |= _page(title, blob[start:], known)
    return held


def said_by(blob: bytes, header: Mapping[str, int]) -> dict[str, int]:
    """What a blob says by the same names; `header` is its header by name."""
    if header["blob.vmxon_pa"] == INVALID_GPA:
        return {"vmxon": 0, "guest_mode": 0}
    smm, guest_mode = header["blob.smm_flags"], header["blob.GUEST_MODE"]
    held = {
        "vmxon": int(not smm & SmmFlag.VMXON),
        "guest_mode": guest_mode,
        "vmxon_pa": header["blob.vmxon_pa"],
        "vmcs12_pa": header["blob.vmcs12_pa"],
        "smm.vmxon": int(bool(smm & SmmFlag.VMXON)),
        "smm.guest_mode": int(bool(smm & SmmFlag.GUEST_MODE)),
        "evmcs": header["blob.EVMCS"],
    }
    if guest_mode:
        held["run_pending"] = header["blob.RUN_PENDING"]
        held["mtf_pending"] = header["blob.MTF_PENDING"]
        valid = bool(header["blob.vmx_flags"] & VmxHeaderFlag.PREEMPTION_TIMER_DEADLINE)
        held["preemption_timer"] = int(valid)
        held["preemption_timer_deadline"] = header["blob.preemption_timer_deadline"] * valid
    size = min(int.from_bytes(blob[4:8], "little"), len(blob))
    for title, start in PAGES:
        if size >= start + VMCS12_BYTES:
            held |= _page(title, blob[start:], frozenset(VMCS12_ADDITIONS))
    return held


def _page(title: str, page: bytes, known: frozenset[str]) -> dict[str, int]:
    return {
        name: int.from_bytes(page[start:end], "little")
        for name, start, end in _places(title, known)
    }


@cache
def _places(title: str, known: frozenset[str]) -> tuple[tuple[str, int, int], ...]:
    """Name, first byte and end of each member of a vmcs12 with the additions `known`."""
    rows = vmcs12_rows(*(name for name in VMCS12_ADDITIONS if name in known))
    return tuple((f"{title}.{row.name}", row.offset, row.end) for row in rows if not row.reserved)
