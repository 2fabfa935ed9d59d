"""Linux kernels by the 64-bit boot protocol. Linux Documentation/arch/x86/boot.rst.

A bzImage is entered at its own decompressor, or its payload is decompressed here and entered as a
vmlinux is; both find the same boot parameters, page tables and descriptors.
"""

from __future__ import annotations

import bz2
import lzma
import os
import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from emu.errors import InputError
from emu.machine.board import Board
from emu.machine.loaders import elf
from emu.machine.loaders.placement import Placement
from emu.machine.processor import EntryState, Segment


class HeaderField(NamedTuple):
    """A field of the setup header: offset, in the boot parameters too, and format."""

    offset: int
    format: str
    name: str


# boot.rst, The Real-Mode Kernel Header
HEADER: Final = (
    HeaderField(0x1F1, "<B", "setup_sects"),
    HeaderField(0x1F4, "<I", "syssize"),
    HeaderField(0x1FE, "<H", "boot_flag"),
    HeaderField(0x202, "<4s", "header"),
    HeaderField(0x206, "<H", "version"),
    HeaderField(0x210, "<B", "type_of_loader"),
    HeaderField(0x211, "<B", "loadflags"),
    HeaderField(0x218, "<I", "ramdisk_image"),
    HeaderField(0x21C, "<I", "ramdisk_size"),
    HeaderField(0x228, "<I", "cmd_line_ptr"),
    HeaderField(0x22C, "<I", "initrd_addr_max"),
    HeaderField(0x236, "<H", "xloadflags"),
    HeaderField(0x238, "<I", "cmdline_size"),
    HeaderField(0x248, "<I", "payload_offset"),
    HeaderField(0x24C, "<I", "payload_length"),
    HeaderField(0x258, "<Q", "pref_address"),
    HeaderField(0x260, "<I", "init_size"),
)
_FIELDS: Final = {field.name: field for field in HEADER}
HEADER_START: Final = 0x1F1
HEADER_LENGTH_AT: Final = 0x201  # the header ends this byte's value behind 0x202
HEADER_MINIMUM: Final = 0x264
SECTOR: Final = 512

BOOT_FLAG: Final = 0xAA55
SIGNATURE: Final = b"HdrS"
OLDEST: Final = 0x020C  # the first protocol with a 64-bit entry point
XLF_KERNEL_64: Final = 1 << 0
LOADED_HIGH: Final = 1 << 0
LOADER_UNDEFINED: Final = 0xFF
ENTRY_64: Final = 0x200

# boot.rst, Zero-page: Linux Documentation/arch/x86/zero-page.rst
RSDP_AT, E820_COUNT_AT, E820_AT = 0x070, 0x1E8, 0x2D0
E820_ENTRY: Final = struct.Struct("<QQI")
E820_MAX: Final = 128
BOOT_PARAMETERS_SIZE: Final = 4096

BOOT_PARAMETERS: Final = 0x1_0000
COMMAND_LINE: Final = 0x2_0000
DESCRIPTORS: Final = 0x3_0000
PAGE_TABLES: Final = 0x3_1000
MAPPED_GIB: Final = 4

