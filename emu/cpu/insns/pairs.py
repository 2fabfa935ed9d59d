"""Compare and exchange of register pairs. SDM Vol. 2, CMPXCHG8B/CMPXCHG16B."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    BOUNCE,
    fault,
    flat_address,
    load_slow,
    modified,
    modify,
    raw_load,
    raw_store,
    restart,
    store_slow,
    write_register,
)
from emu.cpu.compiler.words import raw_load64, raw_store64, restricted, unlikely
from emu.cpu.flags import ZF, narrow, set_status_flags, status_flags
from emu.cpu.insns.rows import Insn
from emu.cpu.state import Vector


@restricted
def set_zero_flag(cpu: Any, zero: int) -> None:
    """Replace ZF alone."""
    set_status_flags(cpu, status_flags(cpu) & ~ZF | zero << 6)


@restricted
def cmpxchg8b(cpu: Any, uop: Any, dst: str) -> None:
    """CMPXCHG8B: memory equal to EDX:EAX takes ECX:EBX, else EDX:EAX takes memory."""
    linear = flat_address(cpu, uop)
    host = modify(cpu, uop, linear, 64, uop.seg)
    old = raw_load(host, 64)
    equal = 1 if old == narrow(cpu.rdx, 32) << 32 | narrow(cpu.rax, 32) else 0
    new = narrow(cpu.rcx, 32) << 32 | narrow(cpu.rbx, 32)
    modified(cpu, host, new if equal else old, linear, 64, uop.seg)
    set_zero_flag(cpu, equal)
    if equal == 0:
        write_register(cpu, 0, 32, old)
        write_register(cpu, 2, 32, old >> 32)


@restricted
def cmpxchg16b(cpu: Any, uop: Any, dst: str) -> None:
    """CMPXCHG16B: the same with RDX:RAX and RCX:RBX; #GP(0) where 16 bytes are misaligned."""
    linear = flat_address(cpu, uop)
    if unlikely(linear & 15):
        fault(cpu, uop, Vector.GP, 0)
    # both words lie in one page
    host = modify(cpu, uop, linear, 64, uop.seg)
    bounced = host == cpu.address + BOUNCE
    if unlikely(bounced):
        high = load_slow(cpu, linear + 8, 8, uop.seg)
        if cpu.exit_code:
            restart(cpu, uop)
        raw_store64(host + 8, high)
    low = raw_load64(host)
    high = raw_load64(host + 8)
    equal = 1 if low == cpu.rax and high == cpu.rdx else 0
    raw_store(host + 8, cpu.rcx if equal else high, 64)
    modified(cpu, host, cpu.rbx if equal else low, linear, 64, uop.seg)
    if unlikely(bounced):
        store_slow(cpu, linear + 8, raw_load64(host + 8), 8, uop.seg)
    set_zero_flag(cpu, equal)
    if equal == 0:
        cpu.rax = low
        cpu.rdx = high


FAMILY = (
    Insn("CMPXCHG8B", cmpxchg8b, "M", (64,), "fixed"),
    Insn("CMPXCHG16B", cmpxchg16b, "M", (128,), "fixed"),
)
