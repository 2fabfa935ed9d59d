"""Operations on 128-bit lanes: intrinsics made from a line of LLVM IR and a Python function.

A lane is 16 bytes of a vector register: lane 4n is XMM n, 4n + 1 the upper half of YMM n. An
operation gets the host addresses of the destination and of two sources, and an immediate.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any

from emu.cpu.compiler.words import Intrinsic, restricted
from emu.cpu.insns.rows import Insn
from emu.cpu.state import CPU

ZMM = CPU.places["zmm"].offset
LANE = 16  # bytes

Elements = list[int]


def lane_read(address: int) -> int:
    """The 128 bits at a host address."""
    return int.from_bytes((ctypes.c_char * LANE).from_address(address).raw, "little")


def lane_write(address: int, value: int) -> None:
    """Write 128 bits at a host address."""
    ctypes.memmove(address, value.to_bytes(LANE, "little"), LANE)


def split(value: int, width: int, signed: bool = False) -> Elements:
    """The elements of a lane, lowest first, as Python integers."""
    mask = (1 << width) - 1
    parts = [value >> at & mask for at in range(0, 8 * LANE, width)]
    if not signed:
        return parts
    half = 1 << (width - 1)
    return [(part ^ half) - half for part in parts]


def joined(elements: Sequence[int], width: int) -> int:
    """The lane of these elements, each cut to `width` bits."""
    mask = (1 << width) - 1
    return sum((element & mask) << width * i for i, element in enumerate(elements))


def operation(name: str, body: str, function: Callable[[int, int, int], int], *declare: str) -> Any:
    """An intrinsic on lanes: IR from @x and @y (<2 x i64>) and the immediate {3} to @z.

    `function` computes the same from two lanes and the immediate.
    """
    text = (
        "@pd = inttoptr i64 {0} to ptr\n@pa = inttoptr i64 {1} to ptr\n"
        "@pb = inttoptr i64 {2} to ptr\n@x = load <2 x i64>, ptr @pa, align 1\n"
        "@y = load <2 x i64>, ptr @pb, align 1\n" + body + "\nstore <2 x i64> @z, ptr @pd, align 1"
    )
    names = list(dict.fromkeys(re.findall(r"@(\w+)\b(?!\.)", re.sub(r"@llvm\.[\w.]+", "", text))))
    for name_of in sorted(names, key=len, reverse=True):
        text = re.sub(rf"@{name_of}\b(?!\.)", f"{{t{names.index(name_of)}}}", text)

    def run(target: int, first: int, second: int, immediate: int) -> None:
        lane_write(target, function(lane_read(first), lane_read(second), immediate))

    run.__name__ = name
    run.__doc__ = f"{name} on two lanes."
    return Intrinsic(run, text, declare)  # type: ignore[arg-type]


def elements(
    name: str,
    width: int,
    body: str,
    function: Callable[[int, int], int],
    *declare: str,
    signed: bool = False,
) -> Any:
    """An intrinsic element by element: IR on vectors @a and @b to @r, S standing for the type."""
    shape = f"<{128 // width} x i{width}>"
    text = (
        f"@a = bitcast <2 x i64> @x to {shape}\n@b = bitcast <2 x i64> @y to {shape}\n"
        + re.sub(r"\bS\b", shape, body)
        + f"\n@z = bitcast {shape} @r to <2 x i64>"
    )

    def each(first: int, second: int, _: int) -> int:
        pairs = zip(split(first, width, signed), split(second, width, signed), strict=True)
        return joined([function(a, b) for a, b in pairs], width)

    return operation(name, text, each, *(d.replace("S", shape) for d in declare))


def splat(value: int, width: int) -> str:
    """An IR constant with the same value in every element."""
    return "<" + ", ".join([f"i{width} {value}"] * (128 // width)) + ">"


def mask(indices: Sequence[int]) -> str:
    """The IR operand of a shufflevector: `indices`."""
    return f"<{len(indices)} x i32> <{', '.join(f'i32 {i}' for i in indices)}>"


@restricted
def place(cpu: Any, lane: int) -> int:
    """Host address of a lane."""
    return cpu.address + ZMM + (lane << 4)


@restricted
def apply(cpu: Any, uop: Any, op: Any) -> None:
    """Run a lane operation on the lanes r0 := r1, r2."""
    op(place(cpu, uop.r0), place(cpu, uop.r1), place(cpu, uop.r2), uop.imm)


def micro(name: str, function: Callable[..., Any], **constants: Any) -> Insn:
    """The row of a micro-operation."""
    return Insn(name, function, "-", (0,), constants=constants)


def micros(operations: Sequence[Any]) -> tuple[Insn, ...]:
    """Rows of micro-operations that run lane operations."""
    return tuple(micro(op.name, apply, op=op) for op in operations)
