"""Multiplication and division. SDM Vol. 2, MUL, IMUL, DIV, IDIV."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import fault, read, read_register, write, write_register
from emu.cpu.compiler.words import (
    SIGN,
    multiply_high,
    multiply_high_signed,
    outlined,
    restricted,
    shift_arithmetic,
    unlikely,
)
from emu.cpu.flags import AF, PF, SF, ZF, extend, flags_carry_overflow, narrow
from emu.cpu.insns.rows import Insn
from emu.cpu.state import Vector


@restricted
def product_to(cpu: Any, low: int, high: int, size: int) -> None:
    """Write rDX:rAX, or AX for bytes."""
    if size == 8:
        write_register(cpu, 0, 16, low)
    else:
        write_register(cpu, 0, size, low)
        write_register(cpu, 2, size, high)


@restricted
def mul(cpu: Any, uop: Any, size: int, src: str) -> None:
    """MUL: rDX:rAX := rAX * SRC, unsigned; CF and OF when the upper half is not zero."""
    b = read(cpu, uop, src, size)
    a = read_register(cpu, 0, size)
    low = a * b
    high = multiply_high(a, b) if size == 64 else low >> size
    product_to(cpu, low, high, size)
    carry = 1 if high != 0 else 0
    flags_carry_overflow(cpu, narrow(low, size), size, carry, carry)


@restricted
def imul(cpu: Any, uop: Any, size: int, src: str) -> None:
    """IMUL, one operand: rDX:rAX := rAX * SRC, signed."""
    b = extend(read(cpu, uop, src, size), size)
    a = extend(read_register(cpu, 0, size), size)
    low = a * b
    high = multiply_high_signed(a, b) if size == 64 else shift_arithmetic(low, size & 63)
    product_to(cpu, low, high, size)
    carry = 1 if high != shift_arithmetic(extend(low, size), 63) else 0
    flags_carry_overflow(cpu, narrow(low, size), size, carry, carry)


@restricted
def imul_to(cpu: Any, uop: Any, size: int, dst: str, src: str, other: str = "") -> None:
    """IMUL, two and three operands: DEST := the product cut to the operand size."""
    b = extend(read(cpu, uop, src, size), size)
    a = extend(read(cpu, uop, other if other else dst, size), size)
    low = a * b
    if size == 64:
        carry = 1 if multiply_high_signed(a, b) != shift_arithmetic(low, 63) else 0
    else:
        carry = 1 if low != extend(low, size) else 0
    flags_carry_overflow(cpu, narrow(low, size), size, carry, carry)
    write(cpu, uop, dst, size, low)


@outlined
def long_quotient(cpu: Any, high: int, low: int, divisor: int) -> int:
    """high:low / divisor where high < divisor; the remainder is left in scratch[0]."""
    quotient = 0
    remainder = high
    position = 64
    while position != 0:
        position -= 1
        carried = remainder >> 63
        remainder = remainder << 1 | low >> position & 1
        quotient <<= 1
        if carried or remainder >= divisor:
            remainder -= divisor
            quotient |= 1
    cpu.scratch[0] = remainder
    return quotient


@restricted
def divide(cpu: Any, high: int, low: int, divisor: int) -> tuple[int, int]:
    """Quotient and remainder of high:low by divisor, where high < divisor."""
    if high == 0:
        quotient = low // divisor
        remainder = low % divisor
    else:
        quotient = long_quotient(cpu, high, low, divisor)
        remainder = cpu.scratch[0]
    return quotient, remainder


@restricted
def quotient_to(cpu: Any, quotient: int, remainder: int, size: int) -> None:
    """Write quotient and remainder to rAX and rDX, or AL and AH."""
    if size == 8:
        write_register(cpu, 0, 16, quotient & 0xFF | (remainder & 0xFF) << 8)
    else:
        write_register(cpu, 0, size, quotient)
        write_register(cpu, 2, size, remainder)


@restricted
def div(cpu: Any, uop: Any, size: int, src: str) -> None:
    """DIV: unsigned; #DE when the divisor is zero or the quotient too large."""
    divisor = read(cpu, uop, src, size)
    if size == 64:
        high = cpu.rdx
        if unlikely(high >= divisor):
            fault(cpu, uop, Vector.DE)
        quotient, remainder = divide(cpu, high, cpu.rax, divisor)
    else:
        dividend = cpu.rax & 0xFFFF
        if size != 8:
            dividend = read_register(cpu, 2, size) << size | read_register(cpu, 0, size)
        if unlikely(dividend >> size >= divisor):
            fault(cpu, uop, Vector.DE)
        quotient = dividend // divisor
        remainder = dividend % divisor
    quotient_to(cpu, quotient, remainder, size)


@restricted
def idiv(cpu: Any, uop: Any, size: int, src: str) -> None:
    """IDIV: signed, truncated towards zero; #DE as for DIV."""
    divisor = extend(read(cpu, uop, src, size), size)
    if size == 64:
        high = cpu.rdx
        low = cpu.rax
    elif size == 8:
        low = extend(cpu.rax, 16)
        high = shift_arithmetic(low, 63)
    else:
        low = extend(read_register(cpu, 2, size), size) << size | read_register(cpu, 0, size)
        high = shift_arithmetic(low, 63)
    negative = high >> 63
    if negative:
        high = ~high + (1 if low == 0 else 0)
        low = 0 - low
    magnitude = 0 - divisor if divisor & SIGN else divisor
    if unlikely(high >= magnitude):
        fault(cpu, uop, Vector.DE)
    quotient, remainder = divide(cpu, high, low, magnitude)
    opposite = negative ^ divisor >> 63
    limit = (1 << (size - 1)) - 1 + opposite
    if unlikely(quotient > limit):
        fault(cpu, uop, Vector.DE)
    quotient_to(
        cpu,
        0 - quotient if opposite else quotient,
        0 - remainder if negative else remainder,
        size,
    )


WIDE = (16, 32, 64)
MUL_UNDEFINED = SF | ZF | AF | PF
DIV_UNDEFINED = 0x8D5

FAMILY = (
    Insn("MUL", mul, "R M", undefined=MUL_UNDEFINED),
    Insn("IMUL", imul, "R M", undefined=MUL_UNDEFINED),
    Insn("IMUL", imul_to, "RR RM RRI RMI", WIDE, undefined=MUL_UNDEFINED),
    Insn("DIV", div, "R M", undefined=DIV_UNDEFINED),
    Insn("IDIV", idiv, "R M", undefined=DIV_UNDEFINED),
)
