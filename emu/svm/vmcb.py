"""A VMCB in physical memory, read and written in place. Members are those of `vmcs.svm.vmcb`."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from vmcs.svm.vmcb import VMCB_SIZE, member

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory

FORMATS: Final = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}


class Group:
    """Members that are read or written together, in ascending order of their places."""

    def __init__(self, names: Iterable[str]) -> None:
        rows = [member(name) for name in names]
        self.names = tuple(row.name for row in rows)
        self.start = at = rows[0].offset
        text = "<"
        for row in rows:
            if row.offset < at:
                raise ValueError(f"{row.name}: members of a group must ascend")
            width = int(row.kind[1:])
            text += f"{row.offset - at}x" if row.offset > at else ""
            text += f"{row.count}{FORMATS[row.kind]}"
            at = row.offset + width * row.count
        self.struct = struct.Struct(text)

    def read(self, data: memoryview) -> tuple[int, ...]:
        """The values of the members in a VMCB; an array gives one for each element."""
        return self.struct.unpack_from(data, self.start)

    def write(self, data: memoryview, values: Sequence[int]) -> None:
        """Write the members into a VMCB. They must lie side by side: what is between is zeroed."""
        self.struct.pack_into(data, self.start, *values)


MEMBERS: dict[str, tuple[struct.Struct, int]] = {}
"""Packing and offset of single members, filled as they are asked for."""


def place_of(name: str) -> tuple[struct.Struct, int]:
    """How a member is packed, and where."""
    found = MEMBERS.get(name)
    if found is None:
        row = member(name)
        found = MEMBERS[name] = struct.Struct("<" + FORMATS[row.kind]), row.offset
    return found


class ControlBlock:
    """A VMCB over 4096 bytes that stay where they are."""

    def __init__(
        self, store: Any, written: Callable[[], None] | None = None, address: int | None = None
    ) -> None:
        self.store, self.address = store, address
        self.host = ctypes.addressof(store)
        self.data = memoryview(store).cast("B")
        self.written = written or _nobody
        """Lets others know that the block was written."""

    @classmethod
    def at(cls, memory: PhysicalMemory, address: int) -> ControlBlock:
        """The VMCB at a physical address; where there is no RAM, a copy whose writes are lost."""
        page = ctypes.c_uint8 * VMCB_SIZE
        if memory.is_ram(address):
            written = functools.partial(memory.touch, address, VMCB_SIZE)
            return cls(page.from_address(memory.host(address)), written, address)
        return cls(page(*memory.read(address, VMCB_SIZE)), address=address)

    @classmethod
    def blank(cls) -> ControlBlock:
        """A VMCB of its own, all zeros."""
        return cls((ctypes.c_uint8 * VMCB_SIZE)())

    def __getitem__(self, name: str) -> int:
        """A member, zero-extended; raises KeyError."""
        packing, offset = place_of(name)
        return int(packing.unpack_from(self.data, offset)[0])

    def __setitem__(self, name: str, value: int) -> None:
        """Write a member."""
        packing, offset = place_of(name)
        packing.pack_into(self.data, offset, value)


def _nobody() -> None:
    """Nobody wants to know."""
