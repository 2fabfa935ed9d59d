"""The loop around the compiled code: budgets, faults, self-modifying and page-crossing code."""

from __future__ import annotations

import pytest

from emu.cpu import system
from emu.cpu.cpu import Stop
from emu.cpu.errors import Fault, NotImplementedInstruction
from emu.cpu.state import SUPERVISOR

from . import machines
from .machines import CODE, DATA, STACK

# mov ecx, 1000; 1: add rax, rcx; dec ecx; jnz 1b; hlt
LOOP = bytes.fromhex("b9e8030000 4801c8 ffc9 75f9 f4")


@pytest.fixture
def cpu():
    cpu = machines.machine(64)
    cpu.state.rip = CODE
    cpu.state.rsp = STACK
    cpu.state.rax = 0
    return cpu


def test_a_loop_runs_to_its_halt(cpu):
    cpu.memory.load(CODE, LOOP)

    assert Stop.HALT == cpu.run(100_000)
    assert (500500, 3002) == (cpu.state.rax, cpu.state.retired)


@pytest.mark.parametrize("budget", [1, 2, 3, 7, 1000])
def test_a_budget_is_used_to_the_instruction(cpu, budget):
    cpu.memory.load(CODE, LOOP)
    slices = 0
    while cpu.run(budget) is Stop.BUDGET:
        slices += 1
        assert slices * budget == cpu.state.retired

    assert (500500, 3002) == (cpu.state.rax, cpu.state.retired)


def test_slices_do_not_change_what_happens(cpu):
    cpu.memory.load(CODE, LOOP)
    cpu.run(1234)
    other = machines.machine(64)
    other.memory.load(CODE, LOOP)
    other.state.rip, other.state.rsp = CODE, STACK
    for _ in range(617):
        other.run(2)

    assert (cpu.state.rip, cpu.state.rax) == (other.state.rip, other.state.rax)


def test_code_that_writes_over_itself_runs_as_written(cpu):
    # mov byte [rip+1], 7; mov al, 1 (its immediate becomes 7); hlt
    cpu.memory.load(CODE, bytes.fromhex("c6050100000007 b001 f4"))
    cpu.run(100)

    assert 7 == cpu.state.rax


def test_a_loop_that_writes_the_next_instruction_each_time(cpu):
    # mov ecx, 50; 1: mov [rip+6], cl; add rdx, imm8 (written above); dec ecx; jnz 1b; hlt
    code = bytes.fromhex("b932000000 880d03000000 4883c200 ffc9 75f2 f4")
    cpu.memory.load(CODE, code)
    cpu.state.rdx = 0

    assert Stop.HALT == cpu.run(10_000)
    assert sum(range(1, 51)) == cpu.state.rdx


def test_a_store_over_the_code_of_two_pages(cpu):
    edge = CODE + 0x3000
    # two subroutines, mov al, 1; ret before the edge and mov ah, 1; ret after it
    cpu.memory.load(edge - 3, bytes.fromhex("b001c3 b401c3"))
    call = bytes.fromhex("ffd3 ffd1")
    # call both; mov [rdx], edi over the first immediate, its ret and the next opcode; call both
    cpu.memory.load(CODE, call + bytes.fromhex("893a") + call + b"\xf4")
    state = cpu.state
    state.rbx, state.rcx, state.rdx = edge - 3, edge, edge - 2
    state.rdi = 0x02B2C305  # mov al, 5; ret | mov dl, 2
    cpu.run(100)

    assert (5, 2) == (state.rax & 0xFF, state.rdx & 0xFF)


@pytest.mark.parametrize("before", range(1, 6))
def test_an_instruction_across_two_pages(cpu, before):
    start = CODE + 0x1000 - before
    # lea eax, [rax+1] with four bytes of displacement; dec ecx; jnz back to it; hlt
    body = bytes.fromhex("8d8001000000 ffc9")
    back = -(len(body) + 2) & 0xFF
    cpu.memory.load(start, body + bytes([0x75, back]) + b"\xf4")
    cpu.state.rip = start
    cpu.state.rcx = 1000

    assert Stop.HALT == cpu.run(10_000)
    assert 1000 == cpu.state.rax


def test_code_dropped_from_the_second_page_of_an_instruction(cpu):
    start = CODE + 0x1000 - 2
    cpu.memory.load(start, bytes.fromhex("b811111111 f4"))
    cpu.state.rip = start
    cpu.run(10)
    cpu.memory.load(start + 2, b"\x22")
    cpu.state.rip, cpu.halted = start, False
    cpu.run(10)

    assert 0x11112211 == cpu.state.rax


