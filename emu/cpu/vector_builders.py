"""How a vector instruction becomes micro-operations: one builder a way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from iced_x86 import EncodingKind, Instruction, MemorySizeInfo, OpKind

from emu.cpu.registers import REGISTERS, SEGMENTS
from emu.cpu.state import ADDRESS_REGISTER, DS, FS, ZERO_REGISTER

if TYPE_CHECKING:
    from emu.cpu.decode import Translator, Uop

SPARE = 128  # lanes of a register that no instruction names
SPARE2 = 132
X87, SSE, AVX = 1, 2, 4  # bits of Cpu.vectors()
WORD = (1 << 64) - 1


class Unsupported(Exception):  # noqa: N818 - a form that no row covers
    """The instruction is left to plain Python."""


class Vec(NamedTuple):
    """An instruction: iced-x86's mnemonic (less the V of VEX), operation, how it is built.

    `width` is the size of a memory operand that is not a full lane. `forms` names the encodings:
    s legacy, v VEX, m MMX. `unaligned` 16-byte operands need no alignment.
    """

    mnemonic: str
    op: str
    how: Callable[[Build, Vec], None]
    width: int = 0
    forms: str = "sv"
    unaligned: bool = False
    undefined: int = 0  # flags


class Build:
    """The micro-operations of one instruction, as they are put together."""

    def __init__(self, translator: Translator, insn: Instruction, bits: int) -> None:
        from emu.cpu import decode  # noqa: PLC0415 - it imports this module

        self.decode = decode
        self.translator = translator
        self.insn = insn
        self.bits = bits
        self.count = insn.op_count
        self.vex = insn.encoding == EncodingKind.VEX
        self.uops: list[Uop] = []
        self.lanes = 1
        self.mmx = False
        for i in range(self.count):
            if insn.op_kind(i) == OpKind.REGISTER:
                operand = REGISTERS[insn.op_register(i)]
                if operand.size == 256:
                    self.lanes = 2
                self.mmx |= operand.letter == "P"
        self.imm = 0
        if self.count and self.is_immediate(self.count - 1):
            self.imm = insn.immediate(self.count - 1) & WORD
            self.count -= 1

    def is_immediate(self, position: int) -> bool:
        """Whether an operand is an immediate."""
        return self.insn.op_kind(position) in self.decode.IMMEDIATES

    def is_memory(self, position: int) -> bool:
        """Whether an operand lies in memory; a vector of addresses is not supported."""
        if self.insn.is_vsib:
            raise Unsupported
        return bool(self.insn.op_kind(position) == OpKind.MEMORY)

    def letter(self, position: int) -> str:
        """The register file of an operand; "" for memory."""
        if self.insn.op_kind(position) != OpKind.REGISTER:
            return ""
        return REGISTERS[self.insn.op_register(position)].letter

    def number(self, position: int) -> int:
        """The number of a register operand."""
        return REGISTERS[self.insn.op_register(position)].number

    def emit(self, op: str, r0: int = 0, r1: int = 0, r2: int = 0, imm: int = 0) -> None:
        """Append a micro-operation."""
        self.uops.append(self.decode.Uop(self.handler(op), imm, 0, r0, r1, r2))

    def handler(self, op: str) -> int:
        """The number of a micro-operation's handler."""
        return self.translator.handlers[f"{op}_0"]

    def access(self, op: str, lane: int, imm: int = 0) -> None:
        """Append a micro-operation on the memory operand."""
        insn, bits = self.insn, self.bits
        base, index, scale, disp, seg = self.decode.memory_fields(insn, bits)
        if SEGMENTS[insn.memory_segment] >= FS or self.decode.address_bits(insn, bits) != 64:
            address = self.translator.address_uop(insn, bits)
            size = MemorySizeInfo(insn.memory_size).size
            self.uops.append(self.decode.Uop(address, size, disp, 0, 0, 0, base, index, scale, seg))
            base, index, scale, disp = ADDRESS_REGISTER, ZERO_REGISTER, 0, 0
        self.uops.append(
            self.decode.Uop(self.handler(op), imm, disp, lane, 0, 0, base, index, scale, seg)
        )

    def lane(self, position: int) -> int:
        """The first lane of a vector register operand."""
        return 4 * self.number(position)

    def source(self, position: int, row: Vec, spare: int = SPARE) -> int:
        """The first lane of a source: a register's, or a spare one that memory is loaded into."""
        if self.is_memory(position):
            self.access(self.sized("vload", row), spare)
            return spare
        if self.letter(position) == "P":
            self.emit("mmxfrom", spare, self.number(position))
            return spare
        return self.lane(position)

    def sized(self, op: str, row: Vec) -> str:
        """The load or store for the memory operand of a row: its size and whether it is aligned."""
        if self.mmx:
            return f"{op}{row.width or 8}"
        if row.width:
            return f"{op}{row.width}"
        size = 16 * self.lanes
        aligned = row.mnemonic in ALIGNED if self.vex else not row.unaligned
        return f"{op}{size}a" if aligned else f"{op}{size}"

    def finish(self, target: int, lanes: int = 0) -> None:
        """Clear what is above the result of a VEX instruction."""
        if self.vex:
            self.emit("vzero2" if (lanes or self.lanes) == 2 else "vzero1", target)


