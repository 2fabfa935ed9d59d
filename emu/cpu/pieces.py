"""Instructions as records: the same bytes become micro-operations once, wherever they stand."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from iced_x86 import FlowControl, Instruction, Register

from emu.cpu.decode import NEAR_BRANCHES, Translator, Uop
from emu.cpu.models.instructions import as_known
from emu.cpu.state import PAGE_BASE_REGISTER, UOP, WORD

if TYPE_CHECKING:
    from emu.cpu.code import Mode
    from emu.cpu.models import Model

FALLS = frozenset((FlowControl.NEXT, FlowControl.CONDITIONAL_BRANCH))
MOST = 1 << 16  # pieces that are kept for a mode
LINKED = struct.Struct("<Q")
PLACED = struct.Struct("<HH")
OFFSET, IMM, DISP = (UOP.places[name].offset for name in ("offset", "imm", "disp"))
assert UOP.places["left"].offset == OFFSET + 2


class Piece(NamedTuple):
    """One instruction as records that have no place yet.

    `relative` tells where in `records` words stand that count from the instruction.
    """

    records: bytes
    relative: tuple[int, ...]
    length: int  # of the instruction
    ends: bool  # whether the block ends here
    falls: bool  # whether the next instruction may be run after it
    direct: bool  # whether its last record leads to an offset in the page: IMM
    python: bool  # whether plain Python may have to run it

    def put(self, records: bytearray, offset: int, left: int) -> None:
        """Append the records at an offset of a page, `left` instructions before the block's end."""
        start = len(records)
        records += self.records
        for at in range(start + OFFSET, len(records), UOP.size):
            PLACED.pack_into(records, at, offset, left)
        for where in self.relative:
            at = start + where
            LINKED.pack_into(records, at, LINKED.unpack_from(records, at)[0] + offset & WORD)


class Pieces:
    """The pieces of processors of one model, by mode and bytes."""

    def __init__(self, translator: Translator) -> None:
        self.translator = translator
        self.system = Piece(
            self.pack([Uop(translator.system)], 0), (), 0, ends=True, falls=False, direct=False,
            python=True,
        )  # fmt: skip
        self.known: dict[tuple[object, ...], dict[bytes, Piece]] = {}

    def known_in(self, mode: Mode) -> dict[bytes, Piece]:
        """What is known in a mode, by bytes."""
        known = self.known.setdefault((mode.bits, mode.vm86, mode.vectors, mode.trapped), {})
        if len(known) >= MOST:
            known.clear()
        return known

    def make(self, insn: Instruction, code: bytes, mode: Mode, model: Model) -> Piece:
        """The piece of an instruction decoded with IP as its offset in the page.

        It is kept for the same bytes elsewhere, where `code` has all of them.
        """
        translator = self.translator
        if as_known(model, insn):
            uops, ends = translator.uops(insn, mode.bits, mode.vm86, mode.vectors, mode.trapped)
        else:
            uops, ends = [Uop(translator.system)], True
        branches = insn.op_count > 0 and insn.op_kind(0) in NEAR_BRANCHES
        python = uops[-1].number in translator.python
        direct = branches and not python
        counts = insn.is_ip_rel_memory_operand
        # elsewhere addresses wrap around before the page they are in is known
        movable = mode.bits == 64 and insn.memory_base != Register.EIP
        relative = []
        if movable and direct:
            relative.append((len(uops) - 1) * UOP.size + IMM)
        if movable and counts:
            based = (n for n, uop in enumerate(uops) if uop.base == PAGE_BASE_REGISTER)
            relative += [n * UOP.size + DISP for n in based]
        records = bytearray(self.pack(uops, insn.len))
        for at in relative:
            LINKED.pack_into(records, at, LINKED.unpack_from(records, at)[0] - insn.ip & WORD)
        falls = insn.flow_control in FALLS
        piece = Piece(bytes(records), tuple(relative), insn.len, ends, falls, direct, python)
        if (movable or not (branches or counts)) and len(code) == insn.len:
            self.known_in(mode)[code] = piece
        return piece

    def pack(self, uops: list[Uop], length: int) -> bytes:
        """Records of micro-operations, their places zero."""
        return b"".join(self.translator.pack(uop, length, 0, 0) for uop in uops)

    def crossing(self, piece: Piece, gpa: int, following: int) -> Piece:
        """The piece of an instruction at `gpa` that ends in the page at `following`."""
        check = Uop(self.translator.handlers["crosses_0"], following, gpa)
        records = self.pack([check], piece.length) + piece.records
        relative = tuple(at + UOP.size for at in piece.relative)
        return piece._replace(records=records, relative=relative, ends=True)
