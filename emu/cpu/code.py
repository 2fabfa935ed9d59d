"""Decoded code: blocks by guest-physical address and mode, dropped when their page is written."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from iced_x86 import Code, Decoder, DecoderError, Instruction

from emu.cpu.decode import Uop, translator
from emu.cpu.models.instructions import as_known
from emu.cpu.pieces import IMM, LINKED, Piece, Pieces
from emu.cpu.regions.hot import Regions
from emu.cpu.state import BLOCK_ENTRIES, UOP
from emu.memory.physical import CODE, PAGE_SIZE, PhysicalMemory

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

MAX_BLOCK = 48  # instructions
ARENA_UOPS = 1 << 21
MODE_SHIFT = 52
MODE_SLOTS = 127
TRANSLATE = os.environ.get("NESTLING_TRANSLATE", "1") != "0"
"""Whether hot code is translated, where nothing else is said."""
KEY_GPA = (1 << MODE_SHIFT) - 1
NO_KEY = np.uint64((1 << 64) - 1)
LONGEST_INSTRUCTION = 15  # bytes
LONGEST = 16  # micro-operations that one instruction has at most
PREFIX_UOPS = LONGEST * MAX_BLOCK + 1
PREFIX = ARENA_UOPS - PREFIX_UOPS  # where in the arena `CodeCache.prefix` copies to


class Breakpoint(NamedTuple):
    """Stands where a block must not go on: the processor is asked whether to stop there."""

    ip: int


class Mode(NamedTuple):
    """What decoding depends on besides the bytes, and what tells RIPs apart in the jump cache."""

    bits: int  # code size: 16, 32 or 64
    user: bool  # CPL is 3
    vm86: bool
    limit: int  # of CS; irrelevant in 64-bit mode
    vectors: int  # which vector extensions the control registers let run
    space: int  # number of the address space (second-level root), 0 without virtualization
    trapped: frozenset[str] = frozenset()  # mnemonics that plain Python runs in this guest


class Extent(NamedTuple):
    """What a block's records stand for, and how many they are."""

    key: int
    uops: int

    @property
    def page(self) -> int:
        """The guest-physical page that the block begins in."""
        return (self.key & KEY_GPA) // PAGE_SIZE


Derived = tuple[tuple[Mode, Mode], tuple[int, int], int]
"""Modes at CPL 0 and 3, their slots, and the slot of the mode in force."""