ALIGNED = frozenset(("MOVAPS", "MOVAPD", "MOVDQA", "MOVNTPS", "MOVNTPD", "MOVNTDQ", "MOVNTDQA"))


# how operations are put together


def two(b: Build, row: Vec) -> None:
    """DEST := op(SRC1, SRC2), lane by lane; SRC1 is DEST in legacy encodings."""
    last = b.source(b.count - 1, row)
    if b.mmx:
        b.emit("mmxfrom", SPARE2, b.number(0))
        b.emit("mmxused")
        b.emit(row.op, SPARE2, SPARE2, last, b.imm)
        b.emit("mmxto", b.number(0), SPARE2)
        return
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    for i in range(b.lanes):
        b.emit(row.op, target + i, first + i, last + i, b.imm)
    b.finish(target)


def paired(b: Build, row: Vec) -> None:
    """As `two`; MMX operands stand side by side in one lane, the result in its low word."""
    if not b.mmx:
        two(b, row)
        return
    last = b.source(1, row)
    b.emit("mmxfrom", SPARE2, b.number(0))
    b.emit("mmxused")
    b.emit("words00", SPARE2, SPARE2, last)
    b.emit(row.op, SPARE2, SPARE2, SPARE2)
    b.emit("mmxto", b.number(0), SPARE2)


def interleave(b: Build, row: Vec) -> None:
    """PUNPCK: MMX operands fill one lane, of which one word is the result."""
    if not b.mmx:
        two(b, row)
        return
    high = row.op.startswith("punpckh")
    last = b.source(1, row._replace(width=8 if high else 4))
    b.emit("mmxfrom", SPARE2, b.number(0))
    b.emit("mmxused")
    b.emit(row.op.replace("punpckh", "punpckl"), SPARE2, SPARE2, last)
    if high:
        b.emit("words11", SPARE2, SPARE2, SPARE2)
    b.emit("mmxto", b.number(0), SPARE2)


def shuffle_bytes(b: Build, row: Vec) -> None:
    """PSHUFB: an MMX register twice in a lane, so that three bits of an index count."""
    if not b.mmx:
        two(b, row)
        return
    last = b.source(1, row)
    b.emit("mmxfrom", SPARE2, b.number(0))
    b.emit("mmxused")
    b.emit("words00", SPARE2, SPARE2, SPARE2)
    b.emit(row.op, SPARE2, SPARE2, last)
    b.emit("mmxto", b.number(0), SPARE2)


def one(b: Build, row: Vec) -> None:
    """DEST := op(SRC), lane by lane."""
    last = b.source(b.count - 1, row)
    if b.mmx:
        b.emit("mmxused")
        b.emit(row.op, SPARE, last, last, b.imm)
        b.emit("mmxto", b.number(0), SPARE)
        return
    target = b.lane(0)
    for i in range(b.lanes):
        b.emit(row.op, target + i, last + i, last + i, b.imm)
    b.finish(target)


def split_immediate(b: Build, row: Vec) -> None:
    """As `two`, the upper lane with the upper bits of the immediate."""
    width = {"blendps": 4, "blendpd": 2, "shufpd": 2, "mpsadbw": 3}[row.op]
    last = b.source(b.count - 1, row)
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    for i in range(b.lanes):
        b.emit(row.op, target + i, first + i, last + i, b.imm >> (width * i))
    b.finish(target)


