"""Events delivered by compiled code, held equal to delivery by plain Python, case by case."""

from __future__ import annotations

import struct

import pytest

from emu.cpu.cpu import Cpu, Stop
from emu.cpu.flags import AC, IF, NT, RF, TF
from emu.cpu.paging import CR4_SMAP
from emu.cpu.state import CS, SS, TR
from emu.cpu.system.events import deliver

from . import machines
from .machines import CODE, STACK, TABLES

from emu.cpu.guest_mode import Event, EventKind  # isort: skip

IDT, GDT, TSS, INNER, IST = 0x600000, 0x601000, 0x602000, 0x610000, 0x620000
KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, OLD_CODE, OUTER_CODE = 8, 16, 24, 32, 40, 48
TARGET = CODE + 0x800
DESCRIPTORS = {
    KERNEL_CODE: 0x00AF9B000000FFFF,
    KERNEL_DATA: 0x00CF93000000FFFF,
    USER_CODE: 0x00AFFB000000FFFF,
    USER_DATA: 0x00CFF3000000FFFF,
    OLD_CODE: 0x00CF9B000000FFFF,
    OUTER_CODE: 0x00AFDB000000FFFF,
}
HARDWARE, EXTERNAL, SOFTWARE = EventKind.HARDWARE, EventKind.EXTERNAL, EventKind.SOFTWARE


class DeliveringCpu(machines.RecordingCpu):
    """A processor that delivers what it raises."""

    raised = Cpu.raised


def gate(cpu, vector, target=TARGET, selector=KERNEL_CODE, kind=0x8E, ist=0):
    low, middle, high = target & 0xFFFF, target >> 16 & 0xFFFF, target >> 32
    cpu.memory.load(
        IDT + 16 * vector,
        struct.pack("<HHBBHII", low, selector, ist, kind, middle, high & 0xFFFFFFFF, 0),
    )


def machine(monkeypatch, cpl=0):
    monkeypatch.setattr(machines, "RecordingCpu", DeliveringCpu)
    cpu = machines.machine(64)
    state = cpu.state
    state.idtr_base, state.idtr_limit = IDT, 0xFFF
    state.gdtr_base, state.gdtr_limit = GDT, 0x7F
    for selector, descriptor in DESCRIPTORS.items():
        cpu.memory.load(GDT + selector, descriptor.to_bytes(8, "little"))
    state.segment_base[TR], state.segment_limit[TR] = TSS, 0x67
    cpu.memory.load(TSS + 4, INNER.to_bytes(8, "little"))
    cpu.memory.load(TSS + 0x24, IST.to_bytes(8, "little"))
    state.cpl = cpl
    state.selector[CS] = USER_CODE | 3 if cpl else KERNEL_CODE
    state.selector[SS] = USER_DATA | 3 if cpl else KERNEL_DATA
    state.segment_rights[CS] = 0xA0FB if cpl else 0xA09B
    state.segment_rights[SS] = 0xC0F3 if cpl else 0xC093
    state.rip, state.rsp = CODE, STACK
    gate(cpu, 0x30)
    gate(cpu, 13)
    cpu.refresh()
    return cpu


def everything(cpu):
    state = cpu.state
    names = ("rip", "rsp", "cpl", "cr2", "mode_slot", "mode_tag", "ip_mask", "dtlb", "itlb")
    arrays = ("selector", "segment_base", "segment_limit", "segment_rights")
    base = int(cpu.record["dtlb_area"].ctypes.data)
    found = {name: int(getattr(state, name)) for name in names}
    found["dtlb"] -= base
    found["itlb"] -= base
    found |= {name: [int(getattr(state, name)[i]) for i in range(8)] for name in arrays}
    stacks = (STACK, INNER, IST)
    found["frames"] = [cpu.memory.read(top - 128, 128) for top in stacks]
    found["rflags"] = cpu.rflags
    found["tables"] = cpu.memory.read(GDT, 0x80)
    return found


def outcome(monkeypatch, case, compiled):
    """What a case leads to: the state after it, and whether compiled code did it."""
    cpl, prepare, event = case
    cpu = machine(monkeypatch, cpl)
    prepare(cpu)
    cpu.flush_tlb()
    cpu.refresh()
    done = []
    real = cpu.deliver_compiled
    monkeypatch.setattr(
        cpu,
        "deliver_compiled",
        lambda *arguments: compiled and not done.append(real(*arguments)) and done[-1],
    )
    try:
        deliver(cpu, event)
    except Exception as fault:
        return (type(fault).__name__, str(fault), getattr(fault, "error", None)), False
    return everything(cpu), done == [True]


def nothing(cpu):
    """The usual case."""


def flags(value):
    def prepare(cpu):
        cpu.rflags = cpu.rflags | value

    return prepare


def odd_stack(cpu):
    cpu.state.rsp = STACK - 3


def with_gate(**fields):
    return lambda cpu: gate(cpu, 0x30, **fields)


def field(name, value):
    return lambda cpu: setattr(cpu.state, name, value)


def poke(gpa, data):
    return lambda cpu: cpu.memory.load(gpa, data)


def tss_limit(cpu):
    cpu.state.segment_limit[TR] = 8


def supervisor_stack_page(cpu):
    """The interrupted stack is a page that user mode cannot reach, and SMAP is on."""
    cpu.state.cr4 |= CR4_SMAP
    entry = TABLES + 0x3000 + 8 * (INNER - 4096 >> 12)
    cpu.memory.load(entry, (INNER - 4096 | 3).to_bytes(8, "little"))
    for gpa in (IDT, GDT, TSS):
        place = TABLES + 0x3000 + 8 * (gpa >> 12)
        cpu.memory.load(place, (gpa | 3).to_bytes(8, "little"))


