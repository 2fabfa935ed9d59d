"""Near control transfer. SDM Vol. 2, the page named in each docstring."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import fault, load, read, read_register, write_register
from emu.cpu.compiler.words import restricted, shift_arithmetic, unlikely
from emu.cpu.dispatch import go_direct, go_to
from emu.cpu.flags import CONDITIONS, condition, zero_flag
from emu.cpu.insns.rows import Insn
from emu.cpu.insns.stack import drop, push_value, top_address
from emu.cpu.paging import is_canonical
from emu.cpu.state import CS, SS, Vector


@restricted
def check_target(cpu: Any, uop: Any, mode: str, rip: int) -> None:
    """#GP(0) for a target that is not canonical, or outside the CS limit."""
    if mode == "long":
        if unlikely(shift_arithmetic(rip, 47) + 1 > 1):
            if is_canonical(cpu, rip) == 0:
                fault(cpu, uop, Vector.GP, 0)
    elif unlikely(rip > cpu.segment_limit[CS]):
        fault(cpu, uop, Vector.GP, 0)


@restricted
def branch_to(cpu: Any, uop: Any, mode: str, size: int) -> None:
    """Take a direct branch; its operand size cuts EIP."""
    if mode == "long":
        go_direct(cpu, uop)
    else:
        target = cpu.page_base + uop.imm & ((1 << size) - 1)
        check_target(cpu, uop, mode, target)
        if uop.link != 0:
            go_direct(cpu, uop)
        go_to(cpu, uop, target)


@restricted
def jmp(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """JMP rel: near, relative."""
    branch_to(cpu, uop, mode, size)


@restricted
def jmp_indirect(cpu: Any, uop: Any, size: int, src: str, mode: str) -> None:
    """JMP r/m: near, absolute indirect."""
    target = read(cpu, uop, src, size)
    check_target(cpu, uop, mode, target)
    go_to(cpu, uop, target)


@restricted
def jcc(cpu: Any, uop: Any, size: int, mode: str, code: int) -> None:
    """Jcc: near, when the condition holds."""
    if condition(cpu, code):
        if mode == "legacy":
            check_target(cpu, uop, mode, cpu.page_base + uop.imm & ((1 << size) - 1))
        cpu.budget += uop.left
        branch_to(cpu, uop, mode, size)


@restricted
def following(cpu: Any, uop: Any) -> int:
    """RIP of the next instruction."""
    return cpu.page_base + uop.offset + uop.length & cpu.ip_mask


@restricted
def call(cpu: Any, uop: Any, size: int, mode: str) -> None:
    """CALL rel: near, relative."""
    if mode == "legacy":
        check_target(cpu, uop, mode, cpu.page_base + uop.imm & ((1 << size) - 1))
    push_value(cpu, uop, mode, size, following(cpu, uop))
    branch_to(cpu, uop, mode, size)


@restricted
def call_indirect(cpu: Any, uop: Any, size: int, src: str, mode: str) -> None:
    """CALL r/m: near, absolute indirect."""
    target = read(cpu, uop, src, size)
    check_target(cpu, uop, mode, target)
    push_value(cpu, uop, mode, size, following(cpu, uop))
    go_to(cpu, uop, target)


@restricted
def ret(cpu: Any, uop: Any, size: int, mode: str, extra: str = "") -> None:
    """RET: near; an immediate releases that many bytes more."""
    target = load(cpu, uop, top_address(cpu, uop, mode, size >> 3), size, SS)
    check_target(cpu, uop, mode, target)
    drop(cpu, mode, (size >> 3) + (uop.imm & 0xFFFF if extra else 0))
    go_to(cpu, uop, target)


@restricted
def loop(cpu: Any, uop: Any, size: int, mode: str, address: int, wanted: int) -> None:
    """LOOP, LOOPE, LOOPNE: count in rCX of the address size; wanted is ZF's value, 2 for any."""
    count = read_register(cpu, 1, address) - 1
    narrow_count = count & ((1 << address) - 1) if address != 64 else count
    taken = 1 if narrow_count != 0 else 0
    if wanted != 2 and zero_flag(cpu) != wanted:
        taken = 0
    if taken and mode == "legacy":
        check_target(cpu, uop, mode, cpu.page_base + uop.imm & ((1 << size) - 1))
    write_register(cpu, 1, address, count)
    if taken:
        cpu.budget += uop.left
        branch_to(cpu, uop, mode, size)


@restricted
def jrcxz(cpu: Any, uop: Any, size: int, mode: str, address: int) -> None:
    """JCXZ, JECXZ, JRCXZ: when the count register is zero."""
    if read_register(cpu, 1, address) == 0:
        if mode == "legacy":
            check_target(cpu, uop, mode, cpu.page_base + uop.imm & ((1 << size) - 1))
        cpu.budget += uop.left
        branch_to(cpu, uop, mode, size)


NEAR = (16, 32, 64)

FAMILY = (
    Insn("JMP", jmp, "J", NEAR, "code", True),
    Insn("JMP", jmp_indirect, "R M", NEAR, "code", True),
    *(
        Insn(f"J{name.upper()}", jcc, "J", NEAR, "code", True, constants={"code": code})
        for code, name in enumerate(CONDITIONS)
    ),
    Insn("CALL", call, "J", NEAR, "code", True),
    Insn("CALL", call_indirect, "R M", NEAR, "code", True),
    Insn("RET", ret, "- I", NEAR, "code", True),
    Insn("LOOP", loop, "J", NEAR, "code", True, True, constants={"wanted": 2}),
    Insn("LOOPE", loop, "J", NEAR, "code", True, True, constants={"wanted": 1}),
    Insn("LOOPNE", loop, "J", NEAR, "code", True, True, constants={"wanted": 0}),
    Insn("JCXZ", jrcxz, "J", NEAR, "code", True, constants={"address": 16}),
    Insn("JECXZ", jrcxz, "J", NEAR, "code", True, constants={"address": 32}),
    Insn("JRCXZ", jrcxz, "J", NEAR, "code", True, constants={"address": 64}),
)
