"""Instructions into micro-operations: iced-x86 decodes once, a template says where operands go."""

from __future__ import annotations

import functools
import struct
from collections.abc import Collection
from typing import NamedTuple

from iced_x86 import (
    Code,
    FlowControl,
    Instruction,
    InstructionInfoFactory,
    MemorySizeInfo,
    Mnemonic,
    OpAccess,
    OpCodeInfo,
    OpKind,
    Register,
)

from emu.cpu import vector_builders, vectors
from emu.cpu.insns.rows import Insn, handler_name, handlers
from emu.cpu.program import program, rows
from emu.cpu.registers import ADDRESS_REGISTERS, REGISTERS, SEGMENTS
from emu.cpu.state import ADDRESS_REGISTER, FS, UOP, ZERO_REGISTER

MNEMONICS = {v: k for k, v in vars(Mnemonic).items() if isinstance(v, int)}
CODES = {v: k for k, v in vars(Code).items() if isinstance(v, int)}

IMMEDIATES = frozenset(
    getattr(OpKind, name) for name in vars(OpKind) if name.startswith("IMMEDIATE")
)
NEAR_BRANCHES = frozenset((OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64))
# memory that a string instruction implies: its address size, whether the segment can be overridden
STRINGS = {
    OpKind.MEMORY_SEG_SI: (16, True),
    OpKind.MEMORY_SEG_ESI: (32, True),
    OpKind.MEMORY_SEG_RSI: (64, True),
    OpKind.MEMORY_SEG_DI: (16, True),
    OpKind.MEMORY_SEG_EDI: (32, True),
    OpKind.MEMORY_SEG_RDI: (64, True),
    OpKind.MEMORY_ESDI: (16, False),
    OpKind.MEMORY_ESEDI: (32, False),
    OpKind.MEMORY_ESRDI: (64, False),
}
# one mnemonic of iced-x86 stands for several of our rows: by the width of the source
BY_SOURCE = {
    ("MOVZX", 16): "MOVZX16",
    ("MOVSX", 16): "MOVSX16",
    ("MOVSXD", 16): "MOVSXD16",
}
WRITES = frozenset(
    (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
)
NEXT = frozenset((FlowControl.NEXT, FlowControl.CONDITIONAL_BRANCH))
RIP = Register.RIP
WORD = (1 << 64) - 1
ALL_VECTORS = vector_builders.X87 | vector_builders.SSE | vector_builders.AVX


class Uop(NamedTuple):
    """A micro-operation before it has its place: the fields of `state.UOP` that vary."""

    number: int
    imm: int = 0
    disp: int = 0
    r0: int = 0
    r1: int = 0
    r2: int = 0
    base: int = 16
    index_register: int = 16
    scale: int = 0
    seg: int = 3


class Template(NamedTuple):
    """How one encoding becomes micro-operations."""

    number: int  # of the handler
    letters: str
    address: int  # of the micro-operation that computes the address; -1 when there is none
    width: int  # bytes of the memory operand
    ends: bool  # whether the block ends here


PACK = struct.Struct("<QQQQ8BHHI")
assert PACK.size == UOP.size


class Translator:
    """Turns decoded instructions into micro-operations."""

    def __init__(self) -> None:
        self.handlers = program().handlers
        self.addresses = program().addresses
        self.rows: dict[str, list[Insn]] = {}
        for family in rows().values():
            for row in family:
                self.rows.setdefault(row.mnemonic, []).append(row)
        self.templates: dict[tuple[int, ...], Template] = {}
        self.system = self.handlers["system_0"]
        names = [h.name for rs in self.rows.values() for r in rs if r.python for h in handlers(r)]
        self.python = frozenset((self.system, *(self.handlers[name] for name in names)))
        self.accesses = InstructionInfoFactory()

    def template(self, insn: Instruction, bits: int, vm86: bool) -> Template:
        """The template of an instruction; one that no row covers is plain Python's to run."""
        kinds = tuple(insn.op_kind(i) for i in range(insn.op_count))
        prefix = (
            insn.has_rep_prefix * 1 + insn.has_repne_prefix * 2 if insn.is_string_instruction else 0
        )
        based = OpKind.MEMORY in kinds and (
            SEGMENTS[insn.memory_segment] >= FS or address_bits(insn, bits) != 64
        )
        address = address_bits(insn, bits) if OpKind.MEMORY in kinds else 0
        nested = insn.mnemonic == Mnemonic.ENTER and insn.immediate(1) & 31 != 0
        key = (insn.code, prefix, bits, vm86, based, address, nested, *kinds)
        found = self.templates.get(key)
        if found is None:
            found = self.make(insn, bits, vm86, based)
            self.templates[key] = found
        return found

    def row(self, insn: Instruction, vm86: bool = False) -> Insn | None:
        """The row that covers an instruction; None when plain Python runs it."""
        name = MNEMONICS[insn.mnemonic]
        if vm86 and name in ("PUSHF", "PUSHFD", "POPF", "POPFD", "CLI", "STI"):
            return None
        if insn.is_jmp_far_indirect or insn.is_call_far_indirect:
            return None
        if name == "ENTER" and insn.immediate(1) & 31:
            return None
        if insn.is_string_instruction:
            if insn.has_repne_prefix:
                name = ("REPNE_" if name[:4] in ("CMPS", "SCAS") else "REP_") + name
            elif insn.has_rep_prefix:
                name = "REP_" + name
        if insn.op_count == 2:
            name = BY_SOURCE.get((name, operand_bits(insn, 1)), name)
        if name == "CRC32" and operand_bits(insn, 0) == 64:
            name = "CRC32Q"
        letters = letters_of(insn)
        return next((r for r in self.rows.get(name, ()) if letters in r.forms.split()), None)

    def make(self, insn: Instruction, bits: int, vm86: bool, based: bool) -> Template:
        """Find the row and the handler for an instruction."""
        letters = letters_of(insn)
        python = Template(self.system, "", -1, 0, True)
        row = self.row(insn, vm86)
        if row is None:
            return python
        size = {
            "first": lambda: operand_bits(insn, 0),
            "second": lambda: operand_bits(insn, 1),
            "code": lambda: OpCodeInfo(insn.code).operand_size,
            "fixed": lambda: row.sizes[0],
        }[row.size]()
        uop_before = -1
        if "M" in letters and based and not row.own_address:
            uop_before = self.address_uop(insn, bits)
        mode = ("long" if bits == 64 else "legacy") if row.modal else ""
        address = 0
        if row.addressed:
            address = OpCodeInfo(insn.code).address_size or address_bits(insn, bits)
        number = self.handlers.get(handler_name(row.mnemonic, size, letters, mode, address))
        if number is None:
            return python
        memory = MemorySizeInfo(insn.memory_size).size if "M" in letters else 0
        ends = row.python or insn.flow_control not in NEXT
        return Template(number, letters, uop_before, memory, ends)

    def address_uop(self, insn: Instruction, bits: int) -> int:
        """The micro-operation that computes the address of the memory operand."""
        size = address_bits(insn, bits)
        if bits == 64:
            return self.handlers[f"address_long_{size}"]
        info = self.accesses.info(insn)
        place = next(i for i in range(insn.op_count) if insn.op_kind(i) == OpKind.MEMORY)
        how = "write" if info.op_access(place) in WRITES else "read"
        return self.handlers[f"address_{how}_{size}"]

    def uops(
        self,
        insn: Instruction,
        bits: int,
        vm86: bool = False,
        enabled: int = ALL_VECTORS,
        trapped: Collection[str] = (),
    ) -> tuple[list[Uop], bool]:
        """Micro-operations of an instruction decoded with IP as its offset in the page.

        `enabled` is `Cpu.vectors()`, `trapped` what plain Python runs although there are handlers.
        The second value says whether the block ends here.
        """
        if trapped and MNEMONICS[insn.mnemonic] in trapped:
            return [Uop(self.system)], True
        vector = vectors.covers(insn)
        if vector is not None:
            found = None
            if vectors.allowed(insn, enabled):
                found = vectors.uops(self, insn, bits, vector)
            return ([Uop(self.system)], True) if found is None else (found, False)
        template = self.template(insn, bits, vm86)
        if not template.letters:
            return [Uop(template.number)], template.ends
        values = {"imm": 0, "disp": 0}
        memory = (16, 16, 0, 0, 3)
        registers = [0, 0, 0]
        position = 0
        extra = 0
        letters = template.letters if template.letters != "-" else ""
        for i, kind in enumerate(letters):
            if kind in "RSXPTCD":
                number = REGISTERS[insn.op_register(i)].number
                if position < 3:
                    registers[position] = number
                else:
                    extra = number
                position += 1
            elif kind == "M":
                memory = memory_fields(insn, bits)
            elif kind == "I":
                op_kind = insn.op_kind(i)
                second = op_kind == OpKind.IMMEDIATE8_2ND
                values["disp" if second else "imm"] = insn.immediate(i) & WORD
            elif kind == "J":
                values["imm"] = insn.near_branch_target
            elif kind == "Z":
                width, overridable = STRINGS[insn.op_kind(i)]
                values["imm"] = (1 << width) - 1
                if overridable:
                    memory = (16, 16, 0, 0, SEGMENTS[insn.memory_segment])
        base, index, scale, disp, seg = memory
        main = Uop(
            template.number,
            values["imm"],
            disp or values["disp"],
            registers[0],
            registers[1],
            registers[2],
            base,
            index if position < 4 else extra,
            scale,
            seg,
        )
        if template.address < 0:
            return [main], template.ends
        before = Uop(template.address, template.width, disp, 0, 0, 0, base, index, scale, seg)
        main = main._replace(base=ADDRESS_REGISTER, index_register=ZERO_REGISTER, scale=0, disp=0)
        return [before, main], template.ends

    def pack(self, uop: Uop, length: int, offset: int, left: int) -> bytes:
        """The record of a micro-operation."""
        return PACK.pack(
            self.addresses[uop.number],
            uop.imm,
            uop.disp,
            0,
            uop.r0,
            uop.r1,
            uop.r2,
            uop.base,
            uop.index_register,
            uop.scale,
            uop.seg,
            length,
            offset,
            left,
            uop.number,
        )


def memory_fields(insn: Instruction, bits: int) -> tuple[int, int, int, int, int]:
    """Base, index, scale, displacement and segment of the memory operand."""
    disp = insn.memory_displacement & WORD
    if bits != 64:
        disp &= 0xFFFFFFFF
    return (
        ADDRESS_REGISTERS[insn.memory_base],
        ADDRESS_REGISTERS[insn.memory_index],
        insn.memory_index_scale.bit_length() - 1,
        disp,
        SEGMENTS[insn.memory_segment],
    )


def address_bits(insn: Instruction, bits: int) -> int:
    """The address size of an instruction's memory operand."""
    width = insn.memory_displ_size
    register = insn.memory_base or insn.memory_index
    if register in REGISTERS:
        return REGISTERS[register].size
    if insn.is_ip_rel_memory_operand:
        return 64 if insn.memory_base == RIP else 32
    if bits == 64:
        return 32 if width == 4 else 64
    return {2: 16, 4: 32}.get(width, bits)


def operand_bits(insn: Instruction, position: int) -> int:
    """The width of an operand."""
    kind = insn.op_kind(position)
    if kind == OpKind.REGISTER:
        operand = REGISTERS.get(insn.op_register(position))
        return operand.size if operand else 0
    if kind == OpKind.MEMORY or kind in STRINGS:
        return int(MemorySizeInfo(insn.memory_size).size) * 8
    return 0


def letters_of(insn: Instruction) -> str:
    """The form of an instruction: a letter an operand."""
    return "".join(letter(insn, i) for i in range(insn.op_count)) or "-"


def letter(insn: Instruction, position: int) -> str:
    """The form letter of an operand; "?" when there is none for it."""
    kind = insn.op_kind(position)
    if kind == OpKind.REGISTER:
        operand = REGISTERS.get(insn.op_register(position))
        return operand.letter if operand else "?"
    if kind == OpKind.MEMORY:
        return "?" if insn.is_vsib else "M"
    if kind in IMMEDIATES:
        return "I"
    if kind in NEAR_BRANCHES:
        return "J"
    return "Z" if kind in STRINGS else "?"


@functools.cache
def translator() -> Translator:
    """The one translator of this process."""
    return Translator()
