"""Translated regions beside the interpreter: the same state after every slice, bit for bit."""

from __future__ import annotations

import contextlib
import random
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpu.access import load_slow
from emu.cpu.compiler.words import Restricted
from emu.cpu.cpu import Cpu, Stop
from emu.cpu.delivery import deliver
from emu.cpu.errors import Fault
from emu.cpu.regions import hot
from emu.cpu.regions.emit import touched
from emu.cpu.regions.hot import Regions, at_once
from emu.cpu.state import CPU, SS

from .. import machines
from ..machines import CODE, DATA, STACK
from .programs import prepare

# addresses in this process, what is free for use between two handlers, and the sample
OWN = frozenset(
    (
        "dtlb", "itlb", "dtlb_kinds", "jump_cache", "blocks", "physmap", "code_lines", "scratch",
        "dtlb_area", "jump_area", "ea", "exit_data", "linear_address", "gpr", "gpr8",
    )
)  # fmt: skip


def visible(cpu: Cpu) -> dict[str, object]:
    """The state of a processor without what depends on where things lie in this process."""
    record = cpu.record
    found = {n: record[n].tobytes() for n in CPU.places if n not in OWN}
    found["gpr"] = [hex(v) for v in record["gpr"][0][:18]]
    entries = record["dtlb_area"].reshape(-1, 4)
    found["dtlb"] = entries[:, (0, 1, 3)].tobytes()
    jumps = record["jump_area"].reshape(-1, 4)
    arena = np.uint64(cpu.code.arena.ctypes.data)
    found["jumps"] = jumps[:, (0, 2)].tobytes()
    found["jump targets"] = np.where(jumps[:, 0] + np.uint64(1), jumps[:, 1] - arena, 0).tobytes()
    return found


def machine(bits: int, heat: int | None) -> machines.RecordingCpu:
    """A machine that translates what `heat` instructions were sampled in; None: nothing."""
    cpu = machines.machine(bits)
    cpu.stop_at_fault = True
    cpu.code.regions = None if heat is None else Regions(cpu.code, at_once, heat)
    return cpu


def slice_of(cpu: Cpu, budget: int) -> Stop | str:
    """Run a slice; a fault ends it."""
    try:
        return cpu.run(budget)
    except Fault as fault:
        return str(fault)


def assert_same_way(ours: Cpu, reference: Cpu, budgets: list[int]) -> None:
    """Run two machines in equal slices until they end."""
    for budget in budgets:
        ended = {slice_of(cpu, budget) for cpu in (ours, reference)}

        assert 1 == len(ended)
        assert visible(reference) == visible(ours)

        if ended != {Stop.BUDGET}:
            break

    assert reference.memory.read(DATA - 0x1000, 0x4000) == ours.memory.read(DATA - 0x1000, 0x4000)
    assert reference.memory.read(CODE, 0x400) == ours.memory.read(CODE, 0x400)


def run_both(seed: int, heat: int = 1) -> int:
    """Run a random program with and without translation; the regions that there were."""
    ours, reference = machine(64, heat), machine(64, None)
    for cpu in (ours, reference):
        prepare(cpu, seed)
    slices = random.Random(seed)
    assert_same_way(ours, reference, [slices.choice((1, 3, 50, 700, 2000)) for _ in range(60)])
    return ours.code.regions.installed


@settings(max_examples=8)
@given(st.integers(0, 1 << 32))
def test_a_translated_program_goes_as_the_interpreted_one(seed):
    run_both(seed)


@settings(max_examples=2)
@given(st.integers(0, 1 << 32))
def test_a_translated_program_goes_as_plain_python(seed):
    ours, plain = machine(64, 1), machine(64, None)
    for cpu in (ours, plain):
        prepare(cpu, seed)
        cpu.state.r15 = 12
    ended: object = Stop.BUDGET
    while ended is Stop.BUDGET:
        ended = slice_of(ours, 60)
    with contextlib.suppress(Fault):
        while not plain.halted:
            plain.state.budget = 1
            plain.step(plain=True)
    names = ("rip", "gpr", "zmm", "flag_result", "flag_carries", "rflags")

    assert [visible(plain)[n] for n in names] == [visible(ours)[n] for n in names]


