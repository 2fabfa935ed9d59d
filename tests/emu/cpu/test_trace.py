"""Observing changes nothing, and what is seen is what happened."""

from __future__ import annotations

import contextlib

import pytest

from emu.cpu.errors import NotImplementedInstruction
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.observed import ObservedCpu, Observer
from emu.cpu.trace import (
    Access,
    Change,
    EventTracer,
    Tracer,
    changes,
    event_text,
    flag_changes,
    registers,
    vector_name,
)
from emu.memory import PhysicalMemory

from .machines import CODE, DATA, STACK, machine
from .random_code import MODES, Rig

CASES = range(len(MODES) * 4)


def final(rig, seed, observer):
    rig.prepare(seed)
    if observer is not None:
        rig.cpu.observe(observer)
    with contextlib.suppress(NotImplementedInstruction):
        rig.cpu.run(60)
    if observer is not None:
        rig.cpu.observe(Observer())
    return rig.snapshot(), int(rig.cpu.state.retired) - rig.cpu.idle


@pytest.mark.parametrize("kind", ["events", "instructions", "accesses"])
def test_observing_changes_nothing(kind):
    """Of random code in every mode; retired counts of one machine are compared as they grow."""
    plain, observed = Rig("skylake-x"), Rig("skylake-x", ObservedCpu)
    seen = []
    observer = {
        "events": EventTracer(lambda cpu, text: seen.append(text)),
        "instructions": Tracer(seen.append, accesses=False),
        "accesses": Tracer(seen.append),
    }[kind]
    for seed in CASES:
        before = int(plain.cpu.state.retired), int(observed.cpu.state.retired)
        first, second = final(plain, seed, None), final(observed, seed, observer)

        assert first[0] == second[0], (seed, MODES[seed % len(MODES)].name)
        assert first[1] - before[0] == second[1] - before[1]

    assert len(seen) > 100


def run(code, count, **values):
    """The steps of `code` in 64-bit mode."""
    like = machine(64)
    cpu = ObservedCpu(like.memory)
    for name in ("selector", "segment_base", "segment_limit", "segment_rights"):
        cpu.record[name] = like.record[name]
    for name in ("cr0", "cr3", "cr4", "efer"):
        setattr(cpu.state, name, getattr(like.state, name))
    cpu.state.rip, cpu.state.rsp = CODE, STACK
    for name, value in values.items():
        setattr(cpu.state, name, value)
    cpu.flush_tlb()
    cpu.refresh()
    cpu.memory.load(CODE, bytes.fromhex(code))
    found = []
    cpu.observe(Tracer(found.append))
    cpu.run(count)
    return found


def test_a_step_tells_registers_flags_and_memory():
    # add rax, [rbx]; push rax; movups xmm1, [rbx]
    first, second, third = run("480303 50 0f100b", 3, rbx=DATA, rax=0)

    assert ("add rax,[rbx]", 64, CODE) == (first.text, first.bits, first.rip)
    assert bytes.fromhex("480303") == first.data
    assert (Change("rflags", 2, 0x46, 8),) == first.changes
    assert (Access(DATA, 8, False, 0),) == first.accesses
    assert (Access(STACK - 8, 8, True, 0),) == second.accesses
    assert (Change("rsp", STACK, STACK - 8, 8),) == second.changes
    assert (Access(DATA, 16, False, 0),) == third.accesses
    assert [0, 1, 2] == [step.number for step in (first, second, third)]


def test_a_vector_register_has_the_name_of_its_narrowest_part():
    before = bytearray(registers()[-1].offset + 64)
    after = bytearray(before)
    after[registers()[-32].offset + 3] = 1
    after[registers()[-1].offset + 17] = 2

    assert [Change("xmm0", 0, 1 << 24, 16), Change("ymm31", 0, 2 << 136, 32)] == changes(
        bytes(before), bytes(after)
    )


def test_flags_and_vectors_have_names():
    assert "-CF +ZF" == flag_changes(0x03, 0x42)
    assert ["#PF", "#GP", "vector 0x2", "vector 0x80"] == [
        vector_name(vector) for vector in (14, 13, 2, 0x80)
    ]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(EventKind.HARDWARE, 14, 2), "#PF error 0x2 CR2 0x1234"),
        (Event(EventKind.HARDWARE, 6), "#UD"),
        (Event(EventKind.EXTERNAL, 0x24), "interrupt 0x24"),
        (Event(EventKind.NMI, 2), "NMI"),
        (Event(EventKind.SOFTWARE, 0x80), "INT 0x80"),
        (Event(EventKind.SOFTWARE_EXCEPTION, 3), "#BP"),
    ],
)
def test_events_are_told_in_words(event, text):
    assert text == event_text(event, 0x1234)


def test_a_processor_can_be_observed_and_left_alone_again():
    memory = PhysicalMemory()
    memory.add_ram(0, 0x10000)
    cpu = ObservedCpu(memory)
    compiled = cpu.program
    cpu.observe(Tracer(lambda step: None))

    assert compiled is not cpu.program

    cpu.observe(Observer())

    assert compiled == cpu.program
