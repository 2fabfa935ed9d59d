"""Multiboot Specification version 0.6.96: header, information structure and machine state."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from emu.errors import InputError
from emu.machine.board import Board
from emu.machine.firmware import BASE_MEMORY_END, EXTENDED, KIB, MIB
from emu.machine.loaders import elf
from emu.machine.loaders.elf import Executable, LoadSegment
from emu.machine.loaders.placement import PAGE, Placement
from emu.machine.processor import EntryState, Segment

HEADER_MAGIC: Final = 0x1BADB002
LOADER_MAGIC: Final = 0x2BADB002
SEARCH: Final = 8192

# Header flags. Multiboot Specification, The magic fields of Multiboot header.
ALIGN_MODULES: Final = 1 << 0
MEMORY_INFO: Final = 1 << 1
ADDRESS_FIELDS: Final = 1 << 16
UNDERSTOOD: Final = ALIGN_MODULES | MEMORY_INFO
REQUIREMENTS: Final = 0xFFFF  # the flags that a loader must understand

# Flags of the information structure. Multiboot Specification, Boot information format.
INFO_MEMORY, INFO_COMMAND_LINE, INFO_MODULES = 1 << 0, 1 << 2, 1 << 3
INFO_MEMORY_MAP, INFO_LOADER_NAME = 1 << 6, 1 << 9
# flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4],
# mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name
INFO: Final = struct.Struct("<3I4s3I16s2I12sI48x")
MODULE: Final = struct.Struct("<IIII")
MAP_ENTRY: Final = struct.Struct("<IQQI")

INFO_GPA: Final = 0x9_0000
CODE_32: Final = Segment(0x08, 0, 0xFFFF_FFFF, 0xC09B)
DATA_32: Final = Segment(0x10, 0, 0xFFFF_FFFF, 0xC093)
CR0_PROTECTED: Final = 0x11


class Header(NamedTuple):
    """A Multiboot header: where it stands in the file, its flags and its address fields."""

    offset: int
    flags: int
    header_addr: int = 0
    load_addr: int = 0
    load_end_addr: int = 0
    bss_end_addr: int = 0
    entry_addr: int = 0


class Module(NamedTuple):
    """A boot module: its bytes and the string that comes with it."""

    data: bytes
    text: str = ""


def environ(board: Board) -> Module:
    """The module by which kvm-unit-tests images learn of their machine: lines of NAME=VALUE."""
    config = board.config
    lines = (
        f"NR_CPUS={config.processors}",
        f"MEMSIZE={config.memory // MIB}",
        f"TEST_DEVICE={int(config.test_device)}",
    )
    return Module("".join(f"{line}\n" for line in lines).encode(), "environ")


def find_header(image: bytes) -> Header | None:
    """The header: 4-byte aligned in the first 8192 bytes, with a right checksum."""
    for offset in range(0, min(len(image), SEARCH) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", image, offset)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFF_FFFF == 0:
            if not flags & ADDRESS_FIELDS:
                return Header(offset, flags)
            if len(image) < offset + 32:
                return None
            return Header(offset, flags, *struct.unpack_from("<5I", image, offset + 12))
    return None


def load(
    board: Board,
    image: bytes,
    name: str,
    command_line: str = "",
    modules: Sequence[Module] = (),
) -> EntryState:
    """Load a Multiboot image into `board`: the state in which it is to be entered.

    `command_line` is passed as it is; by custom its first word is the image's name. Raises
    InputError for what cannot be loaded.
    """
    header = find_header(image)
    if header is None:
        raise InputError(f"{name}: no Multiboot header in the first {SEARCH} bytes")
    unknown = header.flags & REQUIREMENTS & ~UNDERSTOOD
    if unknown:
        raise InputError(f"{name}: the Multiboot header requires unknown features {unknown:#x}")
    if header.flags & ADDRESS_FIELDS:
        executable = _by_address_fields(image, header, name)
    else:
        executable = elf.parse(image, name)
    placement = Placement(board, name)
    placement.put_executable(executable)
    info = _information(board, placement, executable.end, command_line, modules)
    placement.put(INFO_GPA, info, "the Multiboot information")
    return protected_mode(executable.entry, {"rax": LOADER_MAGIC, "rbx": INFO_GPA})


def protected_mode(entry: int, gpr: Mapping[str, int]) -> EntryState:
    """Flat 32-bit segments, paging off. Multiboot Specification, I386 machine state."""
    data = dict.fromkeys(("ds", "es", "fs", "gs", "ss"), DATA_32)
    return EntryState(entry, gpr, {"cs": CODE_32, **data}, cr0=CR0_PROTECTED)


def _by_address_fields(image: bytes, header: Header, name: str) -> Executable:
    """The image as its header describes it. Multiboot Specification, The address fields."""
    start = header.offset - (header.header_addr - header.load_addr)
    if start < 0 or header.header_addr < header.load_addr:
        raise InputError(f"{name}: the Multiboot header's load address is outside the file")
    length = header.load_end_addr - header.load_addr if header.load_end_addr else len(image) - start
    if length <= 0 or start + length > len(image):
        raise InputError(f"{name}: truncated: {length} bytes to load, the file has {len(image)}")
    size = max(header.bss_end_addr - header.load_addr, length)
    data = bytes(image[start : start + length])
    segment = LoadSegment(header.load_addr, header.load_addr, data, size)
    return Executable(32, header.entry_addr, (segment,))


def _information(
    board: Board,
    placement: Placement,
    end: int,
    command_line: str,
    modules: Sequence[Module],
) -> bytes:
    """The information structure and what it points to; modules go behind the image."""
    out = bytearray(INFO.size)

    def append(data: bytes) -> int:
        at = INFO_GPA + len(out)
        out.extend(data)
        out.extend(bytes(-len(out) % 4))
        return at

    cmdline = append(os.fsencode(command_line) + b"\0")
    loader = append(b"nestling\0")
    rows = []
    for i, module in enumerate(modules):
        gpa = -(-end // PAGE) * PAGE
        placement.put(gpa, module.data, f"module {i}")
        end = gpa + len(module.data)
        rows.append(MODULE.pack(gpa, end, append(os.fsencode(module.text) + b"\0"), 0))
    mods_addr = append(b"".join(rows))
    entries = [MAP_ENTRY.pack(20, r.gpa, r.size, r.kind) for r in board.memory_map]
    mmap_addr = append(b"".join(entries))
    upper = next((r.size for r in board.memory_map if r.gpa == EXTENDED), 0) // KIB
    flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME
    INFO.pack_into(
        out,
        0,
        flags | (INFO_MODULES if modules else 0),
        BASE_MEMORY_END // KIB,
        upper,
        b"",
        cmdline,
        len(modules),
        mods_addr,
        b"",
        len(entries) * MAP_ENTRY.size,
        mmap_addr,
        b"",
        loader,
    )
    return bytes(out)
