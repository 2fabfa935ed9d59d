"""Shifts and rotates. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import read
from emu.cpu.compiler.words import restricted, shift_arithmetic
from emu.cpu.flags import (
    AF,
    OF,
    TOP_CARRIES,
    carry_flag,
    extend,
    flags_carry_overflow,
    narrow,
)
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.update import fetch, put


@restricted
def shift_count(cpu: Any, uop: Any, kind: str, size: int) -> int:
    """The count: its low five bits, six for 64-bit operands."""
    return read(cpu, uop, kind, 8) & (63 if size == 64 else 31)


@restricted
def set_carry_overflow(cpu: Any, carry: int, overflow: int) -> None:
    """Replace CF and OF; the other flags are kept."""
    top = carry << 63 | (carry ^ overflow) << 62
    cpu.flag_carries = cpu.flag_carries & ~TOP_CARRIES | top


@restricted
def shl(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """SAL, SHL: DEST := DEST * 2^COUNT."""
    count = shift_count(cpu, uop, amount, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a << count, size)
    if count:
        carry = a >> (64 - count) & 1 if size == 64 else (a << count) >> size & 1
        flags_carry_overflow(cpu, result, size, carry, result >> (size - 1) ^ carry)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def shr(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """SHR: DEST := DEST / 2^COUNT, unsigned."""
    count = shift_count(cpu, uop, amount, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = a >> count
    if count:
        flags_carry_overflow(cpu, result, size, a >> (count - 1) & 1, a >> (size - 1))
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def sar(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """SAR: DEST := DEST / 2^COUNT, signed, rounded down."""
    count = shift_count(cpu, uop, amount, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    wide = extend(a, size)
    result = narrow(shift_arithmetic(wide, count), size)
    if count:
        flags_carry_overflow(cpu, result, size, shift_arithmetic(wide, count - 1) & 1, 0)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def rol(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """ROL: DEST rotated left; CF and OF alone change."""
    masked = shift_count(cpu, uop, amount, size)
    count = masked & (size - 1)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a << count | (a >> (size - 1 - count)) >> 1, size)
    if masked:
        set_carry_overflow(cpu, result & 1, (result >> (size - 1) ^ result) & 1)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def ror(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """ROR: DEST rotated right; CF and OF alone change."""
    masked = shift_count(cpu, uop, amount, size)
    count = masked & (size - 1)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a >> count | (a << (size - 1 - count)) << 1, size)
    if masked:
        top = result >> (size - 1)
        set_carry_overflow(cpu, top, top ^ result >> (size - 2) & 1)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def rcl(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """RCL: CF:DEST rotated left."""
    count = shift_count(cpu, uop, amount, size)
    if size < 32:
        count %= size + 1
    a, host, linear = fetch(cpu, uop, dst, size)
    result = a
    if count:
        out = a >> (size - count)
        result = narrow(a << count | carry_flag(cpu) << (count - 1) | out >> 1, size)
        set_carry_overflow(cpu, out & 1, (result >> (size - 1) ^ out) & 1)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def rcr(cpu: Any, uop: Any, size: int, dst: str, amount: str) -> None:
    """RCR: CF:DEST rotated right."""
    count = shift_count(cpu, uop, amount, size)
    if size < 32:
        count %= size + 1
    a, host, linear = fetch(cpu, uop, dst, size)
    result = a
    if count:
        kept = size - count
        result = narrow(a >> count | carry_flag(cpu) << kept | (a << kept) << 1, size)
        overflow = (result >> (size - 1) ^ result >> (size - 2)) & 1
        set_carry_overflow(cpu, a >> (count - 1) & 1, overflow)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def shld(cpu: Any, uop: Any, size: int, dst: str, src: str, amount: str) -> None:
    """SHLD: DEST shifted left, filled from the top of SRC; undefined beyond the operand size."""
    count = shift_count(cpu, uop, amount, size)
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = a
    if count:
        if size == 16:
            wide = a << 32 | b << 16 | a
            result = narrow(wide << count >> 32, 16)
            carry = (wide << count) >> 48 & 1
        else:
            result = narrow(a << count | b >> (size - count), size)
            carry = a >> (size - count) & 1
        flags_carry_overflow(cpu, result, size, carry, (result ^ a) >> (size - 1))
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def shrd(cpu: Any, uop: Any, size: int, dst: str, src: str, amount: str) -> None:
    """SHRD: DEST shifted right, filled from the bottom of SRC; undefined beyond the size."""
    count = shift_count(cpu, uop, amount, size)
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = a
    if count:
        if size == 16:
            wide = a << 32 | b << 16 | a
            result = narrow(wide >> count, 16)
            carry = wide >> (count - 1) & 1
        else:
            result = narrow(a >> count | b << (size - count), size)
            carry = a >> (count - 1) & 1
        flags_carry_overflow(cpu, result, size, carry, (result ^ a) >> (size - 1))
    put(cpu, uop, dst, size, result, host, linear)


AMOUNTS = "RR RI MR MI"
DOUBLE = "RRR RRI MRR MRI"
WIDE = (16, 32, 64)

# OF is undefined for counts other than 1, and AF always
FAMILY = (
    Insn("SHL", shl, AMOUNTS, undefined=AF | OF),
    Insn("SAL", shl, AMOUNTS, undefined=AF | OF),
    Insn("SHR", shr, AMOUNTS, undefined=AF | OF),
    Insn("SAR", sar, AMOUNTS, undefined=AF | OF),
    Insn("ROL", rol, AMOUNTS, undefined=OF),
    Insn("ROR", ror, AMOUNTS, undefined=OF),
    Insn("RCL", rcl, AMOUNTS, undefined=OF),
    Insn("RCR", rcr, AMOUNTS, undefined=OF),
    Insn("SHLD", shld, DOUBLE, WIDE, undefined=AF | OF),
    Insn("SHRD", shrd, DOUBLE, WIDE, undefined=AF | OF),
)
