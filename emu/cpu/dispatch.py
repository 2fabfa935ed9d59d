"""From one decoded block to the next: links, the jump cache, the table of blocks.

These functions are plumbing of the compiled loop. They end a handler; in plain execution the target
goes to RIP and the step ends.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import restart
from emu.cpu.compiler.words import (
    dispatch,
    leave,
    outlined,
    restricted,
    tail,
    unlikely,
)
from emu.cpu.paging import (
    FETCH,
    NO_PAGE,
    USER_ACCESS,
    exception,
    is_canonical,
    walk,
)
from emu.cpu.physmap import PAGE, PAGE_OFFSET
from emu.cpu.state import (
    BLOCK_ENTRIES,
    BLOCK_ENTRY,
    CS,
    FETCH_ENTRY,
    ITLB_ENTRIES,
    JUMP_ENTRIES,
    JUMP_ENTRY,
    UOP,
    Exit,
    Vector,
)

MODE_SHIFT = 52  # guest-physical addresses have at most 52 bits; the mode slot lies above


@outlined
def fetch_frame(cpu: Any, linear: int) -> int:
    """The guest-physical page that instructions at `linear` come from; NO_PAGE after a fault."""
    entry = FETCH_ENTRY(cpu.itlb + (linear >> 12 & (ITLB_ENTRIES - 1)) * 16)
    if entry.tag == linear & PAGE:
        return entry.frame
    if is_canonical(cpu, linear) == 0:
        exception(cpu, Vector.GP, 0)
        return NO_PAGE
    page = walk(cpu, linear, FETCH | (USER_ACCESS if cpu.cpl == 3 else 0))
    if page == NO_PAGE:
        return NO_PAGE
    entry.tag = linear & PAGE
    entry.frame = page & PAGE
    return page & PAGE


@restricted
def block_index(key: int) -> int:
    """Where a block stands in the table of blocks."""
    return (key ^ key >> 14 ^ key >> 45) & (BLOCK_ENTRIES - 1)


@tail
def out_of_budget(cpu: Any, uop: Any) -> None:
    """Leave at the RIP in `ea`: the budget does not cover the block there."""
    cpu.exit_code = Exit.BUDGET
    cpu.exit_data = uop.address
    cpu.rip = cpu.ea
    leave()


@restricted
def jump_entry(cpu: Any, rip: int) -> Any:
    """Where the jump cache keeps a RIP."""
    return JUMP_ENTRY(cpu.jump_cache + ((rip ^ rip >> 10) & (JUMP_ENTRIES - 1)) * 32)


@tail
def jump(cpu: Any, uop: Any) -> None:
    """Go to the RIP in `ea`."""
    rip = cpu.ea
    entry = jump_entry(cpu, rip)
    if unlikely(entry.key != rip ^ cpu.mode_tag):
        linear = rip + cpu.linear_base[CS] & cpu.linear_mask
        frame = fetch_frame(cpu, linear)
        cpu.rip = rip
        if frame == NO_PAGE:
            leave()
        gpa = frame | linear & PAGE_OFFSET
        key = gpa | cpu.mode_slot << MODE_SHIFT
        block = BLOCK_ENTRY(cpu.blocks + block_index(key) * 16)
        if block.key != key:
            cpu.exit_code = Exit.DECODE
            cpu.exit_address = gpa
            leave()
        entry.key = rip ^ cpu.mode_tag
        entry.uop = block.uop
        entry.page_base = rip - (linear & PAGE_OFFSET)
    cpu.page_base = entry.page_base
    target = UOP(entry.uop)
    cost = target.left + 1
    if unlikely(cpu.budget < cost):
        out_of_budget(cpu, uop)
    cpu.budget -= cost
    dispatch(target)


@restricted
def go_to(cpu: Any, uop: Any, rip: int) -> None:
    """Leave the block for `rip`, which has been checked."""
    entry = jump_entry(cpu, rip)
    target = UOP(entry.uop)
    if unlikely(entry.key != rip ^ cpu.mode_tag) or unlikely(cpu.budget <= target.left):
        cpu.ea = rip
        jump(cpu, uop)
    cpu.page_base = entry.page_base
    cpu.budget -= target.left + 1
    dispatch(target)


@restricted
def go_direct(cpu: Any, uop: Any) -> None:
    """Follow a direct branch: by its link when the target is in the same page and decoded."""
    if unlikely(uop.link == 0):
        go_to(cpu, uop, (cpu.page_base + uop.imm) & cpu.ip_mask)
    target = UOP(uop.link)
    cost = target.left + 1
    if unlikely(cpu.budget < cost):
        cpu.ea = (cpu.page_base + uop.imm) & cpu.ip_mask
        out_of_budget(cpu, uop)
    cpu.budget -= cost
    dispatch(target)


@restricted
def cross_page(cpu: Any, uop: Any) -> None:
    """Go on only if the instruction here still ends in the guest-physical page `imm`."""
    following = (cpu.page_base + 0x1000 + cpu.linear_base[CS]) & cpu.linear_mask
    frame = fetch_frame(cpu, following)
    if frame == NO_PAGE:
        restart(cpu, uop)
    if unlikely(frame != uop.imm):
        cpu.exit_code = Exit.DECODE
        cpu.exit_address = uop.disp
        restart(cpu, uop)


ENTRY_IR = """\
define i64 @enter(ptr %cpu) {{
entry:
  br label %again
again:
{loads}
  call preserve_nonecc void @jump(ptr %cpu, ptr %cpu, {words})
  %delivered = call preserve_mostcc i64 @take_fault(ptr %cpu)
  %on = icmp ne i64 %delivered, 0
  br i1 %on, label %again, label %done
done:
  ret i64 0
}}
define i64 @enter_at(ptr %cpu, i64 %at) {{
entry:
{loads}
  %uop = inttoptr i64 %at to ptr
  %handler = load ptr, ptr %uop
  call preserve_nonecc void %handler(ptr %cpu, ptr %uop, {words})
  ret i64 0
}}
"""
