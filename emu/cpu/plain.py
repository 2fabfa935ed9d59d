"""Handlers run as the Python that they are written in, a record at a time."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from emu.cpu import program
from emu.cpu.compiler.words import Dispatch, Leave
from emu.cpu.state import CS, UOP, WORD, Exit

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu


def run_records(cpu: Cpu, at: int) -> None:
    """Run the records from `at`, up to the end of the instruction."""
    table = program.specialisations()
    names = program.handler_names()
    try:
        while True:
            uop = UOP(at)
            handler = table[names[uop.number]]
            handler.function(cpu.state, uop, **handler.constants)
            at += UOP.size
    except (Leave, Dispatch):
        return


def run_handler(cpu: Cpu, insn: Any) -> None:
    """Run an instruction that guest mode traps by its own handler, within a system instruction."""
    state, mode, translator = cpu.state, cpu.mode, cpu.code.translator
    uops, _ = translator.uops(insn, mode.bits, mode.vm86, mode.vectors)
    linear = state.rip + state.linear_base[CS] & state.linear_mask
    state.page_base = state.rip - (linear & 0xFFF) & WORD
    records = b"".join(translator.pack(uop, insn.len, linear & 0xFFF, 0) for uop in uops)
    store = ctypes.create_string_buffer(records + bytes(UOP.size))
    table, names = program.specialisations(), program.handler_names()
    budget = state.budget
    state.exit_code = state.code_written = 0
    state.code_write_allowed = 1
    try:
        for number in range(len(uops)):
            uop = UOP(ctypes.addressof(store) + number * UOP.size)
            handler = table[names[uop.number]]
            handler.function(state, uop, **handler.constants)
    except (Leave, Dispatch):
        pass
    finally:
        state.budget, state.code_write_allowed = budget, 0
    if state.code_written:
        cpu.code.drop_page(state.code_written - 1)
    if state.exit_code in (Exit.EXCEPTION, Exit.SECOND_LEVEL):
        cpu.refused()
        run_handler(cpu, insn)
    state.exit_code = 0
