"""What the compiler holds of a value while it emits: words, bits, structures."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from emu.cpu.compiler.layout import Layout, Place
from emu.cpu.compiler.words import Restricted

REGISTERS = ("budget", "flag_result", "flag_carries", "ea")

HANDLER_PARAMETERS = "ptr noalias %cpu, ptr noalias %uop, " + ", ".join(
    f"i64 %{name}" for name in REGISTERS
)


class CompileError(Exception):
    """A function uses what restricted Python does not have."""


class _Dead(Exception):  # noqa: N818 - not an error: nothing comes back from an inlined call
    """The rest of the statement is never reached."""


class Word(NamedTuple):
    """An i64 in the IR."""

    text: str


class Bit(NamedTuple):
    """An i1 in the IR."""

    text: str


class Struct(NamedTuple):
    """A structure in memory: its layout and the pointer's name in the IR."""

    layout: Layout
    text: str


class Array(NamedTuple):
    """An array field of a structure."""

    struct: Struct
    place: Place


class Edge(NamedTuple):
    """A way into a block: where it comes from and what holds there."""

    label: str
    names: dict[str, Any]
    registers: dict[str, Any]
    value: Any = None
    at: int = -1  # the line of its branch


class Frame:
    """A function being compiled or inlined: its names, its globals, the edges of its returns."""

    def __init__(self, function: Restricted, names: dict[str, Any]) -> None:
        self.function = function
        self.names = names
        self.returns: list[tuple[int, Edge]] = []
        self.loops: list[tuple[list[Edge], str, list[Edge], str]] = []


BINARY: dict[type[ast.operator], tuple[str, Callable[[int, int], int]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.BitAnd: ("and", operator.and_),
    ast.BitOr: ("or", operator.or_),
    ast.BitXor: ("xor", operator.xor),
    ast.LShift: ("shl", operator.lshift),
    ast.RShift: ("lshr", operator.rshift),
    ast.FloorDiv: ("udiv", operator.floordiv),
    ast.Mod: ("urem", operator.mod),
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("eq", operator.eq),
    ast.NotEq: ("ne", operator.ne),
    ast.Lt: ("ult", operator.lt),
    ast.LtE: ("ule", operator.le),
    ast.Gt: ("ugt", operator.gt),
    ast.GtE: ("uge", operator.ge),
}
