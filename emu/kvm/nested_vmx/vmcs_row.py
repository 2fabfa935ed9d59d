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

# What VMREAD gives back of a 32-bit access-rights field: bits 11:8 and 31:17 are not kept (Bochs
# 3.0, corei7_skylake_x; SDM, "Guest Register State" reserves them).
ACCESS_RIGHTS_KEPT: Final = 0x1_F0FF
KEPT_BITS: Final = {f"GUEST_{name}_AR_BYTES": ACCESS_RIGHTS_KEPT for name in SEGMENT_NAMES}


class VmcsRow:
    """A VMCS region's fields by name; `view` is its bytes."""

    __slots__ = ("row", "view")

    def __init__(self) -> None:
        self.row: NDArray[np.uint8] = np.zeros(VMCS12_SIZE, np.uint8)
        self.view = memoryview(self.row.data)

    def __getitem__(self, field: str) -> int:
        offset, width = PLACES[field]
        return int.from_bytes(self.view[offset : offset + width], "little")

    def __setitem__(self, field: str, value: int) -> None:
        offset, width = PLACES[field]
        self.view[offset : offset + width] = value.to_bytes(width, "little")

    def fields(self) -> dict[str, int]:
        """Every field by name."""
        return {name: self[name] for name in PLACES}


class HardwareVmcs(VmcsRow):
    """A VMCS that the processor owns: VMREAD does not give back all that VMWRITE was given."""

    __slots__ = ()

    def __setitem__(self, field: str, value: int) -> None:
        offset, width = PLACES[field]
        value &= KEPT_BITS.get(field, 0xFFFF_FFFF_FFFF_FFFF) & ((1 << 8 * width) - 1)
        self.view[offset : offset + width] = value.to_bytes(width, "little")


class FieldGroup:
    """Fields that KVM copies together, as runs of bytes.

    A copy into a `HardwareVmcs` keeps only the bits that VMREAD would give back.
    """

    def __init__(self, fields: Iterable[str]) -> None:
        self.fields = tuple(fields)
        runs: list[list[int]] = []
        for offset, width in sorted(PLACES[name] for name in self.fields):
            if runs and runs[-1][1] == offset:
                runs[-1][1] += width
            else:
                runs.append([offset, offset + width])
        self.runs = tuple((start, end, self._mask(start, end)) for start, end in runs)

    def _mask(self, start: int, end: int) -> int | None:
        masked = [name for name in self.fields if name in KEPT_BITS]
        inside = [name for name in masked if start <= PLACES[name][0] < end]
        if not inside:
            return None
        mask = (1 << 8 * (end - start)) - 1
        for name in inside:
            offset, width = PLACES[name]
            dropped = ((1 << 8 * width) - 1) & ~KEPT_BITS[name]
            mask &= ~(dropped << 8 * (offset - start))
        return mask

    def load(self, target: HardwareVmcs, source: VmcsRow) -> None:
        """VMWRITE the group's fields of `source` to `target`."""
        for start, end, mask in self.runs:
            data = source.view[start:end]
            if mask is None:
                target.view[start:end] = data
            else:
                kept = int.from_bytes(data, "little") & mask
                target.view[start:end] = kept.to_bytes(end - start, "little")

    def store(self, target: VmcsRow, source: HardwareVmcs) -> None:
        """VMREAD the group's fields of `source` into `target`."""
        for start, end, _ in self.runs:
            target.view[start:end] = source.view[start:end]
