"""The stack. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    checked_linear,
    flat_address,
    linear_in,
    load,
    read,
    read_register,
    resume_after,
    store,
    write,
    write_register,
)
from emu.cpu.compiler.words import restricted, unlikely
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
    VM,
    set_status_flags,
    status_flags,
)
from emu.cpu.insns.rows import Insn
from emu.cpu.state import SS, STRICT, SUPERVISOR, SUPERVISOR_AC, USER, Exit


@restricted
def stack_offset(cpu: Any, mode: str, offset: int) -> int:
    """An offset in the stack segment, cut to the stack's address size."""
    if mode == "long":
        return offset
    return offset & cpu.stack_mask


@restricted
def set_stack_pointer(cpu: Any, mode: str, value: int) -> None:
    """Write the stack pointer: RSP, ESP or SP by the stack's address size."""
    if mode == "long":
        cpu.rsp = value
    else:
        cpu.rsp = cpu.rsp & ~cpu.stack_mask | value & cpu.stack_mask


@restricted
def top_address(cpu: Any, uop: Any, mode: str, count: int, above: int = 0) -> int:
    """Linear address of `count` bytes that lie `above` bytes over the top of the stack."""
    return linear_in(cpu, uop, mode, SS, stack_offset(cpu, mode, cpu.rsp + above), count, 0)


@restricted
def push_value(cpu: Any, uop: Any, mode: str, size: int, value: int) -> None:
    """Push `size` bits."""
    offset = stack_offset(cpu, mode, cpu.rsp - (size >> 3))
    store(cpu, uop, linear_in(cpu, uop, mode, SS, offset, size >> 3, 1), value, size, SS)
    set_stack_pointer(cpu, mode, offset)


@restricted
def drop(cpu: Any, mode: str, count: int) -> None:
    """Take `count` bytes off the stack."""
    set_stack_pointer(cpu, mode, cpu.rsp + count)


@restricted
def push(cpu: Any, uop: Any, size: int, src: str, mode: str) -> None:
    """PUSH r/m, imm."""
    push_value(cpu, uop, mode, size, read(cpu, uop, src, size))


@restricted
def push_segment(cpu: Any, uop: Any, size: int, src: str, mode: str) -> None:
    """PUSH Sreg: the selector; a 32-bit push writes its 16 bits alone."""
    value = cpu.selector[uop.r0]
    if size == 32:
        offset = stack_offset(cpu, mode, cpu.rsp - 4)
        store(cpu, uop, linear_in(cpu, uop, mode, SS, offset, 4, 1), value, 16, SS)
        set_stack_pointer(cpu, mode, offset)
    else:
        push_value(cpu, uop, mode, size, value)


@restricted
def pop(cpu: Any, uop: Any, size: int, dst: str, mode: str) -> None:
    """POP r."""
    value = load(cpu, uop, top_address(cpu, uop, mode, size >> 3), size, SS)
    drop(cpu, mode, size >> 3)
    write(cpu, uop, dst, size, value)


@restricted
def pop_memory(cpu: Any, uop: Any, size: int, dst: str, mode: str, address: int) -> None:
    """POP m: an address by the stack pointer uses its value after the pop."""
    value = load(cpu, uop, top_address(cpu, uop, mode, size >> 3), size, SS)
    old = cpu.rsp
    drop(cpu, mode, size >> 3)
    offset = flat_address(cpu, uop)
    cpu.rsp = old
    if address != 64:
        offset &= (1 << address) - 1
    linear = linear_in(cpu, uop, mode, uop.seg, offset, size >> 3, 1)
    store(cpu, uop, linear, value, size, uop.seg)
    drop(cpu, mode, size >> 3)


@restricted
def push_all(cpu: Any, uop: Any, size: int) -> None:
    """PUSHA, PUSHAD: eight registers, with the stack pointer as it was."""
    count = size >> 3
    for number in range(8):
        offset = cpu.rsp - (number + 1) * count & cpu.stack_mask
        checked_linear(cpu, uop, SS, offset, count, 1)
    for number in range(8):
        offset = cpu.rsp - (number + 1) * count & cpu.stack_mask
        linear = cpu.linear_base[SS] + offset & 0xFFFFFFFF
        store(cpu, uop, linear, read_register(cpu, number, size), size, SS)
    drop(cpu, "legacy", 0 - 8 * count)


@restricted
def pop_all(cpu: Any, uop: Any, size: int) -> None:
    """POPA, POPAD: eight registers, the stack pointer's value is skipped."""
    count = size >> 3
    edi = load(cpu, uop, top_address(cpu, uop, "legacy", count, 0), size, SS)
    esi = load(cpu, uop, top_address(cpu, uop, "legacy", count, count), size, SS)
    ebp = load(cpu, uop, top_address(cpu, uop, "legacy", count, 2 * count), size, SS)
    ebx = load(cpu, uop, top_address(cpu, uop, "legacy", count, 4 * count), size, SS)
    edx = load(cpu, uop, top_address(cpu, uop, "legacy", count, 5 * count), size, SS)
    ecx = load(cpu, uop, top_address(cpu, uop, "legacy", count, 6 * count), size, SS)
    eax = load(cpu, uop, top_address(cpu, uop, "legacy", count, 7 * count), size, SS)
    drop(cpu, "legacy", 8 * count)
    write_register(cpu, 7, size, edi)
    write_register(cpu, 6, size, esi)
    write_register(cpu, 5, size, ebp)
    write_register(cpu, 3, size, ebx)
    write_register(cpu, 2, size, edx)
    write_register(cpu, 1, size, ecx)
    write_register(cpu, 0, size, eax)


