"""Memory by linear address, through both levels of paging, as plain Python sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu import access
from emu.cpu.errors import Fault
from emu.cpu.guest_mode import SecondLevelFault
from emu.cpu.paging import EFER_LMA, IMPLICIT, NO_PAGE, USER_ACCESS, WRITE
from emu.cpu.second_level import NO_LINEAR
from emu.cpu.state import WORD, Exit

if TYPE_CHECKING:
    from emu.cpu.guest_mode import GuestMode
    from emu.memory import PhysicalMemory

PAGE_SIZE = 4096


class LinearMemory:
    """The part of a processor that reads and writes memory for plain Python."""

    state: Any
    memory: PhysicalMemory
    bus: Any
    guest: GuestMode | None
    _walk: Callable[..., int]
    _second_level: Callable[..., int]

    def translate(self, linear: int, access_bits: int) -> int:
        """Physical address of `linear`; a page fault is raised as `Fault`."""
        state = self.state
        while (page := self._walk(state.address, linear, access_bits)) == NO_PAGE:
            self.refused()
        return int(page & ~0xFFF | linear & 0xFFF)

    def refused(self) -> None:
        """A walk failed: raise its fault, or let guest mode deal with its second level."""
        state = self.state
        code, state.exit_code = state.exit_code, 0
        if code != Exit.SECOND_LEVEL:
            raise Fault(int(state.exit_vector), int(state.exit_error), int(state.exit_address))
        self.second_level_fault()

    def second_level_fault(self) -> None:
        """Let guest mode deal with what its second level refused."""
        state = self.state
        assert self.guest is not None
        self.guest.second_level_fault(
            SecondLevelFault(
                state.second_level_kind,
                state.second_level_gpa,
                state.second_level_linear,
                state.second_level_access,
                state.second_level_rights,
            )
        )

    def physical(self, gpa: int, access_bits: int = NO_LINEAR, linear: int = 0) -> int:
        """Physical address of a guest-physical one: through the second level in guest mode."""
        state = self.state
        if not state.second_level:
            return gpa
        while (page := self._second_level(state.address, gpa, linear, access_bits)) == NO_PAGE:
            self.refused()
        return int(page & ~0xFFF | gpa & 0xFFF)

    def read_guest(self, gpa: int, count: int) -> bytes:
        """Bytes at a guest-physical address, inside one page."""
        return bytes(self.memory.read(self.physical(gpa), count))

    def trap_page(self, frame: int | None, bus: Any = None) -> None:
        """Let `bus` answer for accesses to a physical page; None: none is trapped."""
        self.state.trapped_frame = WORD if frame is None else frame
        self.bus = self.memory if frame is None else bus
        access.BUSES[self.state.address] = self.bus

    def read(self, linear: int, count: int, implicit: bool = False) -> int:
        """A little-endian value at a linear address; `implicit` accesses are the supervisor's."""
        return int.from_bytes(self.read_bytes(linear, count, implicit), "little")

    def write(self, linear: int, value: int, count: int, implicit: bool = False) -> None:
        """Write a little-endian value at a linear address."""
        data = (value & ((1 << 8 * count) - 1)).to_bytes(count, "little")
        self.write_bytes(linear, data, implicit)

    def read_bytes(self, linear: int, count: int, implicit: bool = False) -> bytes:
        """Bytes at a linear address."""
        return b"".join(
            self.bus.read(gpa, size) for gpa, size in self.pieces(linear, count, 0, implicit)
        )

    def write_bytes(self, linear: int, data: bytes, implicit: bool = False) -> None:
        """Write bytes at a linear address; nothing is written when a page of it faults."""
        for gpa, size in self.pieces(linear, len(data), WRITE, implicit):
            self.bus.write(gpa, data[:size])
            data = data[size:]

    def pieces(
        self, linear: int, count: int, access_bits: int, implicit: bool
    ) -> list[tuple[int, int]]:
        """Physical pieces of a linear range, all translated before any is used."""
        state = self.state
        if implicit:
            access_bits |= IMPLICIT
        elif state.cpl == 3:
            access_bits |= USER_ACCESS
        found = []
        while count:
            linear &= WORD if state.efer & EFER_LMA else state.linear_mask
            size = min(count, PAGE_SIZE - linear % PAGE_SIZE)
            found.append((self.translate(linear, access_bits), size))
            linear, count = linear + size, count - size
        return found
