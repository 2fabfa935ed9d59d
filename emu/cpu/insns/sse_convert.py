"""Packed conversions, rounding, horizontal arithmetic, approximations, a micro-operation each.

SDM Vol. 2, CVTPS2PD, CVTPD2PS, CVTDQ2PD, CVTPD2DQ, ROUNDPS, HADDPS, ADDSUBPS, DPPS, RCPPS, RSQRTPS,
VCVTPH2PS, VCVTPS2PH. Results are collected apart and written when no exception is left unmasked.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import (
    extend32,
    leading_zeros,
    outlined,
    raw_load16,
    raw_store16,
    raw_store64,
    restricted,
)
from emu.cpu.insns.lanes import micro, place
from emu.cpu.insns.sse_float import (
    ADD,
    MUL,
    OE,
    OFFSET,
    PE,
    RESULT,
    SUB,
    UE,
    change_format,
    element,
    exponent_of,
    float_operation,
    fraction_bits,
    from_integer,
    infinity,
    is_denormal,
    is_nan,
    is_signaling,
    magnitude,
    operand,
    put_element,
    quiet_bit,
    raise_flags,
    settle,
    sign_of,
    signed_as,
    significand_of,
    to_integer,
)

ONE_SINGLE, ONE_DOUBLE = 0x3F800000, 0x3FF0000000000000
HALF_INFINITY, HALF_QUIET = 0x7C00, 0x0200


@restricted
def write_results(cpu: Any, uop: Any, count: int, wide: int) -> None:
    """The first `count` elements from lane r0 on := the results."""
    i = 0
    while i < count:
        put_element(place(cpu, uop.r0), i, element(place(cpu, RESULT), i, wide), wide)
        i += 1


@restricted
def convert_packed(cpu: Any, uop: Any, how: str) -> None:
    """Imm elements from lane r2 to lane r0, the rest of a lane zero."""
    cpu.scratch[15] = 0
    raw_store64(place(cpu, RESULT) + 8, 0)
    target = 1 if how == "ps2pd" or how == "dq2pd" else 0
    i = 0
    while i < uop.imm:
        value = element(place(cpu, uop.r2), i, 1 - target)
        if how == "dq2pd":
            result = from_integer(cpu, extend32(value), 1)
        elif how == "pd2dq":
            result = to_integer(cpu, value, 1, 32, 0)
        elif how == "tpd2dq":
            result = to_integer(cpu, value, 1, 32, 1)
        else:
            result = change_format(cpu, value, 1 - target)
        put_element(place(cpu, RESULT), i, result, target)
        i += 1
    settle(cpu, uop)
    if target:
        write_results(cpu, uop, uop.imm, 1)
    else:
        write_results(cpu, uop, 4, 0)


# rounding to integers


@outlined
def rounded_value(cpu: Any, value: int, control: int, wide: int) -> int:
    """ROUNDPS of one element: `control` is the immediate."""
    a = operand(cpu, value, wide)
    sign = sign_of(a, wide)
    if is_nan(a, wide):
        raise_flags(cpu, is_signaling(a, wide))
        return a | quiet_bit(wide)
    bits = fraction_bits(wide)
    bias = 1023 if wide else 127
    size = magnitude(a, wide)
    field = size >> bits
    if size == 0 or field >= bias + bits:
        return a
    mode = cpu.mxcsr >> 13 & 3 if control & 4 else control & 3
    away = 1 if (mode == 1 and sign == 1) or (mode == 2 and sign == 0) else 0
    if field < bias:
        # below one
        half = (bias - 1) << bits
        up = away if mode else (1 if size > half else 0)
        result = bias << bits if up else 0
        lost = size
    else:
        count = bias + bits - field & 63
        lost = size & ((1 << count) - 1)
        half = 1 << (count - 1 & 63)
        odd = size >> count & 1
        up = away if mode else (1 if lost > half or (lost == half and odd) else 0)
        result = size - lost
        if up and lost:
            result += 1 << count
    if lost and control & 8 == 0:
        raise_flags(cpu, PE)
    return signed_as(sign, result, wide)


@restricted
def round_elements(cpu: Any, uop: Any, wide: int) -> None:
    """ROUNDPS and so on. imm: the immediate, elements << 8."""
    cpu.scratch[15] = 0
    count = uop.imm >> 8
    i = 0
    while i < count:
        value = element(place(cpu, uop.r2), i, wide)
        put_element(place(cpu, RESULT), i, rounded_value(cpu, value, uop.imm & 15, wide), wide)
        i += 1
    settle(cpu, uop)
    write_results(cpu, uop, count, wide)


# arithmetic across elements


@restricted
def horizontal(cpu: Any, uop: Any, kind: int, wide: int) -> None:
    """HADDPS, HSUBPD and so on: neighbours, of SRC1 and then of SRC2, in each of imm lanes."""
    cpu.scratch[15] = 0
    half = 1 if wide else 2
    i = 0
    while i < uop.imm * half * 2:
        lane = i // (half * 2)
        within = i - lane * half * 2
        source = uop.r1 if within < half else uop.r2
        first = (within if within < half else within - half) * 2
        a = element(place(cpu, source + lane), first, wide)
        b = element(place(cpu, source + lane), first + 1, wide)
        put_element(place(cpu, RESULT), i, float_operation(cpu, a, b, kind, wide), wide)
        i += 1
    settle(cpu, uop)
    write_results(cpu, uop, uop.imm * half * 2, wide)


@restricted
def add_subtract(cpu: Any, uop: Any, wide: int) -> None:
    """ADDSUBPS, ADDSUBPD: even elements are subtracted, odd ones added."""
    cpu.scratch[15] = 0
    i = 0
    while i < uop.imm:
        a = element(place(cpu, uop.r1), i, wide)
        b = element(place(cpu, uop.r2), i, wide)
        result = float_operation(cpu, a, b, ADD if i & 1 else SUB, wide)
        put_element(place(cpu, RESULT), i, result, wide)
        i += 1
    settle(cpu, uop)
    write_results(cpu, uop, uop.imm, wide)


@outlined
def masked_product(cpu: Any, a: int, b: int, chosen: int, wide: int) -> int:
    """A product, or zero where the mask of DPPS leaves it out."""
    return float_operation(cpu, a, b, MUL, wide) if chosen else 0


@restricted
def dot_product(cpu: Any, uop: Any, wide: int) -> None:
    """DPPS, DPPD in each lane: imm is the immediate, lanes << 8."""
    cpu.scratch[15] = 0
    count = 2 if wide else 4
    lane = 0
    while lane < uop.imm >> 8:
        i = 0
        while i < count:
            a = element(place(cpu, uop.r1 + lane), i, wide)
            b = element(place(cpu, uop.r2 + lane), i, wide)
            cpu.scratch[i + 1] = masked_product(cpu, a, b, uop.imm >> (4 + i & 63) & 1, wide)
            i += 1
        total = float_operation(cpu, cpu.scratch[1], cpu.scratch[2], ADD, wide)
        if wide == 0:
            other = float_operation(cpu, cpu.scratch[3], cpu.scratch[4], ADD, 0)
            total = float_operation(cpu, total, other, ADD, 0)
        i = 0
        while i < count:
            chosen = uop.imm >> i & 1
            put_element(place(cpu, RESULT), lane * count + i, total if chosen else 0, wide)
            i += 1
        lane += 1
    settle(cpu, uop)
    write_results(cpu, uop, (uop.imm >> 8) * count, wide)


# approximations: twelve significant bits, no exceptions, denormals are zeros


@outlined
def reciprocal(cpu: Any, value: int) -> int:
    """RCPPS of one element."""
    sign = value & 0x80000000
    size = value & 0x7FFFFFFF
    field = size >> 23
    if size > 0x7F800000:
        return value | 0x00400000
    if field == 0xFF:
        return sign
    if field == 0:
        return sign | 0x7F800000
    quotient = (1 << 47) // (size & 0x7FFFFF | 0x800000)
    # a quotient in (2^23, 2^24]: 12 bits of it, rounded
    rounded = quotient + 0x800 >> 12 << 12
    exponent = 253 - field
    total = (exponent << 23) + rounded - 0x800000
    if total >> 63 or total >> 23 == 0:
        return sign
    return sign | total


@outlined
def reciprocal_root(cpu: Any, value: int) -> int:
    """RSQRTPS of one element."""
    size = value & 0x7FFFFFFF
    field = size >> 23
    if size > 0x7F800000:
        return value | 0x00400000
    if field == 0:
        return value & 0x80000000 | 0x7F800000
    if value & 0x80000000:
        return 0xFFC00000
    if field == 0xFF:
        return 0
    # radicand in [1, 4) with 23 or 24 bits behind the point; its reciprocal times 2^38
    odd = field & 1 ^ 1
    radicand = (size & 0x7FFFFF | 0x800000) << odd
    inverse = (1 << 61) // radicand
    root = 0
    bit = 1 << 19
    while bit:
        trial = root | bit
        if trial * trial <= inverse:
            root = trial
        bit >>= 1
    # the root lies in (2^18, 2^19]
    rounded = root + 0x40 >> 7 << 7
    exponent = 379 - field + odd >> 1
    return (exponent << 23) + (rounded << 5) - 0x800000


@restricted
def approximate(cpu: Any, uop: Any, root: int) -> None:
    """RCPPS, RSQRTPS and the scalar forms: imm elements."""
    i = 0
    while i < uop.imm:
        value = element(place(cpu, uop.r2), i, 0)
        if root:
            result = reciprocal_root(cpu, value)
        else:
            result = reciprocal(cpu, value)
        put_element(place(cpu, uop.r0), i, result, 0)
        i += 1


# half precision


@outlined
def from_half(cpu: Any, half: int) -> int:
    """A half-precision number in single precision: exact, denormals too."""
    sign = half >> 15
    size = half & 0x7FFF
    if size >= HALF_INFINITY:
        if size == HALF_INFINITY:
            return sign << 31 | infinity(0)
        raise_flags(cpu, 1 if size & HALF_QUIET == 0 else 0)
        return sign << 31 | infinity(0) | quiet_bit(0) | (size & 0x3FF) << 13
    if size == 0:
        return sign << 31
    if size >> 10:
        return sign << 31 | (size << 13) + (112 << 23)
    zeros = leading_zeros(size) - 53
    return sign << 31 | (113 - zeros << 23) + ((size << zeros & 0x3FF) << 13)


@outlined
def to_half(cpu: Any, value: int, control: int) -> int:
    """A single in half precision; MXCSR.FTZ does not count. `control` is the immediate."""
    a = operand(cpu, value, 0)
    sign = sign_of(a, 0)
    top = sign << 15
    if is_nan(a, 0):
        raise_flags(cpu, is_signaling(a, 0))
        return top | HALF_INFINITY | HALF_QUIET | (a & 0x7FFFFF) >> 13
    if magnitude(a, 0) == infinity(0):
        return top | HALF_INFINITY
    if magnitude(a, 0) == 0:
        return top
    raise_flags(cpu, is_denormal(a, 0) << 1)
    mode = cpu.mxcsr >> 13 & 3 if control & 4 else control & 3
    away = 1 if (mode == 1 and sign == 1) or (mode == 2 and sign == 0) else 0
    # eleven bits of the significand, fewer for a denormal
    exponent = exponent_of(a, 0)
    least = OFFSET + 113
    m = significand_of(a, 0) >> 40
    tiny = 0
    drop = 13
    if exponent < least:
        drop = min(13 + least - exponent, 40)
        tiny = 1
    lost = m & ((1 << drop) - 1)
    odd = m >> drop & 1
    half = 1 << (drop - 1)
    up = away if mode else (1 if lost > half or (lost == half and odd) else 0)
    kept = (m >> drop) + (1 if up and lost else 0)
    if exponent == least - 1:
        # tiny after rounding: as if the exponent had no lower bound
        lost_there = m & 0x1FFF
        up_there = away if mode else (1 if lost_there >= 0x1000 else 0)
        if m >> 13 == 0x7FF and up_there and lost_there:
            tiny = 0
    result = kept if exponent < least else kept + (exponent - least << 10)
    if lost:
        raise_flags(cpu, PE)
    if tiny and (lost or cpu.mxcsr & UE << 7 == 0):
        raise_flags(cpu, UE)
    if result >= HALF_INFINITY:
        raise_flags(cpu, OE | PE)
        return top | (HALF_INFINITY if mode == 0 or away else HALF_INFINITY - 1)
    return top | result


@restricted
def half_to_single(cpu: Any, uop: Any) -> None:
    """VCVTPH2PS: imm elements from lane r2."""
    cpu.scratch[15] = 0
    i = 0
    while i < uop.imm:
        half = raw_load16(place(cpu, uop.r2) + (i << 1))
        put_element(place(cpu, RESULT), i, from_half(cpu, half), 0)
        i += 1
    settle(cpu, uop)
    write_results(cpu, uop, uop.imm, 0)


@restricted
def single_to_half(cpu: Any, uop: Any) -> None:
    """VCVTPS2PH: to one lane, zero above the result. imm: the immediate, elements << 8."""
    cpu.scratch[15] = 0
    raw_store64(place(cpu, RESULT) + 8, 0)
    i = 0
    while i < uop.imm >> 8:
        value = element(place(cpu, uop.r2), i, 0)
        raw_store16(place(cpu, RESULT) + (i << 1), to_half(cpu, value, uop.imm & 7))
        i += 1
    settle(cpu, uop)
    write_results(cpu, uop, 4, 0)


FAMILY = (
    *(
        micro(name, convert_packed, how=name)
        for name in ("ps2pd", "pd2ps", "dq2pd", "pd2dq", "tpd2dq")
    ),
    *(micro(f"round{'d' if wide else 's'}", round_elements, wide=wide) for wide in (0, 1)),
    *(
        micro(f"h{name}{'d' if wide else 's'}", horizontal, kind=kind, wide=wide)
        for name, kind in (("add", ADD), ("sub", SUB))
        for wide in (0, 1)
    ),
    *(micro(f"addsub{'d' if wide else 's'}", add_subtract, wide=wide) for wide in (0, 1)),
    *(micro(f"dot{'d' if wide else 's'}", dot_product, wide=wide) for wide in (0, 1)),
    micro("rcp", approximate, root=0),
    micro("rsqrt", approximate, root=1),
    micro("ph2ps", half_to_single),
    micro("ps2ph", single_to_half),
)
