"""Restricted functions as plain Python: every operator that could leave 64 bits is masked.

`restricted` marks a function that is inlined where it is called; `outlined` one that stays a
function of its own; `intrinsic` gives an operation both of its definitions side by side, the plain
Python function and the LLVM IR that stands for it.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

WORD = (1 << 64) - 1
SIGN = 1 << 63

F = TypeVar("F", bound=Callable[..., Any])


class Leave(Exception):  # noqa: N818 - it is not an error: the step ended early
    """Plain execution left the current instruction (what compiled code does by a tail call)."""


class Dispatch(Exception):  # noqa: N818 - control transfer
    """Plain execution continues with the micro-operation at `address`."""

    def __init__(self, address: int) -> None:
        super().__init__(address)
        self.address = address


class Restricted:
    """A function in restricted Python: callable as plain Python, and its syntax tree."""

    def __init__(self, function: FunctionType, kind: str) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.kind = kind
        self.name = function.__name__

    @functools.cached_property
    def tree(self) -> ast.FunctionDef:
        """The definition as written."""
        module = ast.parse(textwrap.dedent(inspect.getsource(self.function)))
        definition = module.body[0]
        if not isinstance(definition, ast.FunctionDef):
            raise TypeError(f"{self.name} is not a function")
        return definition

    @functools.cached_property
    def plain(self) -> Callable[..., Any]:
        """The same function with wrapping arithmetic, for Python to run."""
        wrapped = _Wrap().visit(ast.parse(textwrap.dedent(inspect.getsource(self.function))))
        wrapped.body[0].decorator_list = []
        ast.increment_lineno(wrapped, self.function.__code__.co_firstlineno - 1)
        code = compile(
            ast.fix_missing_locations(wrapped), self.function.__code__.co_filename, "exec"
        )
        space: dict[str, Any] = {}
        exec(code, self.function.__globals__, space)  # noqa: S102 - our own source, instrumented
        return cast("Callable[..., Any]", space[self.name])

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.plain(*arguments, **named)


def restricted(function: F) -> F:
    """Mark `function` as restricted Python that is inlined into its callers."""
    return cast("F", Restricted(cast("FunctionType", function), "inline"))


def outlined(function: F) -> F:
    """Mark `function` as restricted Python that is compiled once and called.

    The first parameter is the processor state, the others are words, and so is the result.
    """
    return cast("F", Restricted(cast("FunctionType", function), "outline"))


def tail(function: F) -> F:
    """Mark `function(cpu, uop)` as restricted Python that handlers end in by a tail call."""
    return cast("F", Restricted(cast("FunctionType", function), "tail"))


class _Wrap(ast.NodeTransformer):
    """Masks to 64 bits the results of the operators that can exceed them."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.LShift | ast.RShift):
            node.right = _checked_count(node.right)
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.LShift):
            return _masked(node)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Invert | ast.USub):
            return _masked(node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        target = ast.parse(ast.unparse(node.target), mode="eval").body
        value = self.visit(ast.BinOp(target, node.op, node.value))
        return ast.copy_location(ast.Assign([node.target], value), node)


def _masked(node: ast.expr) -> ast.expr:
    return ast.copy_location(ast.BinOp(node, ast.BitAnd(), ast.Constant(WORD)), node)


def _checked_count(node: ast.expr) -> ast.expr:
    """A shift count that stops plain execution where compiled code would be undefined."""
    if isinstance(node, ast.Constant):
        return node
    checked = ast.parse("(_n if (_n := 0) < 64 else 1 // 0)", mode="eval").body
    bound = cast("ast.Compare", cast("ast.IfExp", checked).test).left
    assert isinstance(bound, ast.NamedExpr)
    bound.value = node
    return checked


class Intrinsic:
    """An operation with two definitions: a Python function and the IR that computes the same.

    In the IR, {0} {1} ... are the arguments as i64, {r} is the result, {t0} {t1} ... are
    temporaries. A parameter listed in `constants` is filled in as a Python value by its name.
    """

    def __init__(self, function: FunctionType, ir: str, declare: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.ir = ir
        self.declare = declare
        self.name = function.__name__
        self.has_result = "{r}" in ir

    def __call__(self, *arguments: int) -> Any:
        return self.function(*arguments)


def intrinsic(ir: str, *declare: str) -> Callable[[F], F]:
    """Pair a Python function with LLVM IR text; `declare` lists declarations that the IR needs."""

    def mark(function: F) -> F:
        return cast("F", Intrinsic(cast("FunctionType", function), textwrap.dedent(ir), declare))

    return mark


class Special:
    """A construct that the compiler itself knows: `leave`, `dispatch`."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def _leave() -> None:
    raise Leave


def _dispatch(target: Any) -> None:
    raise Dispatch(target.address)


def _unlikely(condition: int) -> int:
    return condition


unlikely: Any = Special("unlikely", _unlikely)
"""A condition that is rarely true: what it guards is laid out off the straight line."""
leave: Any = Special("leave", _leave)
"""Store what is held in registers and leave the compiled loop."""
dispatch: Any = Special("dispatch", _dispatch)
"""Go on with the micro-operation given."""


def signed(word: int) -> int:
    """The two's complement value of a word (plain Python only)."""
    return word - (1 << 64) if word & SIGN else word


@intrinsic("{t0} = icmp slt i64 {0}, {1}\n{r} = zext i1 {t0} to i64")
def less_signed(a: int, b: int) -> int:
    """1 when `a` is less than `b` as signed words, else 0."""
    return int(signed(a) < signed(b))


@intrinsic("{r} = ashr i64 {0}, {1}")
def shift_arithmetic(a: int, count: int) -> int:
    """`a` shifted right by `count` < 64, the sign copied in."""
    return (signed(a) >> count) & WORD


@intrinsic("{t0} = trunc i64 {0} to i8\n{r} = sext i8 {t0} to i64")
def extend8(a: int) -> int:
    """The low byte, sign-extended."""
    return ((a & 0xFF) ^ 0x80) - 0x80 & WORD


@intrinsic("{t0} = trunc i64 {0} to i16\n{r} = sext i16 {t0} to i64")
def extend16(a: int) -> int:
    """The low 16 bits, sign-extended."""
    return ((a & 0xFFFF) ^ 0x8000) - 0x8000 & WORD


@intrinsic("{t0} = trunc i64 {0} to i32\n{r} = sext i32 {t0} to i64")
def extend32(a: int) -> int:
    """The low 32 bits, sign-extended."""
    return ((a & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000 & WORD


@intrinsic(
    """\
    {t0} = zext i64 {0} to i128
    {t1} = zext i64 {1} to i128
    {t2} = mul i128 {t0}, {t1}
    {t3} = lshr i128 {t2}, 64
    {r} = trunc i128 {t3} to i64"""
)
def multiply_high(a: int, b: int) -> int:
    """The upper word of the unsigned product."""
    return (a * b) >> 64


@intrinsic(
    """\
    {t0} = sext i64 {0} to i128
    {t1} = sext i64 {1} to i128
    {t2} = mul i128 {t0}, {t1}
    {t3} = ashr i128 {t2}, 64
    {r} = trunc i128 {t3} to i64"""
)
def multiply_high_signed(a: int, b: int) -> int:
    """The upper word of the signed product."""
    return (signed(a) * signed(b)) >> 64 & WORD


@intrinsic("{r} = call i64 @llvm.ctpop.i64(i64 {0})", "declare i64 @llvm.ctpop.i64(i64)")
def population(a: int) -> int:
    """The number of set bits."""
    return a.bit_count()


@intrinsic(
    "{r} = call i64 @llvm.cttz.i64(i64 {0}, i1 false)", "declare i64 @llvm.cttz.i64(i64, i1)"
)
def trailing_zeros(a: int) -> int:
    """The index of the lowest set bit; 64 when there is none."""
    return (a & -a).bit_length() - 1 if a else 64


@intrinsic(
    "{r} = call i64 @llvm.ctlz.i64(i64 {0}, i1 false)", "declare i64 @llvm.ctlz.i64(i64, i1)"
)
def leading_zeros(a: int) -> int:
    """The number of clear bits above the highest set one; 64 when there is none."""
    return 64 - a.bit_length()


@intrinsic("{r} = call i64 @llvm.bswap.i64(i64 {0})", "declare i64 @llvm.bswap.i64(i64)")
def swap_bytes(a: int) -> int:
    """The eight bytes in opposite order."""
    return int.from_bytes(a.to_bytes(8, "little"), "big")


@intrinsic(
    "{t0} = trunc i64 {0} to i8\n{t1} = call i8 @llvm.ctpop.i8(i8 {t0})\n"
    "{t2} = and i8 {t1}, 1\n{t3} = xor i8 {t2}, 1\n{r} = zext i8 {t3} to i64",
    "declare i8 @llvm.ctpop.i8(i8)",
)
def parity_even(a: int) -> int:
    """1 when the low byte has an even number of set bits: PF. SDM Vol. 1, Status Flags."""
    return (a & 0xFF).bit_count() & 1 ^ 1


@intrinsic("{t0} = inttoptr i64 {0} to ptr\n{t1} = load i8, ptr {t0}\n{r} = zext i8 {t1} to i64")
def raw_load8(address: int) -> int:
    """The byte at a host address."""
    return ctypes.c_uint8.from_address(address).value


@intrinsic(
    "{t0} = inttoptr i64 {0} to ptr\n{t1} = load i16, ptr {t0}, align 1\n{r} = zext i16 {t1} to i64"
)
def raw_load16(address: int) -> int:
    """The two bytes at a host address."""
    return ctypes.c_uint16.from_address(address).value


@intrinsic(
    "{t0} = inttoptr i64 {0} to ptr\n{t1} = load i32, ptr {t0}, align 1\n{r} = zext i32 {t1} to i64"
)
def raw_load32(address: int) -> int:
    """The four bytes at a host address."""
    return ctypes.c_uint32.from_address(address).value


@intrinsic("{t0} = inttoptr i64 {0} to ptr\n{r} = load i64, ptr {t0}, align 1")
def raw_load64(address: int) -> int:
    """The eight bytes at a host address."""
    return ctypes.c_uint64.from_address(address).value


@intrinsic("{t0} = inttoptr i64 {0} to ptr\n{t1} = trunc i64 {1} to i8\nstore i8 {t1}, ptr {t0}")
def raw_store8(address: int, value: int) -> None:
    """Write a byte at a host address."""
    ctypes.c_uint8.from_address(address).value = value


@intrinsic(
    "{t0} = inttoptr i64 {0} to ptr\n{t1} = trunc i64 {1} to i16\nstore i16 {t1}, ptr {t0}, align 1"
)
def raw_store16(address: int, value: int) -> None:
    """Write two bytes at a host address."""
    ctypes.c_uint16.from_address(address).value = value


@intrinsic(
    "{t0} = inttoptr i64 {0} to ptr\n{t1} = trunc i64 {1} to i32\nstore i32 {t1}, ptr {t0}, align 1"
)
def raw_store32(address: int, value: int) -> None:
    """Write four bytes at a host address."""
    ctypes.c_uint32.from_address(address).value = value


@intrinsic("{t0} = inttoptr i64 {0} to ptr\nstore i64 {1}, ptr {t0}, align 1")
def raw_store64(address: int, value: int) -> None:
    """Write eight bytes at a host address."""
    ctypes.c_uint64.from_address(address).value = value


@intrinsic(
    """\
    {t0} = inttoptr i64 {0} to ptr
    {t1} = trunc i64 {1} to i8
    call void @llvm.memset.p0.i64(ptr {t0}, i8 {t1}, i64 {2}, i1 false)""",
    "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
)
def raw_fill(target: int, byte: int, count: int) -> None:
    """Write `count` bytes of one value at a host address."""
    ctypes.memset(target, byte, count)


@intrinsic(
    """\
    {t0} = inttoptr i64 {0} to ptr
    {t1} = inttoptr i64 {1} to ptr
    call void @llvm.memmove.p0.p0.i64(ptr {t0}, ptr {t1}, i64 {2}, i1 false)""",
    "declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)",
)
def raw_move(target: int, source: int, count: int) -> None:
    """Copy `count` bytes between host addresses; the ranges may overlap."""
    ctypes.memmove(target, source, count)
