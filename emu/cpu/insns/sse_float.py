"""Floating point on vector elements, exact in integer arithmetic, with MXCSR's rounding and flags.

SDM Vol. 1, Programming with SSE, SIMD Floating-Point Exceptions; IEEE 754. An element is single
(`wide` 0) or double (1). Inside, a finite number is a sign, an exponent biased by its format plus
OFFSET, and a significand whose leading bit is bit 63, the bits lost ORed into bit 0.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import fault
from emu.cpu.compiler.words import (
    extend32,
    leading_zeros,
    multiply_high,
    outlined,
    raw_load32,
    raw_load64,
    raw_store32,
    raw_store64,
    restricted,
    unlikely,
)
from emu.cpu.flags import set_status_flags
from emu.cpu.insns.lanes import micro, place
from emu.cpu.insns.multiply import long_quotient
from emu.cpu.paging import CR4_OSXMMEXCPT
from emu.cpu.state import Vector

IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32
DAZ, FTZ = 1 << 6, 1 << 15
OFFSET = 0x10000
RESULT = 132  # lanes of a register that no instruction names

ADD, SUB, MUL, DIV, SQRT, MIN, MAX = range(7)


@restricted
def fraction_bits(wide: int) -> int:
    """Bits of the fraction field."""
    return 52 if wide else 23


@restricted
def exponent_top(wide: int) -> int:
    """The exponent field of infinities and NaNs."""
    return 0x7FF if wide else 0xFF


@restricted
def sign_of(value: int, wide: int) -> int:
    """The sign bit."""
    return value >> 63 if wide else value >> 31 & 1


@restricted
def magnitude(value: int, wide: int) -> int:
    """The bits below the sign."""
    return value & 0x7FFFFFFFFFFFFFFF if wide else value & 0x7FFFFFFF


@restricted
def infinity(wide: int) -> int:
    """Positive infinity."""
    return 0x7FF0000000000000 if wide else 0x7F800000


@restricted
def quiet_bit(wide: int) -> int:
    """The bit that tells a quiet NaN."""
    return 0x0008000000000000 if wide else 0x00400000


@restricted
def signed_as(sign: int, value: int, wide: int) -> int:
    """A value with a sign bit."""
    return value | (sign << 63 if wide else sign << 31)


@restricted
def raise_flags(cpu: Any, flags: int) -> None:
    """Note exceptions of the current instruction."""
    cpu.scratch[15] |= flags


@restricted
def operand(cpu: Any, value: int, wide: int) -> int:
    """An operand as DAZ lets it be seen: a denormal is a zero."""
    small = magnitude(value, wide)
    if cpu.mxcsr & DAZ and small < quiet_bit(wide) * 2:
        return signed_as(sign_of(value, wide), 0, wide)
    return value


@restricted
def is_denormal(value: int, wide: int) -> int:
    """1 for a denormal."""
    small = magnitude(value, wide)
    return 1 if small != 0 and small < quiet_bit(wide) * 2 else 0


@restricted
def is_nan(value: int, wide: int) -> int:
    """1 for a NaN."""
    return 1 if magnitude(value, wide) > infinity(wide) else 0


@restricted
def is_signaling(value: int, wide: int) -> int:
    """1 for a signaling NaN."""
    return 1 if is_nan(value, wide) and value & quiet_bit(wide) == 0 else 0


@restricted
def exponent_of(value: int, wide: int) -> int:
    """Exponent of a finite number that is not zero, as if normalized, plus OFFSET."""
    bits = fraction_bits(wide)
    field = magnitude(value, wide) >> bits
    if field == 0:
        small = magnitude(value, wide)
        return OFFSET + 1 - (leading_zeros(small) - (63 - bits))
    return field + OFFSET


@restricted
def significand_of(value: int, wide: int) -> int:
    """Significand of a finite number that is not zero, its leading bit at bit 63."""
    bits = fraction_bits(wide)
    small = magnitude(value, wide)
    field = small >> bits
    if field == 0:
        return small << (leading_zeros(small) & 63)
    return (small & ((1 << bits) - 1) | 1 << bits) << (63 - bits)


@restricted
def jammed(value: int, count: int) -> int:
    """A value shifted right; what is lost is ORed into bit 0."""
    if count > 63:
        return 1 if value else 0
    lost = value & ((1 << count) - 1)
    return value >> count | (1 if lost else 0)


@restricted
def increment(cpu: Any, sign: int, value: int, drop: int) -> int:
    """What rounding adds before `drop` bits are cut. SDM Vol. 1, Rounding Control."""
    mode = cpu.mxcsr >> 13 & 3
    if mode == 0:
        half = 1 << (drop - 1)
        return half - 1 + (value >> drop & 1)
    if mode == 3 or (mode == 1 and sign == 0) or (mode == 2 and sign == 1):
        return 0
    return (1 << drop) - 1


@outlined
def packed(cpu: Any, sign: int, exponent: int, significand: int, wide: int) -> int:
    """Round to the format: overflow, underflow (tiny after rounding) and precision are noted."""
    bits = fraction_bits(wide)
    drop = 63 - bits
    m = significand
    e = exponent
    tiny = 0
    if e <= OFFSET:
        tiny = 1
        if e == OFFSET:
            up = increment(cpu, sign, m, drop)
            tiny = 0 if m + up < up else 1
        if tiny and cpu.mxcsr & FTZ and cpu.mxcsr & UE << 7:
            raise_flags(cpu, UE | PE)
            return signed_as(sign, 0, wide)
        m = jammed(m, OFFSET + 1 - e)
        e = OFFSET
    else:
        # the leading bit adds one to the exponent field below
        e -= 1
    inexact = m & ((1 << drop) - 1)
    up = increment(cpu, sign, m, drop)
    total = m + up
    field = e - OFFSET
    if total < up:
        # carried out of 64 bits: a power of two
        value = (field + 2) << bits
    else:
        value = (total >> drop) + (field << bits)
    if tiny and (inexact or cpu.mxcsr & UE << 7 == 0):
        raise_flags(cpu, UE)
    if inexact:
        raise_flags(cpu, PE)
    if value >= infinity(wide):
        raise_flags(cpu, OE | PE)
        mode = cpu.mxcsr >> 13 & 3
        value = infinity(wide)
        if mode == 3 or (mode == 1 and sign == 0) or (mode == 2 and sign == 1):
            value -= 1
    return signed_as(sign, value, wide)


@restricted
def invalid(cpu: Any, wide: int) -> int:
    """The result of an invalid operation: the real indefinite."""
    raise_flags(cpu, IE)
    return signed_as(1, infinity(wide) | quiet_bit(wide), wide)


@restricted
def zero_sum(cpu: Any, wide: int) -> int:
    """The exact zero that numbers of opposite sign add up to."""
    return signed_as(1 if cpu.mxcsr >> 13 & 3 == 1 else 0, 0, wide)


@outlined
def float_add(cpu: Any, a: int, b: int, wide: int) -> int:
    """A + b of numbers."""
    sign = sign_of(a, wide)
    other = sign_of(b, wide)
    top = infinity(wide)
    if magnitude(a, wide) == top:
        if magnitude(b, wide) == top and sign != other:
            return invalid(cpu, wide)
        raise_flags(cpu, is_denormal(b, wide) << 1)
        return a
    raise_flags(cpu, (is_denormal(a, wide) | is_denormal(b, wide)) << 1)
    if magnitude(b, wide) == top:
        return b
    if magnitude(b, wide) == 0:
        if magnitude(a, wide) == 0:
            return a if sign == other else zero_sum(cpu, wide)
        return packed(cpu, sign, exponent_of(a, wide), significand_of(a, wide), wide)
    if magnitude(a, wide) == 0:
        return packed(cpu, other, exponent_of(b, wide), significand_of(b, wide), wide)
    large = a
    small = b
    if magnitude(a, wide) < magnitude(b, wide):
        large = b
        small = a
    e = exponent_of(large, wide)
    m = significand_of(large, wide) >> 1
    n = jammed(significand_of(small, wide) >> 1, e - exponent_of(small, wide))
    total = m + n if sign == other else m - n
    if total == 0:
        return zero_sum(cpu, wide)
    zeros = leading_zeros(total)
    return packed(cpu, sign_of(large, wide), e + 1 - zeros, total << (zeros & 63), wide)


@outlined
def float_multiply(cpu: Any, a: int, b: int, wide: int) -> int:
    """A * b of numbers."""
    sign = sign_of(a, wide) ^ sign_of(b, wide)
    top = infinity(wide)
    if magnitude(a, wide) == top or magnitude(b, wide) == top:
        if magnitude(a, wide) == 0 or magnitude(b, wide) == 0:
            return invalid(cpu, wide)
        raise_flags(cpu, (is_denormal(a, wide) | is_denormal(b, wide)) << 1)
        return signed_as(sign, top, wide)
    raise_flags(cpu, (is_denormal(a, wide) | is_denormal(b, wide)) << 1)
    if magnitude(a, wide) == 0 or magnitude(b, wide) == 0:
        return signed_as(sign, 0, wide)
    m = significand_of(a, wide)
    n = significand_of(b, wide)
    high = multiply_high(m, n) | (1 if m * n else 0)
    bias = exponent_top(wide) >> 1
    e = exponent_of(a, wide) + exponent_of(b, wide) - OFFSET - bias + 1
    if high >> 63 == 0:
        high = multiply_high(m, n) << 1 | m * n >> 63
        high |= 1 if m * n << 1 else 0
        e -= 1
    return packed(cpu, sign, e, high, wide)


@outlined
def float_divide(cpu: Any, a: int, b: int, wide: int) -> int:
    """A / b of numbers."""
    sign = sign_of(a, wide) ^ sign_of(b, wide)
    top = infinity(wide)
    if magnitude(a, wide) == top:
        if magnitude(b, wide) == top:
            return invalid(cpu, wide)
        raise_flags(cpu, is_denormal(b, wide) << 1)
        return signed_as(sign, top, wide)
    if magnitude(b, wide) == 0:
        if magnitude(a, wide) == 0:
            return invalid(cpu, wide)
        raise_flags(cpu, ZE)
        return signed_as(sign, top, wide)
    raise_flags(cpu, (is_denormal(a, wide) | is_denormal(b, wide)) << 1)
    if magnitude(b, wide) == top or magnitude(a, wide) == 0:
        return signed_as(sign, 0, wide)
    m = significand_of(a, wide)
    n = significand_of(b, wide)
    bias = exponent_top(wide) >> 1
    e = exponent_of(a, wide) - exponent_of(b, wide) + OFFSET + bias
    if m >= n:
        quotient = long_quotient(cpu, m >> 1, m << 63, n)
    else:
        quotient = long_quotient(cpu, m, 0, n)
        e -= 1
    return packed(cpu, sign, e, quotient | (1 if cpu.scratch[0] else 0), wide)


@outlined
def float_root(cpu: Any, a: int, wide: int) -> int:
    """The square root of a number."""
    if magnitude(a, wide) == 0:
        return a
    if sign_of(a, wide):
        return invalid(cpu, wide)
    if magnitude(a, wide) == infinity(wide):
        return a
    raise_flags(cpu, is_denormal(a, wide) << 1)
    bias = exponent_top(wide) >> 1
    # OFFSET is even, the bias odd
    e = exponent_of(a, wide) + bias
    m = significand_of(a, wide)
    # two bits of the radicand a step: its whole part is one bit or two
    odd = e & 1
    root = 0
    rest = 0
    step = 0
    while step < 60:
        pair = m >> 62
        m <<= 2
        if step == 0 and odd == 0:
            pair = significand_of(a, wide) >> 63
            m = significand_of(a, wide) << 1
        rest = rest << 2 | pair
        trial = root << 2 | 1
        root <<= 1
        if rest >= trial:
            rest -= trial
            root |= 1
        step += 1
    e = (e - OFFSET >> 1) + OFFSET
    return packed(cpu, 0, e, root << 4 | (1 if rest else 0), wide)


@outlined
def float_least(cpu: Any, a: int, b: int, wide: int, most: int) -> int:
    """MIN and MAX: the second operand when either is a NaN or both are zero."""
    if is_nan(a, wide) or is_nan(b, wide):
        raise_flags(cpu, IE)
        return b
    raise_flags(cpu, (is_denormal(a, wide) | is_denormal(b, wide)) << 1)
    less = ordered(a, b, wide)
    if most:
        return a if less == 2 else b
    return a if less == 1 else b


@restricted
def ordered(a: int, b: int, wide: int) -> int:
    """How numbers compare: 0 equal, 1 less, 2 greater."""
    x = magnitude(a, wide)
    y = magnitude(b, wide)
    if x == 0 and y == 0:
        return 0
    if sign_of(a, wide) != sign_of(b, wide):
        return 1 if sign_of(a, wide) else 2
    if x == y:
        return 0
    smaller = 1 if x < y else 0
    return 1 if smaller != sign_of(a, wide) else 2


@outlined
def float_operation(cpu: Any, a: int, b: int, kind: int, wide: int) -> int:
    """One element. SDM Vol. 1, Results of Operations with NaN Operands."""
    a = operand(cpu, a, wide)
    b = operand(cpu, b, wide)
    if kind >= MIN:
        return float_least(cpu, a, b, wide, 1 if kind == MAX else 0)
    if kind == SQRT:
        a = b
    if is_nan(a, wide) or is_nan(b, wide):
        raise_flags(cpu, is_signaling(a, wide) | is_signaling(b, wide))
        return (a if is_nan(a, wide) else b) | quiet_bit(wide)
    if kind == ADD:
        return float_add(cpu, a, b, wide)
    if kind == SUB:
        return float_add(cpu, a, b ^ signed_as(1, 0, wide), wide)
    if kind == MUL:
        return float_multiply(cpu, a, b, wide)
    if kind == DIV:
        return float_divide(cpu, a, b, wide)
    return float_root(cpu, a, wide)


@restricted
def settle(cpu: Any, uop: Any) -> None:
    """Put the exceptions noted into MXCSR; one that is not masked gives the instruction up."""
    flags = cpu.scratch[15]
    # an exception found before the result keeps those of the result away
    early = flags & (IE | DE | ZE) & ~(cpu.mxcsr >> 7)
    if unlikely(early):
        flags &= IE | DE | ZE
    cpu.mxcsr |= flags
    if unlikely(flags & ~(cpu.mxcsr >> 7)):
        fault(cpu, uop, Vector.XM if cpu.cr4 & CR4_OSXMMEXCPT else Vector.UD)


@restricted
def element(address: int, i: int, wide: int) -> int:
    """Element `i` at a host address."""
    return raw_load64(address + (i << 3)) if wide else raw_load32(address + (i << 2))


@restricted
def put_element(address: int, i: int, value: int, wide: int) -> None:
    """Write element `i` at a host address."""
    if wide:
        raw_store64(address + (i << 3), value)
    else:
        raw_store32(address + (i << 2), value)


@restricted
def arithmetic(cpu: Any, uop: Any, kind: int, wide: int) -> None:
    """The first imm elements from lane r0 on := r1 op r2."""
    cpu.scratch[15] = 0
    i = 0
    while i < uop.imm:
        a = element(place(cpu, uop.r1), i, wide)
        b = element(place(cpu, uop.r2), i, wide)
        put_element(place(cpu, RESULT), i, float_operation(cpu, a, b, kind, wide), wide)
        i += 1
    settle(cpu, uop)
    i = 0
    while i < uop.imm:
        put_element(place(cpu, uop.r0), i, element(place(cpu, RESULT), i, wide), wide)
        i += 1


@outlined
def float_compare(cpu: Any, a: int, b: int, wide: int, signaling: int) -> int:
    """0 equal, 1 less, 2 greater, 3 unordered; `signaling`: a quiet NaN is invalid too."""
    a = operand(cpu, a, wide)
    b = operand(cpu, b, wide)
    if is_nan(a, wide) or is_nan(b, wide):
        raise_flags(cpu, is_signaling(a, wide) | is_signaling(b, wide) | signaling)
        return 3
    raise_flags(cpu, (is_denormal(a, wide) | is_denormal(b, wide)) << 1)
    return ordered(a, b, wide)


@restricted
def compare_flags(cpu: Any, uop: Any, wide: int, signaling: int) -> None:
    """COMISS, UCOMISS and so on: ZF PF CF say how r1 stands to r2."""
    cpu.scratch[15] = 0
    a = element(place(cpu, uop.r1), 0, wide)
    b = element(place(cpu, uop.r2), 0, wide)
    relation = float_compare(cpu, a, b, wide, signaling)
    settle(cpu, uop)
    flags = 0x40
    if relation == 1:
        flags = 1
    elif relation == 2:
        flags = 0
    elif relation == 3:
        flags = 0x45
    set_status_flags(cpu, flags)


@outlined
def from_integer(cpu: Any, value: int, wide: int) -> int:
    """A signed word as floating point."""
    if value == 0:
        return 0
    sign = value >> 63
    size = 0 - value if sign else value
    zeros = leading_zeros(size)
    bias = exponent_top(wide) >> 1
    return packed(cpu, sign, OFFSET + bias + 63 - zeros, size << (zeros & 63), wide)


@outlined
def to_integer(cpu: Any, value: int, wide: int, bits: int, truncate: int) -> int:
    """A floating-point number as a signed integer of `bits`; the integer indefinite if it has none.

    SDM Vol. 1, Integer Indefinite. The value is seen through DAZ; a denormal is no exception here.
    """
    a = operand(cpu, value, wide)
    sign = sign_of(a, wide)
    indefinite = 1 << (bits - 1 & 63)
    if magnitude(a, wide) == 0:
        return 0
    bias = exponent_top(wide) >> 1
    e = exponent_of(a, wide)
    if e > OFFSET + bias + 63:
        raise_flags(cpu, IE)
        return indefinite
    m = significand_of(a, wide)
    distance = OFFSET + bias + 63 - e
    whole = m >> (distance & 63) if distance < 64 else 0
    # the part below one as the upper bits of a word
    if distance == 0:
        part = 0
    elif distance < 64:
        part = m << (64 - distance & 63)
    else:
        part = jammed(m, distance - 64)
    mode = 3 if truncate else cpu.mxcsr >> 13 & 3
    up = 0
    if mode == 0:
        if part > 1 << 63 or (part == 1 << 63 and whole & 1):
            up = 1
    elif part and ((mode == 1 and sign == 1) or (mode == 2 and sign == 0)):
        up = 1
    if whole == 0xFFFFFFFFFFFFFFFF and up:
        raise_flags(cpu, IE)
        return indefinite
    whole += up
    limit = indefinite if sign else indefinite - 1
    if whole > limit:
        raise_flags(cpu, IE)
        return indefinite
    if part:
        raise_flags(cpu, PE)
    return 0 - whole if sign else whole


@outlined
def change_format(cpu: Any, value: int, wide: int) -> int:
    """CVTSD2SS and CVTSS2SD of one element; `wide` is that of the source."""
    a = operand(cpu, value, wide)
    target = 1 - wide
    sign = sign_of(a, wide)
    if is_nan(a, wide):
        raise_flags(cpu, is_signaling(a, wide))
        fraction = magnitude(a, wide) & (quiet_bit(wide) - 1)
        fraction = fraction >> 29 if wide else fraction << 29
        return signed_as(sign, infinity(target) | quiet_bit(target) | fraction, target)
    if magnitude(a, wide) == infinity(wide):
        return signed_as(sign, infinity(target), target)
    if magnitude(a, wide) == 0:
        return signed_as(sign, 0, target)
    raise_flags(cpu, is_denormal(a, wide) << 1)
    e = exponent_of(a, wide) + (exponent_top(target) >> 1) - (exponent_top(wide) >> 1)
    return packed(cpu, sign, e, significand_of(a, wide), target)


@restricted
def integer_to_scalar(cpu: Any, uop: Any, wide: int, long: int) -> None:
    """CVTSI2SS, CVTSI2SD: the low element of r0 := the integer in lane r2, the rest of it kept."""
    cpu.scratch[15] = 0
    value = raw_load64(place(cpu, uop.r2))
    if long == 0:
        value = extend32(value)
    result = from_integer(cpu, value, wide)
    settle(cpu, uop)
    put_element(place(cpu, uop.r0), 0, result, wide)


@restricted
def scalar_to_integer(cpu: Any, uop: Any, wide: int, long: int, truncate: int) -> None:
    """CVTSS2SI, CVTTSD2SI and so on: general register r0 := the low element of r2."""
    cpu.scratch[15] = 0
    value = element(place(cpu, uop.r2), 0, wide)
    result = to_integer(cpu, value, wide, 64 if long else 32, truncate)
    settle(cpu, uop)
    cpu.gpr[uop.r0] = result if long else result & 0xFFFFFFFF


@restricted
def scalar_format(cpu: Any, uop: Any, wide: int) -> None:
    """CVTSD2SS, CVTSS2SD: the low element of r0 := that of r2."""
    cpu.scratch[15] = 0
    result = change_format(cpu, element(place(cpu, uop.r2), 0, wide), wide)
    settle(cpu, uop)
    put_element(place(cpu, uop.r0), 0, result, 1 - wide)


@restricted
def dwords_convert(cpu: Any, uop: Any, how: str) -> None:
    """CVTDQ2PS, CVTPS2DQ, CVTTPS2DQ: imm elements of 32 bits from lane r2 to r0."""
    cpu.scratch[15] = 0
    i = 0
    while i < uop.imm:
        value = element(place(cpu, uop.r2), i, 0)
        if how == "from":
            result = from_integer(cpu, extend32(value), 0)
        else:
            result = to_integer(cpu, value, 0, 32, 1 if how == "truncate" else 0)
        put_element(place(cpu, RESULT), i, result, 0)
        i += 1
    settle(cpu, uop)
    i = 0
    while i < uop.imm:
        put_element(place(cpu, uop.r0), i, element(place(cpu, RESULT), i, 0), 0)
        i += 1


# predicates of CMPPS: which relations hold (equal, less, greater, unordered), whether a quiet NaN
# is invalid. SDM Vol. 2, CMPPD, Comparison Predicate
PREDICATES = (
    0b0001, 0b0010, 0b0011, 0b1000, 0b1110, 0b1101, 0b1100, 0b0111,
    0b1001, 0b1010, 0b1011, 0b0000, 0b0110, 0b0101, 0b0100, 0b1111,
)  # fmt: skip
HOLDS = sum(bits << 4 * i for i, bits in enumerate(PREDICATES))
SIGNALING = sum(1 << i for i in (1, 2, 5, 6, 9, 10, 13, 14))


@restricted
def predicate(cpu: Any, uop: Any, wide: int) -> None:
    """CMPPS and so on: ones where the predicate holds. imm: predicate, elements << 8."""
    cpu.scratch[15] = 0
    code = uop.imm & 0x1F
    holds = HOLDS >> ((code & 15) << 2) & 15
    signaling = SIGNALING >> (code & 15) & 1 ^ code >> 4
    i = 0
    while i < uop.imm >> 8:
        a = element(place(cpu, uop.r1), i, wide)
        b = element(place(cpu, uop.r2), i, wide)
        relation = float_compare(cpu, a, b, wide, signaling)
        put_element(place(cpu, RESULT), i, 0 - (holds >> (relation & 63) & 1), wide)
        i += 1
    settle(cpu, uop)
    i = 0
    while i < uop.imm >> 8:
        put_element(place(cpu, uop.r0), i, element(place(cpu, RESULT), i, wide), wide)
        i += 1


KINDS = ("add", "sub", "mul", "div", "sqrt", "min", "max")

FAMILY = (
    *(
        micro(f"{name}{'d' if wide else 's'}", arithmetic, kind=kind, wide=wide)
        for kind, name in enumerate(KINDS)
        for wide in (0, 1)
    ),
    *(
        micro(
            f"{'comi' if signaling else 'ucomi'}{'d' if wide else 's'}",
            compare_flags,
            wide=wide,
            signaling=signaling,
        )
        for wide in (0, 1)
        for signaling in (0, 1)
    ),
    *(
        micro(f"int{32 << long}to{'d' if wide else 's'}", integer_to_scalar, wide=wide, long=long)
        for wide in (0, 1)
        for long in (0, 1)
    ),
    *(
        micro(
            f"{'d' if wide else 's'}to{'t' * cut}int{32 << long}",
            scalar_to_integer,
            wide=wide,
            long=long,
            truncate=cut,
        )
        for wide in (0, 1)
        for long in (0, 1)
        for cut in (0, 1)
    ),
    micro("ss2sd", scalar_format, wide=0),
    micro("sd2ss", scalar_format, wide=1),
    micro("dq2ps", dwords_convert, how="from"),
    micro("ps2dq", dwords_convert, how="nearest"),
    micro("tps2dq", dwords_convert, how="truncate"),
    micro("cmps", predicate, wide=0),
    micro("cmpd", predicate, wide=1),
)
