"""What is derived from the mode: machine code against plain Python, and the rows that matter."""

from __future__ import annotations

import numpy as np
import pytest

from emu.cpu.cpu import Cpu
from emu.cpu.derive import MODE_BITS, MODE_VECTORS, derive
from emu.cpu.paging import CR0_EM, CR0_PE, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, EFER_LMA
from emu.cpu.segments import DB, UNUSABLE, L
from emu.cpu.state import CPU, CS, DS, FS, SS
from emu.memory import PhysicalMemory

REGISTERS = CPU.places["dtlb_area"].offset
DATA, CODE, DOWN = 0x93, 0x99, 0x97


@pytest.fixture(scope="module")
def cpu():
    return Cpu(PhysicalMemory())


@pytest.mark.parametrize("seed", range(40))
def test_machine_code_derives_what_the_source_says(cpu, seed):
    generator = np.random.default_rng(seed)
    cpu.block[:REGISTERS] = generator.integers(0, 256, REGISTERS, np.uint8)
    before = bytes(cpu.block[:REGISTERS])
    compiled = cpu._derive(cpu.state.address, seed % 4), bytes(cpu.block[:REGISTERS])
    cpu.block[:REGISTERS] = np.frombuffer(before, np.uint8)
    plain = derive(cpu.state, seed % 4), bytes(cpu.block[:REGISTERS])

    assert plain == compiled


@pytest.mark.parametrize(
    ("rights", "efer", "bits"),
    [(CODE, 0, 16), (CODE | DB, 0, 32), (CODE | L, EFER_LMA, 64), (CODE | L, 0, 16)],
)
def test_code_size_is_that_of_cs(cpu, rights, efer, bits):
    cpu.state.segment_rights[CS], cpu.state.efer = rights, efer

    assert bits == derive(cpu.state, 0) & MODE_BITS


@pytest.mark.parametrize(
    ("rights", "limit", "bounds"),
    [
        (DATA, 0xFFFF, (0, 0x10000, 0x10000)),
        (0x91, 0xFFFF, (0, 0x10000, 0)),
        (CODE, 0xFFF, (0, 0, 0)),
        (CODE | 2, 0xFFF, (0, 0x1000, 0)),
        (DOWN, 0xFFF, (0x1000, 0x10000, 0x10000)),
        (DOWN | DB, 0xFFF, (0x1000, 1 << 32, 1 << 32)),
        (DATA | UNUSABLE, 0xFFFF, (0, 0, 0)),
        (DATA & ~0x80, 0xFFFF, (0, 0, 0)),
    ],
)
def test_bounds_of_a_segment_in_protected_mode(cpu, rights, limit, bounds):
    state = cpu.state
    state.segment_rights[CS], state.efer, state.cr0, state.rflags = CODE | DB, 0, CR0_PE, 2
    state.segment_rights[DS], state.segment_limit[DS] = rights, limit
    derive(state, 0)

    assert bounds == (state.segment_low[DS], state.read_end[DS], state.write_end[DS])


def test_bases_count_in_64_bit_mode_for_fs_and_gs_alone(cpu):
    state = cpu.state
    state.segment_rights[CS], state.efer = CODE | L, EFER_LMA
    state.segment_base[FS] = state.segment_base[SS] = 0x1234_5678_9000
    derive(state, 0)

    assert (0x1234_5678_9000, 0) == (state.linear_base[FS], state.linear_base[SS])


@pytest.mark.parametrize(
    ("cr0", "cr4", "enabled"),
    [
        (CR0_PE, 0, 1),
        (CR0_PE, CR4_OSFXSR, 3),
        (CR0_PE, CR4_OSFXSR | CR4_OSXSAVE, 7),
        (CR0_PE | CR0_EM, CR4_OSFXSR, 0),
        (CR0_PE | CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 0),
        (0, CR4_OSFXSR | CR4_OSXSAVE, 3),
    ],
)
def test_vectors_that_run(cpu, cr0, cr4, enabled):
    state = cpu.state
    state.cr0, state.cr4, state.xcr0, state.rflags, state.fsw = cr0, cr4, 7, 2, 0

    assert enabled == derive(state, 0) >> MODE_VECTORS