def test_a_page_fault_leaves_everything_as_it_was(cpu):
    # push rax with an unmapped stack
    cpu.memory.load(CODE, bytes.fromhex("90 50 f4"))
    cpu.state.rsp = 0x40000000
    cpu.stop_at_fault = True
    with pytest.raises(Fault, match="vector 14"):
        cpu.run(10)

    assert (CODE + 1, 0x40000000) == (cpu.state.rip, cpu.state.rsp)
    assert (0x3FFFFFF8, 2) == (cpu.state.exit_address, cpu.state.exit_error)


class Register:
    """A device of one word."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, bytes | int]] = []

    def read(self, offset: int, count: int) -> bytes:
        self.log.append(("read", offset, count))
        return bytes(range(1, count + 1))

    def write(self, offset: int, data: bytes) -> None:
        self.log.append(("write", offset, data))


def test_devices_answer_in_their_window(cpu):
    device = Register()
    cpu.memory.add_device(0xFEE00000, 0x1000, device)
    tables = machines.TABLES
    entry = 0xFEE00000 | 0x87
    cpu.memory.load(tables + 0x2000 + 8 * 32, entry.to_bytes(8, "little"))
    # mov eax, [0x4000000]; mov [0x4000010], al; or dword [0x4000020], 0x80; hlt
    code = "8b042500000004 88042510000004 810c252000000480000000 f4"
    cpu.memory.load(CODE, bytes.fromhex(code))
    cpu.state.gpr[16] = 0
    cpu.run(10)

    assert 0x04030201 == cpu.state.rax
    assert [
        ("read", 0, 4),
        ("write", 16, b"\x01"),
        ("read", 32, 4),
        ("write", 32, bytes.fromhex("81020304")),
    ] == device.log


def test_an_opcode_without_semantics_is_named(cpu, monkeypatch):
    monkeypatch.delitem(system.table(), "CPUID")
    cpu.memory.load(CODE, bytes.fromhex("0fa2"))
    with pytest.raises(NotImplementedInstruction, match="not implemented: cpuid"):
        cpu.run(10)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_an_operand_that_wraps_around_does_not_reach_beyond_page_0(cpu, size):
    """What lies before RAM in the host is nobody's: the last page is not mapped here."""
    store = {2: "668903", 4: "8903", 8: "488903", 16: "0f1103"}[size]
    cpu.memory.load(CODE, bytes.fromhex("890425 00000000" + store + "f4"))  # mov [0], eax
    cpu.state.rbx = -1 & (1 << 64) - 1
    cpu.stop_at_fault = True
    with pytest.raises(Fault) as stopped:
        cpu.run(10)

    assert 14 == stopped.value.vector
    assert 1 == cpu.state.retired


def test_writes_are_tracked_by_page(cpu):
    # mov [rbx], eax; hlt
    cpu.memory.load(CODE, bytes.fromhex("8903 f4"))
    cpu.memory.clear_dirty(0, machines.MEMORY)
    cpu.flush_tlb()
    cpu.state.rbx = DATA + 0x2345
    cpu.run(10)
    dirty = cpu.memory.dirty(DATA, 0x4000).tolist()

    assert [False, False, True, False] == dirty


def test_translations_are_cached_for_the_current_kind_of_access(cpu):
    cpu.memory.load(CODE, bytes.fromhex("8b03 f4"))
    cpu.state.rbx = DATA
    cpu.run(10)
    tags = cpu.record["dtlb_area"].reshape(4, 4, -1, 4)[0, :, :, 0]

    assert [True, False, False, False] == [DATA in tags[kind] for kind in range(4)]
    assert SUPERVISOR == 0


def test_code_on_a_device_does_not_run_beyond_the_budget(cpu):
    """Its first instruction is the next slice's: the budget does not wrap around."""
    cpu.memory.add_device(0xFEE00000, 0x1000, Register())
    entry = 0xFEE00000 | 0x87
    cpu.memory.load(machines.TABLES + 0x2000 + 8 * 32, entry.to_bytes(8, "little"))
    cpu.memory.load(CODE, bytes.fromhex("b800000004 ffe0"))  # mov eax, 4000000H; jmp rax

    assert Stop.BUDGET == cpu.run(2)
    assert (2, 0x4000000, None) == (cpu.state.retired, cpu.state.rip, cpu.fault)


def test_code_at_the_same_ip_of_another_segment_is_other_code():
    cpu = machines.machine(16)
    vector, handler = 0x20, machines.LOW_DATA >> 4
    cpu.memory.load(4 * vector, bytes(2) + handler.to_bytes(2, "little"))
    cpu.memory.load(machines.LOW_CODE, bytes.fromhex("40 cd20 f4"))  # inc ax; int 20h; hlt
    cpu.memory.load(machines.LOW_DATA, bytes.fromhex("43 cf"))  # inc bx; iret
    cpu.state.rax = cpu.state.rbx = cpu.state.rip = 0
    cpu.state.rsp = 0x1000

    assert Stop.HALT == cpu.run(100)
    assert (1, 1, 5) == (cpu.state.rax, cpu.state.rbx, cpu.state.retired)
