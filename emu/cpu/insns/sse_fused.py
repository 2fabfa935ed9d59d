"""Fused multiply-add: one rounding of a * b + c. SDM Vol. 2, VFMADD132PS and its like."""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import leading_zeros, multiply_high, outlined, restricted
from emu.cpu.insns.lanes import micro, place
from emu.cpu.insns.sse_float import (
    OFFSET,
    RESULT,
    element,
    exponent_of,
    exponent_top,
    infinity,
    invalid,
    is_denormal,
    is_nan,
    is_signaling,
    magnitude,
    operand,
    packed,
    put_element,
    quiet_bit,
    raise_flags,
    settle,
    sign_of,
    signed_as,
    significand_of,
    zero_sum,
)

SCRATCH_HIGH, SCRATCH_LOW = 2, 3


@restricted
def shifted_right(cpu: Any, high: int, low: int, count: int) -> None:
    """high:low shifted right into scratch, what is lost ORed into the last bit."""
    if count > 127:
        cpu.scratch[SCRATCH_HIGH] = 0
        cpu.scratch[SCRATCH_LOW] = 1 if high | low else 0
    elif count > 63:
        part = count - 64
        lost = low | (high & ((1 << part) - 1))
        cpu.scratch[SCRATCH_HIGH] = 0
        cpu.scratch[SCRATCH_LOW] = high >> part | (1 if lost else 0)
    elif count:
        lost = low & ((1 << count) - 1)
        cpu.scratch[SCRATCH_HIGH] = high >> count
        cpu.scratch[SCRATCH_LOW] = low >> count | high << (64 - count & 63) | (1 if lost else 0)
    else:
        cpu.scratch[SCRATCH_HIGH] = high
        cpu.scratch[SCRATCH_LOW] = low


@outlined
def fused_numbers(cpu: Any, a: int, b: int, c: int, wide: int) -> int:
    """A * b + c of finite numbers, a and b not zero."""
    sign = sign_of(a, wide) ^ sign_of(b, wide)
    bias = exponent_top(wide) >> 1
    m = significand_of(a, wide)
    n = significand_of(b, wide)
    # the product, its leading bit at bit 126 or 125 of two words, at exponent e + 1
    e = exponent_of(a, wide) + exponent_of(b, wide) - OFFSET - bias + 1
    high = multiply_high(m >> 1, n)
    low = (m >> 1) * n
    if magnitude(c, wide) != 0:
        other = sign_of(c, wide)
        f = exponent_of(c, wide)
        # the addend, its leading bit at bit 126
        top = significand_of(c, wide) >> 1
        bottom = significand_of(c, wide) << 63
        if e >= f:
            shifted_right(cpu, top, bottom, e - f)
            top = cpu.scratch[SCRATCH_HIGH]
            bottom = cpu.scratch[SCRATCH_LOW]
        else:
            shifted_right(cpu, high, low, f - e)
            high = cpu.scratch[SCRATCH_HIGH]
            low = cpu.scratch[SCRATCH_LOW]
            e = f
        if sign == other:
            total = low + bottom
            high = high + top + (1 if total < low else 0)
            low = total
        else:
            if top > high or (top == high and bottom > low):
                sign = other
                borrow = 1 if bottom < low else 0
                high = top - high - borrow
                low = bottom - low
            else:
                borrow = 1 if low < bottom else 0
                high = high - top - borrow
                low = low - bottom
            if high == 0 and low == 0:
                return zero_sum(cpu, wide)
    # normalize: the leading bit to bit 63 of one word
    if high == 0:
        zeros = leading_zeros(low)
        return packed(cpu, sign, e + 1 - 64 - zeros, low << (zeros & 63), wide)
    zeros = leading_zeros(high)
    word = high
    rest = low
    if zeros:
        word = high << zeros | low >> (64 - zeros & 63)
        rest = low << zeros
    return packed(cpu, sign, e + 1 - zeros, word | (1 if rest else 0), wide)


@outlined
def fused(cpu: Any, a: int, b: int, c: int, negate: int, wide: int) -> int:
    """One element: bit 0 of `negate` turns the product, bit 1 the addend."""
    a = operand(cpu, a, wide)
    b = operand(cpu, b, wide)
    c = operand(cpu, c, wide)
    top = infinity(wide)
    without = 0
    if (magnitude(a, wide) == top and magnitude(b, wide) == 0) or (
        magnitude(b, wide) == top and magnitude(a, wide) == 0
    ):
        without = 1
    if is_nan(a, wide) or is_nan(b, wide) or is_nan(c, wide):
        raise_flags(cpu, is_signaling(a, wide) | is_signaling(b, wide) | is_signaling(c, wide))
        if is_nan(a, wide):
            return a | quiet_bit(wide)
        if is_nan(b, wide):
            return b | quiet_bit(wide)
        return c | quiet_bit(wide)
    if without:
        return invalid(cpu, wide)
    a ^= signed_as(negate & 1, 0, wide)
    c ^= signed_as(negate >> 1, 0, wide)
    sign = sign_of(a, wide) ^ sign_of(b, wide)
    infinite = 1 if magnitude(a, wide) == top or magnitude(b, wide) == top else 0
    if infinite and magnitude(c, wide) == top and sign != sign_of(c, wide):
        return invalid(cpu, wide)
    denormal = is_denormal(a, wide) | is_denormal(b, wide) | is_denormal(c, wide)
    raise_flags(cpu, denormal << 1)
    if infinite:
        return signed_as(sign, top, wide)
    if magnitude(c, wide) == top:
        return c
    if magnitude(a, wide) == 0 or magnitude(b, wide) == 0:
        if magnitude(c, wide):
            return packed(
                cpu, sign_of(c, wide), exponent_of(c, wide), significand_of(c, wide), wide
            )
        return c if sign == sign_of(c, wide) else zero_sum(cpu, wide)
    return fused_numbers(cpu, a, b, c, wide)


@restricted
def multiply_add(cpu: Any, uop: Any, order: int, wide: int) -> None:
    """Elements of lanes r0 r1 r2 as DEST SRC2 SRC3.

    imm: elements, then the signs of even elements << 8 and of odd ones << 10. `order` is 132, 213
    or 231: which operands are multiplied.
    """
    cpu.scratch[15] = 0
    count = uop.imm & 0xFF
    i = 0
    while i < count:
        x = element(place(cpu, uop.r0), i, wide)
        y = element(place(cpu, uop.r1), i, wide)
        z = element(place(cpu, uop.r2), i, wide)
        negate = uop.imm >> (10 if i & 1 else 8) & 3
        if order == 132:
            result = fused(cpu, x, z, y, negate, wide)
        elif order == 213:
            result = fused(cpu, y, x, z, negate, wide)
        else:
            result = fused(cpu, y, z, x, negate, wide)
        put_element(place(cpu, RESULT), i, result, wide)
        i += 1
    settle(cpu, uop)
    i = 0
    while i < count:
        put_element(place(cpu, uop.r0), i, element(place(cpu, RESULT), i, wide), wide)
        i += 1


ORDERS = (132, 213, 231)

FAMILY = tuple(
    micro(f"fma{order}{'d' if wide else 's'}", multiply_add, order=order, wide=wide)
    for order in ORDERS
    for wide in (0, 1)
)