def masked(b: Build, row: Vec) -> None:
    """Blends by sign bits: the mask is XMM0, or a fourth operand."""
    if b.vex:
        b.count -= 1
        pattern = b.lane(b.count)
    else:
        pattern = 0
        b.count = 2
    last = b.source(b.count - 1, row)
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    for i in range(b.lanes):
        b.emit(row.op, target + i, first + i, last + i, pattern + i)
    b.finish(target)


def shift(b: Build, row: Vec) -> None:
    """Shifts: by an immediate, or all lanes by the low word of one 128-bit operand."""
    immediate = b.is_immediate(b.insn.op_count - 1)
    op = row.op + "_i" if immediate else row.op
    if b.mmx:
        last = SPARE if immediate else b.source(1, row)
        b.emit("mmxfrom", SPARE2, b.number(0))
        b.emit("mmxused")
        b.emit(op, SPARE2, SPARE2, last, b.imm)
        b.emit("mmxto", b.number(0), SPARE2)
        return
    target = b.lane(0)
    if immediate:
        first = b.lane(b.count - 1)
        last = first
    else:
        aligned = not b.vex
        if b.is_memory(b.count - 1):
            b.access("vload16a" if aligned else "vload16", SPARE)
            last = SPARE
        else:
            last = b.lane(b.count - 1)
        first = b.lane(1) if b.count == 3 else target
        if last == target and b.lanes == 2:
            b.emit("vmove", SPARE, last)
            last = SPARE
    for i in range(b.lanes):
        b.emit(op, target + i, first + i, last, b.imm)
    b.finish(target)


def shift_bytes(b: Build, row: Vec) -> None:
    """PSLLDQ, PSRLDQ."""
    target, first = b.lane(0), b.lane(b.count - 1)
    for i in range(b.lanes):
        b.emit(row.op, target + i, first + i, first + i, b.imm)
    b.finish(target)


def extend(b: Build, row: Vec) -> None:
    """PMOVSX, PMOVZX: each lane from its part of the source."""
    part = row.width
    if b.is_memory(1):
        b.access(f"vload{part * b.lanes}", SPARE)
        source = SPARE
    else:
        source = b.lane(1)
    target = b.lane(0)
    for i in reversed(range(b.lanes)):
        b.emit(row.op, target + i, source, source, part * i)
    b.finish(target)


def move(b: Build, row: Vec) -> None:
    """Moves of whole registers."""
    if b.mmx:
        move_mmx(b)
    elif b.is_memory(0):
        b.access(b.sized("vstore", row), b.lane(1))
    else:
        target = b.lane(0)
        if b.is_memory(1):
            b.access(b.sized("vload", row), target)
        else:
            for i in range(b.lanes):
                b.emit("vmove", target + i, b.lane(1) + i)
        b.finish(target)


def move_mmx(b: Build) -> None:
    """MOVQ and MOVNTQ of an MMX register."""
    if b.is_memory(0):
        b.emit("mmxfrom", SPARE, b.number(1))
        b.access("vstore8", SPARE)
        b.emit("mmxused")
        return
    if b.is_memory(1):
        b.access("vload8", SPARE)
    elif b.letter(1) == "P":
        b.emit("mmxfrom", SPARE, b.number(1))
    b.emit("mmxused")
    b.emit("mmxto", b.number(0), SPARE)


def move_between(b: Build, row: Vec) -> None:
    """MOVQ2DQ, MOVDQ2Q: between an MMX register and the low word of an XMM register."""
    b.emit("mmxused")
    if row.op == "mmxto":
        b.emit("mmxto", b.number(0), b.lane(1))
    else:
        b.emit("mmxfrom", b.lane(0), b.number(1))