class CodeCache:
    """The decoded code of one machine, shared by its processors."""

    def __init__(self, memory: PhysicalMemory, translate: bool = TRANSLATE) -> None:
        self.memory = memory
        self.translator = translator()
        self.pieces = Pieces(self.translator)
        self.table = np.full(BLOCK_ENTRIES * 2, NO_KEY, np.uint64)
        self.arena_store = mmap.mmap(-1, ARENA_UOPS * UOP.size)
        self.arena = np.frombuffer(self.arena_store, np.uint8)
        self.arena_address = int(self.arena.ctypes.data)
        self.records = self.arena.view(UOP.dtype)
        self.used = 0
        self.blocks: dict[int, dict[int, int]] = {}  # page -> key -> address
        self.singles: dict[int, dict[int, int]] = {}  # the same for blocks of one instruction
        self.pending: dict[int, dict[int, list[int]]] = {}  # page -> key -> links to patch
        self.crossing: dict[int, set[int]] = {}  # page -> pages whose code runs into it
        self.extents: dict[int, Extent] = {}  # by address of the first record
        self.instructions: dict[
            int, Instruction | Breakpoint
        ] = {}  # by record, of what Python runs
        self.modes: dict[Mode, int] = {}
        self.derived: dict[tuple[int, int, int, frozenset[str]], Derived] = {}  # see Cpu.refresh
        self.cpus: list[Cpu] = []
        self.breakpoints: set[int] = set()  # low 12 bits of RIPs where `Breakpoint` is placed
        self.regions = Regions(self) if translate else None
        memory.code_written.append(self.drop_page)

    def mode_slot(self, mode: Mode) -> int:
        """The number of a mode."""
        slot = self.modes.get(mode)
        if slot is None:
            if len(self.modes) >= MODE_SLOTS:
                self.flush()
            slot = len(self.modes) + 1
            self.modes[mode] = slot
        return slot

    def flush(self) -> None:
        """Forget all decoded code."""
        for page in self.blocks:
            self.memory.map[page] &= ~CODE
            self.memory.code_lines[page] = 0
        self.blocks.clear()
        self.singles.clear()
        self.pending.clear()
        self.crossing.clear()
        self.extents.clear()
        self.instructions.clear()
        self.modes.clear()
        self.derived.clear()
        self.table[:] = NO_KEY
        self.used = 0
        if self.regions is not None:
            self.regions.flushed()
        for cpu in self.cpus:
            cpu.flush_jumps()
            cpu.mode_lost = True

    def drop_page(self, page: int) -> None:
        """Forget the code of a guest-physical page, and what runs into it."""
        for start in sorted(self.crossing.pop(page, ())):
            if start != page:
                self.drop_page(start)
        for key, base in self.blocks.pop(page, {}).items():
            del self.extents[base]
            at = 2 * block_index(key)
            if int(self.table[at]) == key:
                self.table[at] = NO_KEY
        if self.regions is not None:
            self.regions.dropped(page)
        self.singles.pop(page, None)
        self.pending.pop(page, None)
        self.memory.map[page] &= ~CODE
        self.memory.code_lines[page] = 0
        for cpu in self.cpus:
            cpu.flush_jumps()

    def lookup(self, gpa: int, slot: int) -> int:
        """The block at a guest-physical address, put where compiled code looks; 0 when unknown."""
        key = gpa | slot << MODE_SHIFT
        address = self.block_at(key)
        if address:
            self.publish(key, address)
        return address

    def block_at(self, key: int) -> int:
        """The first record of the block with this key; 0 when it is not decoded."""
        return self.blocks.get((key & KEY_GPA) // PAGE_SIZE, {}).get(key, 0)

    def publish(self, key: int, address: int) -> None:
        """Put a block where compiled code looks for it."""
        at = 2 * block_index(key)
        self.table[at] = key
        self.table[at + 1] = address

    def decode(self, cpu: Cpu, gpa: int, mode: Mode, slot: int, limit: int = MAX_BLOCK) -> int:
        """Decode the block at `gpa`, where RIP points; return the address of its first record.

        A block of one instruction (`limit` 1) is for single steps: compiled code does not find it.
        """
        key = gpa | slot << MODE_SHIFT
        if limit == 1 and key in self.singles.get(gpa // PAGE_SIZE, ()):
            return self.singles[gpa // PAGE_SIZE][key]
        if self.used + LONGEST * MAX_BLOCK + 2 > PREFIX:
            self.flush()
            slot = self.mode_slot(mode)
            cpu.refresh()
        page, start = divmod(gpa, PAGE_SIZE)
        data = self.memory.read(gpa, min(PAGE_SIZE - start, MAX_BLOCK * LONGEST_INSTRUCTION))
        decoder = Decoder(mode.bits, data, ip=start)
        known = self.pieces.known_in(mode)
        pieces: list[tuple[Piece, Instruction | Breakpoint]] = []
        offset = start
        crossed = -1
        low = cpu.state.rip - start
        while len(pieces) < limit and decoder.can_decode:
            if limit > 1 and low + offset & 0xFFF in self.breakpoints:
                if not pieces:
                    pieces.append((self.pieces.system, Breakpoint(start)))
                break
            insn = decoder.decode()
            if decoder.last_error == DecoderError.NO_MORE_BYTES:
                if pieces:
                    break
                insn, crossed = self.decode_crossing(cpu, data, start, mode)
            elif insn.code != Code.INVALID and beyond(cpu, mode, insn, start):
                if not pieces:
                    cpu.raise_limit()
                break
            code = data[offset - start : offset - start + insn.len]
            piece = known.get(code) if crossed < 0 else None
            if piece is None:
                piece = self.pieces.make(insn, code, mode, cpu.model)
            elif piece.python:
                as_known(cpu.model, insn)
            if crossed >= 0:
                piece = self.pieces.crossing(piece, gpa, crossed * PAGE_SIZE)
            pieces.append((piece, insn))
            offset += piece.length
            if piece.ends:
                break
        return self.place(page, start, slot, pieces, crossed, limit)

    def decode_crossing(
        self, cpu: Cpu, data: bytes, start: int, mode: Mode
    ) -> tuple[Instruction, int]:
        """An instruction that ends in the next linear page, and that page's guest-physical one."""
        crossed = cpu.next_code_page()
        rest = self.memory.read(crossed * PAGE_SIZE, 15)
        return Decoder(mode.bits, data + rest, ip=start).decode(), crossed

    def place(
        self,
        page: int,
        start: int,
        slot: int,
        pieces: list[tuple[Piece, Instruction | Breakpoint]],
        crossed: int,
        limit: int,
    ) -> int:
        """Write the records of a block and enter it in the tables."""
        single = limit == 1 or not self.memory.map[page]
        records = bytearray()
        links: list[tuple[int, int]] = []
        offset = start
        base = self.arena_address + self.used * UOP.size
        for left, (piece, insn) in zip(range(len(pieces) - 1, -1, -1), pieces, strict=True):
            piece.put(records, offset, left)
            last = len(records) - UOP.size
            if piece.direct and not single:
                links.append((base + last, LINKED.unpack_from(records, last + IMM)[0]))
            if piece.python:
                self.instructions[base + last] = insn
            offset += piece.length
        if piece.falls or not piece.ends:
            if not single and offset < PAGE_SIZE:
                links.append((base + len(records), offset))
            tail = Uop(self.translator.handlers["continue_at_0"], offset)
            records += self.translator.pack(tail, 0, offset & 0xFFF, 0)
        at = self.used * UOP.size
        self.arena_store[at : at + len(records)] = records
        self.used += len(records) // UOP.size
        self.mark(page, start, min(offset, PAGE_SIZE))
        if crossed >= 0:
            self.mark(crossed, 0, offset - PAGE_SIZE)
            self.crossing.setdefault(crossed, set()).add(page)
        key = page * PAGE_SIZE + start | slot << MODE_SHIFT
        known = self.blocks.setdefault(page, {})
        if single:
            if self.memory.map[page]:
                self.singles.setdefault(page, {})[key] = base
            return base
        known[key] = base
        self.extents[base] = Extent(key, len(records) // UOP.size)
        if self.regions is not None:
            self.regions.decoded(base)
        self.publish(key, base)
        self.link(page, slot, links)
        for place in self.pending.get(page, {}).pop(key, ()):
            set_word(place + UOP.places["link"].offset, base)
        return base

    def prefix(self, block: int, count: int) -> int:
        """A copy of the first `count` instructions of a longer block, valid until the next one."""
        first = (block - self.arena_address) // UOP.size
        records = self.records[first : first + PREFIX_UOPS]
        rest = int(records["left"][0]) + 1 - count
        length = int(np.argmax(records["left"] < rest))
        copy = self.records[PREFIX : PREFIX + length + 1]
        copy[:length] = records[:length]
        copy["left"][:length] -= rest
        # the first may lead to a translation, which is of the whole block
        copy["handler"][0] = self.translator.addresses[int(copy["number"][0])]
        offset = int(copy["offset"][length - 1]) + int(copy["length"][length - 1])
        stop = Uop(self.translator.handlers["stop_at_0"], offset)
        copy[length : length + 1].view(np.uint8)[:] = np.frombuffer(
            self.translator.pack(stop, 0, offset & 0xFFF, 0), np.uint8
        )
        return self.arena_address + PREFIX * UOP.size

    def patch(self, record: int, handler: int) -> None:
        """Let compiled code run `handler` for a record."""
        set_word(record + UOP.places["handler"].offset, handler)

    def link(self, page: int, slot: int, links: list[tuple[int, int]]) -> None:
        """Let direct branches inside the page lead to their blocks, now or once those exist."""
        for place, target in links:
            if target >= PAGE_SIZE:
                continue
            key = page * PAGE_SIZE + target | slot << MODE_SHIFT
            address = self.blocks[page].get(key)
            if address:
                set_word(place + UOP.places["link"].offset, address)
            else:
                self.pending.setdefault(page, {}).setdefault(key, []).append(place)

    def mark(self, page: int, first: int, end: int) -> None:
        """Note that bytes of a page are decoded; writes to it take the slow path from now on."""
        lines = ((1 << (end + 63) // 64) - 1) & ~((1 << first // 64) - 1)
        self.memory.code_lines[page] |= lines
        if not self.memory.map[page] & CODE:
            if not self.memory.map[page]:
                return
            self.memory.map[page] |= CODE
            for cpu in self.cpus:
                cpu.forbid_writes(page)


def beyond(cpu: Cpu, mode: Mode, insn: Instruction, start: int) -> bool:
    """Whether an instruction runs over the CS limit."""
    if mode.bits == 64:
        return False
    rip = cpu.state.rip + (insn.ip - start)
    return rip + insn.len - 1 > mode.limit


def block_index(key: int) -> int:
    """Where a block stands in the table of blocks: as `dispatch.block_index`."""
    return (key ^ key >> 14 ^ key >> 45) & (BLOCK_ENTRIES - 1)


def set_word(address: int, value: int) -> None:
    """Write a word of a record."""
    ctypes.c_uint64.from_address(address).value = value
