"""What a vCPU holds of nested state, by name: the thing that a migration must not lose.

A name that is missing is something that this kernel has no place for.  Zero is the value of what
is not in use, so a name that is missing and a name that is zero mean the same to a guest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.kvm import Vcpu
from emu.kvm.host import AMD
from vmcs.byte_layout import FieldAt
from vmcs.nested_state import (
    INVALID_GPA,
    SHADOW_VMCS12_OFFSET,
    VMCS12_OFFSET,
    VMCS12_PAGE,
    Format,
    NestedFlag,
    SmmFlag,
    VmxHeaderFlag,
    header_rows,
)
from vmcs.svm.kvm_forms import CONTROL_GROUPS, SAVE_GROUPS
from vmcs.svm.vmcb import HOST_STATE, expand, member
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, VMCS12_BYTES, vmcs12_rows

if TYPE_CHECKING:
    from emu.kvm.svm import Svm
    from emu.kvm.vmx import Vmx
    from emu.releases.schema import Release


class Lost(NamedTuple):
    """One thing that did not arrive: what it was, and what is there instead (None: no place)."""

    name: str
    was: int
    now: int | None

    def __str__(self) -> str:
        there = "no place for it" if self.now is None else f"{self.now:#x} instead"
        return f"{self.name} was {self.was:#x}, {there}"


def contents(vcpu: Vcpu, blob: bytes) -> dict[str, int]:
    """What `vcpu` holds; `blob` is its own KVM_GET_NESTED_STATE of this moment."""
    operations: Any = vcpu.operations
    held = _svm(operations) if vcpu.host.vendor == AMD else _vmx(operations, blob)
    held |= {f"grown.{name}": value for name, value in vcpu.grown.held.items()}
    return held


def _svm(svm: Svm) -> dict[str, int]:
    nested, release = svm.nested, svm.release
    held = {"guest_mode": int(nested.in_guest_mode), "gif": int(svm.gif)}
    if not nested.in_guest_mode:
        return held
    held["vmcb_pa"] = nested.vmcb12_gpa
    held["run_pending"] = int(nested.run_pending)
    if svm.l2_has_own_pat:
        held["gpat"] = svm.vmcb["g_pat"]
    supported = svm.vcpu.host.cpuid.features()
    groups = release.names("svm_control")
    for group in CONTROL_GROUPS:
        if group.name in groups and group.emitted and (not group.needs or group.needs in supported):
            held |= _members("vmcb12", nested.vmcb12.view, group.members)
    held |= _members("l1", svm.l1_block.view, HOST_STATE)
    save = release.names("svm_save")
    for saved in SAVE_GROUPS:
        if saved.needs and saved.name in save and saved.needs in supported:
            held |= _members("l1", svm.l1_block.view, saved.members)
    return held


def _members(prefix: str, view: memoryview, names: Iterable[str]) -> dict[str, int]:
    rows = [member(name) for name in expand(tuple(names))]
    return {f"{prefix}.{r.name}": int.from_bytes(view[r.offset : r.end], "little") for r in rows}


def _vmx(vmx: Vmx, blob: bytes) -> dict[str, int]:
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
    for title, start in (("vmcs12", VMCS12_OFFSET), ("shadow_vmcs12", SHADOW_VMCS12_OFFSET)):
        if size >= start + VMCS12_PAGE:
            held |= _vmcs12(title, blob[start:], release)
    return held


def _vmcs12(title: str, page: bytes, release: Release) -> dict[str, int]:
    known = [name for name in VMCS12_ADDITIONS if release.has("vmcs12_fields", name)]
    return _page(title, page, vmcs12_rows(*known))


def _page(title: str, page: bytes, rows: Iterable[FieldAt]) -> dict[str, int]:
    return {
        f"{title}.{row.name}": int.from_bytes(page[row.offset : row.end], "little")
        for row in rows
        if not row.reserved
    }


def handed_out(blob: bytes) -> dict[str, int]:
    """The header of a blob by name: what the next migration would carry."""
    form = Format(int.from_bytes(blob[2:4], "little"))
    added = ("vmx_flags", "preemption_timer_deadline") if form is Format.VMX else ("gpat",)
    words = {
        f"blob.{row.name}": int.from_bytes(blob[row.offset : row.end], "little")
        for row in header_rows(form, *added)
        if not row.reserved and row.name not in ("flags", "size")
    }
    flags = int.from_bytes(blob[:2], "little")
    return words | {f"blob.{flag.name}": flags >> flag.bit & 1 for flag in NestedFlag.table}


def lost(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Lost, ...]:
    """Everything of `before` that `after` holds differently or has no place for, by name order."""
    found = []
    for name, was in before.items():
        now = after.get(name)
        if (now or 0) != was:
            found.append(Lost(name, was, now))
    return tuple(found)


def contents_of_blob(blob: bytes) -> dict[str, int]:
    """What a blob says, by the names of `contents`: everything that any kernel reads of it."""
    words = handed_out(blob)
    flags = {name: words[f"blob.{name}"] for name in ("GUEST_MODE", "RUN_PENDING", "MTF_PENDING")}
    size = min(int.from_bytes(blob[4:8], "little"), len(blob))
    if int.from_bytes(blob[2:4], "little") == Format.SVM:
        held = {"guest_mode": flags["GUEST_MODE"], "gif": words["blob.GIF_SET"]}
        if flags["GUEST_MODE"] and size >= VMCS12_OFFSET + VMCS12_PAGE:
            page = memoryview(blob)[VMCS12_OFFSET:]
            held |= {"vmcb_pa": words["blob.vmcb_pa"], "run_pending": flags["RUN_PENDING"]}
            held |= {"gpat": words["blob.gpat"]}
            for group in CONTROL_GROUPS:
                if group.emitted:
                    held |= _members("vmcb12", page, group.members)
            held |= _members("l1", page, HOST_STATE)
            for saved in SAVE_GROUPS:
                if saved.needs:
                    held |= _members("l1", page, saved.members)
        return held
    if words["blob.vmxon_pa"] == INVALID_GPA:
        return {"vmxon": 0, "guest_mode": 0}
    smm = words["blob.smm_flags"]
    held = {"vmxon": int(not smm & SmmFlag.VMXON), "guest_mode": flags["GUEST_MODE"]}
    held |= {"vmxon_pa": words["blob.vmxon_pa"], "vmcs12_pa": words["blob.vmcs12_pa"]}
    held |= {"smm.vmxon": smm >> 1 & 1, "smm.guest_mode": smm & 1, "evmcs": words["blob.EVMCS"]}
    if flags["GUEST_MODE"]:
        held |= {"run_pending": flags["RUN_PENDING"], "mtf_pending": flags["MTF_PENDING"]}
        valid = words["blob.vmx_flags"] & VmxHeaderFlag.PREEMPTION_TIMER_DEADLINE
        deadline = words["blob.preemption_timer_deadline"] if valid else 0
        held |= {"preemption_timer": int(bool(valid)), "preemption_timer_deadline": deadline}
    rows = vmcs12_rows(*VMCS12_ADDITIONS)
    for title, start in (("vmcs12", VMCS12_OFFSET), ("shadow_vmcs12", SHADOW_VMCS12_OFFSET)):
        if size >= start + VMCS12_BYTES:
            held |= _page(title, blob[start:], rows)
    return held
