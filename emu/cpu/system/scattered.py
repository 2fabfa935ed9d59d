"""Elements moved one by one: masked moves, gathers, bit fields. SDM Vol. 2; APM Vol. 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iced_x86 import OpKind

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault
from emu.cpu.paging import WRITE
from emu.cpu.registers import ADDRESS_REGISTERS, REGISTERS, SEGMENTS
from emu.cpu.state import Vector
from emu.cpu.system.operands import linear_at, load, memory_address, store
from emu.cpu.system.vector_operands import (
    WORD,
    elements,
    joined,
    lanes,
    permit,
    read_register,
    register,
    write_register,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

# masked moves


def masked_width(insn: Any) -> int:
    """Bits of an element."""
    return 32 if MNEMONICS[insn.mnemonic] in ("VMASKMOVPS", "VPMASKMOVD") else 64


def masked_move(cpu: Cpu, insn: Any) -> None:
    """VMASKMOVPS, VPMASKMOVD and so on: the elements whose mask has its sign set."""
    permit(cpu, insn)
    width = masked_width(insn)
    size = width // 8
    stores = insn.op_kind(0) == OpKind.MEMORY
    count = lanes(insn, 1)
    number = 128 * count // width
    mask = elements(read_register(cpu, register(insn, 1), count), width, number)
    chosen = [i for i in range(number) if mask[i] >> width - 1]
    places = {i: memory_address(cpu, insn, size, stores, i * size) for i in chosen}
    if not stores:
        parts = [0] * number
        for i, linear in places.items():
            parts[i] = load(cpu, linear, size)
        write_register(cpu, register(insn, 0), joined(parts, width), count, True)
        return
    for linear in places.values():
        cpu.pieces(linear, size, WRITE, False)
    values = elements(read_register(cpu, register(insn, 2), count), width, number)
    for i, linear in places.items():
        store(cpu, linear, values[i], size)


# gathers


def gather(cpu: Cpu, insn: Any) -> None:
    """VPGATHERDD, VGATHERQPD and so on: a fault keeps what is gathered and masks it out."""
    permit(cpu, insn)
    name = MNEMONICS[insn.mnemonic]
    width = 64 if name[-1] in "Q" or name.endswith("PD") else 32
    index_width = 32 if "GATHERD" in name else 64
    target, mask_register = register(insn, 0), register(insn, 2)
    index = REGISTERS[insn.memory_index]
    if len({target, mask_register, index.number}) < 3:
        raise Fault(Vector.UD)
    count = lanes(insn, 0)
    number = min(128 * count // width, index.size // index_width)
    indices = elements(read_register(cpu, index.number, index.size // 128), index_width, number)
    total = 128 * count // width
    values = elements(read_register(cpu, target, count), width, total)
    mask = elements(read_register(cpu, mask_register, count), width, total)

    def keep(last: bool) -> None:
        result = values[:number] + [0] * (total - number) if last else values
        write_register(cpu, target, joined(result, width), count, last)
        write_register(cpu, mask_register, 0 if last else joined(mask, width), count, last)

    for i in range(number):
        if not mask[i] >> width - 1:
            mask[i] = 0
            continue
        try:
            linear = element_address(cpu, insn, indices[i], index_width, width)
            values[i] = load(cpu, linear, width // 8)
        except Fault:
            keep(last=False)
            raise
        mask[i] = 0
    keep(last=True)


def element_address(cpu: Cpu, insn: Any, index: int, index_width: int, width: int) -> int:
    """Linear address of an element: base + index * scale + displacement."""
    bits = cpu.mode.bits
    size = REGISTERS[insn.memory_base].size if insn.memory_base in REGISTERS else 0
    size = size or (64 if bits == 64 and insn.memory_displ_size != 4 else min(bits, 32))
    index -= (index >> index_width - 1) << index_width
    base = int(cpu.state.gpr[ADDRESS_REGISTERS[insn.memory_base]])
    offset = base + index * insn.memory_index_scale + insn.memory_displacement
    return linear_at(cpu, SEGMENTS[insn.memory_segment], offset & (1 << size) - 1, width // 8)


# bit fields of SSE4A


def field_control(cpu: Cpu, insn: Any, position: int, at: int) -> tuple[int, int]:
    """Length and index of a field: two immediates, or bytes of a register; length zero is 64."""
    if insn.op_count > position + 1:
        length, index = insn.immediate(position), insn.immediate(position + 1)
    else:
        word = read_register(cpu, register(insn, 1)) >> at
        length, index = word, word >> 8
    return length & 63 or 64, index & 63


def write_field(cpu: Cpu, number: int, word: int) -> None:
    """Write the low word; the upper one is undefined, and zero on AMD's processors."""
    write_register(cpu, number, word, 1, False)


def extrq(cpu: Cpu, insn: Any) -> None:
    """EXTRQ: a bit field of the low word, zero-extended. APM Vol. 4, EXTRQ."""
    permit(cpu, insn)
    length, index = field_control(cpu, insn, 1, 0)
    number = register(insn, 0)
    word = int(cpu.state.zmm[8 * number])
    write_field(cpu, number, word >> index & (1 << length) - 1)


def insertq(cpu: Cpu, insn: Any) -> None:
    """INSERTQ: low bits of the source into a bit field of the low word. APM Vol. 4, INSERTQ."""
    permit(cpu, insn)
    length, index = field_control(cpu, insn, 2, 64)
    number = register(insn, 0)
    word, source = int(cpu.state.zmm[8 * number]), int(cpu.state.zmm[8 * register(insn, 1)])
    mask = (1 << length) - 1 << index & WORD
    write_field(cpu, number, word & ~mask | source << index & mask)


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    **dict.fromkeys(("VMASKMOVPS", "VMASKMOVPD", "VPMASKMOVD", "VPMASKMOVQ"), masked_move),
    **{
        f"{prefix}GATHER{index}{kind}": gather
        for index in "DQ"
        for prefix, kinds in (("V", ("PS", "PD")), ("VP", ("D", "Q")))
        for kind in kinds
    },
    "EXTRQ": extrq,
    "INSERTQ": insertq,
}
