"""String instructions. SDM Vol. 2, MOVS, STOS, LODS, CMPS, SCAS and REP.

`imm` holds the mask of the address size. Each iteration of a repeated instruction counts as one
retired instruction, and between two iterations the instruction can be left and taken up again.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    linear_in,
    load,
    raw_store,
    read_register,
    store,
    tlb_entry,
    write_register,
)
from emu.cpu.compiler.words import leave, raw_move, restricted, unlikely
from emu.cpu.flags import DF, flags_sub, narrow, zero_flag
from emu.cpu.insns.rows import Insn
from emu.cpu.physmap import PAGE, PAGE_OFFSET
from emu.cpu.state import ES, Exit

RCX, RSI, RDI = 1, 6, 7


@restricted
def masked_write(cpu: Any, uop: Any, number: int, value: int) -> None:
    """Write a count or index register with the address size's width."""
    if uop.imm == 0xFFFF:
        cpu.gpr[number] = cpu.gpr[number] & ~0xFFFF | value & 0xFFFF
    else:
        cpu.gpr[number] = value & uop.imm


@restricted
def step_of(cpu: Any, size: int) -> int:
    """How far an index moves: the operand's bytes, down with DF."""
    return 0 - (size >> 3) if cpu.rflags & DF else size >> 3


@restricted
def load_source(cpu: Any, uop: Any, size: int, mode: str) -> int:
    """The element at seg:rSI."""
    offset = cpu.rsi & uop.imm
    linear = linear_in(cpu, uop, mode, uop.seg, offset, size >> 3, 0)
    return load(cpu, uop, linear, size, uop.seg)


@restricted
def advance(cpu: Any, uop: Any, size: int, number: int) -> None:
    """Move an index register past one element."""
    masked_write(cpu, uop, number, cpu.gpr[number] + step_of(cpu, size))


