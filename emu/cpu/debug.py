"""Debug registers. SDM Vol. 3, Debug, Branch Profile, TSC, and Intel RDT Features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emu.cpu.compiler.words import outlined
from emu.cpu.errors import Fault
from emu.cpu.flags import RF
from emu.cpu.state import CS, NO_ERROR_CODE, Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

# DR6 and DR7. SDM Vol. 3, Debug Status Register (DR6); Debug Control Register (DR7)
ACCESS_DETECTED, SINGLE_STEP, TASK_SWITCH = 1 << 13, 1 << 14, 1 << 15
DR6_ONES, DR6_KNOWN = 0xFFFF0FF0, 0xE00F
DR7_GD, DR7_ONES, DR7_KNOWN = 1 << 13, 0x400, 0xFFFF2BFF
EXECUTE, WRITES, IO, ACCESSES = range(4)


def record(state: Any, causes: int) -> None:
    """Set the cause bits of DR6; those of earlier breakpoints go, BD BS and BT stay."""
    state.dr[6] = state.dr[6] & ~15 | causes


def enabled(state: Any, number: int) -> bool:
    """Whether breakpoint `number` is enabled, locally or globally."""
    return bool(state.dr[7] >> 2 * number & 3)


def kind(state: Any, number: int) -> int:
    """R/W field of breakpoint `number`."""
    return int(state.dr[7] >> 16 + 4 * number & 3)


def instruction_breakpoints(state: Any) -> int:
    """The breakpoints, as in DR6, that the instruction at RIP matches; 0 when none is enabled."""
    dr7 = state.dr[7]
    if not any(dr7 >> 2 * n & 3 and not dr7 >> 16 + 4 * n & 3 for n in range(4)):
        return 0
    linear = state.rip + state.linear_base[CS] & state.linear_mask
    matched = hit = 0
    for n in range(4):
        if kind(state, n) == EXECUTE and state.dr[n] == linear:
            matched |= 1 << n
            hit |= enabled(state, n)
    return matched if hit else 0


def fault(cpu: Cpu, causes: int) -> None:
    """Deliver #DB for an instruction breakpoint: a fault, so RF is set in what is pushed."""
    cpu.state.rflags |= RF
    cpu.raised(Fault(Vector.DB, NO_ERROR_CODE, causes))


def port_breakpoints(cpu: Cpu, port: int, size: int) -> None:
    """Note the I/O breakpoints that an access matches. CR4.DE is on where the kind is IO."""
    note(cpu.state, port, size, IO)


def data_breakpoints(cpu: Cpu, linear: int, size: int, writes: bool) -> None:
    """Note the data breakpoints that an access by plain Python matches."""
    if cpu.state.dr[7] & 0xFF:
        watch(cpu.state, linear, size, int(writes))


def note(state: Any, first: int, size: int, wanted: int) -> None:
    """Note the breakpoints of kind `wanted` that meet `size` bytes from `first`."""
    for n in range(4):
        width = state.dr[7] >> 18 + 4 * n & 3
        length = 8 if width == 2 else width + 1
        start = state.dr[n] & ~(length - 1)
        if enabled(state, n) and kind(state, n) == wanted:
            if start < first + size and first < start + length:
                state.breakpoints_hit |= 1 << n


@outlined
def watch(cpu: Any, linear: int, count: int, writes: int) -> int:
    """Note the enabled data breakpoints that meet `count` bytes at `linear`."""
    number = 0
    while number < 4:
        fields = cpu.dr[7] >> (16 + number * 4) & 15
        width = fields >> 2
        length = 8 if width == 2 else width + 1
        start = cpu.dr[number] & ~(length - 1)
        wanted = fields & 3
        if cpu.dr[7] >> (number * 2) & 3 and (wanted == 3 or (wanted == 1 and writes)):
            if start < linear + count and linear < start + length:
                cpu.breakpoints_hit |= 1 << number
        number += 1
    return 0
