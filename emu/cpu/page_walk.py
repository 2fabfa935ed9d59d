"""A page walk to look at: the entries that translate a linear address, without any effect.

The processor's own walk is `paging`, which checks rights and sets accessed and dirty flags.
SDM Vol. 3, Paging.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.paging import CR0_PG, CR4_LA57, CR4_PAE, CR4_PSE, EFER_LMA

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

PRESENT, PAGE_SIZE_BIT = 1, 1 << 7
FRAME = 0x000F_FFFF_FFFF_F000
FLAGS = (
    (0, "P"), (1, "RW"), (2, "US"), (3, "PWT"), (4, "PCD"), (5, "A"), (6, "D"), (7, "PS"),
    (8, "G"), (63, "XD"),
)  # fmt: skip
LEVELS = ("PTE", "PDE", "PDPTE", "PML4E", "PML5E")


class Entry(NamedTuple):
    """An entry that a walk meets: its name in the manual, where it lies, its value."""

    name: str
    gpa: int
    value: int

    @property
    def flags(self) -> str:
        """The bits of the entry that are set, by name."""
        return " ".join(name for bit, name in FLAGS if self.value >> bit & 1)


class PageWalk(NamedTuple):
    """The entries from the root down, and the guest-physical address; None: not present."""

    entries: tuple[Entry, ...]
    gpa: int | None


def page_walk(cpu: Cpu, linear: int) -> PageWalk:
    """How paging translates `linear` now; the first of two levels where a guest has two."""
    state = cpu.state
    if not state.cr0 & CR0_PG:
        return PageWalk((), linear)
    if not state.cr4 & CR4_PAE:
        return _narrow(cpu, linear)
    if state.efer & EFER_LMA:
        levels = 5 if state.cr4 & CR4_LA57 else 4
        return _wide(cpu, linear, state.cr3 & FRAME, levels)
    pointer = Entry("PDPTE", 0, int(state.pdpte[linear >> 30 & 3]))
    if not pointer.value & PRESENT:
        return PageWalk((pointer,), None)
    below = _wide(cpu, linear, pointer.value & FRAME, 2)
    return PageWalk((pointer, *below.entries), below.gpa)


def _word(cpu: Cpu, gpa: int, size: int) -> int:
    """A paging-structure entry in RAM; all ones elsewhere."""
    host = cpu.memory.host(gpa)
    return int.from_bytes(cpu.memory.read(gpa, size), "little") if host else (1 << 8 * size) - 1


def _wide(cpu: Cpu, linear: int, table: int, levels: int) -> PageWalk:
    entries: list[Entry] = []
    for level in reversed(range(levels)):
        shift = 12 + 9 * level
        gpa = table + (linear >> shift & 0x1FF) * 8
        entry = Entry(LEVELS[level], gpa, _word(cpu, gpa, 8))
        entries.append(entry)
        if not entry.value & PRESENT:
            return PageWalk(tuple(entries), None)
        if level == 0 or (level < 3 and entry.value & PAGE_SIZE_BIT):
            break
        table = entry.value & FRAME
    offset = (1 << shift) - 1
    return PageWalk(tuple(entries), entry.value & FRAME & ~offset | linear & offset)


def _narrow(cpu: Cpu, linear: int) -> PageWalk:
    gpa = int(cpu.state.cr3 & 0xFFFF_F000) + (linear >> 22 & 0x3FF) * 4
    directory = Entry("PDE", gpa, _word(cpu, gpa, 4))
    if not directory.value & PRESENT:
        return PageWalk((directory,), None)
    if directory.value & PAGE_SIZE_BIT and cpu.state.cr4 & CR4_PSE:
        high = (directory.value >> 13 & 0xFF) << 32
        return PageWalk((directory,), high | directory.value & 0xFFC0_0000 | linear & 0x3F_FFFF)
    gpa = (directory.value & 0xFFFF_F000) + (linear >> 12 & 0x3FF) * 4
    entry = Entry("PTE", gpa, _word(cpu, gpa, 4))
    found = entry.value & 0xFFFF_F000 | linear & 0xFFF if entry.value & PRESENT else None
    return PageWalk((directory, entry), found)


def peek(cpu: Cpu, linear: int, count: int) -> bytes | None:
    """Bytes of RAM at a linear address as they are; None when not all of them are RAM.

    In guest mode None as well: a walk through the second level has effects.
    """
    if cpu.state.second_level:
        return None
    out = b""
    while count:
        size = min(count, 0x1000 - linear % 0x1000)
        gpa = page_walk(cpu, linear).gpa
        if gpa is None or not cpu.memory.host(gpa):
            return None
        out += cpu.memory.read(gpa, size)
        linear, count = linear + size & (1 << 64) - 1, count - size
    return out
