"""Which blocks make a region, and their micro-operations with operands as known values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.program import handler_names
from emu.cpu.state import UOP

if TYPE_CHECKING:
    from emu.cpu.code import CodeCache

MOST_BLOCKS = 32
MOST_UOPS = 400
TRANSLATED = 1
"""Added to the record in `exit_data` where the budget ran out in a region."""

OPERANDS = (
    "imm", "disp", "r0", "r1", "r2", "base", "index", "scale", "seg", "length", "offset", "left",
)  # fmt: skip


class Target(NamedTuple):
    """A record that a direct branch leads to, by its distance in bytes from the head."""

    delta: int
    left: int


@dataclass(frozen=True)
class Micro:
    """A micro-operation: the fields of `state.UOP`, the name of its handler, its place."""

    name: str
    delta: int  # distance in bytes from the head
    link: Target | None  # None while the block that it leads to is not decoded
    imm: int = 0
    disp: int = 0
    r0: int = 0
    r1: int = 0
    r2: int = 0
    base: int = 0
    index: int = 0
    scale: int = 0
    seg: int = 0
    length: int = 0
    offset: int = 0
    left: int = 0


class Block(NamedTuple):
    """A decoded block."""

    uops: tuple[Micro, ...]
    enters: bool  # whether the interpreter enters the region here
    returns: bool  # whether a call of the region returns here

    @property
    def delta(self) -> int:
        """Where it begins."""
        return self.uops[0].delta


class Region(NamedTuple):
    """What is translated together; the first block is the head."""

    blocks: tuple[Block, ...]

    @property
    def entries(self) -> list[int]:
        """Where the interpreter enters, the head first."""
        return [block.delta for block in self.blocks if block.enters]


def shape(code: CodeCache, head: int) -> Region:
    """The region around the block whose first record is at `head`."""
    extents = code.extents
    found: dict[int, tuple[Micro, ...]] = {}
    entries, called = {head}, set()
    waiting = [head]
    size = 0
    while waiting and len(found) < MOST_BLOCKS:
        at = waiting.pop(0)
        if at in found or (found and size + extents[at].uops > MOST_UOPS):
            continue
        found[at] = micros(code, at, head)
        size += len(found[at])
        key = extents[at].key
        for uop in found[at]:
            if uop.link is not None:
                onward = head + uop.link.delta
                waiting.append(onward)
                if extents[onward].key & 0xFFF <= uop.offset:
                    entries.add(onward)  # a loop
            if uop.name.startswith("CALL_"):
                back = code.block_at(key & ~0xFFF | uop.offset + uop.length)
                if back:
                    called.add(back)
                    waiting.append(back)
    blocks = [Block(uops, at in entries | called, at in called) for at, uops in found.items()]
    return Region(tuple(blocks))


def micros(code: CodeCache, at: int, head: int) -> tuple[Micro, ...]:
    """The micro-operations of the block at `at`."""
    names = handler_names()
    found = []
    for place in range(at, at + code.extents[at].uops * UOP.size, UOP.size):
        record = UOP(place)
        link = record.link
        target = Target(link - head, UOP(link).left) if link else None
        operands = (getattr(record, name) for name in OPERANDS)
        found.append(Micro(names[record.number], place - head, target, *operands))
    return tuple(found)
