"""What kernels do often of what plain Python does in full. SDM Vol. 2, the page each names.

A handler that meets a case it does not cover leaves the instruction to plain Python.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import load, write
from emu.cpu.compiler.words import leave, restricted, unlikely
from emu.cpu.dispatch import go_to
from emu.cpu.flags import AC, DF, ID, IF, IOPL, NT, RF, TF, VIF, VIP, set_status_flags
from emu.cpu.insns.plumbing import system
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.stack import select_tlb, top_address
from emu.cpu.paging import is_canonical
from emu.cpu.segments import UNUSABLE, G
from emu.cpu.state import CS, DS, GS, SS, Exit

ACCESSED = 1
LOADED_BY_IRET = TF | IF | DF | IOPL | NT | RF | AC | VIF | VIP | ID  # at CPL 0


@restricted
def mov_from_segment(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """MOV r/m, Sreg: the selector, zero-extended."""
    write(cpu, uop, dst, size, cpu.selector[uop.r1 if src == "S1" else uop.r0])


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
    """IRETQ at CPL 0 to the segments that are loaded already."""
    if unlikely(cpu.cpl | cpu.nmi_blocked | cpu.rflags & (NT | AC)):
        system(cpu, uop)
    rip = load(cpu, uop, top_address(cpu, uop, mode, 8, 0), 64, SS)
    code = load(cpu, uop, top_address(cpu, uop, mode, 8, 8), 64, SS) & 0xFFFF
    flags = load(cpu, uop, top_address(cpu, uop, mode, 8, 16), 64, SS)
    pointer = load(cpu, uop, top_address(cpu, uop, mode, 8, 24), 64, SS)
    stack = load(cpu, uop, top_address(cpu, uop, mode, 8, 32), 64, SS) & 0xFFFF
    if as_cached(cpu, uop, CS, code) == 0 or as_cached(cpu, uop, SS, stack) == 0:
        system(cpu, uop)
    if is_canonical(cpu, rip) == 0:
        system(cpu, uop)
    set_status_flags(cpu, flags)
    new = cpu.rflags & ~LOADED_BY_IRET | flags & LOADED_BY_IRET
    cpu.rflags = new
    cpu.rsp = pointer
    # trace, alignment and interrupts are looked at outside the compiled loop
    if unlikely(new & (TF | RF | AC)) or (unlikely(cpu.event_pending) and new & IF):
        select_tlb(cpu)
        cpu.exit_code = Exit.EVENT
        cpu.rip = rip
        leave()
    go_to(cpu, uop, rip)


FAMILY = (
    Insn("MOV", mov_from_segment, "RS", (16, 32, 64)),
    Insn("MOV", mov_from_segment, "MS", (16,)),
    Insn("SWAPGS", swapgs, "-", (64,), "fixed", True, python=True),
    Insn("IRETQ", iretq, "-", (64,), "fixed", True, python=True),
)
