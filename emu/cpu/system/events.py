"""Delivery of exceptions and interrupts. SDM Vol. 3, Interrupt and Exception Handling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu import branch_records, debug
from emu.cpu.errors import Fault, GuestExit, TripleFault
from emu.cpu.flags import AC, IF, NT, RF, TF, VM
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.paging import CR0_PE
from emu.cpu.segments import CONFORMING, DB, PRESENT, UNUSABLE, L, dpl
from emu.cpu.state import CS, SS, Vector
from emu.cpu.system.descriptors import (
    TASK_GATE,
    check_code_mode,
    descriptor_base,
    descriptor_rights,
    fill_segment,
    inner_stack,
    is_code,
    is_null,
    load_code_segment,
    load_null,
    read_descriptor,
    read_tss,
    set_accessed,
)
from emu.cpu.system.operands import is_canonical, push

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

WORD = (1 << 64) - 1
EXTERNAL, FROM_IDT = 1, 2  # EXT and IDT in an error code that names a selector

CONTRIBUTORY = frozenset((Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP))
WITH_ERROR_CODE = frozenset(
    (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC, Vector.CP)
)
FAULTS_SET_RF = frozenset(range(32)) - {Vector.DB, Vector.NMI, Vector.BP, Vector.OF}
INTERRUPT_GATE, TRAP_GATE = 14, 15


def deliver_exception(cpu: Cpu, fault: Fault) -> None:
    """Deliver an exception; one during delivery becomes #DF or a shutdown by the manual's table."""
    offer(cpu, fault)
    load_payload(cpu, fault)
    error = fault.error if fault.vector in WITH_ERROR_CODE else None
    deliver_event(cpu, Event(EventKind.HARDWARE, fault.vector, error))


def deliver_event(cpu: Cpu, event: Event) -> None:
    """Deliver an event that nobody intercepts, and what comes up during its delivery."""
    while True:
        try:
            deliver(cpu, event)
        except Fault as second:
            event = following(cpu, event, second)
        else:
            return


def following(cpu: Cpu, event: Event, second: Fault) -> Event:
    """What is delivered after a fault in the delivery of an event."""
    offer(cpu, second)
    if event.kind == EventKind.HARDWARE:
        if event.vector == Vector.DF:
            shut_down(cpu)
        escalated = escalate(event.vector, second)
        if escalated is not second:
            offer(cpu, escalated)
            second = escalated
    load_payload(cpu, second)
    error = second.error if second.vector in WITH_ERROR_CODE else None
    return Event(EventKind.HARDWARE, second.vector, error)


def shut_down(cpu: Cpu) -> None:
    """An exception while delivering #DF: a triple fault."""
    if cpu.guest is not None:
        cpu.guest.triple_fault()
    raise TripleFault


def offer(cpu: Cpu, fault: Fault) -> None:
    """Let guest mode intercept an exception."""
    if cpu.guest is not None:
        cpu.guest.exception(Event.of(fault))


def load_payload(cpu: Cpu, fault: Fault) -> None:
    """CR2 of #PF; DR6 and DR7.GD of #DB."""
    if fault.address is None:
        return
    if fault.vector == Vector.PF:
        cpu.state.cr2 = fault.address
    elif fault.vector == Vector.DB:
        debug.record(cpu.state, fault.address)
        cpu.state.dr[7] &= ~debug.DR7_GD


def escalate(first: int, second: Fault) -> Fault:
    """What a fault while delivering another becomes. SDM Vol. 3, Interrupt 8: Double Fault."""
    contributory = first in CONTRIBUTORY and second.vector in CONTRIBUTORY
    after_page_fault = first == Vector.PF and (
        second.vector in CONTRIBUTORY or second.vector == Vector.PF
    )
    if contributory or after_page_fault:
        return Fault(Vector.DF, 0)
    return second


def deliver_interrupt(cpu: Cpu, vector: int, kind: EventKind = EventKind.EXTERNAL) -> None:
    """Deliver an external interrupt; faults of the delivery have EXT set."""
    deliver_event(cpu, Event(kind, vector))


def deliver_nmi(cpu: Cpu) -> None:
    """Deliver a non-maskable interrupt; NMIs are blocked until the next IRET."""
    deliver_interrupt(cpu, Vector.NMI, EventKind.NMI)


def software_interrupt(cpu: Cpu, event: Event, return_rip: int) -> None:
    """INT n, INT1, INT3, INTO: RIP saved is that of the next instruction.

    The gate's DPL is checked but for INT1, a privileged software exception.
    """
    state = cpu.state
    old = state.rip
    if cpu.guest is not None and event.kind != EventKind.SOFTWARE:
        cpu.guest.exception(event)
    state.rip = return_rip
    try:
        deliver(cpu, event)
    except (Fault, GuestExit):
        state.rip = old
        raise