@restricted
def movs_once(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """One element from seg:rSI to ES:rDI."""
    value = load_source(cpu, uop, size, mode)
    linear = linear_in(cpu, uop, mode, ES, cpu.rdi & uop.imm, size >> 3, 1)
    store(cpu, uop, linear, value, size, ES)
    advance(cpu, uop, size, RSI)
    advance(cpu, uop, size, RDI)


@restricted
def stos_once(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """The accumulator to ES:rDI."""
    linear = linear_in(cpu, uop, mode, ES, cpu.rdi & uop.imm, size >> 3, 1)
    store(cpu, uop, linear, read_register(cpu, 0, size), size, ES)
    advance(cpu, uop, size, RDI)


@restricted
def lods_once(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """The element at seg:rSI to the accumulator."""
    write_register(cpu, 0, size, load_source(cpu, uop, size, mode))
    advance(cpu, uop, size, RSI)


@restricted
def cmps_once(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """Compare the element at seg:rSI with that at ES:rDI."""
    a = load_source(cpu, uop, size, mode)
    linear = linear_in(cpu, uop, mode, ES, cpu.rdi & uop.imm, size >> 3, 0)
    b = load(cpu, uop, linear, size, ES)
    flags_sub(cpu, a, b, narrow(a - b, size), size)
    advance(cpu, uop, size, RSI)
    advance(cpu, uop, size, RDI)


@restricted
def scas_once(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """Compare the accumulator with the element at ES:rDI."""
    linear = linear_in(cpu, uop, mode, ES, cpu.rdi & uop.imm, size >> 3, 0)
    b = load(cpu, uop, linear, size, ES)
    a = read_register(cpu, 0, size)
    flags_sub(cpu, a, b, narrow(a - b, size), size)
    advance(cpu, uop, size, RDI)


@restricted
def once(cpu: Any, uop: Any, size: int, mode: str, element: Any) -> None:
    """A string instruction without a repeat prefix."""
    element(cpu, uop, size, mode)


@restricted
def pause_here(cpu: Any, uop: Any) -> None:
    """Leave between two iterations, with the instruction to be taken up again."""
    cpu.exit_code = Exit.BUDGET
    cpu.exit_data = uop.address
    cpu.rip = (cpu.page_base + uop.offset) & cpu.ip_mask
    cpu.budget += uop.left
    leave()


@restricted
def least(a: int, b: int) -> int:
    """The smaller word."""
    return a if a < b else b


@restricted
def direct_room(cpu: Any, linear: int, size: int, writes: int) -> int:
    """How many elements from `linear` up lie in its page and can be reached directly."""
    entry = tlb_entry(cpu, linear)
    tag = entry.write_tag if writes else entry.read_tag
    if linear & PAGE != tag:
        return 0
    return (0x1000 - (linear & PAGE_OFFSET)) // (size >> 3)


@restricted
def bulk_movs(cpu: Any, uop: Any, size: int) -> int:
    """Copy as many elements as one page each way allows, in 64-bit mode upwards."""
    source = cpu.rsi + cpu.linear_base[uop.seg]
    target = cpu.rdi
    many = least(cpu.rcx, cpu.budget)
    many = least(many, direct_room(cpu, source, size, 0))
    many = least(many, direct_room(cpu, target, size, 1))
    length = many * (size >> 3)
    if many == 0:
        return 0
    from_entry = tlb_entry(cpu, source)
    to_entry = tlb_entry(cpu, target)
    host_source = source + from_entry.addend
    host_target = target + to_entry.addend
    # elements copied upwards into what is still to be read repeat themselves
    if host_target - host_source < length:
        return 0
    raw_move(host_target, host_source, length)
    cpu.rsi += length
    cpu.rdi += length
    return many


@restricted
def bulk_stos(cpu: Any, uop: Any, size: int) -> int:
    """Fill as many elements as the page allows, in 64-bit mode upwards."""
    target = cpu.rdi
    many = least(least(cpu.rcx, cpu.budget), direct_room(cpu, target, size, 1))
    if many == 0:
        return 0
    entry = tlb_entry(cpu, target)
    host = target + entry.addend
    length = many * (size >> 3)
    done = 0
    value = read_register(cpu, 0, size)
    while done < length:
        raw_store(host + done, value, size)
        done += size >> 3
    cpu.rdi += length
    return many


@restricted
def repeat(cpu: Any, uop: Any, size: int, mode: str, element: Any, bulk: Any, until: int) -> None:
    """Repeat while rCX is not zero and, when `until` is 0 or 1, ZF does not have that value."""
    while cpu.rcx & uop.imm != 0:
        many = 0
        if bulk is not None and mode == "long":
            if uop.imm >> 32 and cpu.rflags & DF == 0:
                many = bulk(cpu, uop, size)
        if many != 0:
            # the first iteration was paid for when the block was entered
            cpu.budget -= many - 1
            cpu.rcx -= many
        else:
            element(cpu, uop, size, mode)
            masked_write(cpu, uop, RCX, cpu.rcx - 1)
        if until != 2:
            if zero_flag(cpu) == until:
                break
        if cpu.rcx & uop.imm == 0:
            break
        if unlikely(cpu.budget == 0):
            pause_here(cpu, uop)
        cpu.budget -= 1


ELEMENTS = {
    "MOVS": (movs_once, bulk_movs),
    "STOS": (stos_once, bulk_stos),
    "LODS": (lods_once, None),
    "CMPS": (cmps_once, None),
    "SCAS": (scas_once, None),
}
FORMS = {"MOVS": "ZZ", "STOS": "ZR", "LODS": "RZ", "CMPS": "ZZ", "SCAS": "RZ"}
SUFFIXES = {"B": 8, "W": 16, "D": 32, "Q": 64}

FAMILY = tuple(
    row
    for name, (element, bulk) in ELEMENTS.items()
    for suffix, size in SUFFIXES.items()
    for row in (
        Insn(
            f"{name}{suffix}", once, FORMS[name], (size,), "fixed", True,
            constants={"element": element},
        ),
        *(
            Insn(
                f"{prefix}_{name}{suffix}", repeat, FORMS[name], (size,), "fixed", True,
                constants={"element": element, "bulk": bulk, "until": until},
            )
            for prefix, until in (
                (("REP", 0), ("REPNE", 1)) if name in ("CMPS", "SCAS") else (("REP", 2),)
            )
        ),
    )
)  # fmt: skip