def move_general(b: Build, row: Vec) -> None:
    """MOVD, MOVQ: between a general register or memory and the low bits of a vector register."""
    size = row.width
    to_vector = b.letter(0) in ("X", "P")
    other = 1 if to_vector else 0
    if b.letter(other) == "P" or (b.letter(other) == "" and b.mmx and size == 8):
        move_mmx(b)
        return
    if b.mmx:
        vector = b.number(1 - other)
        if to_vector:
            if b.is_memory(1):
                b.access(f"vload{size}", SPARE)
            else:
                b.emit(f"fromgpr{8 * size}", SPARE, b.number(1))
            b.emit("mmxused")
            b.emit("mmxto", vector, SPARE)
            return
        b.emit("mmxfrom", SPARE, vector)
        if b.is_memory(0):
            b.access(f"vstore{size}", SPARE)
        else:
            b.emit(f"togpr{8 * size}", b.number(0), SPARE)
        b.emit("mmxused")
        return
    if b.letter(other) == "X":
        b.emit("lowword", b.lane(0), b.lane(1))
        b.finish(b.lane(0))
    elif to_vector:
        if b.is_memory(1):
            b.access(f"vload{size}", b.lane(0))
        else:
            b.emit(f"fromgpr{8 * size}", b.lane(0), b.number(1))
        b.finish(b.lane(0))
    elif b.is_memory(0):
        b.access(f"vstore{size}", b.lane(1))
    else:
        b.emit(f"togpr{8 * size}", b.number(0), b.lane(1))


def scalar(b: Build, row: Vec) -> None:
    """MOVSS, MOVSD: a load clears the rest of the lane, a register move keeps it."""
    if b.is_memory(0):
        b.access(f"vstore{row.width}", b.lane(1))
        return
    target = b.lane(0)
    if b.is_memory(1):
        b.access(f"vload{row.width}", target)
    else:
        first = b.lane(1) if b.count == 3 else target
        last = b.lane(b.count - 1)
        if row.width == 4:
            b.emit("single", target, first, last)
        else:
            b.emit("words01", target, last, first)
    b.finish(target)


def half(b: Build, row: Vec) -> None:
    """MOVLPS, MOVHPS, MOVLHPS, MOVHLPS: one word of a lane replaced or stored."""
    if b.is_memory(0):
        b.access("vstore8", b.lane(1), 8 if row.op == "high" else 0)
        return
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    last = b.count - 1
    if b.is_memory(last):
        b.access("vload8", SPARE)
        source = SPARE
    else:
        source = b.lane(last)
    if row.op == "high":
        b.emit("words00", target, first, source)
    elif b.is_memory(last):
        b.emit("words01", target, source, first)
    else:
        b.emit("words11", target, source, first)
    b.finish(target)


def to_mask(b: Build, row: Vec) -> None:
    """PMOVMSKB, MOVMSKPS, MOVMSKPD."""
    if b.mmx:
        b.emit("mmxfrom", SPARE, b.number(1))
        b.emit("mmxused")
        b.emit("signs8x1", b.number(0), SPARE)
    else:
        b.emit(f"{row.op}x{b.lanes}", b.number(0), b.lane(1))


