"""What kernels do often of what plain Python does in full. SDM Vol. 2, the page each names.

A handler that meets a case it does not cover leaves the instruction to plain Python.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import load, read, write
from emu.cpu.compiler.words import leave, raw_fill, restricted, unlikely
from emu.cpu.delivery import deliver, load_data_segment, return_to_user
from emu.cpu.dispatch import go_to
from emu.cpu.flags import (
    AC,
    DF,
    ID,
    IF,
    IOPL,
    NT,
    RESERVED_ONE,
    RF,
    TF,
    VIF,
    VIP,
    set_status_flags,
    status_flags,
)
from emu.cpu.insns.plumbing import system
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.stack import select_tlb, top_address
from emu.cpu.paging import is_canonical
from emu.cpu.segments import UNUSABLE, G
from emu.cpu.state import (
    CS,
    DS,
    DTLB_SIZE,
    GS,
    ITLB_SIZE,
    JUMP_ENTRIES,
    JUMP_ENTRY,
    NO_ERROR_CODE,
    SS,
    SUPERVISOR,
    Exit,
)

ACCESSED = 1
LOADED_BY_IRET = TF | IF | DF | IOPL | NT | RF | AC | VIF | VIP | ID  # at CPL 0


@restricted
def mov_from_segment(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """MOV r/m, Sreg: the selector, zero-extended."""
    write(cpu, uop, dst, size, cpu.selector[uop.r1 if src == "S1" else uop.r0])


@restricted
def mov_to_segment(cpu: Any, uop: Any, dst: str, src: str, mode: str) -> None:
    """MOV Sreg, r/m: DS, ES, FS and GS in 64-bit mode at CPL 0."""
    if mode != "long" or uop.r0 == SS or unlikely(cpu.cpl) or unlikely(cpu.rflags & AC):
        system(cpu, uop)
    selector = read(cpu, uop, src, 16)
    if load_data_segment(cpu, uop.r0, selector) == 0:
        system(cpu, uop)


@restricted
def swapgs(cpu: Any, uop: Any, mode: str) -> None:
    """SWAPGS: the base of GS and IA32_KERNEL_GS_BASE change places."""
    if unlikely(cpu.cpl != 0):
        system(cpu, uop)
    base = cpu.segment_base[GS]
    cpu.segment_base[GS] = cpu.kernel_gs_base
    cpu.linear_base[GS] = cpu.kernel_gs_base
    cpu.kernel_gs_base = base


@restricted
def as_cached(cpu: Any, uop: Any, seg: int, selector: int) -> int:
    """Whether loading `selector` would leave a segment register as it is."""
    if selector != cpu.selector[seg]:
        return 0
    if selector == 0:
        unusable = cpu.segment_rights[seg] == UNUSABLE
        return unusable and cpu.segment_base[seg] | cpu.segment_limit[seg] == 0
    if selector & 4 or selector | 7 > cpu.gdtr_limit:
        return 0
    descriptor = load(cpu, uop, cpu.gdtr_base + (selector & 0xFFF8), 64, DS)
    rights = descriptor >> 40 & 0xF0FF
    if rights & ACCESSED == 0 or rights != cpu.segment_rights[seg]:
        return 0
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    if rights & G:
        limit = limit << 12 | 0xFFF
    base = descriptor >> 16 & 0xFFFFFF | descriptor >> 56 << 24
    return base == cpu.segment_base[seg] and limit == cpu.segment_limit[seg]


@restricted
def iretq(cpu: Any, uop: Any, mode: str) -> None:
    """IRETQ at CPL 0: to the segments that are loaded already, or to 64-bit code at CPL 3."""
    if unlikely(cpu.cpl | cpu.rflags & (NT | AC)):
        system(cpu, uop)
    rip = load(cpu, uop, top_address(cpu, uop, mode, 8, 0), 64, SS)
    code = load(cpu, uop, top_address(cpu, uop, mode, 8, 8), 64, SS) & 0xFFFF
    flags = load(cpu, uop, top_address(cpu, uop, mode, 8, 16), 64, SS)
    pointer = load(cpu, uop, top_address(cpu, uop, mode, 8, 24), 64, SS)
    stack = load(cpu, uop, top_address(cpu, uop, mode, 8, 32), 64, SS) & 0xFFFF
    if is_canonical(cpu, rip) == 0:
        system(cpu, uop)
    outward = code & 3
    if outward:
        if unlikely(flags & AC) or return_to_user(cpu, code, stack) == 0:
            system(cpu, uop)
    elif as_cached(cpu, uop, CS, code) == 0 or as_cached(cpu, uop, SS, stack) == 0:
        system(cpu, uop)
    set_status_flags(cpu, flags)
    new = cpu.rflags & ~LOADED_BY_IRET | flags & LOADED_BY_IRET
    if cpu.dr[7] & 0xFF == 0 and cpu.event_pending == 0:
        new &= ~RF  # it would last for an instruction, and there is no breakpoint to suppress
    cpu.rflags = new
    cpu.rsp = pointer
    if outward:
        select_tlb(cpu)
    unblocked = cpu.nmi_blocked
    cpu.nmi_blocked = 0
    # trace, alignment and events are looked at outside the compiled loop
    if unlikely(new & (TF | RF | AC)) or (unlikely(cpu.event_pending) and new & IF | unblocked):
        select_tlb(cpu)
        cpu.exit_code = Exit.EVENT
        cpu.rip = rip
        leave()
    go_to(cpu, uop, rip)


@restricted
def int_n(cpu: Any, uop: Any, mode: str) -> None:
    """INT n: through a gate to CPL 0 in 64-bit mode."""
    following = (cpu.page_base + uop.offset + uop.length) & cpu.ip_mask
    flags = cpu.rflags | status_flags(cpu) | RESERVED_ONE
    if mode != "long" or unlikely(cpu.rflags & TF):
        system(cpu, uop)
    if deliver(cpu, uop.imm & 0xFF, NO_ERROR_CODE, 1, flags, following) == 0:
        system(cpu, uop)
    go_to(cpu, uop, cpu.rip)


@restricted
def flush_translations(cpu: Any) -> None:
    """Forget the translations of the context in force; at CPL 0."""
    raw_fill(cpu.dtlb_kinds[SUPERVISOR], 0x01, 4 * DTLB_SIZE)
    raw_fill(cpu.itlb, 0x01, 2 * ITLB_SIZE)
    raw_fill(cpu.jump_cache, 0xFF, JUMP_ENTRIES * JUMP_ENTRY.size)


@restricted
def invlpg(cpu: Any, uop: Any, mode: str, src: str) -> None:
    """INVLPG: all translations go, which the manual allows."""
    if mode != "long" or unlikely(cpu.cpl != 0):
        system(cpu, uop)
    flush_translations(cpu)
    go_to(cpu, uop, (cpu.page_base + uop.offset + uop.length) & cpu.ip_mask)


FAMILY = (
    Insn("MOV", mov_from_segment, "RS", (16, 32, 64)),
    Insn("MOV", mov_from_segment, "MS", (16,)),
    Insn("MOV", mov_to_segment, "SR SM", (16,), "fixed", True, python=True),
    Insn("SWAPGS", swapgs, "-", (64,), "fixed", True, python=True),
    Insn("INT", int_n, "I", (8,), "fixed", True, python=True),
    Insn("INVLPG", invlpg, "M", (0,), "fixed", True, own_address=True, python=True),
    Insn("IRETQ", iretq, "-", (64,), "fixed", True, python=True),
)
