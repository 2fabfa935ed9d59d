"""What a vCPU holds of nested state, by name: the thing that a migration must not lose.

A name that is missing is something that this kernel has no place for.  Zero is the value of what
is not in use, so a name that is missing and a name that is zero mean the same to a guest.  The
names of each format are in `vmx_contents` and `svm_contents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from emu.kvm import Vcpu
from emu.kvm.host import AMD
from vmcs.nested_state import HEADER_ADDITIONS, Format, NestedFlag, header_rows


class Lost(NamedTuple):
    """One thing that did not arrive: what it was, and what is there instead (None: no place)."""

    name: str
    was: int
    now: int | None

    def __str__(self) -> str:
        there = "no place for it" if self.now is None else f"{self.now:#x} instead"
        return f"{self.name} was {self.was:#x}, {there}"


def _names_of(form: Format) -> ModuleType:
    """The module with the names of one format; the tables of the other are not loaded."""
    if form is Format.SVM:
        from emu.migration import svm_contents  # noqa: PLC0415

        return svm_contents
    from emu.migration import vmx_contents  # noqa: PLC0415

    return vmx_contents


def contents(vcpu: Vcpu, blob: bytes) -> dict[str, int]:
    """What `vcpu` holds; `blob` is its own KVM_GET_NESTED_STATE of this moment."""
    names = _names_of(Format.SVM if vcpu.host.vendor == AMD else Format.VMX)
    held: dict[str, int] = names.held_by(vcpu.operations, blob)
    held |= {f"grown.{name}": value for name, value in vcpu.grown.held.items()}
    return held


def handed_out(blob: bytes) -> dict[str, int]:
    """The header of a blob by name: what the next migration would carry."""
    form = Format(int.from_bytes(blob[2:4], "little"))
    words = {
        f"blob.{row.name}": int.from_bytes(blob[row.offset : row.end], "little")
        for row in header_rows(form, *HEADER_ADDITIONS[form])
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
    names = _names_of(Format(int.from_bytes(blob[2:4], "little")))
    held: dict[str, int] = names.said_by(blob, handed_out(blob))
    return held
