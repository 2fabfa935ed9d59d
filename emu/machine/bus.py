"""The two address spaces in which devices answer: I/O ports and memory-mapped windows.

A lookup is one dictionary access. Where no device answers, a read gives all ones and a write is
lost, as on a bus whose lines nobody drives.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from emu.machine.clock import Clock

PORTS = 1 << 16
PAGE_SHIFT = 12
PAGE_OFFSET = (1 << PAGE_SHIFT) - 1


class PortDevice(Protocol):
    """What answers at I/O ports; `offset` counts from the first port of its range."""

    def port_read(self, offset: int, size: int) -> int:
        """The `size` bytes at `offset` as a little-endian word."""

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Write the `size` bytes of `value` at `offset`."""


class _Range(NamedTuple):
    device: PortDevice
    base: int
    width: int


class PortMap:
    """The I/O address space of the machine. SDM Vol. 1, Input/Output.

    An access of the running processor takes `ticks` of `clock`, as bus cycles do.
    """

    def __init__(self, clock: Clock | None = None, ticks: int = 0) -> None:
        self.clock, self.ticks = clock or Clock(), ticks
        self._ports: dict[int, _Range] = {}

    def add(
        self, first: int, count: int, device: PortDevice, width: int = 1, base: int | None = None
    ) -> None:
        """Let `device` answer at `count` ports; wider accesses than `width` bytes come in pieces.

        Offsets count from `base`, or else from `first`. Raises ValueError where another device
        answers.
        """
        entry = _Range(device, first if base is None else base, width)
        for port in range(first, first + count):
            if port in self._ports or port >= PORTS:
                raise ValueError(f"port {port:#x} cannot be given to a second device")
            self._ports[port] = entry

    def read(self, port: int, size: int) -> int:
        """IN: `size` bytes (1, 2 or 4) from `port`."""
        self.clock.charge(self.ticks)
        return self._read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT: `size` bytes (1, 2 or 4) to `port`."""
        self.clock.charge(self.ticks)
        self._write(port, size, value)

    def _read(self, port: int, size: int) -> int:
        entry = self._ports.get(port)
        if entry is None and size == 1:
            return 0xFF
        if entry is not None and size <= entry.width:
            return entry.device.port_read(port - entry.base, size)
        half = size // 2
        return self._read(port, half) | self._read(port + half & 0xFFFF, half) << 8 * half

    def _write(self, port: int, size: int, value: int) -> None:
        entry = self._ports.get(port)
        if entry is None and size == 1:
            return
        if entry is not None and size <= entry.width:
            entry.device.port_write(port - entry.base, size, value & (1 << 8 * size) - 1)
            return
        half = size // 2
        self._write(port, half, value)
        self._write(port + half & 0xFFFF, half, value >> 8 * half)


class MmioDevice(Protocol):
    """What answers in a window of the physical address space."""

    def mmio_read(self, offset: int, size: int) -> int:
        """The `size` bytes (1, 2, 4 or 8) at `offset` as a little-endian word."""

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Write the `size` bytes (1, 2, 4 or 8) of `value` at `offset`."""


class MmioMap:
    """Windows of devices in the physical address space, by page.

    It is itself what answers wherever there is no memory: `read` and `write` take an address and
    bytes, and split what is wider than 8 bytes or crosses a page. An access of the running
    processor takes `ticks` of `clock`.
    """

    def __init__(self, clock: Clock | None = None, ticks: int = 0) -> None:
        self.clock, self.ticks = clock or Clock(), ticks
        self._pages: dict[int, tuple[MmioDevice, int]] = {}

    def add(self, gpa: int, size: int, device: MmioDevice) -> None:
        """Let `device` answer in the pages from `gpa`; raises ValueError where another does."""
        if (gpa | size) & PAGE_OFFSET:
            raise ValueError(f"window {gpa:#x}+{size:#x} is not made of whole pages")
        for page in range(gpa >> PAGE_SHIFT, gpa + size >> PAGE_SHIFT):
            if page in self._pages:
                raise ValueError(f"page {page << PAGE_SHIFT:#x} cannot be given to a second device")
            self._pages[page] = (device, gpa)

    def remove(self, gpa: int, size: int) -> None:
        """Take a window away."""
        for page in range(gpa >> PAGE_SHIFT, gpa + size >> PAGE_SHIFT):
            del self._pages[page]

    def answers(self, gpa: int) -> bool:
        """Whether a device answers at `gpa`."""
        return gpa >> PAGE_SHIFT in self._pages

    def read(self, gpa: int, count: int) -> bytes:
        """`count` bytes from the device at `gpa`; all ones where there is none."""
        self.clock.charge(self.ticks)
        if count == 4 and not gpa & 3:
            entry = self._pages.get(gpa >> PAGE_SHIFT)
            if entry is not None:
                return entry[0].mmio_read(gpa - entry[1], 4).to_bytes(4, "little")
        out = b""
        for at, size in _pieces(gpa, count):
            entry = self._pages.get(at >> PAGE_SHIFT)
            if entry is None:
                out += b"\xff" * size
            else:
                out += entry[0].mmio_read(at - entry[1], size).to_bytes(size, "little")
        return out

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` to the device at `gpa`; lost where there is none."""
        self.clock.charge(self.ticks)
        for at, size in _pieces(gpa, len(data)):
            entry = self._pages.get(at >> PAGE_SHIFT)
            if entry is not None:
                piece = data[at - gpa : at - gpa + size]
                entry[0].mmio_write(at - entry[1], size, int.from_bytes(piece, "little"))


def _pieces(gpa: int, count: int) -> list[tuple[int, int]]:
    """Accesses of 8, 4, 2 or 1 bytes that make up `count` bytes without crossing a page."""
    if count in (1, 2, 4, 8) and (gpa & PAGE_OFFSET) + count <= PAGE_OFFSET + 1:
        return [(gpa, count)]
    pieces = []
    while count:
        room = min(count, PAGE_OFFSET + 1 - (gpa & PAGE_OFFSET))
        size = next(size for size in (8, 4, 2, 1) if size <= room)
        pieces.append((gpa, size))
        gpa, count = gpa + size, count - size
    return pieces
