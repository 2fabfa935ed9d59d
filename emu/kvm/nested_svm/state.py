"""What KVM keeps for a vCPU of an AMD guest: the control blocks, and where nesting stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emu.kvm.nested_svm.forms import WORDS, Change
from vmcs.nested_state import INVALID_GPA
from vmcs.svm.vmcb import VMCB, VMCB_MEMBERS, VMCB_SIZE

_PLACES: Final = {
    row.name: (WORDS[row.size], row.offset)
    for row in VMCB_MEMBERS
    if row.count == 1 and row.size in WORDS
}
INTERCEPTS: Final = Struct("<6I")


class Vmcb:
    """One control block: a row of a batch of VMCBs, read and written by member name."""

    __slots__ = ("row", "view")

    def __init__(self, row: NDArray[np.uint8] | None = None) -> None:
        self.row = np.zeros(VMCB_SIZE, np.uint8) if row is None else row
        self.view = self.row.data

    def __getitem__(self, name: str) -> int:
        """The value of a member, e.g. ``int_ctl`` or ``cs.attrib``; raises `KeyError`."""
        layout, offset = _PLACES[name]
        value: int = layout.unpack_from(self.view, offset)[0]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        """Store `value` in a member; raises `KeyError` for a name that is none."""
        layout, offset = _PLACES[name]
        layout.pack_into(self.view, offset, value)

    def __str__(self) -> str:
        """Every member that is not zero, a line each."""
        values = ((row.name, self.record[row.name]) for row in VMCB_MEMBERS)
        return "\n".join(f"{name} {value}" for name, value in values if np.any(value))

    @property
    def record(self) -> np.void:
        """The block as a record of the dtype `vmcs.svm.vmcb.VMCB`."""
        found: np.void = self.row.view(VMCB)[0]
        return found

    @property
    def intercepts(self) -> tuple[int, ...]:
        """The six words of the intercept vector."""
        return INTERCEPTS.unpack_from(self.view)

    @intercepts.setter
    def intercepts(self, words: Iterable[int]) -> None:
        INTERCEPTS.pack_into(self.view, 0, *words)

    def take(self, other: memoryview, parts: Iterable[slice]) -> None:
        """Copy `parts` of the bytes of another block."""
        view = self.view
        for part in parts:
            view[part] = other[part]

    def change(self, changes: Iterable[Change]) -> None:
        """Make of some words what KVM makes of them."""
        view = self.view
        for word, offset, kept, added in changes:
            word.pack_into(view, offset, word.unpack_from(view, offset)[0] & kept | added)

    def clear(self) -> None:
        """Make every byte zero."""
        self.row[:] = 0


@dataclass
class NestedState:
    """`struct svm_nested_state`: where a vCPU stands between L1 and L2.

    `vmcb12` holds the controls of L2 that KVM has cached; of its save area nothing is kept.
    """

    hsave_msr: int = 0
    vm_cr_msr: int = 0
    vmcb12_gpa: int = INVALID_GPA
    last_vmcb12_gpa: int = INVALID_GPA
    in_guest_mode: bool = False
    run_pending: bool = False
    initialized: bool = False
    pages_requested: bool = False
    recalculate_msrpm: bool = False
    vmcb12: Vmcb = field(default_factory=Vmcb)
