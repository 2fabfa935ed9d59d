"""Guest-physical memory: slots of bytes at guest-physical addresses, with nothing between them."""

import numpy as np
from numpy.typing import NDArray

PAGE_SIZE = 4096


class MemorySlot:
    """`size` bytes of guest-physical memory at `gpa`; `data` is what the guest finds there.

    The bytes come into being when something first writes them or asks for `data`: until then the
    slot reads as zeroes.  `private` slots belong to KVM itself: user space neither made them nor
    sees them.
    """

    def __init__(self, number: int, gpa: int, size: int, *, private: bool = False) -> None:
        self.number, self.gpa, self.size, self.private = number, gpa, size, private
        self._data: NDArray[np.uint8] | None = None

    def __repr__(self) -> str:
        return f"MemorySlot({self.number}, {self.gpa:#x}, {self.size:#x})"

    @property
    def end(self) -> int:
        """The first guest-physical address behind the slot."""
        return self.gpa + self.size

    @property
    def data(self) -> NDArray[np.uint8]:
        """The slot's bytes."""
        if self._data is None:
            self._data = np.zeros(self.size, np.uint8)
        return self._data

    def use(self, data: NDArray[np.uint8]) -> None:
        """Let `data`, as many bytes as the slot has, be what the guest finds there."""
        self._data = data

    def read(self, gpa: int, size: int) -> bytes:
        """`size` bytes at `gpa`, all of which are inside the slot."""
        if self._data is None:
            return bytes(size)
        return self._data[gpa - self.gpa : gpa - self.gpa + size].tobytes()

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `gpa`, all of it inside the slot."""
        self.data.data[gpa - self.gpa : gpa - self.gpa + len(data)] = data


class GuestMemory:
    """The memory slots of one VM."""

    def __init__(self) -> None:
        self._slots: list[MemorySlot] = []

    @property
    def slots(self) -> tuple[MemorySlot, ...]:
        """All slots, in the order in which they were made."""
        return tuple(self._slots)

    def overlaps(self, gpa: int, size: int, but: MemorySlot | None = None) -> bool:
        """Whether `size` bytes at `gpa` touch a slot other than `but`."""
        return any(
            slot is not but and slot.gpa < gpa + size and gpa < slot.end for slot in self._slots
        )

    def add(self, slot: MemorySlot) -> None:
        """Put `slot` in place."""
        self._slots.append(slot)

    def remove(self, slot: MemorySlot) -> None:
        """Take `slot` away, with what it held."""
        self._slots.remove(slot)

    def find(self, gpa: int, size: int) -> MemorySlot | None:
        """The slot that holds all of the `size` bytes at `gpa`."""
        for slot in self._slots:
            if slot.gpa <= gpa and gpa + size <= slot.end:
                return slot
        return None

    def read(self, gpa: int, size: int) -> bytes | None:
        """`size` bytes at `gpa`; None where a byte of them is not backed by a slot."""
        slot = self.find(gpa, size)
        if slot is not None:
            return slot.read(gpa, size)
        parts = []
        for start, length in _pages(gpa, size):
            slot = self.find(start, length)
            if slot is None:
                return None
            parts.append(slot.read(start, length))
        return b"".join(parts)

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> bool:
        """Write `data` at `gpa`; False at the first page that is not backed by a slot.

        The pages before that one are written, as KVM writes guest memory page by page.
        """
        done = 0
        for start, length in _pages(gpa, len(data)):
            slot = self.find(start, length)
            if slot is None:
                return False
            slot.write(start, data[done : done + length])
            done += length
        return True

    def read_word(self, gpa: int, size: int) -> int | None:
        """The little-endian word of `size` bytes at `gpa`; None where it is not backed."""
        data = self.read(gpa, size)
        return None if data is None else int.from_bytes(data, "little")


def _pages(gpa: int, size: int) -> list[tuple[int, int]]:
    pieces = []
    end = gpa + size
    while gpa < end:
        length = min(PAGE_SIZE - gpa % PAGE_SIZE, end - gpa)
        pieces.append((gpa, length))
        gpa += length
    return pieces
