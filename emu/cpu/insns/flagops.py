"""Instructions on single flags. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import fault, resume_after
from emu.cpu.compiler.words import restricted, unlikely
from emu.cpu.flags import (
    AC,
    DF,
    IF,
    RESERVED_ONE,
    carry_flag,
    overflow_flag,
    set_carry_flag,
    set_status_flags,
    status_flags,
)
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.stack import select_tlb
from emu.cpu.state import Exit, Vector


@restricted
def carry(cpu: Any, uop: Any, how: str) -> None:
    """CLC, STC, CMC: CF cleared, set, complemented."""
    if how == "clear":
        set_carry_flag(cpu, 0)
    elif how == "set":
        set_carry_flag(cpu, 1)
    else:
        set_carry_flag(cpu, carry_flag(cpu) ^ 1)


@restricted
def direction(cpu: Any, uop: Any, value: int) -> None:
    """CLD, STD: DF."""
    cpu.rflags = cpu.rflags & ~DF | value


@restricted
def check_iopl(cpu: Any, uop: Any) -> None:
    """#GP(0) when CPL is above IOPL."""
    if unlikely(cpu.cpl > cpu.rflags >> 12 & 3):
        fault(cpu, uop, Vector.GP, 0)


@restricted
def cli(cpu: Any, uop: Any) -> None:
    """CLI: IF := 0."""
    check_iopl(cpu, uop)
    cpu.rflags &= ~IF


@restricted
def sti(cpu: Any, uop: Any) -> None:
    """STI: IF := 1; when it was 0 interrupts stay inhibited for one more instruction."""
    check_iopl(cpu, uop)
    if cpu.rflags & IF == 0:
        cpu.rflags |= IF
        cpu.shadow_budget = cpu.budget + uop.left
        cpu.shadow_kind = 1
        if unlikely(cpu.event_pending):
            cpu.exit_code = Exit.EVENT
            resume_after(cpu, uop)


@restricted
def smap_override(cpu: Any, uop: Any, value: int) -> None:
    """CLAC, STAC: AC; #UD without SMAP or above CPL 0."""
    if unlikely(cpu.cpl != 0):
        fault(cpu, uop, Vector.UD)
    cpu.rflags = cpu.rflags & ~AC | value
    select_tlb(cpu)


@restricted
def lahf(cpu: Any, uop: Any) -> None:
    """LAHF: AH := SF ZF 0 AF 0 PF 1 CF."""
    cpu.gpr8[1] = status_flags(cpu) & 0xD5 | RESERVED_ONE


@restricted
def sahf(cpu: Any, uop: Any) -> None:
    """SAHF: SF ZF AF PF CF := AH; OF is kept."""
    set_status_flags(cpu, cpu.gpr8[1] | overflow_flag(cpu) << 11)


FIXED = ((0,), "fixed")

FAMILY = (
    Insn("CLC", carry, "-", *FIXED, constants={"how": "clear"}),
    Insn("STC", carry, "-", *FIXED, constants={"how": "set"}),
    Insn("CMC", carry, "-", *FIXED, constants={"how": "complement"}),
    Insn("CLD", direction, "-", *FIXED, constants={"value": 0}),
    Insn("STD", direction, "-", *FIXED, constants={"value": DF}),
    Insn("CLI", cli, "-", *FIXED),
    Insn("STI", sti, "-", *FIXED),
    Insn("CLAC", smap_override, "-", *FIXED, constants={"value": 0}),
    Insn("STAC", smap_override, "-", *FIXED, constants={"value": AC}),
    Insn("LAHF", lahf, "-", *FIXED),
    Insn("SAHF", sahf, "-", *FIXED),
)
