"""Operands of the vector instructions that plain Python runs: lanes as 128-bit integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from iced_x86 import EncodingKind, MemorySizeInfo, OpKind

from emu.cpu.errors import Fault
from emu.cpu.flags import VM
from emu.cpu.paging import CR0_EM, CR0_PE, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE
from emu.cpu.registers import REGISTERS
from emu.cpu.state import Vector
from emu.cpu.system.operands import memory_address

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

AVX_STATE = 6  # XCR0: SSE and AVX
LANE = 16  # bytes
WORD = (1 << 64) - 1
REGISTER_WORDS = 8


def is_vex(insn: Any) -> bool:
    """Whether an instruction has a VEX prefix."""
    return bool(insn.encoding == EncodingKind.VEX)


def permit(cpu: Cpu, insn: Any) -> None:
    """#UD or #NM where the control registers do not let SSE or AVX run.

    SDM Vol. 2, Instruction Exception Specification.
    """
    state = cpu.state
    if is_vex(insn):
        known = state.cr0 & CR0_PE and not state.rflags & VM
        enabled = state.cr4 & CR4_OSXSAVE and state.xcr0 & AVX_STATE == AVX_STATE
        if not known or not enabled:
            raise Fault(Vector.UD)
    elif state.cr0 & CR0_EM or not state.cr4 & CR4_OSFXSR:
        raise Fault(Vector.UD)
    if state.cr0 & CR0_TS:
        raise Fault(Vector.NM)


def register(insn: Any, position: int) -> int:
    """The number of a vector register operand."""
    return REGISTERS[insn.op_register(position)].number


def lanes(insn: Any, position: int) -> int:
    """Lanes of a vector register operand."""
    return REGISTERS[insn.op_register(position)].size // 128


def read_register(cpu: Cpu, number: int, count: int = 1) -> int:
    """The low lanes of a vector register."""
    zmm, at = cpu.state.zmm, REGISTER_WORDS * number
    return sum(int(zmm[at + i]) << 64 * i for i in range(2 * count))


def write_register(cpu: Cpu, number: int, value: int, count: int, vex: bool) -> None:
    """Write the low lanes of a vector register; with VEX what is above becomes zero."""
    zmm, at = cpu.state.zmm, REGISTER_WORDS * number
    for i in range(REGISTER_WORDS if vex else 2 * count):
        zmm[at + i] = value >> 64 * i & WORD if i < 2 * count else 0


def read_source(cpu: Cpu, insn: Any, position: int, aligned: bool = True) -> int:
    """A source of any lanes; legacy encodings want it aligned in memory: #GP(0)."""
    if insn.op_kind(position) == OpKind.REGISTER:
        return read_register(cpu, register(insn, position), lanes(insn, position))
    size = int(MemorySizeInfo(insn.memory_size).size)
    linear = memory_address(cpu, insn, size)
    if aligned and not is_vex(insn) and linear % size:
        raise Fault(Vector.GP, 0)
    return cpu.read(linear, size)


def first_source(cpu: Cpu, insn: Any) -> int:
    """SRC1: DEST in legacy encodings."""
    return read_register(cpu, register(insn, 1 if is_vex(insn) else 0), lanes(insn, 0))


def write_target(cpu: Cpu, insn: Any, value: int) -> None:
    """Write DEST."""
    write_register(cpu, register(insn, 0), value, lanes(insn, 0), is_vex(insn))


def by_lane(insn: Any, function: Callable[[int, int], int], first: int, second: int) -> int:
    """The value whose lanes are a function of the lanes of two sources."""
    count = lanes(insn, 0)
    pairs = zip(elements(first, 128, count), elements(second, 128, count), strict=True)
    return joined([function(a, b) for a, b in pairs], 128)


def elements(value: int, width: int, count: int) -> list[int]:
    """The elements of a value, lowest first; `width` in bits."""
    mask = (1 << width) - 1
    return [value >> width * i & mask for i in range(count)]


def joined(parts: Sequence[int], width: int) -> int:
    """The value that has these elements."""
    return sum(part << width * i for i, part in enumerate(parts))
