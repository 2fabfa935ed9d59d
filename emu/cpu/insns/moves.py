"""Data movement between general registers and memory. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    flat_address,
    linear_in,
    load,
    read,
    read_register,
    write,
    write_register,
)
from emu.cpu.compiler.words import (
    restricted,
    swap_bytes,
)
from emu.cpu.flags import CONDITIONS, condition, extend, narrow
from emu.cpu.insns.rows import Insn


@restricted
def mov(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """MOV: DEST := SRC."""
    write(cpu, uop, dst, size, read(cpu, uop, src, size))


@restricted
def movzx(cpu: Any, uop: Any, size: int, dst: str, src: str, narrow_size: int) -> None:
    """MOVZX: DEST := ZeroExtend(SRC)."""
    write(cpu, uop, dst, size, read(cpu, uop, src, narrow_size))


@restricted
def movsx(cpu: Any, uop: Any, size: int, dst: str, src: str, narrow_size: int) -> None:
    """MOVSX, MOVSXD: DEST := SignExtend(SRC)."""
    write(cpu, uop, dst, size, extend(read(cpu, uop, src, narrow_size), narrow_size))


@restricted
def lea(cpu: Any, uop: Any, size: int, dst: str, src: str, address: int) -> None:
    """LEA: DEST := EffectiveAddress(SRC)."""
    write(cpu, uop, dst, size, narrow(flat_address(cpu, uop), address))


@restricted
def cmov(cpu: Any, uop: Any, size: int, dst: str, src: str, code: int) -> None:
    """CMOVcc: DEST := SRC if the condition holds; SRC is read in either case."""
    new = read(cpu, uop, src, size)
    old = read(cpu, uop, dst, size)
    write(cpu, uop, dst, size, new if condition(cpu, code) else old)


@restricted
def setcc(cpu: Any, uop: Any, dst: str, code: int) -> None:
    """SETcc: DEST := 1 if the condition holds, else 0."""
    write(cpu, uop, dst, 8, condition(cpu, code))


@restricted
def bswap(cpu: Any, uop: Any, size: int, dst: str) -> None:
    """BSWAP: the bytes of DEST in opposite order."""
    value = swap_bytes(read(cpu, uop, dst, size))
    write(cpu, uop, dst, size, value >> (64 - size) if size != 16 else 0)


@restricted
def movbe(cpu: Any, uop: Any, size: int, dst: str, src: str) -> None:
    """MOVBE: DEST := the bytes of SRC in opposite order."""
    write(cpu, uop, dst, size, swap_bytes(read(cpu, uop, src, size)) >> (64 - size))


@restricted
def xlat(cpu: Any, uop: Any, src: str, mode: str, address: int) -> None:
    """XLAT: AL := the byte at DS:(rBX + AL)."""
    offset = narrow(cpu.rbx + cpu.gpr8[0], address)
    linear = linear_in(cpu, uop, mode, uop.seg, offset, 1, 0)
    write_register(cpu, 0, 8, load(cpu, uop, linear, 8, uop.seg))


@restricted
def widen(cpu: Any, uop: Any, size: int) -> None:
    """CBW, CWDE, CDQE: the accumulator := SignExtend(its lower half)."""
    write_register(cpu, 0, size, extend(cpu.rax, size // 2))


@restricted
def spread(cpu: Any, uop: Any, size: int) -> None:
    """CWD, CDQ, CQO: rDX := the sign of rAX in every bit."""
    sign = extend(read_register(cpu, 0, size), size) >> 63
    write_register(cpu, 2, size, 0 - sign)


@restricted
def nop(cpu: Any, uop: Any) -> None:
    """NOP, and what behaves as one: hints, prefetches, cache-line flushes' neighbours."""


CC_SPELLINGS = {code: name.upper() for code, name in enumerate(CONDITIONS)}
WIDE = (16, 32, 64)

FAMILY = (
    Insn("MOV", mov, "RR RM MR RI MI"),
    Insn("MOVZX", movzx, "RR RM", WIDE, constants={"narrow_size": 8}),
    Insn("MOVZX16", movzx, "RR RM", WIDE, constants={"narrow_size": 16}),
    Insn("MOVSX", movsx, "RR RM", WIDE, constants={"narrow_size": 8}),
    Insn("MOVSX16", movsx, "RR RM", WIDE, constants={"narrow_size": 16}),
    Insn("MOVSXD16", movsx, "RR RM", (16,), constants={"narrow_size": 16}),
    Insn("MOVSXD", movsx, "RR RM", (32, 64), constants={"narrow_size": 32}),
    Insn("LEA", lea, "RM", WIDE, addressed=True, own_address=True),
    *(
        Insn(f"CMOV{name}", cmov, "RR RM", WIDE, constants={"code": code})
        for code, name in CC_SPELLINGS.items()
    ),
    *(
        Insn(f"SET{name}", setcc, "R M", (8,), constants={"code": code})
        for code, name in CC_SPELLINGS.items()
    ),
    Insn("BSWAP", bswap, "R", WIDE),
    Insn("MOVBE", movbe, "RM MR", WIDE),
    Insn("MOVNTI", mov, "MR", (32, 64)),
    Insn("XLATB", xlat, "M", (8,), "fixed", True, True, own_address=True),
    Insn("CBW", widen, "-", (16,), size="fixed"),
    Insn("CWDE", widen, "-", (32,), size="fixed"),
    Insn("CDQE", widen, "-", (64,), size="fixed"),
    Insn("CWD", spread, "-", (16,), size="fixed"),
    Insn("CDQ", spread, "-", (32,), size="fixed"),
    Insn("CQO", spread, "-", (64,), size="fixed"),
    Insn("NOP", nop, "- R M", (0,), size="fixed", own_address=True),
    Insn("ENDBR64", nop, "-", (0,), size="fixed"),
    Insn("ENDBR32", nop, "-", (0,), size="fixed"),
    Insn("LFENCE", nop, "-", (0,), size="fixed"),
    Insn("MFENCE", nop, "-", (0,), size="fixed"),
    Insn("SFENCE", nop, "-", (0,), size="fixed"),
    Insn("PREFETCHNTA", nop, "M", (0,), size="fixed", own_address=True),
    Insn("PREFETCHT0", nop, "M", (0,), size="fixed", own_address=True),
    Insn("PREFETCHT1", nop, "M", (0,), size="fixed", own_address=True),
    Insn("PREFETCHT2", nop, "M", (0,), size="fixed", own_address=True),
    Insn("PREFETCHW", nop, "M", (0,), size="fixed", own_address=True),
    Insn("PREFETCH", nop, "M", (0,), size="fixed", own_address=True),
    Insn("RESERVEDNOP", nop, "RR MR", (0,), size="fixed", own_address=True),
)
