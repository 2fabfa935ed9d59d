"""Which field of the VMCS is which register: rows, and the transfers that follow from them.

SDM Vol. 3, Guest Register State; Host-State Area. What needs more than a copy (CR0, CR4, EFER, DR7,
RFLAGS) is done in `load` and `save`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.cpu.transfer import compiled_rows
from emu.vmx.region import INDEX

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

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
        self.rows = compiled_rows((INDEX[row.field], row.register, row.element) for row in rows)
        self.place, self.count = self.rows.ctypes.data, len(rows)

    def load(self, vmx: Vmx) -> None:
        """Registers from fields."""
        cpu = vmx.cpu
        cpu.load_registers(cpu.state.address, self.place, self.count, vmx.words_at)

    def save(self, vmx: Vmx) -> None:
        """Fields from registers."""
        cpu = vmx.cpu
        cpu.save_registers(cpu.state.address, self.place, self.count, vmx.words_at)


GUEST_TRANSFER: Final = Transfer(GUEST)
HOST_TRANSFER: Final = Transfer(HOST)
PDPTE_TRANSFER: Final = Transfer(PDPTES)