# boot.rst, 64-bit Boot Protocol: __BOOT_CS is selector 10H, __BOOT_DS is selector 18H
BOOT_CS: Final = Segment(0x10, 0, 0xFFFF_FFFF, 0xA09B)
BOOT_DS: Final = Segment(0x18, 0, 0xFFFF_FFFF, 0xC093)
GDT: Final = (0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
CR0_PAGING: Final = 0x8000_0011
CR4_PAE: Final = 0x20
EFER_LONG: Final = 0x500  # LME and LMA
PRESENT_WRITABLE: Final = 0x3
LARGE: Final = 0x83


def is_bzimage(image: bytes) -> bool:
    """Whether `image` has the header of a Linux kernel image."""
    return image[0x202:0x206] == SIGNATURE and image[0x1FE:0x200] == b"\x55\xaa"


def field(header: bytes, name: str) -> int:
    """The value of a field of the setup header."""
    row = _FIELDS[name]
    return int(struct.unpack_from(row.format, header, row.offset)[0])


class Kernel(NamedTuple):
    """A bzImage taken apart: the sectors with its header, and the protected-mode kernel."""

    header: bytes
    body: bytes


def parse_bzimage(image: bytes, name: str) -> Kernel:
    """Take a bzImage apart; raises InputError for what has no 64-bit entry, or is cut short."""
    if not is_bzimage(image):
        raise InputError(f"{name}: not a Linux kernel image")
    if len(image) < HEADER_MINIMUM:
        raise InputError(f"{name}: truncated in the setup header")
    version = field(image, "version")
    if version < OLDEST or not field(image, "xloadflags") & XLF_KERNEL_64:
        raise InputError(
            f"{name}: boot protocol {version >> 8}.{version & 0xFF:02} without a 64-bit entry point"
        )
    if not field(image, "loadflags") & LOADED_HIGH:
        raise InputError(f"{name}: a zImage; only a bzImage can be loaded")
    start = ((field(image, "setup_sects") or 4) + 1) * SECTOR
    needed = start + field(image, "syssize") * 16 - 15  # counted in paragraphs
    if len(image) < needed:
        raise InputError(f"{name}: truncated: {needed} bytes expected, the file has {len(image)}")
    return Kernel(bytes(image[:start]), bytes(image[start:]))


def _gzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(data)


def _xz(data: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(data)


def _bzip2(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data)


# boot.rst, payload_offset: the formats, by their first bytes
COMPRESSIONS: Final[tuple[tuple[bytes, str, Callable[[bytes], bytes] | None], ...]] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"\xfd7zXZ\0", "XZ", _xz),
    (b"\x5d\0\0", "LZMA", _xz),
    (b"BZh", "bzip2", _bzip2),
    (b"\x28\xb5\x2f\xfd", "Zstandard", None),
    (b"\x02\x21\x4c\x18", "LZ4", None),
    (b"\x89LZO", "LZO", None),
    (elf.MAGIC, "nothing", bytes),
)


def payload(kernel: Kernel, name: str) -> bytes:
    """The vmlinux inside a bzImage, decompressed; raises InputError when that is not possible."""
    offset, length = field(kernel.header, "payload_offset"), field(kernel.header, "payload_length")
    data = kernel.body[offset : offset + length]
    if not length or len(data) < length:
        raise InputError(f"{name}: no whole payload in the kernel image")
    for magic, title, decompress in COMPRESSIONS:
        if data.startswith(magic):
            if decompress is None:
                raise InputError(f"{name}: the payload is compressed by {title}, which is not read")
            try:
                return decompress(data)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise InputError(f"{name}: the payload is damaged: {error}") from error
    raise InputError(f"{name}: the payload has an unknown format")


def load_bzimage(
    board: Board,
    image: bytes,
    name: str,
    command_line: str = "",
    initrd: bytes = b"",
    decompress: bool = False,
) -> EntryState:
    """Load a bzImage: the state in which it is to be entered.

    With `decompress` its payload is decompressed here and entered directly. Raises InputError.
    """
    kernel = parse_bzimage(image, name)
    if decompress:
        return load_vmlinux(board, payload(kernel, name), name, command_line, initrd, kernel.header)
    placement = Placement(board, name)
    load_address = field(kernel.header, "pref_address")
    size = field(kernel.header, "init_size")
    placement.put(load_address, kernel.body, "the kernel", size)
    _put_boot_data(placement, kernel.header, command_line, initrd)
    return _entry_state(load_address + ENTRY_64)


def load_vmlinux(
    board: Board,
    image: bytes,
    name: str,
    command_line: str = "",
    initrd: bytes = b"",
    header: bytes | None = None,
) -> EntryState:
    """Load a 64-bit ELF kernel: the state in which it is to be entered. Raises InputError."""
    executable = elf.parse(image, name)
    if executable.bits != 64:
        raise InputError(f"{name}: a 32-bit ELF file without a Multiboot header")
    placement = Placement(board, name)
    placement.put_executable(executable)
    entry = executable.entry
    if not any(s.gpa <= entry < s.gpa + s.size for s in executable.segments):
        found = [s for s in executable.segments if s.vaddr <= entry < s.vaddr + s.size]
        if not found:
            raise InputError(f"{name}: the entry point {entry:#x} is in no segment")
        entry += found[0].gpa - found[0].vaddr
    _put_boot_data(placement, header or _plain_header(), command_line, initrd)
    return _entry_state(entry)