def loop(cpu: Cpu, code: str) -> None:
    """Begin with `code`, its data, and 1000 in RCX."""
    cpu.memory.load(CODE, bytes.fromhex(code))
    cpu.memory.load(DATA, bytes(range(256)) * 64)
    state = cpu.state
    state.rip, state.rsp, state.rcx, state.rbx = CODE, STACK, 1000, DATA


def both(code: str) -> tuple[machines.RecordingCpu, machines.RecordingCpu]:
    """Two machines at the beginning of a loop, the first of which translates."""
    pair = machine(64, 1), machine(64, None)
    for cpu in pair:
        loop(cpu, code)
    return pair


# 1: add rax, [rbx]; mov [rbx+8], eax; add rbx, 24; dec ecx; jnz 1b; hlt
WALK = "480303 894308 4883c318 ffc9 75f2 f4"


@pytest.mark.parametrize("budget", [*range(1, 12), 100, 101, 102, 103, 104])
def test_a_budget_ends_inside_a_region_where_it_ends_without(budget):
    ours, reference = both(WALK)
    assert_same_way(ours, reference, [500, *([budget] * 20), 1, 1, 1])

    assert 1 <= ours.code.regions.installed


def test_a_fault_inside_a_region_leaves_the_instruction_undone():
    ours, reference = both(WALK)
    for cpu in (ours, reference):
        cpu.memory.load(machines.TABLES + 0x3000 + 4 * 0x1000 + 8 * 3, bytes(8))
    assert_same_way(ours, reference, [100, 5000])

    assert 1 <= ours.code.regions.installed
    assert DATA + 0x3000 == ours.state.exit_address & ~7


def test_an_operand_in_the_first_page_that_is_not_aligned():
    # 1: mov [rbx], rax at address 1, the page is code; mov al, [0]; add rax, rcx; dec; jnz 1b; hlt
    ours, reference = both("488903 8a4500 4801c8 ffc9 75f4 f4")
    for cpu in (ours, reference):
        cpu.state.rbx, cpu.state.rbp = 1, 0
        cpu.memory.load(0x800, b"\xf4")
        cpu.state.rip = 0x800
        cpu.run(5)
        cpu.halted, cpu.state.rip = False, CODE
    assert_same_way(ours, reference, [100, 7, 333, 5000])

    assert 1 <= ours.code.regions.installed
    assert reference.memory.read(0, 0x1000) == ours.memory.read(0, 0x1000)


@pytest.mark.parametrize("start", [DATA + 0xFFC, DATA + 0xFFF, DATA + 0x1FF9])
def test_operands_that_go_back_over_the_edge_of_a_page(start):
    # 1: add [rbx], rcx; add [rbx+8], rcx; add [rbx], rcx; dec ecx; jnz 1b; hlt
    ours, reference = both("48010b 48014b08 48010b ffc9 75f2 f4")
    for cpu in (ours, reference):
        cpu.state.rbx = start
        # the second page lies elsewhere in the guest's memory
        entry = (DATA + 0x9000 | 7).to_bytes(8, "little")
        cpu.memory.load(machines.TABLES + 0x3000 + 4 * 0x1000 + 8, entry)
    assert_same_way(ours, reference, [100, 7, 333, 5000])

    assert 1 <= ours.code.regions.installed
    assert reference.memory.read(DATA, 0xB000) == ours.memory.read(DATA, 0xB000)


