"""Task switches of protected mode. SDM Vol. 3, Task Management."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu import debug
from emu.cpu.errors import Fault
from emu.cpu.flags import NT, RESERVED_ONE, VM
from emu.cpu.paging import CR0_PG, CR0_TS
from emu.cpu.segments import PRESENT, UNUSABLE, S, dpl
from emu.cpu.state import CS, LDTR, SS, TR, Vector
from emu.cpu.system.descriptors import (
    LDT,
    TSS16,
    TSS16_BUSY,
    TSS32,
    TSS32_BUSY,
    code_descriptor_at_level,
    data_descriptor,
    descriptor_base,
    descriptor_limit,
    descriptor_place,
    descriptor_rights,
    fill_segment,
    is_null,
    load_null,
    load_real,
    read_descriptor,
    rpl,
    stack_descriptor,
)
from emu.cpu.system.operands import push

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

JUMP, CALL, RETURN, GATE = "JMP", "CALL", "IRET", "GATE"
# segment selectors in the order of the TSS
TSS_SEGMENTS = (0, CS, SS, 3, 4, 5)
AVAILABLE = (TSS16, TSS32)
LIMIT = {2: 0x2B, 4: 0x67}


def tss_descriptor(cpu: Cpu, selector: int, external: int, busy: bool) -> int:
    """The descriptor of the TSS to switch to, checked. SDM Vol. 3, Task-Switch Conditions."""
    vector = Vector.TS if busy else Vector.GP
    if is_null(selector) or selector & 4:
        raise Fault(vector, selector & 0xFFFC | external)
    descriptor = read_descriptor(cpu, selector, vector, external)
    rights = descriptor_rights(descriptor)
    wanted = (TSS16_BUSY, TSS32_BUSY) if busy else AVAILABLE
    if rights & S or rights & 15 not in wanted:
        raise Fault(vector, selector & 0xFFFC | external)
    if not rights & PRESENT:
        raise Fault(Vector.NP, selector & 0xFFFC | external)
    return descriptor


def task_gate(cpu: Cpu, selector: int, external: int, error: int | None) -> None:
    """An interrupt through a task gate: a nested task, with the error code on its stack."""
    descriptor = tss_descriptor(cpu, selector, external, False)
    if cpu.guest is not None:
        cpu.guest.task_switch(selector, GATE, cpu.delivering)
    switch(cpu, selector, descriptor, CALL)
    if error is not None:
        push(cpu, [error], 4 if cpu.state.segment_rights[TR] & 8 else 2)


def jump_or_call(cpu: Cpu, selector: int, descriptor: int, how: str) -> None:
    """JMP or CALL to a TSS descriptor or a task gate, whose level has been checked."""
    state = cpu.state
    if cpu.guest is not None:
        cpu.guest.task_switch(selector, how, None)
    saved = state.rip
    state.rip = cpu.next_rip
    try:
        switch(cpu, selector, descriptor, how)
    except Fault:
        if cpu.state.segment_rights[TR] & 15 in AVAILABLE:
            state.rip = saved
        raise
    cpu.next_rip = int(state.rip)


def return_to_previous(cpu: Cpu) -> None:
    """IRET with NT set: back to the task that the current TSS links to."""
    state = cpu.state
    selector = cpu.read(state.segment_base[TR], 2, implicit=True)
    descriptor = tss_descriptor(cpu, selector, 0, True)
    if cpu.guest is not None:
        cpu.guest.task_switch(selector, RETURN, None)
    state.rip = cpu.next_rip
    switch(cpu, selector, descriptor, RETURN)
    cpu.next_rip = int(state.rip)


def switch(cpu: Cpu, selector: int, descriptor: int, how: str) -> None:
    """Save the current task, load that of a TSS. SDM Vol. 3, Task Switching."""
    state = cpu.state
    width = 4 if descriptor_rights(descriptor) & 8 else 2
    base = descriptor_base(descriptor)
    if descriptor_limit(descriptor) < LIMIT[width]:
        raise Fault(Vector.TS, selector & 0xFFFC)
    old_selector, old_base = int(state.selector[TR]), int(state.segment_base[TR])
    old_width = 4 if state.segment_rights[TR] & 8 else 2
    image = cpu.read_bytes(base, LIMIT[width] + 1, implicit=True)
    flags = cpu.rflags & ~(NT if how == RETURN else 0)
    save(cpu, old_base, old_width, flags)
    if how != CALL:
        mark_busy(cpu, old_selector, False)
    if how == CALL:
        cpu.write(base, old_selector, 2, implicit=True)
    if how != RETURN:
        mark_busy(cpu, selector, True)
    state.cr0 |= CR0_TS
    fill_segment(cpu, TR, selector, descriptor)
    state.segment_rights[TR] |= 2
    state.dr[7] &= ~0x155  # local breakpoints
    restore(cpu, image, width, how)
    if width == 4 and image[0x64] & 1:
        debug.record(state, debug.TASK_SWITCH)
        cpu.debug_causes |= debug.TASK_SWITCH


def mark_busy(cpu: Cpu, selector: int, busy: bool) -> None:
    """Set or clear the busy bit of a TSS descriptor."""
    place = descriptor_place(cpu, selector)
    if place is None:
        raise Fault(Vector.TS, selector & 0xFFFC)
    kind = cpu.read(place + 5, 1, implicit=True)
    cpu.write(place + 5, kind | 2 if busy else kind & ~2, 1, implicit=True)


def save(cpu: Cpu, base: int, width: int, flags: int) -> None:
    """Write the registers of the outgoing task into its TSS."""
    state = cpu.state
    words = [int(state.rip), flags, *(int(state.gpr[i]) for i in range(8))]
    selectors = [int(state.selector[seg]) for seg in TSS_SEGMENTS]
    if width == 4:
        data = b"".join((w & 0xFFFFFFFF).to_bytes(4, "little") for w in words)
        data += b"".join(s.to_bytes(4, "little") for s in selectors)
        cpu.write_bytes(base + 0x20, data, implicit=True)
    else:
        data = b"".join((w & 0xFFFF).to_bytes(2, "little") for w in words + selectors[:4])
        cpu.write_bytes(base + 0x0E, data, implicit=True)


def restore(cpu: Cpu, image: bytes, width: int, how: str) -> None:
    """Load the registers of the incoming task; faults are raised in its context."""
    state = cpu.state

    def word(offset: int, size: int = width) -> int:
        return int.from_bytes(image[offset : offset + size], "little")

    first = 0x20 if width == 4 else 0x0E
    rip, flags = word(first), word(first + width)
    for i in range(8):
        state.gpr[i] = word(first + (2 + i) * width)
    selectors = [word(first + (10 + i) * width, 2) for i in range(6 if width == 4 else 4)]
    selectors += [0] * (6 - len(selectors))
    ldt = word(0x60 if width == 4 else 0x2A, 2)
    if width == 4 and state.cr0 & CR0_PG:
        from emu.cpu.system.control import write_cr3  # noqa: PLC0415

        write_cr3(cpu, word(0x1C), keep=False)
    flags = flags & 0x3F7FD5 | RESERVED_ONE | (NT if how == CALL else 0)
    cpu.rflags = flags
    state.rip = rip
    for seg, selector in zip(TSS_SEGMENTS, selectors, strict=True):
        load_null(cpu, seg, selector)
    load_null(cpu, LDTR, ldt)
    state.cpl = 3 if flags & VM else rpl(selectors[1])
    if not is_null(ldt):
        load_task_ldt(cpu, ldt)
    if flags & VM:
        for seg, selector in zip(TSS_SEGMENTS, selectors, strict=True):
            load_real(cpu, seg, selector)
    else:
        load_segments(cpu, selectors)
    cpu.refresh()
    if rip > state.segment_limit[CS]:
        raise Fault(Vector.GP, 0)


def load_task_ldt(cpu: Cpu, selector: int) -> None:
    """Load LDTR from the TSS; #TS when it is no LDT."""
    if selector & 4:
        raise Fault(Vector.TS, selector & 0xFFFC)
    descriptor = read_descriptor(cpu, selector, Vector.TS)
    rights = descriptor_rights(descriptor)
    if rights & (S | 15) != LDT or not rights & PRESENT:
        raise Fault(Vector.TS, selector & 0xFFFC)
    fill_segment(cpu, LDTR, selector, descriptor)


