"""Which field of the VMCS is which register: rows, and the transfers that follow from them.

SDM Vol. 3, Guest Register State; Host-State Area. What needs more than a copy (CR0, CR4, EFER, DR7,
RFLAGS) is done in `load` and `save`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu.cpu.state import CPU
from emu.vmx.region import INDEX, Words

SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")


class Copied(NamedTuple):
    """A field and the register that it is a copy of: a field of the state, an element of it."""

    field: str
    register: str
    element: int = 0


GUEST: Final = (
    Copied("GUEST_CR3", "cr3"),
    Copied("GUEST_RSP", "rsp"),
    Copied("GUEST_RIP", "rip"),
    Copied("GUEST_GDTR_BASE", "gdtr_base"),
    Copied("GUEST_GDTR_LIMIT", "gdtr_limit"),
    Copied("GUEST_IDTR_BASE", "idtr_base"),
    Copied("GUEST_IDTR_LIMIT", "idtr_limit"),
    Copied("GUEST_SYSENTER_CS", "sysenter_cs"),
    Copied("GUEST_SYSENTER_ESP", "sysenter_esp"),
    Copied("GUEST_SYSENTER_EIP", "sysenter_eip"),
    *(Copied(f"GUEST_{name}_SELECTOR", "selector", i) for i, name in enumerate(SEGMENTS)),
    *(Copied(f"GUEST_{name}_BASE", "segment_base", i) for i, name in enumerate(SEGMENTS)),
    *(Copied(f"GUEST_{name}_LIMIT", "segment_limit", i) for i, name in enumerate(SEGMENTS)),
    *(Copied(f"GUEST_{name}_AR_BYTES", "segment_rights", i) for i, name in enumerate(SEGMENTS)),
)
HOST: Final = (
    Copied("HOST_CR3", "cr3"),
    Copied("HOST_RSP", "rsp"),
    Copied("HOST_RIP", "rip"),
    Copied("HOST_GDTR_BASE", "gdtr_base"),
    Copied("HOST_IDTR_BASE", "idtr_base"),
    Copied("HOST_IA32_SYSENTER_CS", "sysenter_cs"),
    Copied("HOST_IA32_SYSENTER_ESP", "sysenter_esp"),
    Copied("HOST_IA32_SYSENTER_EIP", "sysenter_eip"),
    *(
        Copied(f"HOST_{name}_SELECTOR", "selector", i)
        for i, name in enumerate(SEGMENTS)
        if name != "LDTR"
    ),
    *(
        Copied(f"HOST_{name}_BASE", "segment_base", SEGMENTS.index(name))
        for name in ("FS", "GS", "TR")
    ),
)
PDPTES: Final = tuple(Copied(f"GUEST_PDPTR{i}", "pdpte", i) for i in range(4))


class Transfer:
    """Copies between the words of a VMCS and the registers, all of a table at once."""

    def __init__(self, rows: Sequence[Copied]) -> None:
        self.parts: list[tuple[Any, NDArray[np.int64], NDArray[np.int64]]] = []
        for width, kind in ((8, np.uint64), (4, np.uint32), (2, np.uint16)):
            own = [row for row in rows if CPU.places[row.register].width == width]
            if own:
                words = np.array([INDEX[row.field] for row in own], np.int64)
                places = [CPU.places[row.register].offset // width + row.element for row in own]
                self.parts.append((kind, words, np.array(places, np.int64)))

    def load(self, words: Words, block: NDArray[np.uint8]) -> None:
        """Registers from fields."""
        for kind, indices, places in self.parts:
            block.view(kind)[places] = words[indices]

    def save(self, words: Words, block: NDArray[np.uint8]) -> None:
        """Fields from registers."""
        for kind, indices, places in self.parts:
            words[indices] = block.view(kind)[places]


GUEST_TRANSFER: Final = Transfer(GUEST)
HOST_TRANSFER: Final = Transfer(HOST)
PDPTE_TRANSFER: Final = Transfer(PDPTES)
