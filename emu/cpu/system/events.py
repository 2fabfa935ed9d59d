"""Delivery of exceptions and interrupts. SDM Vol. 3, Interrupt and Exception Handling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu.errors import Fault, TripleFault
from emu.cpu.flags import IF, NT, RF, TF, VM
from emu.cpu.paging import CR0_PE
from emu.cpu.segments import CODE_SEGMENT, CONFORMING, PRESENT, UNUSABLE, S, dpl
from emu.cpu.state import CS, SS, TR, Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

WORD = (1 << 64) - 1
EXTERNAL, FROM_IDT = 1, 2  # EXT and IDT in an error code that names a selector

CONTRIBUTORY = frozenset((Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP))
WITH_ERROR_CODE = frozenset(
    (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC, Vector.CP)
)
FAULTS_SET_RF = frozenset(range(32)) - {Vector.DB, Vector.NMI, Vector.BP, Vector.OF}


def deliver_exception(cpu: Cpu, fault: Fault) -> None:
    """Deliver an exception; one during delivery becomes #DF or a shutdown by the manual's table."""
    current = fault
    while True:
        try:
            if current.vector == Vector.PF and current.address is not None:
                cpu.state.cr2 = current.address
            error = current.error if current.vector in WITH_ERROR_CODE else None
            deliver(cpu, current.vector, error, soft=False)
        except Fault as second:
            current = escalate(current, second)
        else:
            return


def escalate(first: Fault, second: Fault) -> Fault:
    """What a fault while delivering another becomes. SDM Vol. 3, Interrupt 8: Double Fault."""
    if first.vector == Vector.DF:
        raise TripleFault
    contributory = first.vector in CONTRIBUTORY and second.vector in CONTRIBUTORY
    after_page_fault = first.vector == Vector.PF and (
        second.vector in CONTRIBUTORY or second.vector == Vector.PF
    )
    if contributory or after_page_fault:
        return Fault(Vector.DF, 0)
    return second


def deliver_interrupt(cpu: Cpu, vector: int) -> None:
    """Deliver an external interrupt; faults of the delivery have EXT set."""
    try:
        deliver(cpu, vector, None, soft=False)
    except Fault as fault:
        deliver_exception(cpu, fault)


def software_interrupt(cpu: Cpu, vector: int, return_rip: int) -> None:
    """INT n, INT3, INTO: RIP saved is that of the next instruction; the gate's DPL is checked."""
    state = cpu.state
    old = state.rip
    state.rip = return_rip
    try:
        deliver(cpu, vector, None, soft=True)
    except Fault:
        state.rip = old
        raise


def deliver(cpu: Cpu, vector: int, error: int | None, soft: bool) -> None:
    """Transfer control through the IDT, or the interrupt table of real mode."""
    state = cpu.state
    if not state.cr0 & CR0_PE:
        deliver_real(cpu, vector)
    elif cpu.long_mode:
        deliver_long(cpu, vector, error, soft)
    else:
        deliver_protected(cpu, vector, error, soft)
    cpu.refresh()


def saved_flags(cpu: Cpu, vector: int, soft: bool) -> int:
    """RFLAGS as pushed: RF is set for faults."""
    flags = cpu.rflags
    if not soft and vector in FAULTS_SET_RF:
        flags |= RF
    return flags


def deliver_real(cpu: Cpu, vector: int) -> None:
    """Real-address mode: FLAGS, CS and IP, then the vector of the table at the IDT base."""
    state = cpu.state
    if vector * 4 + 3 > state.idtr_limit:
        raise Fault(Vector.GP)
    entry = cpu.read(state.idtr_base + vector * 4, 4, implicit=True)
    sp = state.rsp
    for value in (cpu.rflags, state.selector[CS], state.rip):
        sp = sp - 2 & 0xFFFF
        cpu.write(state.segment_base[SS] + sp, value & 0xFFFF, 2)
    state.rsp = state.rsp & ~0xFFFF | sp
    state.rflags &= ~(IF | TF | 1 << 18)
    state.selector[CS] = entry >> 16
    state.segment_base[CS] = (entry >> 16) << 4
    state.rip = entry & 0xFFFF


def gate_error(vector: int, soft: bool) -> int:
    """The error code that names an IDT entry."""
    return vector << 3 | FROM_IDT | (0 if soft else EXTERNAL if vector >= 32 else 0)


