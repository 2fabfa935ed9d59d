"""Guest-physical address space: slots over numpy or shared memory, ROM, device windows.

The map that compiled code reads has one word a guest page: the host address of the page, and in
its low bits whether it can be written, holds decoded code, and was written. A page without a host
address belongs to a device or to nobody; what compiled code cannot reach, plain Python asks for.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

PAGE_SIZE = 4096
WRITABLE, CODE, DIRTY = 1, 2, 4
HOST = 0xFFFF_FFFF_FFFF_F000


class Device(Protocol):
    """What answers in a window of the physical address space."""

    def read(self, offset: int, count: int) -> bytes:
        """The bytes at `offset` in the window."""

    def write(self, offset: int, data: bytes) -> None:
        """Write at `offset` in the window."""


class Window(NamedTuple):
    """A device and where it answers."""

    gpa: int
    size: int
    device: Device


class PhysicalMemory:
    """The physical address space of one machine, `size` bytes wide at most."""

    def __init__(self, size: int = 1 << 36) -> None:
        self.pages = size // PAGE_SIZE
        # anonymous mappings: untouched parts of the tables take no memory
        self._map_store = mmap.mmap(-1, self.pages * 8)
        self._lines_store = mmap.mmap(-1, self.pages * 8)
        self._map: NDArray[np.uint64] = np.frombuffer(self._map_store, np.uint64)
        self.map = memoryview(self._map_store).cast("Q")
        self.code_lines = memoryview(self._lines_store).cast("Q")
        self.map_address = int(self._map.ctypes.data)
        self.lines_address = int(np.frombuffer(self._lines_store, np.uint8).ctypes.data)
        self.windows: list[Window] = []
        self.code_written: list[Callable[[int], None]] = []
        self._buffers: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def add_ram(self, gpa: int, buffer: NDArray[np.uint8] | int) -> NDArray[np.uint8]:
        """Map RAM at `gpa`: a page-aligned byte array, or so many bytes of new zeroed memory."""
        return self._add(gpa, buffer, WRITABLE)

    def add_rom(self, gpa: int, buffer: NDArray[np.uint8] | int) -> NDArray[np.uint8]:
        """Map memory that the guest can read and execute and whose writes are ignored."""
        return self._add(gpa, buffer, 0)

    def _add(self, gpa: int, buffer: NDArray[np.uint8] | int, flags: int) -> NDArray[np.uint8]:
        array = (
            np.frombuffer(mmap.mmap(-1, buffer), np.uint8) if isinstance(buffer, int) else buffer
        )
        host = array.ctypes.data
        if gpa % PAGE_SIZE or array.size % PAGE_SIZE or host % PAGE_SIZE:
            raise ValueError(f"slot at {gpa:#x}: address, size and buffer must be page-aligned")
        first, count = gpa // PAGE_SIZE, array.size // PAGE_SIZE
        if first + count > self.pages:
            raise ValueError(f"slot at {gpa:#x} ends beyond {self.pages * PAGE_SIZE:#x}")
        if self._map[first : first + count].any():
            raise ValueError(f"slot at {gpa:#x}: there is memory already")
        addresses = np.arange(count, dtype=np.uint64) * np.uint64(PAGE_SIZE) + np.uint64(host)
        self._map[first : first + count] = addresses | np.uint64(flags)
        self._buffers[gpa, array.size] = array
        return array

    def remove(self, gpa: int, size: int) -> None:
        """Unmap a slot. Translations that processors hold are theirs to flush."""
        del self._buffers[gpa, size]
        first, count = gpa // PAGE_SIZE, size // PAGE_SIZE
        for page in np.flatnonzero(self._map[first : first + count] & np.uint64(CODE)) + first:
            self._drop_code(int(page), 0, PAGE_SIZE)
        self._map[first : first + count] = 0

    def hide(self, gpa: int, size: int) -> NDArray[np.uint64]:
        """Take memory out of sight: the words of the map with which `reveal` brings it back."""
        first, count = gpa // PAGE_SIZE, size // PAGE_SIZE
        for page in np.flatnonzero(self._map[first : first + count] & np.uint64(CODE)) + first:
            self._drop_code(int(page), 0, PAGE_SIZE)
        words = self._map[first : first + count].copy()
        self._map[first : first + count] = 0
        return words

    def reveal(self, gpa: int, words: NDArray[np.uint64]) -> None:
        """Bring back what `hide` took out of sight."""
        first = gpa // PAGE_SIZE
        self._map[first : first + words.size] = words

    def add_device(self, gpa: int, size: int, device: Device) -> None:
        """Let `device` answer in a window; it must not overlap memory."""
        self.windows.append(Window(gpa, size, device))

    def ram(self) -> tuple[tuple[int, NDArray[np.uint8]], ...]:
        """Where memory is mapped, and the bytes there, in the order in which it was mapped."""
        return tuple((gpa, array) for (gpa, _), array in self._buffers.items())

    # plain access

    def host(self, gpa: int) -> int:
        """Host address of a guest-physical address; 0 when there is no memory."""
        page = gpa // PAGE_SIZE
        if page >= self.pages:
            return 0
        base = self.map[page] & HOST
        return base + gpa % PAGE_SIZE if base else 0

    def read(self, gpa: int, count: int) -> bytes:
        """Bytes as the processor reads them; where nothing answers, all ones."""
        out = b""
        while count:
            piece = min(count, PAGE_SIZE - gpa % PAGE_SIZE)
            host = self.host(gpa)
            out += ctypes.string_at(host, piece) if host else self._device_read(gpa, piece)
            gpa, count = gpa + piece, count - piece
        return out

    def write(self, gpa: int, data: bytes) -> None:
        """Bytes as the processor writes them; where nothing answers, lost."""
        while data:
            piece = min(len(data), PAGE_SIZE - gpa % PAGE_SIZE)
            page = gpa // PAGE_SIZE
            host = self.host(gpa)
            if not host:
                self._device_write(gpa, data[:piece])
            elif self.map[page] & WRITABLE:
                self._drop_code(page, gpa % PAGE_SIZE, piece)
                ctypes.memmove(host, data[:piece], piece)
                self.map[page] |= DIRTY
            gpa, data = gpa + piece, data[piece:]

    def load(self, gpa: int, data: bytes) -> None:
        """Put an image into RAM or ROM, as a loader does."""
        while data:
            piece = min(len(data), PAGE_SIZE - gpa % PAGE_SIZE)
            host = self.host(gpa)
            if not host:
                raise ValueError(f"no memory at {gpa:#x} to load {piece} bytes into")
            self._drop_code(gpa // PAGE_SIZE, gpa % PAGE_SIZE, piece)
            ctypes.memmove(host, data[:piece], piece)
            gpa, data = gpa + piece, data[piece:]

    def is_ram(self, gpa: int) -> bool:
        """Whether the page of `gpa` can be read and written through its host address."""
        page = gpa // PAGE_SIZE
        return page < self.pages and bool(self.map[page] & WRITABLE)

    def touch(self, gpa: int, count: int) -> None:
        """Note that bytes of one page of RAM were written through their host address."""
        page = gpa // PAGE_SIZE
        word = self.map[page] if page < self.pages else 0
        if word & WRITABLE:
            self._drop_code(page, gpa % PAGE_SIZE, count)
            if not word & DIRTY:
                self.map[page] |= DIRTY

    def _drop_code(self, page: int, offset: int, count: int) -> None:
        """Tell the decoders when bytes of a page that they hold are about to change."""
        if self.map[page] & CODE:
            lines = (2 << (offset + count - 1) // 64) - (1 << offset // 64)
            if self.code_lines[page] & lines:
                for listener in self.code_written:
                    listener(page)

    def _window(self, gpa: int) -> Window | None:
        return next((w for w in self.windows if w.gpa <= gpa < w.gpa + w.size), None)

    def _device_read(self, gpa: int, count: int) -> bytes:
        window = self._window(gpa)
        if window is None:
            return b"\xff" * count
        return window.device.read(gpa - window.gpa, count)

    def _device_write(self, gpa: int, data: bytes) -> None:
        window = self._window(gpa)
        if window is not None:
            window.device.write(gpa - window.gpa, data)

    # dirty tracking

    def dirty(self, gpa: int, size: int) -> NDArray[np.bool_]:
        """Which pages of a range were written since they were last cleared, a bool a page."""
        first, count = gpa // PAGE_SIZE, size // PAGE_SIZE
        flags: NDArray[np.bool_] = (self._map[first : first + count] & np.uint64(DIRTY)) != 0
        return flags

    def clear_dirty(self, gpa: int, size: int) -> None:
        """Forget which pages of a range were written. Processors must flush their data TLBs."""
        first, count = gpa // PAGE_SIZE, size // PAGE_SIZE
        self._map[first : first + count] &= ~np.uint64(DIRTY)
