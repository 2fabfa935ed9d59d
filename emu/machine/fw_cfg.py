"""The firmware configuration device. QEMU documentation, Firmware Configuration (fw_cfg) Device.

Items are chosen by a 16-bit key and read byte by byte, or copied by DMA; named items are files that
the directory lists.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol

from emu.machine.registers import RW, WO, Register, registers

_SPEC: Final = "QEMU fw_cfg specification, Guest-side Hardware Interface"

# fmt: off
PORTS: Final = registers("fw_cfg ports", (
    Register(0x510, "SELECTOR", WO, 0xFFFF, 0, _SPEC),
    Register(0x511, "DATA", RW, 0, 0, _SPEC),
    Register(0x514, "DMA_ADDRESS_HIGH", RW, 0xFFFF_FFFF, 0x5145_4D55, _SPEC),  # "QEMU CFG"
    Register(0x518, "DMA_ADDRESS_LOW", RW, 0xFFFF_FFFF, 0x2043_4647, _SPEC),
))
# fmt: on


class Key(IntEnum):
    """Keys of the standard items. Linux include/uapi/linux/qemu_fw_cfg.h names the same."""

    SIGNATURE = 0x00
    ID = 0x01
    UUID = 0x02
    RAM_SIZE = 0x03
    NOGRAPHIC = 0x04
    NB_CPUS = 0x05
    MACHINE_ID = 0x06
    KERNEL_ADDR = 0x07
    KERNEL_SIZE = 0x08
    KERNEL_CMDLINE = 0x09
    INITRD_ADDR = 0x0A
    INITRD_SIZE = 0x0B
    BOOT_DEVICE = 0x0C
    NUMA = 0x0D
    BOOT_MENU = 0x0E
    MAX_CPUS = 0x0F
    FILE_DIR = 0x19
    FILE_FIRST = 0x20


DMA_SIGNATURE: Final = b"QEMU CFG"
VERSION, VERSION_DMA = 1, 2
WRITE_CHANNEL: Final = 0x4000
FILE_SLOTS: Final = 0x20
FILE_NAME_SIZE: Final = 56
INVALID: Final = 0xFFFF
DMA_ERROR, DMA_READ, DMA_SKIP, DMA_SELECT, DMA_WRITE = 1, 2, 4, 8, 16
PAGE: Final = 4096
DMA_ACCESS: Final = struct.Struct(">IIQ")
DIRECTORY_ENTRY: Final = struct.Struct(f">IHH{FILE_NAME_SIZE}s")


class Memory(Protocol):
    """Guest-physical memory as DMA reaches it."""

    def read(self, gpa: int, count: int) -> bytes:
        """The bytes at `gpa`."""

    def write(self, gpa: int, data: bytes) -> None:
        """Write at `gpa`."""

    def host(self, gpa: int) -> int:
        """Where the memory at `gpa` is; 0 when there is none."""


class FwCfg:
    """Items by key and by name."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.items: dict[int, bytearray] = {}
        self.writable: dict[int, Callable[[bytes], None]] = {}
        self._files: dict[str, int] = {}
        self.key = INVALID
        self.offset = 0
        self._dma_high = 0
        self.add(Key.SIGNATURE, b"QEMU")
        self.add(Key.ID, (VERSION | VERSION_DMA).to_bytes(4, "little"))
        self._write_directory()

    def add(self, key: int, data: bytes) -> None:
        """An item; raises ValueError when the key is taken."""
        if key in self.items and key != Key.FILE_DIR:
            raise ValueError(f"fw_cfg key {key:#x} is taken")
        self.items[key] = bytearray(data)

    def add_number(self, key: int, value: int, size: int) -> None:
        """An item of one little-endian number."""
        self.add(key, value.to_bytes(size, "little"))

    def add_file(
        self, name: str, data: bytes, written: Callable[[bytes], None] | None = None
    ) -> int:
        """A named item: its key. `written` makes it writable by DMA and is told of each write."""
        if len(name.encode()) >= FILE_NAME_SIZE:
            raise ValueError(f"fw_cfg file name {name!r} is longer than {FILE_NAME_SIZE - 1} bytes")
        if name in self._files or len(self._files) == FILE_SLOTS:
            raise ValueError(f"fw_cfg file {name!r} exists, or the directory is full")
        key = Key.FILE_FIRST + len(self._files)
        self._files[name] = key
        self.add(key, data)
        if written is not None:
            self.writable[key] = written
        self._write_directory()
        return key

    def _write_directory(self) -> None:
        entries = [
            DIRECTORY_ENTRY.pack(len(self.items[key]), key, 0, name.encode())
            for name, key in sorted(self._files.items())
        ]
        self.add(Key.FILE_DIR, struct.pack(">I", len(entries)) + b"".join(entries))

    def select(self, key: int) -> None:
        """Write the selector: the item `key`, from its first byte."""
        self.key, self.offset = key & ~WRITE_CHANNEL, 0

    def take(self, count: int) -> bytes:
        """The next bytes of the item; zeros behind its end or when there is none."""
        item = self.items.get(self.key, b"")
        data = bytes(item[self.offset : self.offset + count])
        self.offset += count
        return data.ljust(count, b"\0")

    # ports

    def port_read(self, offset: int, size: int) -> int:
        """IN: a byte of the item at 511H; the DMA signature at 514H, big-endian."""
        if offset == 1 and size == 1:
            return self.take(1)[0]
        if offset >= 4:
            piece = DMA_SIGNATURE[offset - 4 : offset - 4 + size]
            return int.from_bytes(piece, "little")
        return (1 << 8 * size) - 1 if offset in (2, 3) else 0

    def port_write(self, offset: int, size: int, value: int) -> None:
        """OUT: the selector at 510H, or the address of a DMA request at 514H and 518H."""
        if offset == 0 and size == 2:
            self.select(value)
        elif offset == 4 and size == 4:
            self._dma_high = _swapped(value)
        elif offset == 8 and size == 4:
            address, self._dma_high = self._dma_high << 32 | _swapped(value), 0
            self.dma(address)

    def dma(self, address: int) -> None:
        """Run the request at `address`; its control word tells the outcome: 0, or the error bit."""
        control, length, data_gpa = DMA_ACCESS.unpack(self.memory.read(address, DMA_ACCESS.size))
        if control & DMA_SELECT:
            self.select(control >> 16)
        error = 0
        if control & DMA_READ:
            error = self._dma_read(data_gpa, length)
        elif control & DMA_WRITE:
            error = self._dma_write(data_gpa, length)
        elif control & DMA_SKIP:
            self.offset += length
        self.memory.write(address, error.to_bytes(4, "big"))

    def _dma_read(self, data_gpa: int, length: int) -> int:
        """Copy to memory, page by page; an address without memory is an error."""
        end = data_gpa + length
        while data_gpa < end:
            size = min(PAGE - data_gpa % PAGE, end - data_gpa)
            if not self.memory.host(data_gpa):
                return DMA_ERROR
            self.memory.write(data_gpa, self.take(size))
            data_gpa += size
        return 0

    def _dma_write(self, data_gpa: int, length: int) -> int:
        item, written = self.items.get(self.key), self.writable.get(self.key)
        if item is None or written is None or self.offset + length > len(item):
            return DMA_ERROR
        item[self.offset : self.offset + length] = self.memory.read(data_gpa, length)
        self.offset += length
        written(bytes(item))
        return 0


def _swapped(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")
