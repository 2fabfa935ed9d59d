"""Operands of instructions that plain Python runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iced_x86 import MemorySizeInfo, OpKind

from emu.cpu.decode import address_bits
from emu.cpu.errors import Fault
from emu.cpu.registers import ADDRESS_REGISTERS, REGISTERS, SEGMENTS
from emu.cpu.state import NO_ERROR_CODE, PAGE_BASE_REGISTER, SS, Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

WORD = (1 << 64) - 1


def effective_address(cpu: Cpu, insn: Any) -> int:
    """Offset of the memory operand in its segment; the decoder knows IP as a page offset."""
    state = cpu.state
    base = ADDRESS_REGISTERS[insn.memory_base]
    offset = insn.memory_displacement
    if base == PAGE_BASE_REGISTER:
        offset += state.rip - insn.ip
    else:
        offset += state.gpr[base]
        offset += state.gpr[ADDRESS_REGISTERS[insn.memory_index]] * insn.memory_index_scale
    return int(offset & ((1 << address_bits(insn, cpu.mode.bits)) - 1))


def linear_address(cpu: Cpu, insn: Any, count: int, writes: bool) -> int:
    """Linear address of the memory operand; limit and rights are checked outside 64-bit mode."""
    state = cpu.state
    seg = SEGMENTS[insn.memory_segment]
    offset = effective_address(cpu, insn)
    linear = int(offset + state.linear_base[seg] & state.linear_mask)
    vector = Vector.SS if seg == SS else Vector.GP
    if cpu.mode.bits == 64:
        if not is_canonical(cpu, linear) or not is_canonical(cpu, linear + count - 1 & WORD):
            raise Fault(vector, 0)
        return linear
    end = state.write_end[seg] if writes else state.read_end[seg]
    if offset < state.segment_low[seg] or offset + count > end:
        raise Fault(vector, 0)
    return linear


def is_canonical(cpu: Cpu, linear: int) -> bool:
    """Whether the upper bits copy bit 47, or 56 with CR4.LA57."""
    shift = 56 if cpu.state.cr4 >> 12 & 1 else 47
    return linear >> shift in (0, (1 << 64 - shift) - 1)


def memory_bytes(insn: Any) -> int:
    """Bytes of the memory operand."""
    return int(MemorySizeInfo(insn.memory_size).size)


def read_operand(cpu: Cpu, insn: Any, position: int) -> int:
    """The value of a general-register, immediate or memory operand, zero-extended."""
    kind = insn.op_kind(position)
    if kind == OpKind.REGISTER:
        register = REGISTERS[insn.op_register(position)]
        if register.size == 8:
            return int(cpu.state.gpr8[register.number])
        return int(cpu.state.gpr[register.number]) & ((1 << register.size) - 1)
    if kind == OpKind.MEMORY:
        count = memory_bytes(insn)
        return cpu.read(linear_address(cpu, insn, count, writes=False), count)
    return int(insn.immediate(position))


def write_operand(cpu: Cpu, insn: Any, position: int, value: int) -> None:
    """Write a general-register or memory operand; 32-bit registers clear their upper half."""
    if insn.op_kind(position) == OpKind.MEMORY:
        count = memory_bytes(insn)
        cpu.write(linear_address(cpu, insn, count, writes=True), value, count)
        return
    register = REGISTERS[insn.op_register(position)]
    if register.size == 8:
        cpu.state.gpr8[register.number] = value & 0xFF
        return
    gpr, number = cpu.state.gpr, register.number
    mask = (1 << register.size) - 1
    gpr[number] = (gpr[number] & ~0xFFFF if register.size == 16 else 0) | value & mask


def demand_cpl0(cpu: Cpu) -> None:
    """#GP(0) above CPL 0."""
    if cpu.state.cpl:
        raise Fault(Vector.GP, 0)


def undefined() -> Fault:
    """#UD."""
    return Fault(Vector.UD, NO_ERROR_CODE)