@restricted
def pushf(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """PUSHF, PUSHFD, PUSHFQ: RFLAGS with RF and VM clear."""
    value = (cpu.rflags & ~(RF | VM)) | status_flags(cpu) | RESERVED_ONE
    push_value(cpu, uop, mode, size, value)


@restricted
def select_tlb(cpu: Any) -> None:
    """Point the data TLB to the entries for the current CPL and RFLAGS.AC."""
    kind = cpu.dtlb_kinds[SUPERVISOR]
    if cpu.rflags & AC:
        kind = cpu.dtlb_kinds[SUPERVISOR_AC]
    if cpu.cpl == 3:
        kind = cpu.dtlb_kinds[USER]
    if cpu.dtlb != cpu.dtlb_kinds[STRICT]:
        cpu.dtlb = kind


@restricted
def popf(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """POPF, POPFD, POPFQ: IOPL changes at CPL 0 alone, IF where CPL <= IOPL."""
    value = load(cpu, uop, top_address(cpu, uop, mode, size >> 3), size, SS)
    writable = TF | DF | NT
    if size != 16:
        writable |= AC | ID
    if cpu.cpl == 0:
        writable |= IOPL
    if cpu.cpl <= cpu.rflags >> 12 & 3:
        writable |= IF
    drop(cpu, mode, size >> 3)
    set_status_flags(cpu, value)
    old = cpu.rflags
    kept = old & ~(writable | (RF if size != 16 else 0))
    new = kept | value & writable
    cpu.rflags = new
    # trace, alignment and interrupts are looked at outside the compiled loop
    if unlikely((old ^ new) & (TF | AC)) or (unlikely(cpu.event_pending) and new & IF):
        select_tlb(cpu)
        cpu.exit_code = Exit.EVENT
        resume_after(cpu, uop)


@restricted
def enter(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """ENTER with nesting level 0: push rBP, take the stack pointer, make room."""
    width = size >> 3
    offset = stack_offset(cpu, mode, cpu.rsp - width)
    frame = cpu.rsp - width
    linear = linear_in(cpu, uop, mode, SS, offset, width, 1)
    bottom = stack_offset(cpu, mode, frame - (uop.imm & 0xFFFF))
    last = linear_in(cpu, uop, mode, SS, bottom, width, 1)
    store(cpu, uop, linear, read_register(cpu, 5, size), size, SS)
    # the new top must be writable: a store of what is there already asks
    probe = load(cpu, uop, last, 8, SS)
    store(cpu, uop, last, probe, 8, SS)
    set_stack_pointer(cpu, mode, bottom)
    # rBP is written with the width of the stack, not of the operand
    cpu.rbp = frame if mode == "long" else cpu.rbp & ~cpu.stack_mask | frame & cpu.stack_mask


@restricted
def leave_frame(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """LEAVE: the stack pointer := rBP, pop rBP."""
    offset = stack_offset(cpu, mode, cpu.rbp)
    linear = linear_in(cpu, uop, mode, SS, offset, size >> 3, 0)
    value = load(cpu, uop, linear, size, SS)
    set_stack_pointer(cpu, mode, offset + (size >> 3))
    write_register(cpu, 5, size, value)


NEAR = (16, 32, 64)

FAMILY = (
    Insn("PUSH", push, "R M I", NEAR, "code", True),
    Insn("PUSH", push_segment, "S", NEAR, "code", True),
    Insn("POP", pop, "R", NEAR, "code", True),
    Insn("POP", pop_memory, "M", NEAR, "code", True, True, own_address=True),
    Insn("PUSHA", push_all, "-", (16,), "fixed"),
    Insn("PUSHAD", push_all, "-", (32,), "fixed"),
    Insn("POPA", pop_all, "-", (16,), "fixed"),
    Insn("POPAD", pop_all, "-", (32,), "fixed"),
    Insn("PUSHF", pushf, "-", (16,), "fixed", True),
    Insn("PUSHFD", pushf, "-", (32,), "fixed", True),
    Insn("PUSHFQ", pushf, "-", (64,), "fixed", True),
    Insn("POPF", popf, "-", (16,), "fixed", True),
    Insn("POPFD", popf, "-", (32,), "fixed", True),
    Insn("POPFQ", popf, "-", (64,), "fixed", True),
    Insn("ENTER", enter, "II", NEAR, "code", True),
    Insn("LEAVE", leave_frame, "-", NEAR, "code", True),
)