def read_descriptor(cpu: Cpu, selector: int, vector: int) -> int:
    """A descriptor from the GDT or LDT; `vector` is the exception when it lies beyond the limit."""
    state = cpu.state
    if selector & 4:
        base, limit = state.segment_base[6], state.segment_limit[6]
        if state.segment_rights[6] & UNUSABLE:
            raise Fault(vector, selector & 0xFFFC)
    else:
        base, limit = state.gdtr_base, state.gdtr_limit
    if selector & ~7 | 7 > limit:
        raise Fault(vector, selector & 0xFFFC)
    return cpu.read(base + (selector & ~7), 8, implicit=True)


def descriptor_rights(descriptor: int) -> int:
    """Access rights of a descriptor in the VMCS format."""
    return descriptor >> 40 & 0xF0FF


def descriptor_base(descriptor: int) -> int:
    """Base address of a segment descriptor."""
    return descriptor >> 16 & 0xFFFFFF | (descriptor >> 56 & 0xFF) << 24


def descriptor_limit(descriptor: int) -> int:
    """Limit of a segment descriptor in bytes, granularity applied."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    return limit << 12 | 0xFFF if descriptor >> 55 & 1 else limit


def load_segment(cpu: Cpu, seg: int, selector: int, descriptor: int) -> None:
    """Fill a segment register and its hidden part from a descriptor."""
    state = cpu.state
    state.selector[seg] = selector
    state.segment_base[seg] = descriptor_base(descriptor)
    state.segment_limit[seg] = descriptor_limit(descriptor)
    state.segment_rights[seg] = descriptor_rights(descriptor)


def interrupt_target(cpu: Cpu, selector: int) -> tuple[int, int]:
    """Descriptor and new CPL of an interrupt handler's code segment."""
    if selector & ~3 == 0:
        raise Fault(Vector.GP, 0)
    descriptor = read_descriptor(cpu, selector, Vector.GP)
    rights = descriptor_rights(descriptor)
    if not rights & S or not rights & CODE_SEGMENT or dpl(rights) > cpu.state.cpl:
        raise Fault(Vector.GP, selector & 0xFFFC)
    if not rights & PRESENT:
        raise Fault(Vector.NP, selector & 0xFFFC)
    conforming = rights & CONFORMING
    return descriptor, cpu.state.cpl if conforming else dpl(rights)


def deliver_long(cpu: Cpu, vector: int, error: int | None, soft: bool) -> None:
    """IA-32e mode: 16-byte gates, the stack of the TSS, SS:RSP always pushed."""
    state = cpu.state
    where = gate_error(vector, soft)
    if vector * 16 + 15 > state.idtr_limit:
        raise Fault(Vector.GP, where)
    gate = cpu.read(state.idtr_base + vector * 16, 16, implicit=True)
    kind = gate >> 40 & 0x1F
    if kind not in (0xE, 0xF) or (soft and gate >> 45 & 3 < state.cpl):
        raise Fault(Vector.GP, where)
    if not gate >> 47 & 1:
        raise Fault(Vector.NP, where)
    selector = gate >> 16 & 0xFFFF
    descriptor, cpl = interrupt_target(cpu, selector)
    if descriptor >> 53 & 3 != 1:
        raise Fault(Vector.GP, selector & 0xFFFC)
    ist = gate >> 32 & 7
    stack = state.rsp
    if ist:
        stack = read_tss(cpu, 0x24 + 8 * (ist - 1), 8)
    elif cpl < state.cpl:
        stack = read_tss(cpu, 4 + 8 * cpl, 8)
    stack &= ~15
    frame = [state.selector[SS], state.rsp, saved_flags(cpu, vector, soft)]
    frame += [state.selector[CS], state.rip]
    if error is not None:
        frame.append(error)
    data = b"".join(int(value & WORD).to_bytes(8, "little") for value in reversed(frame))
    old_cpl = state.cpl
    state.cpl = cpl
    try:
        cpu.write_bytes(stack - len(data) & WORD, data, implicit=cpl < 3)
    except Fault:
        state.cpl = old_cpl
        raise
    state.rsp = stack - len(data) & WORD
    if cpl < old_cpl:
        state.selector[SS] = cpl
        state.segment_rights[SS] = UNUSABLE | cpl << 5
    load_segment(cpu, CS, selector & ~3 | cpl, descriptor)
    offset = gate & 0xFFFF | gate >> 32 & 0xFFFF0000 | (gate >> 64 & 0xFFFFFFFF) << 32
    state.rip = offset
    state.rflags &= ~(TF | NT | RF | VM | (IF if kind == 0xE else 0))


