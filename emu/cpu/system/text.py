"""Comparison of packed strings. SDM Vol. 2, PCMPESTRI and the section on its control byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.cpu.decode import MNEMONICS
from emu.cpu.flags import set_status_flags
from emu.cpu.system.operands import get_register, set_register
from emu.cpu.system.vector_operands import (
    elements,
    is_vex,
    joined,
    permit,
    read_register,
    read_source,
    register,
    write_register,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

EQUAL_ANY, RANGES, EQUAL_EACH, EQUAL_ORDERED = range(4)
RAX, RCX, RDX = 0, 1, 2


class Strings(NamedTuple):
    """Two strings and how many elements of each are valid."""

    a: list[int]
    b: list[int]
    valid_a: int
    valid_b: int


def implicit_length(parts: list[int]) -> int:
    """Elements before the first zero."""
    return parts.index(0) if 0 in parts else len(parts)


def explicit_length(cpu: Cpu, number: int, size: int, most: int) -> int:
    """The magnitude of a register, saturated."""
    value = get_register(cpu, number, size)
    value -= (value >> size - 1) << size
    return min(abs(value), most)


def matches(s: Strings, aggregation: int) -> list[bool]:
    """IntRes1: a bit an element of b."""
    count = len(s.a)
    valid = s.a[: s.valid_a]
    if aggregation == EQUAL_EACH:
        return [
            s.a[j] == s.b[j] if j < s.valid_a and j < s.valid_b else j >= max(s.valid_a, s.valid_b)
            for j in range(count)
        ]
    if aggregation == EQUAL_ORDERED:
        return [
            all(
                j + i < s.valid_b and s.b[j + i] == valid[i]
                for i in range(min(s.valid_a, count - j))
            )
            for j in range(count)
        ]
    if aggregation == EQUAL_ANY:
        return [j < s.valid_b and s.b[j] in valid for j in range(count)]
    pairs = list(zip(valid[::2], valid[1::2], strict=False))
    return [
        j < s.valid_b and any(low <= s.b[j] <= high for low, high in pairs) for j in range(count)
    ]


def polarised(found: list[bool], control: int, valid_b: int) -> list[bool]:
    """IntRes2: negated by bits 5:4 of the control byte, all or the valid elements."""
    if not control & 0x10:
        return found
    masked = control & 0x20
    return [bit if masked and j >= valid_b else not bit for j, bit in enumerate(found)]


def compare(cpu: Cpu, insn: Any) -> None:
    """PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM."""
    permit(cpu, insn)
    name = MNEMONICS[insn.mnemonic].removeprefix("V")
    control = insn.immediate(2) & 0xFF
    width, count = (16, 8) if control & 1 else (8, 16)
    a = elements(read_register(cpu, register(insn, 0)), width, count)
    b = elements(read_source(cpu, insn, 1, aligned=False), width, count)
    if name.startswith("PCMPE"):
        size = 64 if name.endswith("64") else 32
        lengths = [explicit_length(cpu, n, size, count) for n in (RAX, RDX)]
    else:
        lengths = [implicit_length(a), implicit_length(b)]
    if control & 2:
        half = 1 << width - 1
        a, b = [(v ^ half) - half for v in a], [(v ^ half) - half for v in b]
    strings = Strings(a, b, *lengths)
    found = polarised(matches(strings, control >> 2 & 3), control, strings.valid_b)
    if name.removesuffix("64").endswith("I"):
        places = [j for j, bit in enumerate(found) if bit] or [count]
        set_register(cpu, RCX, 32, places[-1 if control & 0x40 else 0])
    else:
        ones = (1 << width) - 1
        mask = joined([ones * bit for bit in found], width) if control & 0x40 else joined(found, 1)
        write_register(cpu, 0, mask, 1, is_vex(insn))
    flags = any(found) | (strings.valid_b < count) << 6 | (strings.valid_a < count) << 7
    set_status_flags(cpu.state, flags | found[0] << 11)


NAMES = ("PCMPESTRI", "PCMPESTRI64", "PCMPESTRM", "PCMPESTRM64", "PCMPISTRI", "PCMPISTRM")
TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    prefix + name: compare for name in NAMES for prefix in ("", "V")
}
