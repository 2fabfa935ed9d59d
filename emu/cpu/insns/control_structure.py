"""VMREAD and VMWRITE of the current VMCS in VMX root operation, as hypervisors do all the time.

The extension says where the words of the current VMCS are (`vmcs_words`, 0 when plain Python is to
run the instruction) and in a table by encoding which word a field is, how wide it is, and whether
VMWRITE may write it. SDM Vol. 3, VMREAD; VMWRITE.
"""

from __future__ import annotations

from typing import Any, Final

from emu.cpu.access import read, write
from emu.cpu.compiler.words import raw_load32, raw_load64, raw_store64, restricted, unlikely
from emu.cpu.flags import set_status_flags
from emu.cpu.insns.plumbing import system
from emu.cpu.insns.rows import Insn

ENCODINGS: Final = 1 << 15
WIDTH_SHIFT, INDEX_MASK, READ_ONLY = 16, 0xFFFF, 1 << 31  # in an entry, 0 for what has none


@restricted
def entry_of(cpu: Any, uop: Any, encoding: int) -> int:
    """The table's entry for an encoding; what it does not know is plain Python's."""
    if unlikely(cpu.vmcs_words == 0) or unlikely(cpu.cpl) or unlikely(encoding >= ENCODINGS):
        system(cpu, uop)
    entry = raw_load32(cpu.vmcs_table + encoding * 4)
    if unlikely(entry == 0):
        system(cpu, uop)
    return entry


@restricted
def vmread(cpu: Any, uop: Any, size: int, mode: str, dst: str, src: str) -> None:
    """VMREAD: a field, zero-extended."""
    entry = entry_of(cpu, uop, read(cpu, uop, src, 64))
    place = cpu.vmcs_words + ((entry & INDEX_MASK) - 1) * 8
    write(cpu, uop, dst, size, raw_load64(place))
    set_status_flags(cpu, 0)


@restricted
def vmwrite(cpu: Any, uop: Any, size: int, mode: str, dst: str, src: str) -> None:
    """VMWRITE: as much of the source as the field is wide."""
    value = read(cpu, uop, src, size)
    entry = entry_of(cpu, uop, read(cpu, uop, dst, 64))
    if unlikely(entry & READ_ONLY):
        system(cpu, uop)
    width = entry >> WIDTH_SHIFT & 0x7F
    if width != 64:
        value &= (1 << (width & 63)) - 1
    raw_store64(cpu.vmcs_words + ((entry & INDEX_MASK) - 1) * 8, value)
    set_status_flags(cpu, 0)


FAMILY = (
    Insn("VMREAD", vmread, "RR MR", (64,), "second", True, python=True),
    Insn("VMWRITE", vmwrite, "RR RM", (64,), "first", True, python=True),
)
