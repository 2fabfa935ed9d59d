"""Integer arithmetic and logic. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    read,
    read_register,
    register_number,
    write,
    write_register,
)
from emu.cpu.compiler.words import restricted
from emu.cpu.flags import (
    AF,
    carry_flag,
    flags_add,
    flags_compare,
    flags_logic,
    flags_step,
    flags_sub,
    narrow,
)
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.update import fetch, put


@restricted
def add(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """ADD: DEST := DEST + SRC."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a + b, size)
    flags_add(cpu, a, b, result, size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def adc(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """ADC: DEST := DEST + SRC + CF."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a + b + carry_flag(cpu), size)
    flags_add(cpu, a, b, result, size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def sub(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """SUB: DEST := DEST - SRC."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a - b, size)
    flags_compare(cpu, a, b, result, size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def sbb(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """SBB: DEST := DEST - (SRC + CF)."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a - b - carry_flag(cpu), size)
    flags_sub(cpu, a, b, result, size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def cmp(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """CMP: SRC1 - SRC2, for the flags alone."""
    b = read(cpu, uop, src, size)
    a = read(cpu, uop, dst, size)
    flags_compare(cpu, a, b, narrow(a - b, size), size)


@restricted
def inc(cpu: Any, uop: Any, size: int, dst: str) -> None:
    """INC: DEST := DEST + 1; CF is kept."""
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a + 1, size)
    flags_step(cpu, carry_flag(cpu), a, result, 1 << (size - 1), size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def dec(cpu: Any, uop: Any, size: int, dst: str) -> None:
    """DEC: DEST := DEST - 1; CF is kept."""
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a - 1, size)
    flags_step(cpu, carry_flag(cpu), a, result, (1 << (size - 1)) - 1, size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def neg(cpu: Any, uop: Any, size: int, dst: str) -> None:
    """NEG: DEST := - DEST."""
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(0 - a, size)
    flags_compare(cpu, 0, a, result, size)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def invert(cpu: Any, uop: Any, size: int, dst: str) -> None:
    """NOT: DEST := NOT DEST; no flags."""
    a, host, linear = fetch(cpu, uop, dst, size)
    put(cpu, uop, dst, size, narrow(~a, size), host, linear)


@restricted
def logic_and(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """AND: DEST := DEST AND SRC."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    flags_logic(cpu, a & b, size)
    put(cpu, uop, dst, size, a & b, host, linear)


@restricted
def logic_or(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """OR: DEST := DEST OR SRC."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    flags_logic(cpu, a | b, size)
    put(cpu, uop, dst, size, a | b, host, linear)


@restricted
def logic_xor(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """XOR: DEST := DEST XOR SRC."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    flags_logic(cpu, a ^ b, size)
    put(cpu, uop, dst, size, a ^ b, host, linear)


@restricted
def test(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """TEST: SRC1 AND SRC2, for the flags alone."""
    b = read(cpu, uop, src, size)
    a = read(cpu, uop, dst, size)
    flags_logic(cpu, a & b, size)


@restricted
def xadd(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """XADD: the sum to DEST, the old DEST to SRC."""
    b = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    result = narrow(a + b, size)
    flags_add(cpu, a, b, result, size)
    write_register(cpu, register_number(uop, src), size, a)
    put(cpu, uop, dst, size, result, host, linear)


@restricted
def cmpxchg(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """CMPXCHG: when DEST equals the accumulator it takes SRC, else the accumulator takes DEST.

    Memory is written in either case. Of registers the one that takes no value keeps its upper
    half: APM Vol. 3, CMPXCHG, and so do processors of both vendors.
    """
    new = read(cpu, uop, src, size)
    a, host, linear = fetch(cpu, uop, dst, size)
    accumulator = read_register(cpu, 0, size)
    flags_sub(cpu, accumulator, a, narrow(accumulator - a, size), size)
    equal = accumulator == a
    if dst[0] == "M":
        put(cpu, uop, dst, size, new if equal else a, host, linear)
    elif equal:
        write(cpu, uop, dst, size, new)
    if equal == 0:
        write_register(cpu, 0, size, a)


@restricted
def xchg(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """XCHG: DEST and SRC change places."""
    if dst[0] == "R":
        b, host, linear = fetch(cpu, uop, src, size)
        a = read(cpu, uop, dst, size)
        put(cpu, uop, src, size, a, host, linear)
        write(cpu, uop, dst, size, b)
    else:
        a, host, linear = fetch(cpu, uop, dst, size)
        b = read(cpu, uop, src, size)
        put(cpu, uop, dst, size, b, host, linear)
        write(cpu, uop, src, size, a)


BINARY = "RR RM MR RI MI"

FAMILY = (
    Insn("ADD", add, BINARY),
    Insn("ADC", adc, BINARY),
    Insn("SUB", sub, BINARY),
    Insn("SBB", sbb, BINARY),
    Insn("CMP", cmp, BINARY),
    Insn("INC", inc, "R M"),
    Insn("DEC", dec, "R M"),
    Insn("NEG", neg, "R M"),
    Insn("NOT", invert, "R M"),
    Insn("AND", logic_and, BINARY, undefined=AF),
    Insn("OR", logic_or, BINARY, undefined=AF),
    Insn("XOR", logic_xor, BINARY, undefined=AF),
    Insn("TEST", test, "RR MR RI MI", undefined=AF),
    Insn("XADD", xadd, "RR MR"),
    Insn("CMPXCHG", cmpxchg, "RR MR"),
    Insn("XCHG", xchg, "RR MR"),
)
