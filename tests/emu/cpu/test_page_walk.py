"""The walk that is looked at finds what the processor's own walk finds."""

from __future__ import annotations

import random

import pytest

from emu.cpu.errors import Fault
from emu.cpu.page_walk import page_walk, peek

from .machines import DATA, TABLES, machine
from .random_code import MODES, RAM, Rig

PAGED = [seed for seed, mode in enumerate(MODES) if mode.cr3]


@pytest.mark.parametrize("seed", PAGED, ids=lambda seed: MODES[seed].name)
def test_it_leads_to_the_address_that_the_processor_finds(seed):
    rig = Rig("skylake-x")
    rig.prepare(seed)
    cpu = rig.cpu
    cpu.state.cpl = cpu.state.cr4 = cpu.state.cr4 & ~(1 << 20 | 1 << 21)
    rng = random.Random(seed)
    found = 0
    for linear in (rng.randrange(2 * RAM) for _ in range(300)):
        try:
            expected = cpu.translate(linear, 0)
        except Fault:
            continue
        found += 1

        assert expected == page_walk(cpu, linear).gpa

    assert found > 50


def test_the_entries_have_their_names_and_flags():
    cpu = machine(64)
    walk = page_walk(cpu, DATA + 5)

    assert ["PML4E", "PDPTE", "PDE", "PTE"] == [entry.name for entry in walk.entries]
    assert TABLES == walk.entries[0].gpa
    assert ["P RW US"] * 4 == [entry.flags for entry in walk.entries]
    assert DATA + 5 == walk.gpa


def test_a_walk_ends_at_what_is_not_present():
    cpu = machine(64)
    walk = page_walk(cpu, 1 << 40)

    assert (None, ["PML4E"]) == (walk.gpa, [entry.name for entry in walk.entries])
    assert None is peek(cpu, 1 << 40, 8)


def test_peeking_has_no_effect_and_crosses_pages():
    cpu = machine(64)
    cpu.memory.load(DATA + 0xFFE, b"abcd")
    before = cpu.memory.read(TABLES, 0x8000)

    assert b"abcd" == peek(cpu, DATA + 0xFFE, 4)
    assert before == cpu.memory.read(TABLES, 0x8000)


def test_without_paging_linear_is_physical():
    assert ((), 0x1234) == page_walk(machine(32), 0x1234)