class Counter:
    """A device that counts its accesses."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, offset: int, count: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(count, "little")

    def write(self, offset: int, data: bytes) -> None:
        self.count += data[0]


def test_a_device_answers_inside_a_region_at_the_same_instruction():
    ours, reference = both(WALK)
    for cpu in (ours, reference):
        cpu.memory.add_device(0xFEE00000, 0x1000, Counter())
        entry = (0xFEE00000 | 0x87).to_bytes(8, "little")
        cpu.memory.load(machines.TABLES + 0x3000 + 4 * 0x1000 + 8 * 2, entry)
    assert_same_way(ours, reference, [100, 700, 400, 1, 2, 3, 5000])

    assert ours.memory.windows[0].device.count == reference.memory.windows[0].device.count > 100


def test_code_written_inside_its_region_runs_as_written():
    # 1: mov [rip+5], cl; nop; add rdx, imm8 (written above); dec ecx; jnz 1b; hlt
    ours, reference = both("880d04000000 90 4883c200 ffc9 75f1 f4")
    assert_same_way(ours, reference, [300] * 20)

    assert Stop.HALT == slice_of(ours, 1)
    assert ours.state.rdx == reference.state.rdx


def test_a_region_is_dropped_with_its_page():
    cpu = machine(64, 1)
    loop(cpu, WALK)
    cpu.run(500)

    assert [CODE >> 12] == list(cpu.code.regions.engines)

    cpu.memory.write(CODE, bytes.fromhex("90"))

    assert [] == list(cpu.code.regions.engines)


def test_an_upper_byte_alone_is_stored_on_the_way_out():
    # 1: lahf; dec ecx; jnz 1b; hlt
    ours, reference = both("9f ffc9 75fb f4")
    assert_same_way(ours, reference, [100, 100, 5000])

    assert 1 <= ours.code.regions.installed


# call f four times from two places, f: push, pop, ret
CALLS = "e80b000000 e806000000 ffc9 75f2 f4 90 50 4801c8 58 c3"


@pytest.mark.parametrize("budget", [3, 17, 1000])
def test_calls_and_returns_stay_inside_a_region(budget):
    ours, reference = both(CALLS)
    assert_same_way(ours, reference, [200, *([budget] * 30)])

    assert 1 <= ours.code.regions.installed


@pytest.mark.parametrize("bits", [16, 32])
def test_regions_outside_64_bit_mode(bits):
    # 1: add eax, [bx or ebx]; inc ecx...: the same bytes are code in both
    ours, reference = machine(bits, 1), machine(bits, None)
    for cpu in (ours, reference):
        start = machines.LOW_CODE if bits == 16 else CODE
        # 1: add ax, [bx] / add eax, [edi]; push; pop; dec cx / ecx; jnz 1b; hlt
        cpu.memory.load(start, bytes.fromhex("0307 50 5a 49 75f9 f4"))
        cpu.state.rip = 0 if bits == 16 else CODE
        cpu.state.rcx, cpu.state.rsp = 500, 0x8000
        cpu.state.rdi = cpu.state.rbx = 0x100 if bits == 16 else DATA
    assert_same_way(ours, reference, [100, 7, 333, 5000])

    assert 1 <= ours.code.regions.installed


def test_the_worker_process_translates_as_this_one_does():
    cpu = machine(64, 1)
    cpu.code.regions = Regions(cpu.code, hot.in_background, 1)
    loop(cpu, WALK)
    cpu.run(500)
    (entry,) = cpu.code.regions.pending
    while not entry.answer.ready:
        pass

    assert at_once(entry.region).code == entry.answer.code != b""


def with_interrupts(cpu: Cpu) -> None:
    """A GDT, and a gate for INT 80h whose handler is at CODE + 0x40."""
    gdt, idt, handler = 0x20000, 0x21000, CODE + 0x40
    for number, descriptor in ((2, 0x00AF9B000000FFFF), (3, 0x00CF93000000FFFF)):
        cpu.memory.load(gdt + 8 * number, descriptor.to_bytes(8, "little"))
    gate = handler & 0xFFFF | 0x10 << 16 | 0xEE << 40 | handler >> 16 << 48
    cpu.memory.load(idt + 16 * 0x80, gate.to_bytes(16, "little"))
    state = cpu.state
    state.gdtr_base, state.gdtr_limit = gdt, 0xFFF
    state.idtr_base, state.idtr_limit = idt, 0xFFF
    state.selector[SS] = 0x18
    cpu.refresh()


@pytest.mark.parametrize("budget", [1, 5, 300])
def test_an_interrupt_finds_the_registers_of_a_region(budget):
    # 1: push rax; pop rdx; sub rsp, 8; int 80h; add rsp, 8; dec ecx; jnz 1b; hlt
    ours, reference = both("50 5a 4883ec08 cd80 4883c408 ffc9 75f0 f4")
    for cpu in (ours, reference):
        with_interrupts(cpu)
        cpu.memory.load(CODE + 0x40, bytes.fromhex("4801c8 4883ec08 4883c408 48cf"))
    assert_same_way(ours, reference, [777, 333, *([budget] * 20), 20_000])

    assert 1 <= ours.code.regions.installed
    assert 500500 == ours.state.rax


def test_what_a_shared_function_touches_is_known():
    assert CPU.places["cpl"].offset in touched(cast("Restricted", load_slow))
    assert not touched(cast("Restricted", load_slow)) & {CPU.places["rax"].offset}
    assert CPU.places["rsp"].offset in touched(cast("Restricted", deliver))
