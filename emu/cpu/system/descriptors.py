"""Segment descriptors: reading, checking, loading. SDM Vol. 3, Protected-Mode Memory Management."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu.errors import Fault
from emu.cpu.flags import VM
from emu.cpu.segments import (
    CODE_SEGMENT,
    CONFORMING,
    DB,
    PRESENT,
    READABLE,
    UNUSABLE,
    WRITABLE,
    L,
    S,
    dpl,
)
from emu.cpu.state import CS, LDTR, SS, TR, Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

ACCESSED = 1 << 40
BUSY = 1 << 41
# system-segment and gate types. SDM Vol. 3, System Descriptor Types
TSS16, LDT, TSS16_BUSY, CALL16, TASK_GATE = 1, 2, 3, 4, 5
TSS32, TSS32_BUSY, CALL32 = 9, 11, 12


def rpl(selector: int) -> int:
    """Requested privilege level."""
    return selector & 3


def is_null(selector: int) -> bool:
    """Whether a selector is null: index 0 of the GDT."""
    return selector & 0xFFFC == 0


def descriptor_place(cpu: Cpu, selector: int, count: int = 8) -> int | None:
    """Linear address of a descriptor of `count` bytes; None beyond the limit of its table."""
    state = cpu.state
    if selector & 4:
        base, limit = state.segment_base[LDTR], state.segment_limit[LDTR]
        if state.segment_rights[LDTR] & UNUSABLE:
            return None
    else:
        base, limit = state.gdtr_base, state.gdtr_limit
    if (selector & ~7) + count - 1 > limit:
        return None
    return int(base + (selector & ~7)) & (1 << 64) - 1


def read_descriptor(cpu: Cpu, selector: int, vector: int, external: int = 0) -> int:
    """A descriptor from the GDT or LDT; `vector` is the exception when it lies beyond the limit."""
    place = descriptor_place(cpu, selector)
    if place is None:
        raise Fault(vector, selector & 0xFFFC | external)
    return cpu.read(place, 8, implicit=True)


def read_wide_descriptor(cpu: Cpu, selector: int, vector: int) -> int:
    """A system descriptor of IA-32e mode: 16 bytes, type bits of the upper half clear."""
    place = descriptor_place(cpu, selector, 16)
    if place is None:
        raise Fault(vector, selector & 0xFFFC)
    descriptor = cpu.read(place, 16, implicit=True)
    if descriptor >> 104 & 0x1F:
        raise Fault(vector, selector & 0xFFFC)
    return descriptor


def descriptor_rights(descriptor: int) -> int:
    """Access rights of a descriptor in the VMCS format."""
    return descriptor >> 40 & 0xF0FF


def descriptor_base(descriptor: int) -> int:
    """Base address of a segment descriptor."""
    return descriptor >> 16 & 0xFFFFFF | (descriptor >> 56 & 0xFF) << 24


def wide_base(descriptor: int) -> int:
    """Base address of a 16-byte system descriptor."""
    return descriptor_base(descriptor) | (descriptor >> 64 & 0xFFFFFFFF) << 32


def descriptor_limit(descriptor: int) -> int:
    """Limit of a segment descriptor in bytes, granularity applied."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    return limit << 12 | 0xFFF if descriptor >> 55 & 1 else limit


def is_code(rights: int) -> bool:
    """Whether rights are those of a code segment."""
    return bool(rights & S and rights & CODE_SEGMENT)


def set_accessed(cpu: Cpu, selector: int, descriptor: int) -> int:
    """The descriptor with its accessed bit, set in its table as well."""
    if descriptor & ACCESSED:
        return descriptor
    place = descriptor_place(cpu, selector)
    if place is not None:
        cpu.write(place + 5, (descriptor | ACCESSED) >> 40, 1, implicit=True)
    return descriptor | ACCESSED


def fill_segment(cpu: Cpu, seg: int, selector: int, descriptor: int) -> None:
    """Fill a segment register and its hidden part from a descriptor."""
    state = cpu.state
    state.selector[seg] = selector
    state.segment_base[seg] = descriptor_base(descriptor)
    state.segment_limit[seg] = descriptor_limit(descriptor)
    state.segment_rights[seg] = descriptor_rights(descriptor)


def load_real(cpu: Cpu, seg: int, selector: int) -> None:
    """Load a segment register in real-address or virtual-8086 mode: base is selector * 16."""
    state = cpu.state
    state.selector[seg] = selector
    state.segment_base[seg] = selector << 4
    if state.rflags & VM:
        state.segment_limit[seg] = 0xFFFF
        state.segment_rights[seg] = 0xF3
    elif seg == CS:
        # SDM Vol. 3, Mode Switching: a far jump makes CS writable data-like, other parts stay
        state.segment_rights[seg] = state.segment_rights[seg] & ~0x6F | 0x13 | PRESENT


def load_null(cpu: Cpu, seg: int, selector: int) -> None:
    """Load a null selector: the segment cannot be used, its base and limit are cleared."""
    state = cpu.state
    state.selector[seg] = selector
    state.segment_base[seg] = 0
    state.segment_limit[seg] = 0
    state.segment_rights[seg] = UNUSABLE | (state.cpl << 5 if seg == SS else 0)