def absent_stack_page(cpu):
    entry = TABLES + 0x3000 + 8 * (STACK - 4096 >> 12)
    cpu.memory.load(entry, bytes(8))


def code_on_the_stack(cpu):
    cpu.state.rip = STACK - 64
    cpu.memory.load(STACK - 64, b"\x90\xf4")
    cpu.run(1)
    cpu.state.rip = CODE


INTERRUPT = Event(EXTERNAL, 0x30)
INT = Event(SOFTWARE, 0x30, length=2)
GP = Event(HARDWARE, 13, 0x58)
USUAL = {
    "interrupt": (0, nothing, INTERRUPT),
    "interrupt from user mode": (3, nothing, INTERRUPT),
    "fault with an error code": (0, nothing, GP),
    "fault from user mode": (3, nothing, GP),
    "INT n": (0, nothing, INT),
    "INT n from user mode": (3, with_gate(kind=0xEE), INT),
    "trap gate": (0, with_gate(kind=0x8F), INTERRUPT),
    "interrupt stack table": (0, with_gate(ist=1), INTERRUPT),
    "interrupt stack table from user mode": (3, with_gate(ist=1), INTERRUPT),
    "flags": (0, flags(IF | NT | RF | TF | 0x8D5), INTERRUPT),
    "odd stack pointer": (0, odd_stack, INTERRUPT),
    "selector with an RPL": (0, with_gate(selector=KERNEL_CODE | 3), INTERRUPT),
    "SMAP": (3, supervisor_stack_page, INTERRUPT),
    "alignment check flag": (0, flags(AC), INTERRUPT),
}
UNUSUAL = {
    "gate beyond the limit": (0, field("idtr_limit", 0x1FF), INTERRUPT),
    "gate of another kind": (0, with_gate(kind=0x8C), INTERRUPT),
    "gate that is not present": (0, with_gate(kind=0x0E), INTERRUPT),
    "INT n without the privilege": (3, nothing, INT),
    "null selector": (0, with_gate(selector=0), INTERRUPT),
    "selector of the LDT": (0, with_gate(selector=12), INTERRUPT),
    "selector beyond the limit": (0, with_gate(selector=0x200), INTERRUPT),
    "data segment": (0, with_gate(selector=KERNEL_DATA), INTERRUPT),
    "32-bit code": (0, with_gate(selector=OLD_CODE), INTERRUPT),
    "code of an outer level": (0, with_gate(selector=USER_CODE), INTERRUPT),
    "code of level 2": (3, with_gate(selector=OUTER_CODE), INTERRUPT),
    "target that is not canonical": (0, with_gate(target=1 << 47), INTERRUPT),
    "stack that is not canonical": (3, poke(TSS + 4, (1 << 47).to_bytes(8, "little")), INTERRUPT),
    "TSS too short": (3, tss_limit, INTERRUPT),
    "frame across pages": (0, field("rsp", STACK - 4096 + 16), INTERRUPT),
    "stack page not present": (0, absent_stack_page, INTERRUPT),
    "decoded code where the frame goes": (0, code_on_the_stack, INTERRUPT),
    "descriptor not accessed": (0, poke(GDT + KERNEL_CODE + 5, b"\x9a"), INTERRUPT),
}


@pytest.mark.parametrize("name", USUAL | UNUSUAL)
def test_compiled_delivery_equals_delivery_in_full(monkeypatch, name):
    case = (USUAL | UNUSUAL)[name]
    expected, _ = outcome(monkeypatch, case, compiled=False)
    got, compiled = outcome(monkeypatch, case, compiled=True)

    assert expected == got
    assert (name in USUAL) == compiled


HANDLER = bytes.fromhex("48 83 c4 08 48 83 04 24 02 48 cf")  # drop the error code, skip, iretq


@pytest.mark.parametrize("cpl", [0, 3])
def test_faults_in_a_loop_are_delivered_and_returned_from(monkeypatch, cpl):
    cpu = machine(monkeypatch, cpl)
    gate(cpu, 6)
    cpu.memory.load(TARGET, HANDLER[4:])
    loop = bytes.fromhex("ff c1 0f 0b eb fa")  # inc ecx; ud2; jmp back
    cpu.memory.load(CODE, loop)
    cpu.state.rcx = 0
    cpu.run(501)

    # four instructions and a tick for the fault
    assert (101, cpl) == (cpu.state.rcx, cpu.state.cpl)


def test_a_handler_that_faults_does_not_hold_the_loop(monkeypatch):
    cpu = machine(monkeypatch)
    gate(cpu, 6, ist=1)
    cpu.memory.load(TARGET, b"\x0f\x0b")
    cpu.memory.load(CODE, b"\x0f\x0b")
    stop = cpu.run(100)

    assert (Stop.BUDGET, TARGET) == (stop, cpu.state.rip)


def test_a_page_fault_leaves_its_address(monkeypatch):
    cpu = machine(monkeypatch)
    gate(cpu, 14)
    cpu.memory.load(TARGET, b"\xf4")
    cpu.memory.load(CODE, bytes.fromhex("48 8b 04 25 00 00 00 40"))  # mov rax, [40000000H]
    cpu.run(10)

    assert (0x40000000, TARGET + 1) == (cpu.state.cr2, cpu.state.rip)
    assert 0 == cpu.read(cpu.state.rsp, 8)