def load_segments(cpu: Cpu, selectors: list[int]) -> None:
    """Load CS, SS and the data segments of the incoming task, with #TS for what is wrong."""
    state = cpu.state
    code = selectors[1]
    if is_null(code):
        raise Fault(Vector.TS, 0)
    try:
        descriptor = read_descriptor(cpu, code, Vector.TS)
        state.cpl = rpl(code)
        checked = code_descriptor_at_level(cpu, code, descriptor, rpl(code))
    except Fault as fault:
        vector = Vector.TS if fault.vector == Vector.GP else fault.vector
        raise Fault(vector, fault.error or 0) from fault
    fill_segment(cpu, CS, code, checked)
    fill_segment(cpu, SS, selectors[2], stack_descriptor(cpu, selectors[2], state.cpl, Vector.TS))
    for seg, selector in ((0, selectors[0]), *zip((3, 4, 5), selectors[3:], strict=True)):
        if not is_null(selector):
            fill_segment(cpu, seg, selector, data_descriptor(cpu, selector, state.cpl, Vector.TS))


def gate_level_allows(rights: int, cpl: int, selector: int) -> bool:
    """Whether the DPL of a gate or TSS lets CPL and RPL use it."""
    return not rights & UNUSABLE and dpl(rights) >= max(cpl, rpl(selector))