def deliver(cpu: Cpu, event: Event) -> None:
    """Transfer control through the IDT, or the interrupt table of real mode."""
    state = cpu.state
    flags, source = cpu.rflags, int(state.rip)
    vector, error = event.vector, event.error
    soft = event.kind in (EventKind.SOFTWARE, EventKind.SOFTWARE_EXCEPTION)
    cpu.delivering = event
    if event.kind == EventKind.HARDWARE and vector in FAULTS_SET_RF and not event.injected:
        flags |= RF
    compiled = cpu.long_mode and cpu.deliver_compiled(vector, error, soft, flags)
    if compiled:
        pass
    elif not state.cr0 & CR0_PE:
        deliver_real(cpu, vector)
    elif cpu.long_mode:
        deliver_long(cpu, vector, error, soft, flags)
    else:
        deliver_protected(cpu, vector, error, soft, flags)
    cpu.delivering = None
    if cpu.records_branches:
        branch_records.record_event(cpu, source, vector)
    cpu.debug_causes = 0
    cpu.halted = False
    if not compiled:
        cpu.refresh()


def deliver_real(cpu: Cpu, vector: int) -> None:
    """Real-address mode: FLAGS, CS and IP, then the vector of the table at the IDT base."""
    state = cpu.state
    if vector * 4 + 3 > state.idtr_limit:
        raise Fault(Vector.GP, 0)
    entry = cpu.read(state.idtr_base + vector * 4, 4, implicit=True)
    push(cpu, [cpu.rflags & 0xFFFF, state.selector[CS], state.rip & 0xFFFF], 2)
    state.rflags &= ~(IF | TF | AC | RF)
    state.selector[CS] = entry >> 16
    state.segment_base[CS] = (entry >> 16) << 4
    state.rip = entry & 0xFFFF


def read_gate(cpu: Cpu, vector: int, soft: bool, width: int, kinds: tuple[int, ...]) -> int:
    """A gate of the IDT, checked: its kind, its DPL for software interrupts, its presence."""
    state = cpu.state
    where = vector << 3 | FROM_IDT | (0 if soft else EXTERNAL)
    if vector * width + width - 1 > state.idtr_limit:
        raise Fault(Vector.GP, where)
    gate = cpu.read(state.idtr_base + vector * width, width, implicit=True)
    if gate >> 40 & 0x1F not in kinds or (soft and gate >> 45 & 3 < state.cpl):
        raise Fault(Vector.GP, where)
    if not gate >> 47 & 1:
        raise Fault(Vector.NP, where)
    return gate


def interrupt_target(cpu: Cpu, selector: int, external: int) -> tuple[int, int]:
    """Descriptor and new CPL of an interrupt handler's code segment."""
    if is_null(selector):
        raise Fault(Vector.GP, external)
    where = selector & 0xFFFC | external
    descriptor = read_descriptor(cpu, selector, Vector.GP, external)
    rights = descriptor_rights(descriptor)
    if not is_code(rights) or dpl(rights) > cpu.state.cpl:
        raise Fault(Vector.GP, where)
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    if cpu.long_mode and (not rights & L or rights & DB):
        raise Fault(Vector.GP, where)
    check_code_mode(cpu, rights, where)
    return descriptor, cpu.state.cpl if rights & CONFORMING else dpl(rights)


def deliver_long(cpu: Cpu, vector: int, error: int | None, soft: bool, flags: int) -> None:
    """IA-32e mode: 16-byte gates, the stack of the TSS, SS:RSP always pushed."""
    state = cpu.state
    external = 0 if soft else EXTERNAL
    gate = read_gate(cpu, vector, soft, 16, (INTERRUPT_GATE, TRAP_GATE))
    selector = gate >> 16 & 0xFFFF
    descriptor, cpl = interrupt_target(cpu, selector, external)
    ist = gate >> 32 & 7
    stack = state.rsp
    if ist:
        stack = read_tss(cpu, 0x24 + 8 * (ist - 1), 8, external)
    elif cpl < state.cpl:
        stack = read_tss(cpu, 4 + 8 * cpl, 8, external)
    if (ist or cpl < state.cpl) and not is_canonical(cpu, stack):
        raise Fault(Vector.SS, external)
    stack &= ~15
    offset = gate & 0xFFFF | gate >> 32 & 0xFFFF0000 | (gate >> 64 & 0xFFFFFFFF) << 32
    if not is_canonical(cpu, offset):
        raise Fault(Vector.GP, external)
    frame = [state.selector[SS], state.rsp, flags, state.selector[CS], state.rip]
    if error is not None:
        frame.append(error)
    data = b"".join(int(value & WORD).to_bytes(8, "little") for value in reversed(frame))
    top = stack - len(data) & WORD
    if not is_canonical(cpu, top):
        raise Fault(Vector.SS, external)
    write_at_level(cpu, cpl, top, data)
    old_cpl = state.cpl
    state.rsp = top
    load_code_segment(cpu, selector, set_accessed(cpu, selector, descriptor), cpl)
    if cpl < old_cpl:
        load_null(cpu, SS, cpl)
    state.rip = offset
    kind = gate >> 40 & 0x1F
    state.rflags &= ~(TF | NT | RF | VM | (IF if kind == INTERRUPT_GATE else 0))


