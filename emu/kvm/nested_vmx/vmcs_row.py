"""One VMCS as bytes: vmcs01, vmcs02 and KVM's cached vmcs12, all in the layout of vmcs12.

KVM names the same fields in all three; keeping them in one layout makes a field group one or two
copies of bytes, and the rows of `vmcs.batch` the same thing many times over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, VMCS12_SIZE, members_of, vmcs12_rows

LAYOUT: Final = vmcs12_rows(*VMCS12_ADDITIONS)

# Where each VMCS field stands: name -> (offset, width in bytes).
PLACES: Final = {name: (row.offset, row.size) for name, row in members_of(LAYOUT).items()}

SEGMENT_NAMES: Final = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")

RIGHTS_FIELDS: Final = frozenset(f"GUEST_{name}_AR_BYTES" for name in SEGMENT_NAMES)
EVERY_RIGHT: Final = 0xFFFF_FFFF

# Where a field stands among the row's words of its width: name -> (width, index).
_SLOTS: Final = {name: (width, offset // width) for name, (offset, width) in PLACES.items()}


class VmcsRow:
    """A VMCS region's fields by name; `view` is its bytes."""

    __slots__ = ("_halves", "_quarters", "_words", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(VMCS12_SIZE))
        self._words = self.view.cast("Q")
        self._halves = self.view.cast("I")
        self._quarters = self.view.cast("H")

    def __getitem__(self, field: str) -> int:
        width, at = _SLOTS[field]
        if width == 8:
            return self._words[at]
        return self._halves[at] if width == 4 else self._quarters[at]

    def __setitem__(self, field: str, value: int) -> None:
        width, at = _SLOTS[field]
        if width == 8:
            self._words[at] = value
        elif width == 4:
            self._halves[at] = value & 0xFFFF_FFFF
        else:
            self._quarters[at] = value & 0xFFFF

    @property
    def row(self) -> NDArray[np.uint8]:
        """The region as an array of bytes that shares the row's memory."""
        return np.frombuffer(self.view, np.uint8)

    def fields(self) -> dict[str, int]:
        """Every field by name."""
        return {name: self[name] for name in PLACES}


class HardwareVmcs(VmcsRow):
    """A VMCS that the processor owns: VMREAD gives back what VMWRITE was given."""

    __slots__ = ()
    rights_kept: int = EVERY_RIGHT


class DroppingVmcs(HardwareVmcs):
    """A VMCS of a processor that drops reserved bits of access rights.

    `rights_kept` are the bits that VMREAD gives back (SDM, "Guest Register State").
    """

    __slots__ = ("rights_kept",)

    def __init__(self, rights_kept: int) -> None:
        super().__init__()
        self.rights_kept = rights_kept

    def __setitem__(self, field: str, value: int) -> None:
        if field in RIGHTS_FIELDS:
            value &= self.rights_kept
        super().__setitem__(field, value)


def hardware_vmcs(rights_kept: int) -> HardwareVmcs:
    """A zeroed VMCS of a processor that keeps these bits of access rights."""
    return HardwareVmcs() if rights_kept == EVERY_RIGHT else DroppingVmcs(rights_kept)


class FieldGroup:
    """Fields that KVM copies together, as runs of bytes."""

    def __init__(self, fields: Iterable[str]) -> None:
        self.fields = tuple(fields)
        runs: list[list[int]] = []
        for offset, width in sorted(PLACES[name] for name in self.fields):
            if runs and runs[-1][1] == offset:
                runs[-1][1] += width
            else:
                runs.append([offset, offset + width])
        self.runs = tuple(slice(start, end) for start, end in runs)
        self.rights = tuple(name for name in self.fields if name in RIGHTS_FIELDS)

    def load(self, target: HardwareVmcs, source: VmcsRow) -> None:
        """VMWRITE the group's fields of `source` to `target`."""
        to, of = target.view, source.view
        for run in self.runs:
            to[run] = of[run]
        if target.rights_kept != EVERY_RIGHT:
            for name in self.rights:
                target[name] = source[name]

    def store(self, target: VmcsRow, source: HardwareVmcs) -> None:
        """VMREAD the group's fields of `source` into `target`."""
        to, of = target.view, source.view
        for run in self.runs:
            to[run] = of[run]
