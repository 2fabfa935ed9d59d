"""Assembly text to a flat image: LLVM's integrated assembler, and a linker for its one object.

The object's allocated sections are laid out one after the other from a fixed address, those with
bytes first; what has none (`.bss`) is not part of the image. The linker defines `IMAGE_START`,
`IMAGE_END` and `BSS_END`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from emu.errors import InputError

TRIPLE: Final = "x86_64-unknown-none-elf"
PAGE: Final = 4096

# System V ABI, Sections; Symbol Table; Relocation.
SHT_SYMTAB, SHT_RELA, SHT_NOBITS = 2, 4, 8
SHF_ALLOC: Final = 2
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
HEADER: Final = struct.Struct("<40xQ10xHHH")
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
SYMBOL: Final = struct.Struct("<IBBHQQ")
RELOCATION: Final = struct.Struct("<QIIq")

# AMD64 ABI, Relocation Types: bytes written, and whether relative to the place.
RELOCATIONS: Final = {
    1: ("R_X86_64_64", 8, False),
    2: ("R_X86_64_PC32", 4, True),
    4: ("R_X86_64_PLT32", 4, True),
    10: ("R_X86_64_32", 4, False),
    11: ("R_X86_64_32S", 4, False),
    12: ("R_X86_64_16", 2, False),
}


class Section(NamedTuple):
    """A section header of an object file, and the bytes of the section."""

    name: str
    kind: int
    flags: int
    size: int
    link: int
    applies_to: int
    alignment: int
    data: bytes


class Symbol(NamedTuple):
    """A symbol: its name, the section it lies in, and its offset there."""

    name: str
    section: int
    value: int


def assemble(source: str) -> bytes:
    """The ELF object of `source`, x86 assembly; raises InputError where it is no x86 LLVM."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - only rebuilding an image needs it

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    try:
        target = llvm.Target.from_triple(TRIPLE)
    except RuntimeError as error:
        raise InputError(f"this llvmlite cannot assemble for {TRIPLE}: {error}") from error
    quoted = "".join(c if c.isprintable() and c not in '"\\' else f"\\{ord(c):02X}" for c in source)
    module = llvm.parse_assembly(f'target triple = "{TRIPLE}"\nmodule asm "{quoted}"\n')
    return bytes(target.create_target_machine().emit_object(module))


def link(obj: bytes, base: int) -> bytes:
    """The flat image of an object file at address `base`.

    Raises InputError for undefined symbols, unknown relocations, and values that do not fit.
    """
    sections = _sections(obj)
    addresses, image_end, end = _layout(sections, base)
    image = bytearray(image_end - base)
    for number, address in addresses.items():
        data = sections[number].data
        image[address - base : address - base + len(data)] = data
    defined = {"IMAGE_START": base, "IMAGE_END": image_end, "BSS_END": end}
    values = dict(_symbols(sections, addresses, defined))
    for section in sections:
        if section.kind == SHT_RELA and section.applies_to in addresses:
            _relocate(image, base, addresses[section.applies_to], section.data, values)
    return bytes(image)


def _sections(obj: bytes) -> list[Section]:
    at, size, count, names_at = HEADER.unpack_from(obj)
    rows = [SECTION.unpack_from(obj, at + i * size) for i in range(count)]
    names = rows[names_at][4]
    found = []
    for name, kind, flags, _, offset, length, link_to, info, alignment, _ in rows:
        start = names + name
        text = obj[start : obj.index(b"\0", start)].decode()
        data = b"" if kind == SHT_NOBITS else obj[offset : offset + length]
        found.append(Section(text, kind, flags, length, link_to, info, alignment, data))
    return found


def _layout(sections: list[Section], base: int) -> tuple[dict[int, int], int, int]:
    """Addresses of the allocated sections, the end of those with bytes, and the end of all."""
    allocated = [n for n, s in enumerate(sections) if s.flags & SHF_ALLOC and s.size]
    addresses, at, image_end = {}, base, base
    for number in sorted(allocated, key=lambda n: (sections[n].kind == SHT_NOBITS, n)):
        section = sections[number]
        at = -(-at // section.alignment) * section.alignment
        addresses[number] = at
        at += section.size
        if section.kind != SHT_NOBITS:
            image_end = at
    return addresses, image_end, -(-at // PAGE) * PAGE


def _symbols(
    sections: list[Section], addresses: dict[int, int], defined: dict[str, int]
) -> Iterator[tuple[int, int | str]]:
    """The value of each symbol by its number; its name where it is undefined."""
    table = next(section for section in sections if section.kind == SHT_SYMTAB)
    names = sections[table.link].data
    for number, row in enumerate(SYMBOL.iter_unpack(table.data)):
        name, _, _, section, value, _ = row
        text = names[name : names.index(b"\0", name)].decode()
        if section == SHN_UNDEF:
            yield number, defined.get(text, text)
        elif section == SHN_ABS:
            yield number, value
        elif section in addresses:
            yield number, addresses[section] + value


def _relocate(
    image: bytearray, base: int, address: int, data: bytes, values: dict[int, int | str]
) -> None:
    """Apply the relocations in `data` to the section at `address`."""
    for offset, kind, symbol, addend in RELOCATION.iter_unpack(data):
        if kind not in RELOCATIONS:
            raise InputError(f"relocation type {kind} at {address + offset:#x} is not known")
        name, size, relative = RELOCATIONS[kind]
        target = values[symbol]
        if isinstance(target, str):
            raise InputError(f"{name} at {address + offset:#x}: {target!r} is undefined")
        value = target + addend - (address + offset if relative else 0)
        if not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
            raise InputError(f"{name} at {address + offset:#x}: {value:#x} does not fit")
        place = address + offset - base
        image[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
