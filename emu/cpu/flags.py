"""The status flags, computed when they are asked for. SDM Vol. 1, Status Flags.

`flag_result` is the result of the last operation that set flags, sign-extended to 64 bits.
`flag_carries` holds the carry out of the top bit (bit 63), the carry into it (bit 62), the carry
out of bit 3 (bit 3: AF), and two corrections that let any combination of flags be written down:
SF is inverted by bit 1 and PF by bit 0.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import (
    extend8,
    extend16,
    extend32,
    parity_even,
    restricted,
)

CF, PF, AF, ZF, SF, OF = 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 11
TF, IF, DF, IOPL, NT = 1 << 8, 1 << 9, 1 << 10, 3 << 12, 1 << 14
RF, VM, AC, VIF, VIP, ID = 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21
STATUS = CF | PF | AF | ZF | SF | OF
RESERVED_ONE = 1 << 1

TOP_CARRIES = 3 << 62
AUXILIARY = 1 << 3


@restricted
def extend(value: int, size: int) -> int:
    """`value` sign-extended from `size` bits."""
    if size == 8:
        return extend8(value)
    if size == 16:
        return extend16(value)
    if size == 32:
        return extend32(value)
    return value


@restricted
def narrow(value: int, size: int) -> int:
    """The low `size` bits of `value`."""
    if size == 64:
        return value
    return value & ((1 << size) - 1)


@restricted
def set_carries(cpu: Any, carries: int, result: int, size: int) -> None:
    """Flags from a result and the vector of carries out of each bit."""
    cpu.flag_result = extend(result, size)
    if size == 64:
        cpu.flag_carries = carries & (TOP_CARRIES | AUXILIARY)
    else:
        cpu.flag_carries = (carries << (64 - size)) & TOP_CARRIES | carries & AUXILIARY


@restricted
def flags_add(cpu: Any, a: int, b: int, result: int, size: int) -> None:
    """Flags of a + b (+ carry) = result."""
    set_carries(cpu, (a & b) | ((a | b) & ~result), result, size)


@restricted
def flags_sub(cpu: Any, a: int, b: int, result: int, size: int) -> None:
    """Flags of a - b (- borrow) = result."""
    set_carries(cpu, (~a & b) | ((~a | b) & result), result, size)


@restricted
def flags_compare(cpu: Any, a: int, b: int, result: int, size: int) -> None:
    """Flags of a - b = result, without a borrow in: CMP and SUB."""
    flags_sub(cpu, a, b, result, size)


@restricted
def flags_step(cpu: Any, carry: int, a: int, result: int, extreme: int, size: int) -> None:
    """Flags of INC and DEC: CF as given, OF set when the result is the extreme one."""
    overflow = 1 << 62 if result == extreme else 0
    cpu.flag_carries = (0 - carry) & TOP_CARRIES ^ overflow | (a ^ result) >> 1 & AUXILIARY
    cpu.flag_result = extend(result, size)


@restricted
def flags_logic(cpu: Any, result: int, size: int) -> None:
    """Flags of a logical operation: CF and OF clear; AF undefined, clear here."""
    cpu.flag_result = extend(result, size)
    cpu.flag_carries = 0


@restricted
def flags_carry_overflow(cpu: Any, result: int, size: int, carry: int, overflow: int) -> None:
    """Flags of a shift: SF ZF PF by the result, CF and OF as given, AF clear."""
    cpu.flag_result = extend(result, size)
    cpu.flag_carries = carry << 63 | (carry ^ overflow) << 62


@restricted
def carry_flag(cpu: Any) -> int:
    """CF as 0 or 1."""
    return cpu.flag_carries >> 63


@restricted
def overflow_flag(cpu: Any) -> int:
    """OF as 0 or 1."""
    return (cpu.flag_carries ^ cpu.flag_carries << 1) >> 63


@restricted
def sign_flag(cpu: Any) -> int:
    """SF as 0 or 1."""
    return (cpu.flag_result ^ cpu.flag_carries << 62) >> 63


@restricted
def zero_flag(cpu: Any) -> int:
    """ZF as 0 or 1."""
    return 1 if cpu.flag_result == 0 else 0


@restricted
def parity_flag(cpu: Any) -> int:
    """PF as 0 or 1."""
    return parity_even(cpu.flag_result) ^ cpu.flag_carries & 1


@restricted
def auxiliary_flag(cpu: Any) -> int:
    """AF as 0 or 1."""
    return cpu.flag_carries >> 3 & 1


@restricted
def status_flags(cpu: Any) -> int:
    """CF PF AF ZF SF OF at their places in RFLAGS."""
    return (
        carry_flag(cpu)
        | parity_flag(cpu) << 2
        | auxiliary_flag(cpu) << 4
        | zero_flag(cpu) << 6
        | sign_flag(cpu) << 7
        | overflow_flag(cpu) << 11
    )


def status_word(result: int, carries: int) -> int:
    """`status_flags` of the two words that keep them, for plain Python in a hurry."""
    carry = carries >> 63
    return (
        carry
        | ((result & 0xFF).bit_count() & 1 ^ 1 ^ carries & 1) << 2
        | (carries >> 3 & 1) << 4
        | (result == 0) << 6
        | (result >> 63 ^ carries >> 1 & 1) << 7
        | (carry ^ carries >> 62 & 1) << 11
    )


@restricted
def set_status_flags(cpu: Any, flags: int) -> None:
    """Take CF PF AF ZF SF OF from their places in `flags`."""
    zero = flags >> 6 & 1
    carry = flags & 1
    cpu.flag_result = zero ^ 1
    cpu.flag_carries = (
        carry << 63
        | (carry ^ flags >> 11 & 1) << 62
        | (flags >> 4 & 1) << 3
        | (flags >> 7 & 1) << 1
        | (flags >> 2 & 1) ^ zero
    )


@restricted
def set_carry_flag(cpu: Any, carry: int) -> None:
    """Replace CF alone; OF keeps its value."""
    overflow = overflow_flag(cpu)
    cpu.flag_carries = cpu.flag_carries & ~TOP_CARRIES | carry << 63 | (carry ^ overflow) << 62


CONDITIONS = (
    "o",
    "no",
    "b",
    "ae",
    "e",
    "ne",
    "be",
    "a",
    "s",
    "ns",
    "p",
    "np",
    "l",
    "ge",
    "le",
    "g",
)


@restricted
def condition(cpu: Any, code: int) -> int:
    """Condition `code` of the cc encoding. SDM Vol. 1, EFLAGS Condition Codes."""
    if code >> 1 == 0:
        return overflow_flag(cpu) ^ (code & 1)
    if code >> 1 == 1:
        return carry_flag(cpu) ^ (code & 1)
    if code == 4:
        return cpu.flag_result == 0
    if code == 5:
        return cpu.flag_result != 0
    if code >> 1 == 3:
        return (carry_flag(cpu) | zero_flag(cpu)) ^ (code & 1)
    if code >> 1 == 4:
        return sign_flag(cpu) ^ (code & 1)
    if code >> 1 == 5:
        return parity_flag(cpu) ^ (code & 1)
    if code >> 1 == 6:
        return sign_flag(cpu) ^ overflow_flag(cpu) ^ (code & 1)
    return (sign_flag(cpu) ^ overflow_flag(cpu) | zero_flag(cpu)) ^ (code & 1)
