"""Micro-operations that are not instructions: addresses, block ends, ways out."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import checked_linear, flat_address, restart
from emu.cpu.compiler.words import leave, restricted
from emu.cpu.dispatch import cross_page, go_direct
from emu.cpu.insns.rows import Insn
from emu.cpu.state import Exit


@restricted
def address_long(cpu: Any, uop: Any, size: int) -> None:
    """Effective address in 64-bit mode: `size` bits wide, with the segment's base."""
    offset = flat_address(cpu, uop)
    if size == 32:
        offset &= 0xFFFFFFFF
    cpu.linear_address = offset + cpu.linear_base[uop.seg]


@restricted
def address_legacy(cpu: Any, uop: Any, size: int, writes: int) -> None:
    """Effective address outside 64-bit mode, for imm bytes: limit and rights are checked."""
    offset = flat_address(cpu, uop) & ((1 << size) - 1)
    cpu.linear_address = checked_linear(cpu, uop, uop.seg, offset, uop.imm, writes)


@restricted
def continue_at(cpu: Any, uop: Any) -> None:
    """The end of a block without a branch."""
    go_direct(cpu, uop)


@restricted
def stop_at(cpu: Any, uop: Any) -> None:
    """The end of what the budget covers of a block."""
    cpu.exit_code = Exit.BUDGET
    cpu.exit_data = 0
    cpu.rip = (cpu.page_base + uop.imm) & cpu.ip_mask
    leave()


@restricted
def crosses(cpu: Any, uop: Any) -> None:
    """Before an instruction that ends in the next page."""
    cross_page(cpu, uop)


@restricted
def system(cpu: Any, uop: Any) -> None:
    """An instruction that plain Python runs."""
    cpu.exit_code = Exit.SYSTEM
    cpu.exit_data = uop.address
    restart(cpu, uop)


FAMILY = (
    Insn("address_long", address_long, "-", (32, 64)),
    Insn("address_read", address_legacy, "-", (16, 32), constants={"writes": 0}),
    Insn("address_write", address_legacy, "-", (16, 32), constants={"writes": 1}),
    Insn("continue_at", continue_at, "-", (0,)),
    Insn("stop_at", stop_at, "-", (0,)),
    Insn("crosses", crosses, "-", (0,)),
    Insn("system", system, "-", (0,)),
)