def extract(b: Build, row: Vec) -> None:
    """PEXTR, EXTRACTPS: an element to a general register or memory."""
    size = row.width
    source = SPARE if b.mmx else b.lane(1)
    at = (b.imm & ((8 if b.mmx else 16) // size - 1)) * size
    if b.mmx:
        b.emit("mmxfrom", SPARE, b.number(1))
        b.emit("mmxused")
    if b.is_memory(0):
        b.access(f"vstore{size}", source, at)
    else:
        b.emit(f"togpr{8 * size}", b.number(0), source, 0, at)


def insert(b: Build, row: Vec) -> None:
    """PINSR: an element from a general register or memory."""
    size = row.width
    at = (b.imm & ((8 if b.mmx else 16) // size - 1)) * size
    last = b.count - 1
    if b.is_memory(last):
        b.access(f"vload{size}", SPARE)
    else:
        b.emit(f"fromgpr{min(8 * size, 64) if size > 2 else 32}", SPARE, b.number(last))
    if b.mmx:
        b.emit("mmxfrom", SPARE2, b.number(0))
        b.emit("mmxused")
        b.emit(f"insert{8 * size}", SPARE2, SPARE2, SPARE, at)
        b.emit("mmxto", b.number(0), SPARE2)
        return
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    b.emit(f"insert{8 * size}", target, first, SPARE, at)
    b.finish(target)


def insert_single(b: Build, row: Vec) -> None:
    """INSERTPS."""
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    memory = b.is_memory(b.count - 1)
    last = b.source(b.count - 1, row)
    if last == target:
        b.emit("vmove", SPARE, last)
        last = SPARE
    b.emit("insertps_m" if memory else "insertps", target, first, last, b.imm)
    b.finish(target)


def align(b: Build, row: Vec) -> None:
    """PALIGNR: MMX has its own width."""
    two(b, row._replace(op="palignr_mmx") if b.mmx else row)


def test(b: Build, row: Vec) -> None:
    """PTEST, VTESTPS, VTESTPD."""
    last = b.source(1, row)
    b.emit(f"{row.op}{b.lanes}", 0, b.lane(0), last)


def broadcast(b: Build, row: Vec) -> None:
    """VBROADCASTSS and the like, MOVDDUP in one lane."""
    if b.is_memory(1):
        b.access(f"vload{row.width}", SPARE)
        source = SPARE
    else:
        source = b.lane(1)
    target = b.lane(0)
    for i in reversed(range(b.lanes)):
        b.emit(row.op, target + i, source)
    b.finish(target)


def duplicate(b: Build, row: Vec) -> None:
    """MOVDDUP: the low word of each lane twice."""
    if b.lanes == 1:
        broadcast(b, row)
        return
    source = b.source(1, row._replace(width=0, unaligned=True))
    target = b.lane(0)
    for i in range(b.lanes):
        b.emit(row.op, target + i, source + i)
    b.finish(target)


def broadcast_lane(b: Build, row: Vec) -> None:
    """VBROADCASTF128, VBROADCASTI128."""
    b.access("vload16", SPARE)
    target = b.lane(0)
    for i in range(2):
        b.emit("vmove", target + i, SPARE)
    b.finish(target, 2)


def extract_lane(b: Build, row: Vec) -> None:
    """VEXTRACTF128, VEXTRACTI128."""
    source = b.lane(1) + (b.imm & 1)
    if b.is_memory(0):
        b.access("vstore16", source)
    else:
        b.emit("vmove", b.lane(0), source)
        b.finish(b.lane(0), 1)


def insert_lane(b: Build, row: Vec) -> None:
    """VINSERTF128, VINSERTI128."""
    if b.is_memory(2):
        b.access("vload16", SPARE)
    else:
        b.emit("vmove", SPARE, b.lane(2))
    target = b.lane(0)
    for i in range(2):
        b.emit("vmove", target + i, SPARE if i == b.imm & 1 else b.lane(1) + i)
    b.finish(target, 2)


def permute_lanes(b: Build, row: Vec) -> None:
    """VPERM2F128, VPERM2I128: each lane picked from four, or zero."""
    last = b.source(2, row, SPARE2)
    pool = (b.lane(1), b.lane(1) + 1, last, last + 1)
    for i in range(2):
        pick = b.imm >> 4 * i
        if pick & 8:
            b.emit("pxor", SPARE + i, SPARE, SPARE)
        else:
            b.emit("vmove", SPARE + i, pool[pick & 3])
    for i in range(2):
        b.emit("vmove", b.lane(0) + i, SPARE + i)
    b.finish(b.lane(0), 2)


def permute(b: Build, row: Vec) -> None:
    """VPERMQ, VPERMPD: across lanes by an immediate."""
    source = b.source(1, row)
    b.emit(row.op, b.lane(0), source, 0, b.imm)
    b.finish(b.lane(0), 2)


def permute_by(b: Build, row: Vec) -> None:
    """VPERMD, VPERMPS: across lanes by a register."""
    last = b.source(2, row)
    b.emit(row.op, b.lane(0), b.lane(1), last)
    b.finish(b.lane(0), 2)


def permute_in(b: Build, row: Vec) -> None:
    """VPERMILPS, VPERMILPD: inside each lane, by an immediate or by a register."""
    single = row.op == "ps"
    immediate = b.is_immediate(b.insn.op_count - 1)
    last = b.source(b.count - 1, row)
    target = b.lane(0)
    for i in range(b.lanes):
        if immediate:
            op = "pshufd" if single else "shufpd"
            b.emit(op, target + i, last + i, last + i, b.imm if single else b.imm >> 2 * i)
        elif single:
            b.emit("permildwords", target + i, last + i, b.lane(1) + i)
        else:
            b.emit("permilwords", target + i, b.lane(1) + i, last + i)
    b.finish(target)


def mask_move(b: Build, row: Vec) -> None:
    """MASKMOVDQU, MASKMOVQ: to DS:rDI, or through another segment."""
    value, pattern = SPARE, SPARE2
    if b.mmx:
        b.emit("mmxfrom", value, b.number(1))
        b.emit("mmxfrom", pattern, b.number(2))
    else:
        value, pattern = b.lane(1), b.lane(2)
    segment = b.insn.memory_segment
    mode = "long" if b.bits == 64 else "legacy"
    width = {
        OpKind.MEMORY_SEG_DI: 16,
        OpKind.MEMORY_SEG_EDI: 32,
        OpKind.MEMORY_SEG_RDI: 64,
    }[b.insn.op_kind(0)]
    uop = b.decode.Uop(
        b.handler(f"maskmovdqu_{mode}"),
        (1 << width) - 1,
        0,
        value,
        pattern,
        seg=SEGMENTS.get(segment, DS),
    )
    b.uops.append(uop)
    if b.mmx:
        b.emit("mmxused")


def floating(b: Build, row: Vec) -> None:
    """Arithmetic: all elements, or the lowest one with the rest of SRC1 kept."""
    size = 8 if row.op[-1] == "d" else 4
    last = b.source(b.count - 1, row)
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    if not row.width:
        b.emit(row.op, target, first, last, 16 * b.lanes // size)
    elif first == target:
        b.emit(row.op, target, first, last, 1)
    else:
        # what can fault comes first, in a copy
        b.emit("vmove", SPARE + 1, first)
        b.emit(row.op, SPARE + 1, SPARE + 1, last, 1)
        b.emit("vmove", target, SPARE + 1)
    b.finish(target)


def compare(b: Build, row: Vec) -> None:
    """COMISS, UCOMISS, COMISD, UCOMISD."""
    b.emit(row.op, 0, b.lane(0), b.source(1, row))


def kept(b: Build, op: str, source: int, imm: int = 0) -> None:
    """The low element by `op` from `source`, the rest of the lane from SRC1; faults come first."""
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    if first == target:
        b.emit(op, target, target, source, imm)
    else:
        b.emit("vmove", SPARE + 1, first)
        b.emit(op, SPARE + 1, SPARE + 1, source, imm)
        b.emit("vmove", target, SPARE + 1)
    b.finish(target)


def from_integer(b: Build, row: Vec) -> None:
    """CVTSI2SS, CVTSI2SD."""
    last = b.count - 1
    size = b.decode.operand_bits(b.insn, last)
    if b.is_memory(last):
        b.access(f"vload{size // 8}", SPARE)
    else:
        b.emit(f"fromgpr{size}", SPARE, b.number(last))
    kept(b, f"int{size}to{row.op}", SPARE)


def to_integer(b: Build, row: Vec) -> None:
    """CVTSS2SI, CVTSD2SI and those that truncate."""
    size = b.decode.operand_bits(b.insn, 0)
    b.emit(f"{row.op}int{size}", b.number(0), 0, b.source(1, row))


def change_format(b: Build, row: Vec) -> None:
    """CVTSS2SD, CVTSD2SS."""
    kept(b, row.op, b.source(b.count - 1, row))


def dwords(b: Build, row: Vec) -> None:
    """CVTDQ2PS, CVTPS2DQ, CVTTPS2DQ."""
    b.emit(row.op, b.lane(0), 0, b.source(1, row), 4 * b.lanes)
    b.finish(b.lane(0))


def predicate(b: Build, row: Vec) -> None:
    """CMPPS, CMPPD, CMPSS, CMPSD: three bits say which, five in VEX encodings."""
    code = b.imm & (31 if b.vex else 7)
    last = b.source(b.count - 1, row)
    if row.width:
        kept(b, row.op, last, code | 1 << 8)
        return
    target = b.lane(0)
    first = b.lane(1) if b.count == 3 else target
    count = 16 * b.lanes // (8 if row.op == "cmpd" else 4)
    b.emit(row.op, target, first, last, code | count << 8)
    b.finish(target)


def control_register(b: Build, row: Vec) -> None:
    """LDMXCSR, STMXCSR."""
    b.access(row.op, 0)


def alone(b: Build, row: Vec) -> None:
    """EMMS."""
    b.emit(row.op)


def zero(b: Build, row: Vec) -> None:
    """VZEROUPPER, VZEROALL: registers 0 to 15 in 64-bit mode, else 0 to 7."""
    b.emit(row.op, 0, 0, 0, 16 if b.bits == 64 else 8)