def _plain_header() -> bytes:
    """The setup header for a kernel that comes without one."""
    header = bytearray(HEADER_MINIMUM + 8)
    header[HEADER_LENGTH_AT] = len(header) - 0x202
    values = {
        "boot_flag": BOOT_FLAG,
        "version": OLDEST,
        "loadflags": LOADED_HIGH,
        "xloadflags": XLF_KERNEL_64,
        "initrd_addr_max": 0x7FFF_FFFF,
        "cmdline_size": 2047,
    }
    header[0x202:0x206] = SIGNATURE
    for name, value in values.items():
        struct.pack_into(_FIELDS[name].format, header, _FIELDS[name].offset, value)
    return bytes(header)


def _put_boot_data(placement: Placement, header: bytes, command_line: str, initrd: bytes) -> None:
    """Boot parameters, command line, initial RAM disk, descriptors and page tables."""
    board, name = placement.board, placement.name
    text = os.fsencode(command_line)
    longest = field(header, "cmdline_size")
    if len(text) > longest:
        raise InputError(f"{name}: a command line of {len(text)} bytes; the kernel takes {longest}")
    placement.put(COMMAND_LINE, text + b"\0", "the command line")
    placement.put(DESCRIPTORS, struct.pack(f"<{len(GDT)}Q", *GDT), "the descriptor table")
    placement.put(PAGE_TABLES, identity_map(), "the page tables")
    parameters = bytearray(BOOT_PARAMETERS_SIZE)
    length = 0x202 + header[HEADER_LENGTH_AT] - HEADER_START
    parameters[HEADER_START : HEADER_START + length] = header[HEADER_START:][:length]
    values = {"type_of_loader": LOADER_UNDEFINED, "cmd_line_ptr": COMMAND_LINE}
    if initrd:
        limit = field(header, "initrd_addr_max") + 1
        gpa = placement.highest(len(initrd), limit, "the initial RAM disk")
        placement.put(gpa, initrd, "the initial RAM disk")
        values.update(ramdisk_image=gpa, ramdisk_size=len(initrd))
    for key, value in values.items():
        struct.pack_into(_FIELDS[key].format, parameters, _FIELDS[key].offset, value)
    struct.pack_into("<Q", parameters, RSDP_AT, board.acpi.rsdp)
    ranges = board.memory_map[:E820_MAX]
    parameters[E820_COUNT_AT] = len(ranges)
    for i, entry in enumerate(ranges):
        E820_ENTRY.pack_into(parameters, E820_AT + i * E820_ENTRY.size, *entry)
    placement.put(BOOT_PARAMETERS, bytes(parameters), "the boot parameters")


def identity_map() -> bytes:
    """Page tables from PAGE_TABLES on that map the first 4 GiB to themselves by 2 MiB pages."""
    directories = PAGE_TABLES + 0x2000
    pml4 = struct.pack("<Q4088x", PAGE_TABLES + 0x1000 | PRESENT_WRITABLE)
    pointers = [directories + 0x1000 * i | PRESENT_WRITABLE for i in range(MAPPED_GIB)]
    pdpt = struct.pack(f"<{MAPPED_GIB}Q", *pointers).ljust(4096, b"\0")
    pages = [i << 21 | LARGE for i in range(512 * MAPPED_GIB)]
    return pml4 + pdpt + struct.pack(f"<{len(pages)}Q", *pages)


def _entry_state(entry: int) -> EntryState:
    data = dict.fromkeys(("ds", "es", "fs", "gs", "ss"), BOOT_DS)
    return EntryState(
        rip=entry,
        gpr={"rsi": BOOT_PARAMETERS},
        segments={"cs": BOOT_CS, **data},
        cr0=CR0_PAGING,
        cr3=PAGE_TABLES,
        cr4=CR4_PAE,
        efer=EFER_LONG,
        gdtr=(DESCRIPTORS, len(GDT) * 8 - 1),
    )
