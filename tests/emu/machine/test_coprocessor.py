"""The way of an x87 exception through FERR#, IRQ13, port F0H and IGNNE#."""

from __future__ import annotations

import pytest

from emu.cpu.state import CS
from emu.machine.board import Board, Reason
from emu.machine.config import BoardConfig
from emu.machine.coprocessor import Coprocessor
from emu.machine.core import Cores


@pytest.fixture
def latch():
    levels = []
    return Coprocessor(levels.append), levels


def test_an_error_raises_the_line_and_the_processor_waits(latch):
    coprocessor, levels = latch

    assert coprocessor.error() is False
    assert [True] == levels


def test_the_port_lowers_the_line_and_lets_the_processor_go_on(latch):
    coprocessor, levels = latch
    coprocessor.error()
    coprocessor.port_write(0, 1, 0)

    assert [True, False] == levels
    assert coprocessor.error() is True
    assert [True, False] == levels


def test_with_the_error_gone_the_next_one_is_signalled(latch):
    coprocessor, levels = latch
    coprocessor.error()
    coprocessor.port_write(0, 1, 0)
    coprocessor.error_cleared()

    assert coprocessor.error() is False
    assert True is levels[-1]


VECTOR = 0x75  # of IRQ13, as firmware programs the slave
PROGRAM_AT, HANDLER_AT, CONTROL_AT, STACK = 0x1000, 0x1100, 0x700, 0x2000
UNMASK = bytes.fromhex("b0fb e621 b0df e6a1")  # IRQ2 and IRQ13
# INC BX; clear busy; FNCLEX; end of interrupt; IRET
HANDLER = bytes.fromhex("43 b000 e6f0 dbe2 b020 e6a0 e620 cf")
# FNINIT; FLDCW [0x700]; FLD1; FLDZ; FDIVP; STI; FNOP; FNOP; CLI; HLT
PROGRAM = UNMASK + bytes.fromhex("dbe3 d92e0007 d9e8 d9ee def9 fb d9d0 d9d0 fa f4")


def test_a_real_mode_program_gets_the_interrupt_of_its_division():
    cores = Cores()
    board = Board(BoardConfig(processors=1, apic=cores.apic()), cores)
    cpu = board.processors[0].cpu
    board.memory.load(PROGRAM_AT, PROGRAM)
    board.memory.load(HANDLER_AT, HANDLER)
    board.memory.load(CONTROL_AT, (0x340).to_bytes(2, "little"))
    board.memory.load(4 * VECTOR, HANDLER_AT.to_bytes(4, "little"))
    state = cpu.state
    state.selector[CS], state.segment_base[CS] = 0, 0
    state.rip, state.rsp, state.rbx = PROGRAM_AT, STACK, 0
    cpu.refresh()
    outcome = board.run(1000)

    assert Reason.HALTED == outcome.reason
    assert (1, PROGRAM_AT + len(PROGRAM)) == (state.rbx, state.rip)
    assert 0 == state.fsw & 0xBF
