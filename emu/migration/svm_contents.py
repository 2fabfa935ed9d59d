"""What a vCPU holds of SVM nested state, by name: vmcb12's control area and L1's registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vmcs.nested_state import SIZE_WITH_VMCB12, VMCB12_OFFSET
from vmcs.svm.kvm_forms import CONTROL_GROUPS, SAVE_GROUPS
from vmcs.svm.vmcb import HOST_STATE, expand, member

if TYPE_CHECKING:
    from emu.kvm.svm import Svm


def held_by(svm: Svm, _blob: bytes) -> dict[str, int]:
    """What the vCPU of `svm` holds; registers that the release has no place for are left out."""
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


def said_by(blob: bytes, header: Mapping[str, int]) -> dict[str, int]:
    """What a blob says by the same names; `header` is its header by name."""
    guest_mode = header["blob.GUEST_MODE"]
    held = {"guest_mode": guest_mode, "gif": header["blob.GIF_SET"]}
    size = min(int.from_bytes(blob[4:8], "little"), len(blob))
    if not guest_mode or size < SIZE_WITH_VMCB12:
        return held
    page = memoryview(blob)[VMCB12_OFFSET:]
    held |= {"vmcb_pa": header["blob.vmcb_pa"], "run_pending": header["blob.RUN_PENDING"]}
    held |= {"gpat": header["blob.gpat"]}
    for group in CONTROL_GROUPS:
        if group.emitted:
            held |= _members("vmcb12", page, group.members)
    held |= _members("l1", page, HOST_STATE)
    for saved in SAVE_GROUPS:
        if saved.needs:
            held |= _members("l1", page, saved.members)
    return held


def _members(prefix: str, view: memoryview, names: Iterable[str]) -> dict[str, int]:
    rows = [member(name) for name in expand(tuple(names))]
    return {f"{prefix}.{r.name}": int.from_bytes(view[r.offset : r.end], "little") for r in rows}
