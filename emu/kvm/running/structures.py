"""The control structures that KVM keeps for a vCPU, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from emu.kvm.svm import Svm
from emu.kvm.vmx import Vmx

if TYPE_CHECKING:
    from emu.kvm.vcpu import Vcpu


class Field(NamedTuple):
    """A field of the structure of L1, of the one that L1 wrote for L2, and of the merged one."""

    name: str
    of_l1: int
    by_l1: int
    of_l2: int
    origin: str  # of `of_l2` when L2 is entered; empty where nesting does not write it


class Structures(NamedTuple):
    """The names of the three structures, their fields, and whether L2 is the one that runs."""

    names: tuple[str, str, str]
    fields: tuple[Field, ...]
    in_l2: bool


def structures(vcpu: Vcpu) -> Structures:
    """vmcs01, vmcs12 and vmcs02 of a vCPU, or vmcb01, vmcb12 and vmcb02."""
    operations = vcpu.operations
    if isinstance(operations, Vmx):
        return vmx_structures(operations)
    assert isinstance(operations, Svm)
    return svm_structures(operations)


def vmx_structures(vmx: Vmx) -> Structures:
    """On Intel: vmcs12 is KVM's cached one."""
    from emu.kvm.nested_vmx.origins import ORIGINS  # noqa: PLC0415 - of one vendor only

    rows = (vmx.vmcs01.fields(), vmx.nested.vmcs12.fields(), vmx.nested.vmcs02.fields())
    return Structures(("vmcs01", "vmcs12", "vmcs02"), _joined(rows, ORIGINS), vmx.in_guest_mode)


def svm_structures(svm: Svm) -> Structures:
    """On AMD: of vmcb12 KVM keeps the controls only."""
    from emu.kvm.nested_svm.origins import ORIGINS  # noqa: PLC0415 - of one vendor only

    blocks = (svm.vmcb01, svm.nested.vmcb12, svm.vmcb02)
    rows = tuple(dict(block.fields()) for block in blocks)
    return Structures(("vmcb01", "vmcb12", "vmcb02"), _joined(rows, ORIGINS), svm.in_guest_mode)


def _joined(rows: tuple[Mapping[str, int], ...], origins: Mapping[str, str]) -> tuple[Field, ...]:
    first, second, third = rows
    return tuple(
        Field(name, first[name], second[name], third[name], origins.get(name, "")) for name in first
    )