def stack_descriptor(
    cpu: Cpu, selector: int, cpl: int, vector: int = Vector.GP, external: int = 0
) -> int:
    """The descriptor of a stack segment for privilege level `cpl`, checked.

    `vector` is #GP, or #TS for a stack from a TSS. SDM Vol. 2, MOV.
    """
    where = selector & 0xFFFC | external
    if is_null(selector):
        raise Fault(vector, external)
    descriptor = read_descriptor(cpu, selector, vector, external)
    rights = descriptor_rights(descriptor)
    if rpl(selector) != cpl or dpl(rights) != cpl:
        raise Fault(vector, where)
    if not rights & S or rights & CODE_SEGMENT or not rights & WRITABLE:
        raise Fault(vector, where)
    if not rights & PRESENT:
        raise Fault(Vector.SS, where)
    return set_accessed(cpu, selector, descriptor)


def data_descriptor(cpu: Cpu, selector: int, cpl: int, vector: int = Vector.GP) -> int:
    """The descriptor for DS, ES, FS or GS, checked. SDM Vol. 2, MOV."""
    descriptor = read_descriptor(cpu, selector, vector)
    rights = descriptor_rights(descriptor)
    where = selector & 0xFFFC
    if not rights & S or (rights & CODE_SEGMENT and not rights & READABLE):
        raise Fault(vector, where)
    conforming = rights & CODE_SEGMENT and rights & CONFORMING
    if not conforming and (rpl(selector) > dpl(rights) or cpl > dpl(rights)):
        raise Fault(vector, where)
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    return set_accessed(cpu, selector, descriptor)


def code_descriptor_at_level(
    cpu: Cpu, selector: int, descriptor: int, requested: int, external: int = 0
) -> int:
    """Check a code segment for a transfer without a gate: level rules, mode, presence."""
    rights = descriptor_rights(descriptor)
    where = selector & 0xFFFC | external
    cpl = cpu.state.cpl
    if not is_code(rights):
        raise Fault(Vector.GP, where)
    if rights & CONFORMING:
        if dpl(rights) > cpl:
            raise Fault(Vector.GP, where)
    elif requested > cpl or dpl(rights) != cpl:
        raise Fault(Vector.GP, where)
    check_code_mode(cpu, rights, where)
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    return set_accessed(cpu, selector, descriptor)


def check_code_mode(cpu: Cpu, rights: int, where: int) -> None:
    """#GP for a code segment with both L and D in IA-32e mode."""
    if cpu.long_mode and rights & L and rights & DB:
        raise Fault(Vector.GP, where)


def load_segment_register(cpu: Cpu, seg: int, selector: int) -> None:
    """Load DS, ES, FS, GS or SS as MOV does, in every mode."""
    from emu.cpu.system.operands import protected  # noqa: PLC0415 - it reads the decoder

    state = cpu.state
    if not protected(cpu):
        load_real(cpu, seg, selector)
    elif seg == SS:
        if is_null(selector) and cpu.mode.bits == 64 and state.cpl < 3:
            if rpl(selector) != state.cpl:
                raise Fault(Vector.GP, 0)
            load_null(cpu, seg, selector)
        else:
            fill_segment(cpu, seg, selector, stack_descriptor(cpu, selector, state.cpl))
    elif is_null(selector):
        load_null(cpu, seg, selector)
    else:
        fill_segment(cpu, seg, selector, data_descriptor(cpu, selector, state.cpl))
    cpu.refresh()


def load_code_segment(cpu: Cpu, selector: int, descriptor: int, cpl: int) -> None:
    """Load CS and set CPL; the caller refreshes."""
    fill_segment(cpu, CS, selector & 0xFFFC | cpl, descriptor)
    cpu.state.cpl = cpl


def drop_privileged_segments(cpu: Cpu) -> None:
    """After a return to an outer level: null what that level may not use. SDM Vol. 2, RET."""
    state = cpu.state
    for seg in (0, 3, 4, 5):
        rights = state.segment_rights[seg]
        conforming = rights & CODE_SEGMENT and rights & CONFORMING
        # an unusable segment keeps its base, as FS and GS in 64-bit mode need
        if not rights & UNUSABLE and rights & S and not conforming and dpl(rights) < state.cpl:
            # the base stays too: kernels rely on it for FS and GS
            state.selector[seg] = 0
            state.segment_rights[seg] = UNUSABLE


def read_tss(cpu: Cpu, offset: int, count: int, external: int = 0) -> int:
    """A field of the current TSS; #TS when it lies beyond the limit."""
    state = cpu.state
    if offset + count - 1 > state.segment_limit[TR]:
        raise Fault(Vector.TS, state.selector[TR] & 0xFFFC | external)
    return cpu.read(state.segment_base[TR] + offset, count, implicit=True)


def inner_stack(cpu: Cpu, cpl: int, external: int = 0) -> tuple[int, int, int]:
    """Selector, descriptor and pointer of the stack that the TSS holds for a level."""
    state = cpu.state
    wide = state.segment_rights[TR] & 8
    offset, width = (4 + 8 * cpl, 4) if wide else (2 + 4 * cpl, 2)
    pointer = read_tss(cpu, offset, width, external)
    selector = read_tss(cpu, offset + width, 2, external)
    return selector, stack_descriptor(cpu, selector, cpl, Vector.TS, external), pointer
