"""Stack frames of nested procedures. SDM Vol. 2, ENTER; Vol. 1, ENTER Instruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.state import SS
from emu.cpu.system.operands import (
    get_register,
    linear_at,
    load,
    operand_size,
    set_register,
    set_stack_pointer,
    store,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

RBP = 5


def enter(cpu: Cpu, insn: Any) -> None:
    """ENTER with nesting: the display of the enclosing frames is copied below the saved rBP."""
    state = cpu.state
    size = operand_size(insn)
    width, mask = size // 8, int(state.stack_mask)
    room, level = insn.immediate(0) & 0xFFFF, insn.immediate(1) & 31
    top = int(state.rsp)

    def pushed(value: int) -> None:
        nonlocal top
        top = top - width & mask
        store(cpu, linear_at(cpu, SS, top, width, True), value, width)

    pushed(get_register(cpu, RBP, size))
    frame = top
    display = int(state.rbp)
    for _ in range(1, level):
        display -= width
        pushed(load(cpu, linear_at(cpu, SS, display & mask, width), width))
    pushed(frame)
    top = top - room & mask
    # the new top must be writable
    linear = linear_at(cpu, SS, top, 1, True)
    store(cpu, linear, load(cpu, linear, 1), 1)
    set_stack_pointer(cpu, top)
    set_register(cpu, RBP, mask.bit_length(), frame)


TABLE: dict[str, Callable[[Cpu, Any], None]] = {"ENTER": enter}
