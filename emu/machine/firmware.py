"""What firmware leaves behind: the memory map, interrupt vectors, a few bytes of ROM, device state.

There is no BIOS to call. Vectors lead to handlers that end the interrupt and return, and the reset
vector honours the shutdown code of the PC AT: code 5 or 0AH jumps to the address at 0040:0067.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

LOW_MEMORY_END: Final = 0xC000_0000  # memory above it continues at 4 GiB
BASE_MEMORY_END: Final = 0x9_FC00
EXTENDED_BIOS_DATA: Final = 0x9_FC00
VIDEO: Final = 0xA_0000
# system-management mode: where firmware puts the state-save areas, and a handler that does nothing
SMBASE, SMBASE_END, SMBASE_STEP = 0xA_0000, 0xB_0400, 0x400
SMI_ENTRY, SMI_HANDLER = 0x8000, b"\x0f\xaa"  # RSM
OPTION_ROMS: Final = 0xC_0000  # where adapters have theirs: there are none
SHADOW: Final = 0xE_0000  # RAM in the place of ROM: tables and stubs
SHADOW_END: Final = 0x10_0000
TABLES: Final = 0xE_1000
SEGMENT: Final = 0xF000
EXTENDED: Final = 0x10_0000
ABOVE_4G: Final = 1 << 32


class MemoryType(IntEnum):
    """Types of address ranges. ACPI Specification, System Address Map Interfaces."""

    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4


class MemoryRange(NamedTuple):
    """An entry of the system address map."""

    gpa: int
    size: int
    kind: MemoryType

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.gpa + self.size


def ram_ranges(size: int) -> list[tuple[int, int]]:
    """Address and size of the RAM that a machine with `size` bytes has, without the video hole."""
    low = min(size, LOW_MEMORY_END)
    ranges = [(0, min(low, VIDEO)), (SHADOW, SHADOW_END - SHADOW)]
    if low > EXTENDED:
        ranges.append((EXTENDED, low - EXTENDED))
    if size > low:
        ranges.append((ABOVE_4G, size - low))
    return ranges


def memory_map(size: int) -> list[MemoryRange]:
    """The system address map (E820) of a machine with `size` bytes of RAM."""
    ranges = []
    for gpa, length in ram_ranges(size):
        if gpa == 0:
            base = min(length, BASE_MEMORY_END)
            ranges.append(MemoryRange(0, base, MemoryType.RAM))
            if length > base:
                ranges.append(MemoryRange(base, length - base, MemoryType.RESERVED))
        else:
            kind = MemoryType.RESERVED if gpa == SHADOW else MemoryType.RAM
            ranges.append(MemoryRange(gpa, length, kind))
    return ranges


class Code(NamedTuple):
    """An instruction of the ROM: its offset in segment F000H, bytes and text."""

    offset: int
    image: bytes
    text: str


# IBM PC AT Technical Reference, BIOS: dummy handler, end of interrupt, shutdown codes 5 and 0AH.
# fmt: off
ROM: Final = (
    Code(0xE05B, b"\xfa", "cli"),
    Code(0xE05C, b"\xb0\x8f", "mov al,8Fh"),
    Code(0xE05E, b"\xe6\x70", "out 70h,al"),
    Code(0xE060, b"\xe4\x71", "in al,71h"),
    Code(0xE062, b"\x3c\x0a", "cmp al,0Ah"),
    Code(0xE064, b"\x74\x0d", "je short 0E073h"),
    Code(0xE066, b"\x3c\x05", "cmp al,5"),
    Code(0xE068, b"\x74\x03", "je short 0E06Dh"),
    Code(0xE06A, b"\xf4", "hlt"),
    Code(0xE06B, b"\xeb\xfd", "jmp short 0E06Ah"),
    Code(0xE06D, b"\xb0\x20", "mov al,20h"),
    Code(0xE06F, b"\xe6\xa0", "out 0A0h,al"),
    Code(0xE071, b"\xe6\x20", "out 20h,al"),
    Code(0xE073, b"\xff\x2e\x67\x04", "jmp far [467h]"),
    Code(0xFEA5, b"\x50", "push ax"),
    Code(0xFEA6, b"\xb0\x20", "mov al,20h"),
    Code(0xFEA8, b"\xe6\x20", "out 20h,al"),
    Code(0xFEAA, b"\x58", "pop ax"),
    Code(0xFEAB, b"\xcf", "iret"),
    Code(0xFEB0, b"\x50", "push ax"),
    Code(0xFEB1, b"\xb0\x20", "mov al,20h"),
    Code(0xFEB3, b"\xe6\xa0", "out 0A0h,al"),
    Code(0xFEB5, b"\xe6\x20", "out 20h,al"),
    Code(0xFEB7, b"\x58", "pop ax"),
    Code(0xFEB8, b"\xcf", "iret"),
    Code(0xFF53, b"\xcf", "iret"),
    Code(0xFFF0, b"\xea\x5b\xe0\x00\xf0", "jmp 0F000h:0E05Bh"),
)
# fmt: on
MASTER_HANDLER, SLAVE_HANDLER, DUMMY_HANDLER = 0xFEA5, 0xFEB0, 0xFF53
MASTER_VECTORS, SLAVE_VECTORS = range(0x08, 0x10), range(0x70, 0x78)
WARM_RESET_CODES: Final = (0x05, 0x0A)
WARM_RESET_VECTOR: Final = 0x467

# BIOS data area: offset from 400H, 16-bit value. IBM PC AT Technical Reference, BIOS data area.
DATA_AREA: Final = (
    (0x00, 0x3F8),  # COM1
    (0x0E, EXTENDED_BIOS_DATA >> 4),
    (0x10, 0x0202),  # equipment: FPU, one serial port
    (0x13, BASE_MEMORY_END // KIB),
)

# Ports and bytes that power-on self-test writes: 8254 counter 0 in mode 3 at 18.2 Hz, then 8259A
# initialisation (vectors 08H and 70H, only timer, keyboard and cascade open).
POST_WRITES: Final = (
    (0x43, 0x36), (0x40, 0x00), (0x40, 0x00),
    (0x20, 0x11), (0xA0, 0x11), (0x21, 0x08), (0xA1, 0x70), (0x21, 0x04), (0xA1, 0x02),
    (0x21, 0x01), (0xA1, 0x01), (0x21, 0xF8), (0xA1, 0xFF),
)  # fmt: skip


def low_memory() -> dict[int, bytes]:
    """Bytes by address: interrupt vectors and the BIOS data area."""
    vectors = bytearray()
    for vector in range(256):
        handler = DUMMY_HANDLER
        if vector in MASTER_VECTORS:
            handler = MASTER_HANDLER
        elif vector in SLAVE_VECTORS:
            handler = SLAVE_HANDLER
        vectors += struct.pack("<HH", handler, SEGMENT)
    images = {0: bytes(vectors)}
    images.update({0x400 + offset: value.to_bytes(2, "little") for offset, value in DATA_AREA})
    images[EXTENDED_BIOS_DATA] = b"\x01"  # its size in KiB
    return images


def rom() -> dict[int, bytes]:
    """Bytes by address of the ROM's code, and of sockets for option ROMs, which are empty."""
    images = {(SEGMENT << 4) + code.offset: code.image for code in ROM}
    images[OPTION_ROMS] = b"\xff" * (SHADOW - OPTION_ROMS)
    return images


def cmos(size: int, processors: int) -> dict[int, int]:
    """Bytes of CMOS memory that tell `size` bytes of RAM and how many processors there are."""
    low = min(size, LOW_MEMORY_END)
    extended = min(max(low - MIB, 0) // KIB, 0xFFFF)
    above_16m = min(max(low - 16 * MIB, 0) // (64 * KIB), 0xFFFF)
    above_4g = (size - low) // (64 * KIB)
    words = ((0x15, 640, 2), (0x17, extended, 2), (0x30, extended, 2), (0x34, above_16m, 2))
    found = {0x5F: min(processors - 1, 0xFF)}
    for offset, value, count in (*words, (0x5B, above_4g, 3)):
        for i, byte in enumerate(value.to_bytes(count, "little")):
            found[offset + i] = byte
    return found
