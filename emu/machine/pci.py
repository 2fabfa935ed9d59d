"""PCI configuration space by configuration mechanism #1, with a host bridge.

PCI Local Bus Specification 3.0, Software Generation of Configuration Transactions.
"""

from __future__ import annotations

from typing import Final

from emu.machine.registers import RO, RW, Register, registers

_HEADER: Final = "PCI Local Bus Specification, Configuration Space Header"
_MECHANISM: Final = "PCI Local Bus Specification, Configuration Mechanism #1"
_Q35: Final = "Intel 3 Series Express Chipset Family datasheet, DRAM Controller registers"

# fmt: off
PORTS: Final = registers("PCI configuration ports", (
    Register(0xCF8, "CONFIG_ADDRESS", RW, 0x80FF_FFFC, 0, _MECHANISM),
    Register(0xCFC, "CONFIG_DATA", RW, 0xFFFF_FFFF, 0, _MECHANISM),
))
HOST_BRIDGE: Final = registers("host bridge", (
    Register(0x00, "VENDOR_DEVICE", RO, 0, 0x29C0_8086, _Q35),
    Register(0x04, "COMMAND_STATUS", RW, 0x0000_0146, 0x0000_0006, _HEADER),
    Register(0x08, "CLASS_REVISION", RO, 0, 0x0600_0000, _HEADER),
    Register(0x0C, "HEADER_TYPE", RO, 0, 0x0000_0000, _HEADER),
    Register(0x2C, "SUBSYSTEM", RO, 0, 0x1100_1AF4, _HEADER),
))
# fmt: on
ENABLE: Final = 1 << 31


class PciFunction:
    """A function: 256 bytes of configuration space, of which its table says what may be written."""

    def __init__(self, table: tuple[Register, ...]) -> None:
        self.space = bytearray(256)
        self.writable = bytearray(256)
        for row in table:
            self.space[row.offset : row.offset + 4] = row.reset.to_bytes(4, "little")
            self.writable[row.offset : row.offset + 4] = row.writable.to_bytes(4, "little")

    def read(self, offset: int, size: int) -> int:
        """Configuration read."""
        return int.from_bytes(self.space[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Configuration write."""
        for i, byte in enumerate(value.to_bytes(size, "little"), offset):
            mask = self.writable[i]
            self.space[i] = self.space[i] & ~mask | byte & mask


class PciBus:
    """Bus 0 behind CONFIG_ADDRESS and CONFIG_DATA."""

    def __init__(self, bridge: PciFunction | None = None) -> None:
        self.address = 0
        host_bridge = bridge or PciFunction(HOST_BRIDGE)
        self.functions: dict[tuple[int, int], PciFunction] = {(0, 0): host_bridge}

    def _selected(self) -> PciFunction | None:
        if not self.address & ENABLE or self.address >> 16 & 0xFF:
            return None
        return self.functions.get((self.address >> 11 & 0x1F, self.address >> 8 & 7))

    def port_read(self, offset: int, size: int) -> int:
        """IN: the address takes 32-bit accesses only; data of an absent function is all ones."""
        if offset < 4:
            return self.address if (offset, size) == (0, 4) else (1 << 8 * size) - 1
        function = self._selected()
        if function is None:
            return (1 << 8 * size) - 1
        return function.read((self.address & 0xFC) + offset - 4, size)

    def port_write(self, offset: int, size: int, value: int) -> None:
        """OUT."""
        if offset < 4:
            if (offset, size) == (0, 4):
                self.address = value & PORTS[0].writable
            return
        function = self._selected()
        if function is not None:
            function.write((self.address & 0xFC) + offset - 4, size, value)
