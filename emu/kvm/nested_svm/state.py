"""What KVM keeps for a vCPU of an AMD guest: the control blocks, and where nesting stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from emu.kvm.nested_svm.forms import Change
from vmcs.batch.control_structures import Vmcb
from vmcs.nested_state import INVALID_GPA
from vmcs.svm.vmcb import member

INTERCEPT_BYTES: Final = member("intercepts").size


class ControlBlock(Vmcb):
    """One VMCB: members by name, e.g. ``block["cs.base"]``, and what KVM moves between two."""

    __slots__ = ()

    def __str__(self) -> str:
        """Every member that is not zero, a line each."""
        return "\n".join(f"{name} {value:#x}" for name, value in self.fields().items() if value)

    @property
    def view(self) -> memoryview:
        """The bytes, to read and to write."""
        return self._data

    def intercept_vector(self) -> int:
        """The intercept vector as one number: bit `Intercept.position` is an intercept."""
        return int.from_bytes(self._data[:INTERCEPT_BYTES], "little")

    def set_intercept_vector(self, vector: int) -> None:
        """Replace the intercept vector."""
        self._data[:INTERCEPT_BYTES] = vector.to_bytes(INTERCEPT_BYTES, "little")

    def take(self, other: memoryview, parts: Iterable[slice]) -> None:
        """Copy `parts` of the bytes of another block."""
        data = self._data
        for part in parts:
            data[part] = other[part]

    def change(self, changes: Iterable[Change]) -> None:
        """Make of some words what KVM makes of them."""
        data = self._data
        for word, offset, kept, added in changes:
            word.pack_into(data, offset, word.unpack_from(data, offset)[0] & kept | added)

    def clear(self) -> None:
        """Make every byte zero."""
        self._data[:] = bytes(len(self._data))


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
    vmcb12: ControlBlock = field(default_factory=ControlBlock)
