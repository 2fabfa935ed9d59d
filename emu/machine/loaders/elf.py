"""Executable and Linkable Format: what a loader needs of an executable for x86.

Tool Interface Standard, ELF Specification; System V ABI, AMD64 Architecture Processor Supplement.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from emu.errors import InputError

MAGIC: Final = b"\x7fELF"
CLASS_32, CLASS_64 = 1, 2
LITTLE_ENDIAN: Final = 1
ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP = 1, 3
MACHINES: Final = {3: "i386", 62: "x86-64"}
# e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum
HEADERS: Final = {CLASS_32: struct.Struct("<HHIIIIIHHH"), CLASS_64: struct.Struct("<HHIQQQIHHH")}
IDENTIFICATION_SIZE: Final = 16


class LoadSegment(NamedTuple):
    """A PT_LOAD segment: where it goes, its bytes, and its size in memory."""

    gpa: int
    vaddr: int
    data: bytes
    size: int


class Executable(NamedTuple):
    """An ELF executable: its class in bits, entry point and segments."""

    bits: int
    entry: int
    segments: tuple[LoadSegment, ...]

    @property
    def end(self) -> int:
        """The first physical address behind all segments."""
        return max(segment.gpa + segment.size for segment in self.segments)


def is_elf(image: bytes) -> bool:
    """Whether `image` begins as an ELF file does."""
    return image.startswith(MAGIC)


def parse(image: bytes, name: str) -> Executable:
    """The executable in `image`; raises InputError for what is not one, or is cut short."""
    if not is_elf(image):
        raise InputError(f"{name}: not an ELF file")
    kind = image[4] if len(image) > 4 else 0
    header = HEADERS.get(kind)
    if header is None or image[5:6] != bytes((LITTLE_ENDIAN,)):
        raise InputError(f"{name}: not a little-endian 32-bit or 64-bit ELF file")
    if len(image) < IDENTIFICATION_SIZE + header.size:
        raise InputError(f"{name}: truncated in the ELF header")
    fields = header.unpack_from(image, IDENTIFICATION_SIZE)
    e_type, e_machine, _, entry, phoff, _, _, _, phentsize, phnum = fields
    if e_machine not in MACHINES:
        raise InputError(f"{name}: an ELF file for machine {e_machine}, not for x86")
    if e_type not in (ET_EXEC, ET_DYN):
        raise InputError(f"{name}: an ELF file of type {e_type}, not an executable")
    layout = struct.Struct("<IIIIIIII") if kind == CLASS_32 else struct.Struct("<IIQQQQQQ")
    if phentsize != layout.size:
        raise InputError(f"{name}: program headers of {phentsize} bytes, not {layout.size}")
    if phoff + phnum * phentsize > len(image):
        raise InputError(f"{name}: truncated in the program headers")
    segments = []
    for i in range(phnum):
        row = layout.unpack_from(image, phoff + i * phentsize)
        if kind == CLASS_32:
            p_type, offset, vaddr, paddr, filesz, memsz, _, _ = row
        else:
            p_type, _, offset, vaddr, paddr, filesz, memsz, _ = row
        if p_type == PT_INTERP:
            raise InputError(f"{name}: a program of an operating system, not an image that boots")
        if p_type != PT_LOAD or not memsz:
            continue
        if filesz > memsz:
            raise InputError(f"{name}: segment {i} has {filesz} bytes for {memsz} of memory")
        if offset + filesz > len(image):
            raise InputError(
                f"{name}: truncated: segment {i} ends at byte {offset + filesz}, "
                f"the file has {len(image)}"
            )
        data = bytes(image[offset : offset + filesz])
        segments.append(LoadSegment(paddr, vaddr, data, memsz))
    if not segments:
        raise InputError(f"{name}: an ELF file without a segment to load")
    return Executable(32 if kind == CLASS_32 else 64, entry, tuple(segments))
