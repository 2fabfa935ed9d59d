"""Decimal adjustments, outside 64-bit mode. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import fault, write_register
from emu.cpu.compiler.words import restricted, unlikely
from emu.cpu.flags import AF, CF, OF, PF, SF, ZF, auxiliary_flag, carry_flag, flags_logic, narrow
from emu.cpu.insns.rows import Insn
from emu.cpu.state import Vector


@restricted
def set_adjusted(cpu: Any, result: int, carry: int, auxiliary: int) -> None:
    """SF ZF PF by a byte, CF and AF as given, OF clear."""
    flags_logic(cpu, result, 8)
    cpu.flag_carries = carry << 63 | carry << 62 | auxiliary << 3


@restricted
def adjust_packed(cpu: Any, uop: Any, subtract: int) -> None:
    """DAA, DAS: AL, a sum or difference of packed decimals, to the right digits."""
    old = cpu.gpr8[0]
    carry = carry_flag(cpu)
    auxiliary = 1 if old & 0xF > 9 or auxiliary_flag(cpu) else 0
    high = 1 if old > 0x99 or carry else 0
    change = 6 * auxiliary + 0x60 * high
    if subtract:
        result = narrow(old - change, 8)
        # the borrow of the lower digit counts, in a difference
        borrow = 1 if auxiliary and old < 6 else 0
        carry = high | borrow
    else:
        result = narrow(old + change, 8)
        carry = high
    write_register(cpu, 0, 8, result)
    set_adjusted(cpu, result, carry, auxiliary)


@restricted
def adjust_unpacked(cpu: Any, uop: Any, subtract: int) -> None:
    """AAA, AAS: AL to one unpacked digit, the carry to AH."""
    old = cpu.rax
    carries = 1 if old & 0xF > 9 or auxiliary_flag(cpu) else 0
    result = old
    if carries:
        result = old - 0x106 if subtract else old + 0x106
    result = result & 0xFF0F
    write_register(cpu, 0, 16, result)
    set_adjusted(cpu, result & 0xFF, carries, carries)


@restricted
def adjust_after_multiply(cpu: Any, uop: Any, src: str) -> None:
    """AAM: AH and AL := quotient and remainder of AL by the base; #DE for base zero."""
    base = uop.imm & 0xFF
    if unlikely(base == 0):
        fault(cpu, uop, Vector.DE)
    value = cpu.gpr8[0]
    write_register(cpu, 0, 16, value // base << 8 | value % base)
    flags_logic(cpu, value % base, 8)


@restricted
def adjust_before_divide(cpu: Any, uop: Any, src: str) -> None:
    """AAD: AL := AL + AH * base, AH := 0."""
    result = narrow(cpu.gpr8[0] + cpu.gpr8[1] * (uop.imm & 0xFF), 8)
    write_register(cpu, 0, 16, result)
    flags_logic(cpu, result, 8)


@restricted
def salc(cpu: Any, uop: Any) -> None:
    """SALC: AL := CF in every bit."""
    write_register(cpu, 0, 8, 0 - carry_flag(cpu))


FIXED = ((0,), "fixed")

FAMILY = (
    Insn("DAA", adjust_packed, "-", *FIXED, undefined=OF, constants={"subtract": 0}),
    Insn("DAS", adjust_packed, "-", *FIXED, undefined=OF, constants={"subtract": 1}),
    Insn(
        "AAA",
        adjust_unpacked,
        "-",
        *FIXED,
        undefined=OF | SF | ZF | PF,
        constants={"subtract": 0},
    ),
    Insn(
        "AAS",
        adjust_unpacked,
        "-",
        *FIXED,
        undefined=OF | SF | ZF | PF,
        constants={"subtract": 1},
    ),
    Insn("AAM", adjust_after_multiply, "I", *FIXED, undefined=OF | AF | CF),
    Insn("AAD", adjust_before_divide, "I", *FIXED, undefined=OF | AF | CF),
    Insn("SALC", salc, "-", *FIXED),
)
