"""Events in 64-bit mode, compiled: what `system.events.deliver_long` does in the usual case.

A case that is not the usual one leaves everything as it was, and plain Python delivers the event
in full. SDM Vol. 3, Exception and Interrupt Handling in 64-Bit Mode.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import load_slow, tlb_entry, translate
from emu.cpu.compiler.words import WORD, outlined, raw_load64, raw_store64, restricted
from emu.cpu.flags import AC, IF, NT, RESERVED_ONE, RF, TF, VM, status_flags
from emu.cpu.paging import WRITE, is_canonical
from emu.cpu.physmap import PAGE, PAGE_OFFSET
from emu.cpu.segments import CODE_SEGMENT, CONFORMING, DB, PRESENT, UNUSABLE, WRITABLE, G, L, S
from emu.cpu.state import (
    CS,
    DS,
    FS,
    ITLB_SIZE,
    MODE_TAG_SHIFT,
    NO_ERROR_CODE,
    SS,
    SUPERVISOR,
    SUPERVISOR_AC,
    TR,
    Exit,
    Vector,
)

ACCESSED, DPL = 1, 3 << 5
INTERRUPT_GATE, TRAP_GATE = 14, 15
WITH_ERROR_CODE = 1 << 8 | 0b11111 << 10 | 1 << 17 | 1 << 21  # a bit a vector
CODE_KIND = CODE_SEGMENT | CONFORMING | ACCESSED | S | PRESENT | L | DB
CODE_64 = CODE_SEGMENT | ACCESSED | S | PRESENT | L
STACK_KIND = CODE_SEGMENT | WRITABLE | ACCESSED | S | PRESENT
DATA_KIND = CODE_SEGMENT | ACCESSED | S | PRESENT
STACK_DATA = WRITABLE | ACCESSED | S | PRESENT


@restricted
def peek(cpu: Any, linear: int) -> int:
    """Eight bytes of a descriptor table or TSS, with the TLB of the supervisor in force."""
    entry = tlb_entry(cpu, linear)
    if linear + 7 & PAGE == entry.read_tag:
        return raw_load64(linear + entry.addend)
    return load_slow(cpu, linear, 8, DS)


@restricted
def descriptor_of(cpu: Any, selector: int) -> int:
    """A descriptor of the GDT; 0, which is not present, where there is none."""
    index = selector & 0xFFF8
    if selector & 4 or index == 0 or index + 7 > cpu.gdtr_limit:
        return 0
    descriptor = peek(cpu, cpu.gdtr_base + index)
    if cpu.exit_code:
        return 0
    return descriptor


@restricted
def fill_segment(cpu: Any, seg: int, selector: int, descriptor: int) -> None:
    """Fill a segment register and its hidden part."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    rights = descriptor >> 40 & 0xF0FF
    if rights & G:
        limit = limit << 12 | 0xFFF
    cpu.selector[seg] = selector
    cpu.segment_base[seg] = descriptor >> 16 & 0xFFFFFF | descriptor >> 56 << 24
    cpu.segment_limit[seg] = limit
    cpu.segment_rights[seg] = rights


@restricted
def set_level(cpu: Any, cpl: int) -> None:
    """CPL 0 or 3 in 64-bit mode: the decoding mode and the instruction TLB follow."""
    if cpu.cpl == 3 and cpl == 0:
        cpu.itlb -= ITLB_SIZE
    if cpu.cpl == 0 and cpl == 3:
        cpu.itlb += ITLB_SIZE
    cpu.cpl = cpl
    cpu.mode_slot = cpu.mode_slots[cpl & 1]
    cpu.mode_tag = cpu.mode_slot << MODE_TAG_SHIFT


@restricted
def handler_stack(cpu: Any, ist: int, cpl: int) -> int:
    """RSP to begin with; 1, which no stack pointer is after alignment, when it cannot be read."""
    if ist == 0 and cpl == 0:
        return cpu.rsp & ~15
    offset = 0x1C + 8 * ist if ist else 4
    if offset + 7 > cpu.segment_limit[TR]:
        return 1
    stack = peek(cpu, cpu.segment_base[TR] + offset)
    if cpu.exit_code or is_canonical(cpu, stack) == 0:
        return 1
    return stack & ~15


@restricted
def transfer(cpu: Any, vector: int, error: int, soft: int, flags: int, rip: int, cpl: int) -> int:
    """Through the gate of `vector` to CPL 0: 1 when it is done, 0 when nothing has happened."""
    if vector * 16 + 15 > cpu.idtr_limit:
        return 0
    low = peek(cpu, cpu.idtr_base + vector * 16)
    high = peek(cpu, cpu.idtr_base + vector * 16 + 8)
    kind = low >> 40 & 0x1F
    if cpu.exit_code or kind | 1 != TRAP_GATE or low >> 47 & 1 == 0:
        return 0
    if soft and low >> 45 & 3 < cpl:
        return 0
    selector = low >> 16 & 0xFFFC
    code = descriptor_of(cpu, selector)
    if code >> 40 & (CODE_KIND | DPL) != CODE_64:
        return 0
    target = low & 0xFFFF | low >> 32 & 0xFFFF0000 | (high & 0xFFFFFFFF) << 32
    stack = handler_stack(cpu, low >> 32 & 7, cpl)
    count = 40 if error == NO_ERROR_CODE else 48
    top = stack - count
    if stack & 1 or (top & PAGE_OFFSET) + count > PAGE_OFFSET + 1:
        return 0
    if is_canonical(cpu, target) == 0 or is_canonical(cpu, top) == 0:
        return 0
    host = translate(cpu, top, WRITE, count)
    if host == 0:
        return 0
    if error != NO_ERROR_CODE:
        raw_store64(host, error)
        host += 8
    raw_store64(host, rip)
    raw_store64(host + 8, cpu.selector[CS])
    raw_store64(host + 16, flags)
    raw_store64(host + 24, cpu.rsp)
    raw_store64(host + 32, cpu.selector[SS])
    fill_segment(cpu, CS, selector, code)
    if cpl:
        cpu.selector[SS] = 0
        cpu.segment_base[SS] = 0
        cpu.segment_limit[SS] = 0
        cpu.segment_rights[SS] = UNUSABLE
    cpu.rsp = top
    cpu.rip = target
    return 2 if kind == INTERRUPT_GATE else 1


