"""Devices that tests talk to: QEMU's pc-testdev and isa-debug-exit, Bochs's shutdown port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emu.machine.registers import RW, WO, Register, registers

_PC_TESTDEV: Final = "QEMU pc-testdev, described at the head of hw/misc/pc-testdev.c"
_DEBUG_EXIT: Final = "QEMU isa-debug-exit device, properties iobase and iosize"
_BOCHS: Final = "Bochs User Manual, shutdown port 0x8900"

# fmt: off
PORTS: Final = registers("test device ports", (
    Register(0x00E0, "ECHO", RW, 0xFFFF_FFFF, 0, _PC_TESTDEV),
    Register(0x00E4, "FLUSH_PAGE", WO, 0xFFFF_FFFF, 0, _PC_TESTDEV),
    Register(0x00E8, "ECHO_BYTES", RW, 0xFFFF_FFFF, 0, _PC_TESTDEV),
    Register(0x00F4, "DEBUG_EXIT", WO, 0xFFFF_FFFF, 0, _DEBUG_EXIT),
    Register(0x2000, "IRQ_LINES", WO, 0xFF_FFFF, 0, _PC_TESTDEV),  # one port a line, 24 of them
    Register(0x8900, "SHUTDOWN", WO, 0xFF, 0, _BOCHS),
))
# fmt: on
WINDOW: Final = 0xFF00_0000
WINDOW_SIZE: Final = 0x1_0000
LINES: Final = 24
SHUTDOWN_WORD: Final = b"Shutdown"


class EchoPorts:
    """Four ports that read back what was written, in any width."""

    def __init__(self) -> None:
        self.data = bytearray(4)

    def port_read(self, offset: int, size: int) -> int:
        """IN of what was written."""
        return int.from_bytes(self.data[offset : offset + size], "little")

    def port_write(self, offset: int, size: int, value: int) -> None:
        """OUT: kept."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")[: 4 - offset]


class FlushPage:
    """Takes the address of a page and drops its mapping; memory here has no mapping to drop."""

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN: nothing is there."""
        return (1 << 8 * size) - 1

    def port_write(self, offset: int, size: int, value: int) -> None:
        """OUT: the page is as it was."""


class IrqLines:
    """A write to the n-th port drives interrupt line n."""

    def __init__(self, set_line: Callable[[int, bool], None]) -> None:
        self.set_line = set_line

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN: nothing is there."""
        return (1 << 8 * size) - 1

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: any bit asserts the line."""
        self.set_line(offset, value != 0)


class DebugExit:
    """Ends the machine: a program that runs it exits with (value << 1) | 1."""

    def __init__(self, end: Callable[[int], None]) -> None:
        self.end = end

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN: the device decodes its ports and drives zeros."""
        return 0

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: the end."""
        self.end((value << 1 | 1) & 0xFFFF_FFFF)


class ShutdownPort:
    """Powers off after the letters of "Shutdown" in a row."""

    def __init__(self, power_off: Callable[[], None]) -> None:
        self.power_off = power_off
        self._seen = 0

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN: nothing is there."""
        return (1 << 8 * size) - 1

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: a letter."""
        if value != SHUTDOWN_WORD[self._seen]:
            self._seen = 0
        if value == SHUTDOWN_WORD[self._seen]:
            self._seen += 1
        if self._seen == len(SHUTDOWN_WORD):
            self._seen = 0
            self.power_off()


class MemoryWindow:
    """64 KiB of memory behind device accesses."""

    def __init__(self) -> None:
        self.data = bytearray(WINDOW_SIZE)

    def mmio_read(self, offset: int, size: int) -> int:
        """A load."""
        return int.from_bytes(self.data[offset : offset + size], "little")

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """A store."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")