def read_tss(cpu: Cpu, offset: int, count: int) -> int:
    """A field of the current TSS; #TS when it lies beyond the limit."""
    state = cpu.state
    if offset + count - 1 > state.segment_limit[TR]:
        raise Fault(Vector.TS, state.selector[TR] & 0xFFFC)
    return cpu.read(state.segment_base[TR] + offset, count, implicit=True)


def deliver_protected(cpu: Cpu, vector: int, error: int | None, soft: bool) -> None:
    """Protected mode: 8-byte gates, 16 and 32 bits, with a change of stack between levels."""
    state = cpu.state
    where = gate_error(vector, soft)
    if vector * 8 + 7 > state.idtr_limit:
        raise Fault(Vector.GP, where)
    gate = cpu.read(state.idtr_base + vector * 8, 8, implicit=True)
    kind = gate >> 40 & 0x1F
    if kind not in (6, 7, 14, 15) or (soft and gate >> 45 & 3 < state.cpl):
        raise Fault(Vector.GP, where)
    if not gate >> 47 & 1:
        raise Fault(Vector.NP, where)
    selector = gate >> 16 & 0xFFFF
    descriptor, cpl = interrupt_target(cpu, selector)
    width = 4 if kind & 8 else 2
    flags = saved_flags(cpu, vector, soft)
    frame = [flags, state.selector[CS], state.rip]
    if error is not None:
        frame.append(error)
    if state.rflags & VM:
        if cpl:
            raise Fault(Vector.GP, selector & 0xFFFC)
        data_segments = [state.selector[seg] for seg in (5, 4, 3, 0)]
        frame = [*data_segments, state.selector[SS], state.rsp, *frame]
    elif cpl < state.cpl:
        frame = [state.selector[SS], state.rsp, *frame]
    data = b"".join(
        int(value & ((1 << 8 * width) - 1)).to_bytes(width, "little") for value in reversed(frame)
    )
    if cpl < state.cpl or state.rflags & VM:
        push_on_new_stack(cpu, cpl, data)
    else:
        push_frame(cpu, data)
    if state.rflags & VM:
        for seg in (0, 3, 4, 5):
            state.selector[seg] = 0
            state.segment_rights[seg] = UNUSABLE
    state.cpl = cpl
    load_segment(cpu, CS, selector & ~3 | cpl, descriptor)
    offset = gate & 0xFFFF
    if width == 4:
        offset |= gate >> 32 & 0xFFFF0000
    state.rip = offset
    state.rflags &= ~(TF | NT | RF | VM | (IF if not kind & 1 else 0))


def push_frame(cpu: Cpu, data: bytes) -> None:
    """Push on the current stack, checked against the limit of SS."""
    state = cpu.state
    top = state.rsp - len(data) & state.stack_mask
    if top < state.segment_low[SS] or top + len(data) > state.write_end[SS]:
        raise Fault(Vector.SS, 0)
    cpu.write_bytes(state.segment_base[SS] + top & 0xFFFFFFFF, data)
    state.rsp = state.rsp & ~state.stack_mask | top


def push_on_new_stack(cpu: Cpu, cpl: int, data: bytes) -> None:
    """Take SS:ESP of a level from the TSS and push there."""
    state = cpu.state
    wide = state.segment_rights[TR] & 8
    offset = 4 + 8 * cpl if wide else 2 + 4 * cpl
    stack = read_tss(cpu, offset, 4 if wide else 2)
    selector = read_tss(cpu, offset + (4 if wide else 2), 2)
    if selector & ~3 == 0:
        raise Fault(Vector.TS, 0)
    descriptor = read_descriptor(cpu, selector, Vector.TS)
    rights = descriptor_rights(descriptor)
    if selector & 3 != cpl or dpl(rights) != cpl or rights & 0x1A != 0x12:
        raise Fault(Vector.TS, selector & 0xFFFC)
    if not rights & PRESENT:
        raise Fault(Vector.SS, selector & 0xFFFC)
    mask = 0xFFFFFFFF if rights & 1 << 14 else 0xFFFF
    top = stack - len(data) & mask
    linear = descriptor_base(descriptor) + top & 0xFFFFFFFF
    cpu.write_bytes(linear, data, implicit=True)
    load_segment(cpu, SS, selector, descriptor)
    state.rsp = state.rsp & ~mask | top