def write_at_level(cpu: Cpu, cpl: int, linear: int, data: bytes) -> None:
    """Write a frame with the rights of a privilege level."""
    state = cpu.state
    old = state.cpl
    state.cpl = cpl
    try:
        cpu.write_bytes(linear, data)
    finally:
        state.cpl = old
    debug.data_breakpoints(cpu, linear, len(data), True)


def deliver_protected(cpu: Cpu, vector: int, error: int | None, soft: bool, flags: int) -> None:
    """Protected mode: 8-byte gates, 16 and 32 bits, with a change of stack between levels."""
    from emu.cpu.system.task import task_gate  # noqa: PLC0415 - a task switch delivers as well

    state = cpu.state
    external = 0 if soft else EXTERNAL
    if soft and state.rflags & VM and state.rflags >> 12 & 3 < 3:
        raise Fault(Vector.GP, 0)
    gate = read_gate(cpu, vector, soft, 8, (TASK_GATE, 6, 7, INTERRUPT_GATE, TRAP_GATE))
    kind = gate >> 40 & 0x1F
    selector = gate >> 16 & 0xFFFF
    if kind == TASK_GATE:
        task_gate(cpu, selector, external, error)
        return
    descriptor, cpl = interrupt_target(cpu, selector, external)
    width = 4 if kind & 8 else 2
    frame = [flags, int(state.selector[CS]), int(state.rip)]
    if error is not None:
        frame.append(error)
    from_vm86 = bool(state.rflags & VM)
    if from_vm86 and cpl:
        raise Fault(Vector.GP, selector & 0xFFFC | external)
    if cpl < state.cpl:
        frame = [int(state.selector[SS]), int(state.rsp), *frame]
        if from_vm86:
            frame = [*(int(state.selector[seg]) for seg in (5, 4, 3, 0)), *frame]
        push_on_inner_stack(cpu, cpl, frame, width, external)
    else:
        try:
            push(cpu, [value & (1 << 8 * width) - 1 for value in frame], width)
        except Fault as fault:
            if fault.vector == Vector.SS:
                raise Fault(Vector.SS, external) from fault
            raise
    if from_vm86:
        for seg in (0, 3, 4, 5):
            state.selector[seg] = state.segment_base[seg] = 0
            state.segment_rights[seg] = UNUSABLE
    load_code_segment(cpu, selector, set_accessed(cpu, selector, descriptor), cpl)
    offset = gate & 0xFFFF
    if width == 4:
        offset |= gate >> 32 & 0xFFFF0000
    if offset > state.segment_limit[CS]:
        raise Fault(Vector.GP, external)
    state.rip = offset
    state.rflags &= ~(TF | NT | RF | VM | (IF if not kind & 1 else 0))


def push_on_inner_stack(
    cpu: Cpu, cpl: int, frame: list[int], width: int, external: int = 0
) -> None:
    """Take SS:ESP of a level from the TSS and push there."""
    selector, descriptor, pointer = inner_stack(cpu, cpl, external)
    state = cpu.state
    data = b"".join((v & (1 << 8 * width) - 1).to_bytes(width, "little") for v in reversed(frame))
    rights = descriptor_rights(descriptor)
    mask = 0xFFFFFFFF if rights & DB else 0xFFFF
    top = pointer - len(data) & mask
    saved = state.selector[SS], state.segment_base[SS], state.segment_limit[SS]
    saved_rights = state.segment_rights[SS]
    fill_segment(cpu, SS, selector, descriptor)
    from emu.cpu.segments import bounds  # noqa: PLC0415

    low, _, end = bounds(rights, int(state.segment_limit[SS]), True)
    try:
        if top < low or top + len(data) > end:
            raise Fault(Vector.SS, selector & 0xFFFC | external)
        write_at_level(cpu, cpl, descriptor_base(descriptor) + top & 0xFFFFFFFF, data)
    except Fault:
        state.selector[SS], state.segment_base[SS], state.segment_limit[SS] = saved
        state.segment_rights[SS] = saved_rights
        raise
    state.rsp = state.rsp & ~mask | top