@outlined
def deliver(cpu: Any, vector: int, error: int, soft: int, flags: int, rip: int) -> int:
    """Deliver an event in 64-bit mode; 0 when plain Python has to, and nothing has happened.

    `flags` and `rip` are what is pushed.
    """
    cpl = cpu.cpl
    if cpu.ip_mask != WORD or cpu.dr[7] & 0xFF or (cpl != 0 and cpl != 3):
        return 0
    rflags = cpu.rflags
    dtlb = cpu.dtlb
    cpu.exit_code = Exit.NONE
    cpu.cpl = 0
    cpu.rflags = rflags & ~AC
    cpu.dtlb = cpu.dtlb_kinds[SUPERVISOR]
    done = transfer(cpu, vector, error, soft, flags, rip, cpl)
    cpu.cpl = cpl
    cpu.rflags = rflags
    if done == 0:
        cpu.dtlb = dtlb
        cpu.exit_code = Exit.NONE
        return 0
    cpu.rflags = rflags & ~(TF | NT | RF | VM | (IF if done == 2 else 0))
    cpu.dtlb = cpu.dtlb_kinds[SUPERVISOR_AC if rflags & AC else SUPERVISOR]
    set_level(cpu, 0)
    return 1


@outlined
def take_fault(cpu: Any) -> int:
    """Deliver the fault that compiled code left with; 1 when it can go on at once.

    As when plain Python delivers it, that takes a tick (`Cpu.pass_exception`), so that handlers
    that only fault come to an end. Without one left it was the fetch of what no longer runs.
    """
    if cpu.exit_code != Exit.EXCEPTION or cpu.guest_mode or cpu.event_pending or cpu.budget == 0:
        return 0
    vector = cpu.exit_vector
    error = cpu.exit_error
    address = cpu.exit_address
    pushed = error if WITH_ERROR_CODE >> vector & 1 else NO_ERROR_CODE
    flags = cpu.rflags | status_flags(cpu) | RESERVED_ONE | RF
    if deliver(cpu, vector, pushed, 0, flags, cpu.rip) == 0:
        cpu.exit_code = Exit.EXCEPTION
        cpu.exit_vector = vector
        cpu.exit_error = error
        cpu.exit_address = address
        return 0
    if vector == Vector.PF:
        cpu.cr2 = address
    cpu.budget -= 1
    cpu.faults_taken += 1
    return 1 if cpu.budget else 0


@outlined
def load_data_segment(cpu: Any, seg: int, selector: int) -> int:
    """Load DS, ES, FS or GS in 64-bit mode at CPL 0; 0 when plain Python has to.

    RFLAGS.AC is clear.
    """
    descriptor = descriptor_of(cpu, selector)
    cpu.exit_code = Exit.NONE
    rights = descriptor >> 40
    if rights & DATA_KIND != ACCESSED | S | PRESENT or rights >> 5 & 3 < selector & 3:
        return 0
    fill_segment(cpu, seg, selector, descriptor)
    if seg >= FS:
        cpu.linear_base[seg] = cpu.segment_base[seg]
    return 1


@restricted
def drop_segment(cpu: Any, seg: int) -> None:
    """After a return to CPL 3: null a segment that this level may not use. SDM Vol. 2, IRET."""
    rights = cpu.segment_rights[seg]
    conforming = rights & (CODE_SEGMENT | CONFORMING) == CODE_SEGMENT | CONFORMING
    if rights & UNUSABLE == 0 and rights & S and conforming == 0 and rights & DPL != DPL:
        cpu.selector[seg] = 0
        cpu.segment_rights[seg] = UNUSABLE


@outlined
def return_to_user(cpu: Any, code: int, stack: int) -> int:
    """Load CS and SS for a return from CPL 0 to 64-bit code at CPL 3; 0 when plain Python has to.

    `code` and `stack` are the selectors; RFLAGS.AC is clear.
    """
    if code & 3 != 3 or stack & 3 != 3:
        return 0
    code_descriptor = descriptor_of(cpu, code)
    stack_descriptor = descriptor_of(cpu, stack)
    cpu.exit_code = Exit.NONE
    if code_descriptor >> 40 & (CODE_KIND | DPL) != CODE_64 | DPL:
        return 0
    if stack_descriptor >> 40 & (STACK_KIND | DPL) != STACK_DATA | DPL:
        return 0
    fill_segment(cpu, CS, code, code_descriptor)
    fill_segment(cpu, SS, stack, stack_descriptor)
    for seg in (0, 3, 4, 5):
        drop_segment(cpu, seg)
    set_level(cpu, 3)
    return 1
