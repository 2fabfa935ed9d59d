"""Operands of instructions that plain Python runs: registers, addresses, memory, the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iced_x86 import OpCodeInfo, OpKind

from emu.cpu import debug
from emu.cpu.decode import IMMEDIATES, address_bits, memory_fields, operand_bits
from emu.cpu.errors import Fault
from emu.cpu.flags import AC, VM
from emu.cpu.paging import CR0_AM, CR0_PE
from emu.cpu.registers import REGISTERS
from emu.cpu.state import FS, SS, Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

WORD = (1 << 64) - 1


def protected(cpu: Cpu) -> bool:
    """Whether the processor is in protected mode proper: neither real nor virtual-8086 mode."""
    return bool(cpu.state.cr0 & CR0_PE) and not cpu.state.rflags & VM


def require_privilege(cpu: Cpu) -> None:
    """#GP(0) unless CPL is 0."""
    if cpu.state.cpl:
        raise Fault(Vector.GP, 0)


def require_feature(cpu: Cpu, name: str) -> None:
    """#UD unless the processor has a feature, and guest mode has it enabled."""
    if not cpu.model.has(name) or (cpu.guest is not None and name in cpu.guest.disabled):
        raise Fault(Vector.UD)


def is_canonical(cpu: Cpu, linear: int) -> bool:
    """Whether the upper bits copy the highest linear-address bit."""
    high = linear >> (56 if cpu.state.cr4 & 1 << 12 else 47)
    return high in (0, (1 << 8) - 1 if cpu.state.cr4 & 1 << 12 else (1 << 17) - 1)


def is_base(cpu: Cpu, linear: int) -> bool:
    """Whether a system register can hold `linear`: canonical at the width the processor has.

    CR4.LA57 plays no part. SDM Vol. 1, Canonical Addressing; loads of bases, MSRs and INVPCID.
    """
    width = 57 if cpu.model.has("LA57") else 48
    return linear >> width - 1 in (0, (1 << 65 - width) - 1)


def operand_size(insn: Any) -> int:
    """The operand size of the opcode in bits."""
    return int(OpCodeInfo(insn.code).operand_size)


# registers


def get_register(cpu: Cpu, number: int, size: int) -> int:
    """A general register; for 8 bits `number` is a byte offset, as the decoder gives it."""
    if size == 8:
        return int(cpu.state.gpr8[number])
    return int(cpu.state.gpr[number]) & ((1 << size) - 1)


def set_register(cpu: Cpu, number: int, size: int, value: int) -> None:
    """Write a general register: 32 bits clear the upper half, 8 and 16 keep the rest."""
    state = cpu.state
    if size == 8:
        state.gpr8[number] = value & 0xFF
    elif size == 16:
        state.gpr[number] = state.gpr[number] & ~0xFFFF | value & 0xFFFF
    else:
        state.gpr[number] = value & ((1 << size) - 1)


def register_number(insn: Any, position: int) -> int:
    """The number of a register operand."""
    return REGISTERS[insn.op_register(position)].number


# memory


def offset_of(cpu: Cpu, insn: Any) -> int:
    """The effective address of the memory operand: its offset in the segment."""
    state = cpu.state
    base, index, scale, disp, _ = memory_fields(insn, cpu.mode.bits)
    offset = state.gpr[base] + (state.gpr[index] << scale) + disp
    return int(offset) & ((1 << address_bits(insn, cpu.mode.bits)) - 1)


def linear_at(cpu: Cpu, seg: int, offset: int, count: int, writes: bool = False) -> int:
    """Linear address of `count` bytes at seg:offset; #GP(0), or #SS(0) for the stack."""
    state = cpu.state
    vector = Vector.SS if seg == SS else Vector.GP
    if cpu.mode.bits == 64:
        linear = offset + (state.linear_base[seg] if seg >= FS else 0) & WORD
        if not is_canonical(cpu, linear) or not is_canonical(cpu, linear + count - 1 & WORD):
            raise Fault(vector, 0)
        return int(linear)
    end = state.write_end[seg] if writes else state.read_end[seg]
    if offset < state.segment_low[seg] or offset + count > end:
        raise Fault(vector, 0)
    return int(state.linear_base[seg] + offset) & 0xFFFFFFFF


def memory_address(cpu: Cpu, insn: Any, count: int, writes: bool = False, above: int = 0) -> int:
    """Linear address of `count` bytes of the memory operand, `above` bytes into it."""
    seg = memory_fields(insn, cpu.mode.bits)[4]
    mask = (1 << address_bits(insn, cpu.mode.bits)) - 1
    return linear_at(cpu, seg, offset_of(cpu, insn) + above & mask, count, writes)


def check_aligned(cpu: Cpu, linear: int, count: int) -> None:
    """#AC(0) for a misaligned access at CPL 3 with CR0.AM and RFLAGS.AC."""
    state = cpu.state
    if linear & count - 1 and state.cpl == 3 and state.cr0 & CR0_AM and state.rflags & AC:
        raise Fault(Vector.AC, 0)


def load(cpu: Cpu, linear: int, count: int) -> int:
    """Read an operand at a linear address: aligned where demanded, breakpoints noted."""
    check_aligned(cpu, linear, count)
    value = cpu.read(linear, count)
    debug.data_breakpoints(cpu, linear, count, False)
    return value


def store(cpu: Cpu, linear: int, value: int, count: int) -> None:
    """Write an operand at a linear address."""
    check_aligned(cpu, linear, count)
    cpu.write(linear, value, count)
    debug.data_breakpoints(cpu, linear, count, True)


def get(cpu: Cpu, insn: Any, position: int, size: int | None = None) -> int:
    """The value of an operand: register, memory or immediate."""
    kind = insn.op_kind(position)
    if kind in IMMEDIATES:
        return int(insn.immediate(position)) & WORD
    bits = size or operand_bits(insn, position)
    if kind == OpKind.REGISTER:
        return get_register(cpu, register_number(insn, position), bits)
    return load(cpu, memory_address(cpu, insn, bits // 8), bits // 8)


def put(cpu: Cpu, insn: Any, position: int, value: int, size: int | None = None) -> None:
    """Write an operand: register or memory."""
    bits = size or operand_bits(insn, position)
    if insn.op_kind(position) == OpKind.REGISTER:
        set_register(cpu, register_number(insn, position), bits, value)
    else:
        store(cpu, memory_address(cpu, insn, bits // 8, True), value, bits // 8)


# the stack


def pushed(cpu: Cpu, values: list[int], width: int) -> int:
    """Push values of `width` bytes; the stack pointer is returned, not set."""
    state = cpu.state
    top = int(state.rsp)
    for value in values:
        top = top - width & state.stack_mask
        store(cpu, linear_at(cpu, SS, top, width, True), value, width)
    return top


def set_stack_pointer(cpu: Cpu, value: int) -> None:
    """Write the stack pointer: RSP, ESP or SP by the stack's address size."""
    state = cpu.state
    state.rsp = state.rsp & ~state.stack_mask | value & state.stack_mask


def push(cpu: Cpu, values: list[int], width: int) -> None:
    """Push values in order; nothing changes but memory when a page of it faults."""
    set_stack_pointer(cpu, pushed(cpu, values, width))


def peek(cpu: Cpu, above: int, width: int) -> int:
    """The value `above` bytes over the top of the stack."""
    state = cpu.state
    offset = int(state.rsp + above & state.stack_mask)
    return load(cpu, linear_at(cpu, SS, offset, width), width)
