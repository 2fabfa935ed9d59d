"""Bit instructions, BMI and ADX. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    flat_address,
    linear_in,
    load,
    modified,
    modify,
    raw_load,
    read,
    read_register,
    register_number,
    write,
    write_register,
)
from emu.cpu.compiler.words import (
    leading_zeros,
    multiply_high,
    population,
    restricted,
    shift_arithmetic,
    trailing_zeros,
)
from emu.cpu.flags import (
    AF,
    CF,
    OF,
    PF,
    SF,
    TOP_CARRIES,
    carry_flag,
    extend,
    flags_carry_overflow,
    narrow,
    overflow_flag,
    set_carry_flag,
    set_status_flags,
)
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.update import fetch, put


@restricted
def changed(value: int, mask: int, how: str) -> int:
    """A bit set, cleared or complemented."""
    if how == "set":
        return value | mask
    if how == "reset":
        return value & ~mask
    return value ^ mask


@restricted
def bit_test(cpu: Any, uop: Any, size: int, dst: str, src: str, how: str) -> None:
    """BT, BTS, BTR, BTC: CF := the bit; the index is taken modulo the operand size."""
    index = read(cpu, uop, src, size) & (size - 1)
    if how == "test":
        value = read(cpu, uop, dst, size)
    else:
        value, host, linear = fetch(cpu, uop, dst, size)
        put(cpu, uop, dst, size, narrow(changed(value, 1 << index, how), size), host, linear)
    set_carry_flag(cpu, value >> index & 1)


@restricted
def bit_string(
    cpu: Any, uop: Any, size: int, dst: str, src: str, how: str, mode: str, address: int
) -> None:
    """BT, BTS, BTR, BTC with a register index: bit string in memory, the index is signed."""
    number = extend(read(cpu, uop, src, size), size)
    offset = flat_address(cpu, uop)
    offset += shift_arithmetic(number, 4 if size == 16 else 5 if size == 32 else 6) * (size >> 3)
    if address != 64:
        offset &= (1 << address) - 1
    index = number & (size - 1)
    linear = linear_in(cpu, uop, mode, uop.seg, offset, size >> 3, 0 if how == "test" else 1)
    if how == "test":
        value = load(cpu, uop, linear, size, uop.seg)
    else:
        host = modify(cpu, uop, linear, size, uop.seg)
        value = raw_load(host, size)
        modified(cpu, host, changed(value, 1 << index, how), linear, size, uop.seg)
    set_carry_flag(cpu, value >> index & 1)


@restricted
def bsf(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """BSF: index of the lowest set bit; DEST is kept when SRC is zero."""
    value = read(cpu, uop, src, size)
    if value:
        write(cpu, uop, dst, size, trailing_zeros(value))
    cpu.flag_result = 0 if value == 0 else 1
    cpu.flag_carries = 0


@restricted
def bsr(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """BSR: index of the highest set bit; DEST is kept when SRC is zero."""
    value = read(cpu, uop, src, size)
    if value:
        write(cpu, uop, dst, size, 63 - leading_zeros(value))
    cpu.flag_result = 0 if value == 0 else 1
    cpu.flag_carries = 0


@restricted
def set_zero_carry(cpu: Any, zero: int, carry: int) -> None:
    """ZF and CF as given, the other status flags clear."""
    set_status_flags(cpu, zero << 6 | carry)


@restricted
def tzcnt(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """TZCNT: the number of trailing zeros, the operand size for zero; CF when SRC is zero."""
    value = read(cpu, uop, src, size)
    count = size if value == 0 else trailing_zeros(value)
    set_zero_carry(cpu, count == 0, value == 0)
    write(cpu, uop, dst, size, count)


@restricted
def lzcnt(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """LZCNT: the number of leading zeros; CF when SRC is zero."""
    value = read(cpu, uop, src, size)
    count = leading_zeros(value) - (64 - size)
    set_zero_carry(cpu, count == 0, value == 0)
    write(cpu, uop, dst, size, count)


@restricted
def popcnt(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """POPCNT: the number of set bits; ZF when there is none, the other flags clear."""
    value = read(cpu, uop, src, size)
    set_zero_carry(cpu, value == 0, 0)
    write(cpu, uop, dst, size, population(value))


@restricted
def flags_bmi(cpu: Any, result: int, size: int, carry: int) -> None:
    """SF and ZF by the result, CF as given, OF clear."""
    flags_carry_overflow(cpu, result, size, carry, 0)


@restricted
def andn(cpu: Any, uop: Any, size: int, dst: str, a: str, b: str) -> None:
    """ANDN: DEST := NOT SRC1 AND SRC2."""
    result = narrow(~read(cpu, uop, a, size), size) & read(cpu, uop, b, size)
    flags_bmi(cpu, result, size, 0)
    write(cpu, uop, dst, size, result)


@restricted
def blsr(cpu: Any, uop: Any, size: int, dst: str, src: str, how: str) -> None:
    """BLSR, BLSMSK, BLSI: reset, mask up to, or isolate the lowest set bit."""
    value = read(cpu, uop, src, size)
    empty = 1 if value == 0 else 0
    if how == "reset":
        result = (value - 1) & value
    elif how == "mask":
        result = narrow((value - 1) ^ value, size)
    else:
        result = (0 - value) & value
    flags_bmi(cpu, result, size, empty ^ 1 if how == "isolate" else empty)
    write(cpu, uop, dst, size, result)


@restricted
def bextr(cpu: Any, uop: Any, size: int, dst: str, src: str, control: str) -> None:
    """BEXTR: LEN bits (bits 15:8 of the control) from START (7:0)."""
    settings = read(cpu, uop, control, size)
    start = settings & 0xFF
    length = settings >> 8 & 0xFF
    value = read(cpu, uop, src, size)
    result = 0 if start >= size else value >> (start & 63)
    if length < size:
        result &= (1 << (length & 63)) - 1
    set_zero_carry(cpu, result == 0, 0)
    write(cpu, uop, dst, size, result)


@restricted
def bzhi(cpu: Any, uop: Any, size: int, dst: str, src: str, index: str) -> None:
    """BZHI: the bits from INDEX up cleared; CF when INDEX is beyond the operand."""
    start = read(cpu, uop, index, size) & 0xFF
    result = read(cpu, uop, src, size)
    if start < size:
        result &= (1 << (start & 63)) - 1
    flags_bmi(cpu, result, size, start > size - 1)
    write(cpu, uop, dst, size, result)


@restricted
def rorx(cpu: Any, uop: Any, size: int, dst: str, src: str, amount: str) -> None:
    """RORX: rotate right; no flags."""
    value = read(cpu, uop, src, size)
    count = uop.imm & (size - 1)
    write(cpu, uop, dst, size, value >> count | (value << (size - 1 - count)) << 1)


@restricted
def shift_by(cpu: Any, uop: Any, size: int, dst: str, src: str, amount: str, how: str) -> None:
    """SARX, SHLX, SHRX: shift by a register; no flags."""
    value = read(cpu, uop, src, size)
    count = read(cpu, uop, amount, size) & (size - 1)
    if how == "left":
        result = value << count
    elif how == "right":
        result = value >> count
    else:
        result = shift_arithmetic(extend(value, size), count)
    write(cpu, uop, dst, size, result)


@restricted
def mulx(cpu: Any, uop: Any, size: int, high: str, low: str, src: str) -> None:
    """MULX: rDX * SRC, upper half to the first operand; no flags."""
    b = read(cpu, uop, src, size)
    a = read_register(cpu, 2, size)
    product = a * b
    write_register(cpu, register_number(uop, low), size, product)
    upper = multiply_high(a, b) if size == 64 else product >> size
    write_register(cpu, register_number(uop, high), size, upper)


@restricted
def pdep(cpu: Any, uop: Any, size: int, dst: str, src: str, mask: str) -> None:
    """PDEP: the low bits of SRC to the places of MASK."""
    value = read(cpu, uop, src, size)
    places = read(cpu, uop, mask, size)
    result = 0
    while places != 0:
        lowest = places & (0 - places)
        result |= lowest if value & 1 else 0
        value >>= 1
        places ^= lowest
    write(cpu, uop, dst, size, result)


@restricted
def pext(cpu: Any, uop: Any, size: int, dst: str, src: str, mask: str) -> None:
    """PEXT: the bits of SRC at the places of MASK, gathered at the bottom."""
    value = read(cpu, uop, src, size)
    places = read(cpu, uop, mask, size)
    result = 0
    position = 0
    while places != 0:
        lowest = places & (0 - places)
        result |= (1 if value & lowest else 0) << position
        position = position + 1 & 63
        places ^= lowest
    write(cpu, uop, dst, size, result)


@restricted
def adcx(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """ADCX: DEST + SRC + CF; CF alone changes."""
    a = read(cpu, uop, dst, size)
    b = read(cpu, uop, src, size)
    result = narrow(a + b + carry_flag(cpu), size)
    carries = (a & b) | ((a | b) & ~result)
    set_carry_flag(cpu, carries >> (size - 1) & 1)
    write(cpu, uop, dst, size, result)


@restricted
def adox(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """ADOX: DEST + SRC + OF; OF alone changes."""
    a = read(cpu, uop, dst, size)
    b = read(cpu, uop, src, size)
    result = narrow(a + b + overflow_flag(cpu), size)
    carries = (a & b) | ((a | b) & ~result)
    carry = carry_flag(cpu)
    overflow = carries >> (size - 1) & 1
    top = carry << 63 | (carry ^ overflow) << 62
    cpu.flag_carries = cpu.flag_carries & ~TOP_CARRIES | top
    write(cpu, uop, dst, size, result)


@restricted
def crc32(cpu: Any, uop: Any, size: int, dst: str, src: str, wide: int) -> None:
    """CRC32: accumulate SRC into DEST by the polynomial 11EDC6F41H, reflected."""
    value = read(cpu, uop, src, size)
    crc = read(cpu, uop, dst, 32)
    done = 0
    while done < size:
        crc ^= value >> done & 0xFF
        bit = 0
        while bit < 8:
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
            bit += 1
        done += 8
    write(cpu, uop, dst, wide, crc)


WIDE = (16, 32, 64)
VEX = (32, 64)
SCAN_UNDEFINED = CF | OF | SF | AF | PF
HOWS = {"BT": "test", "BTS": "set", "BTR": "reset", "BTC": "complement"}

FAMILY = (
    *(
        Insn(n, bit_test, "RR RI MI", WIDE, undefined=OF | SF | AF | PF, constants={"how": how})
        for n, how in HOWS.items()
    ),
    *(
        Insn(n, bit_string, "MR", WIDE, "first", True, True, True, OF | SF | AF | PF, {"how": how})
        for n, how in HOWS.items()
    ),
    Insn("BSF", bsf, "RR RM", WIDE, undefined=SCAN_UNDEFINED),
    Insn("BSR", bsr, "RR RM", WIDE, undefined=SCAN_UNDEFINED),
    Insn("TZCNT", tzcnt, "RR RM", WIDE, undefined=OF | SF | AF | PF),
    Insn("LZCNT", lzcnt, "RR RM", WIDE, undefined=OF | SF | AF | PF),
    Insn("POPCNT", popcnt, "RR RM", WIDE),
    Insn("ANDN", andn, "RRR RRM", VEX, undefined=AF | PF),
    Insn("BLSR", blsr, "RR RM", VEX, undefined=AF | PF, constants={"how": "reset"}),
    Insn("BLSMSK", blsr, "RR RM", VEX, undefined=AF | PF, constants={"how": "mask"}),
    Insn("BLSI", blsr, "RR RM", VEX, undefined=AF | PF, constants={"how": "isolate"}),
    Insn("BEXTR", bextr, "RRR RMR", VEX, undefined=AF | SF | PF),
    Insn("BZHI", bzhi, "RRR RMR", VEX, undefined=AF | PF),
    Insn("RORX", rorx, "RRI RMI", VEX),
    Insn("SARX", shift_by, "RRR RMR", VEX, constants={"how": "arithmetic"}),
    Insn("SHLX", shift_by, "RRR RMR", VEX, constants={"how": "left"}),
    Insn("SHRX", shift_by, "RRR RMR", VEX, constants={"how": "right"}),
    Insn("MULX", mulx, "RRR RRM", VEX),
    Insn("PDEP", pdep, "RRR RRM", VEX),
    Insn("PEXT", pext, "RRR RRM", VEX),
    Insn("ADCX", adcx, "RR RM", VEX),
    Insn("ADOX", adox, "RR RM", VEX),
    Insn("CRC32", crc32, "RR RM", (8, 16, 32), "second", constants={"wide": 32}),
    Insn("CRC32Q", crc32, "RR RM", (8, 64), "second", constants={"wide": 64}),
)
