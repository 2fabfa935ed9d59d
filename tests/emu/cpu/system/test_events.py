"""Delivery through the 64-bit IDT: frames, error codes, double and triple faults."""

from __future__ import annotations

import struct

import pytest

from emu.cpu.cpu import Cpu, Stop
from emu.cpu.flags import IF, RF

from .. import machines
from ..machines import CODE, STACK

IDT, GDT, HANDLER = 0x600000, 0x601000, 0x602000


class DeliveringCpu(machines.RecordingCpu):
    """A processor that delivers what it raises."""

    raised = Cpu.raised


@pytest.fixture
def cpu(monkeypatch):
    monkeypatch.setattr(machines, "RecordingCpu", DeliveringCpu)
    cpu = machines.machine(64)
    state = cpu.state
    state.idtr_base, state.idtr_limit = IDT, 0xFFF
    state.gdtr_base, state.gdtr_limit = GDT, 0xFF
    state.selector[1] = 8
    cpu.memory.load(GDT + 8, (0x00AF9B000000FFFF).to_bytes(8, "little"))
    for vector in range(256):
        gate(cpu, vector, HANDLER + vector)
    # each vector's entry is one HLT, so that RIP tells which was taken
    cpu.memory.load(HANDLER, b"\xf4" * 256)
    state.rip, state.rsp = CODE, STACK
    return cpu


def gate(cpu: Cpu, vector: int, target: int, kind: int = 0x8E) -> None:
    entry = struct.pack("<HHBBHII", target & 0xFFFF, 8, 0, kind, target >> 16 & 0xFFFF, 0, 0)
    cpu.memory.load(IDT + 16 * vector, entry)


def taken(cpu: Cpu) -> int:
    return cpu.state.rip - 1 - HANDLER


def frame(cpu: Cpu, words: int) -> list[int]:
    return [cpu.read(cpu.state.rsp + 8 * i, 8) for i in range(words)]


def test_a_fault_saves_the_instruction_and_sets_rf(cpu):
    cpu.memory.load(CODE, bytes.fromhex("90 0f0b"))

    assert Stop.HALT == cpu.run(100)
    assert 6 == taken(cpu)
    rip, cs, flags, rsp, _ = frame(cpu, 5)
    assert (CODE + 1, 8, RF, STACK) == (rip, cs, flags & RF, rsp)


def test_a_software_interrupt_saves_the_next_instruction(cpu):
    cpu.memory.load(CODE, bytes.fromhex("cd80"))
    cpu.run(100)

    assert (0x80, CODE + 2) == (taken(cpu), frame(cpu, 1)[0])


def test_a_page_fault_has_its_error_code_and_cr2(cpu):
    # mov [0x20000000], eax
    cpu.memory.load(CODE, bytes.fromhex("89042500000020"))
    cpu.run(100)

    assert (14, 0x20000000) == (taken(cpu), cpu.state.cr2)
    assert [2, CODE] == frame(cpu, 2)


def test_division_by_zero_is_delivered(cpu):
    cpu.memory.load(CODE, bytes.fromhex("31c9 f7f1"))
    cpu.run(100)

    assert (0, CODE + 2) == (taken(cpu), frame(cpu, 1)[0])


def test_a_gate_that_is_not_present_names_itself(cpu):
    gate(cpu, 6, HANDLER, kind=0x0E)
    cpu.memory.load(CODE, bytes.fromhex("0f0b"))
    cpu.run(100)

    assert (11, 6 << 3 | 3) == (taken(cpu), frame(cpu, 1)[0])


def test_a_page_fault_without_a_gate_becomes_a_double_fault(cpu):
    gate(cpu, 14, HANDLER, kind=0)
    cpu.memory.load(CODE, bytes.fromhex("89042500000020"))
    cpu.run(100)

    assert (8, 0) == (taken(cpu), frame(cpu, 1)[0])


def test_a_fault_without_any_gate_shuts_down(cpu):
    cpu.state.idtr_limit = 0
    cpu.memory.load(CODE, bytes.fromhex("0f0b"))

    assert Stop.SHUTDOWN == cpu.run(100)


def test_an_interrupt_waits_for_sti_and_one_more_instruction(cpu):
    # cli; inc eax; sti; inc eax; inc eax
    cpu.memory.load(CODE, bytes.fromhex("fa ffc0 fb ffc0 ffc0"))
    cpu.rflags |= IF
    cpu.run(1)
    cpu.state.rax = 0
    cpu.interrupt_pending = True
    cpu.update_pending()

    def acknowledge() -> int:
        cpu.interrupt_pending = False
        cpu.update_pending()
        return 0x40

    cpu.acknowledge = acknowledge
    cpu.run(100)

    assert (0x40, 2) == (taken(cpu), cpu.state.rax)
    assert CODE + 6 == frame(cpu, 1)[0]


def test_single_stepping_traps_after_each_instruction(cpu):
    cpu.memory.load(CODE, bytes.fromhex("ffc0 ffc0"))
    cpu.rflags |= 1 << 8
    cpu.run(100)

    assert (1, CODE + 2, 1 << 14) == (taken(cpu), frame(cpu, 1)[0], cpu.state.dr[6] & 1 << 14)
