"""x87 instructions on data. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from emu.cpu.decode import MNEMONICS
from emu.cpu.flags import set_status_flags, status_flags
from emu.cpu.x87 import arithmetic, functions
from emu.cpu.x87.unit import C0, C1, C2, C3, Unit, instruction
from emu.cpu.x87.values import (
    CHOP,
    DE,
    DOUBLE,
    EXTENDED,
    IE,
    INDEFINITE,
    INTEGER_BIT,
    QUIET_BIT,
    SINGLE,
    ZE,
    Bits,
    Exact,
    Format,
    Kind,
    Value,
    from_integer,
    infinity,
    integral,
    packed,
    unpacked_float,
    zero,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

Function = Callable[[Unit], None]
FULL: Final = EXTENDED[3]
ONE: Final = Bits(0x3FFF, INTEGER_BIT)
ZERO: Final = Value(Kind.ZERO, 0)


def form_of(unit: Unit) -> Format:
    """The format of a floating-point operand in memory."""
    return SINGLE if unit.width == 4 else DOUBLE


def signed(word: int, width: int) -> int:
    """A word of `width` bytes as a signed integer."""
    return word - (1 << 8 * width) if word >> 8 * width - 1 else word


def in_memory(unit: Unit) -> Value:
    """The memory operand: an integer where the mnemonic begins with FI, else floating point."""
    word = unit.load()
    if MNEMONICS[unit.insn.mnemonic].startswith("FI"):
        return from_integer(signed(word, unit.width))
    return unpacked_float(word, form_of(unit))


# loads


def fld(unit: Unit) -> None:
    """FLD: push a register, or memory in any format; a signaling NaN is quieted on conversion."""
    if not unit.in_memory:
        i = unit.register(0)
        if unit.present(i):
            unit.push(unit.raw(i))
        else:
            unit.push_over(INDEFINITE)
        return
    word = unit.load()
    if unit.width == 10:
        unit.push(Bits(word >> 64, word & (1 << 64) - 1))
        return
    if not unit.empty(7):
        unit.push(INDEFINITE)
        return
    value = unpacked_float(word, form_of(unit))
    if value.kind == Kind.SNAN:
        unit.note(IE)
        value = value._replace(m=value.m | QUIET_BIT)
    unit.note(DE if value.denormal else 0)
    unit.push(packed(value))


def fild(unit: Unit) -> None:
    """FILD: push an integer."""
    unit.push(packed(from_integer(signed(unit.load(), unit.width))))


def fbld(unit: Unit) -> None:
    """FBLD: push a packed decimal of eighteen digits."""
    word = unit.load()
    number = 0
    for at in range(68, -1, -4):
        number = number * 10 + (word >> at & 15)
    value = packed(from_integer(number))
    unit.push(Bits(value.exponent | word >> 79 << 15, value.significand))


class Constant:
    """A number by its bits: m * 2^e lies less than 2^e below it."""

    def __init__(self, m: int, e: int) -> None:
        self.exact = functions.inexact(0, m, e)

    def load(self, unit: Unit) -> None:
        """FLDPI and so on: push the constant as rounding control has it; no exception."""
        flags = unit.flags
        bits = unit.settle(self.exact, FULL)
        unit.flags, unit.up = flags, False
        unit.push(bits)


def logarithm_constant(n: int) -> tuple[int, int]:
    """log2(n) as m * 2^e."""
    found = functions.logarithm(n, 0)
    return found.m, found.e


def constants() -> dict[str, Function]:
    """FLDL2E, FLDL2T, FLDLG2, FLDLN2, FLDPI."""
    one, ln2 = functions.ONE, functions.ln2()
    log2_10, places = logarithm_constant(10)
    assert places == -functions.PLACES
    found = {
        "FLDL2E": one * one // ln2,
        "FLDL2T": log2_10,
        "FLDLG2": one * one // log2_10,
        "FLDLN2": ln2,
        "FLDPI": functions.pi(),
    }
    return {name: Constant(m, -functions.PLACES).load for name, m in found.items()}


# stores


def fst(unit: Unit) -> None:
    """FST: ST(0) to a register or memory, rounded to the format there."""
    if not unit.in_memory:
        unit.put(unit.register(0), unit.raw(0) if unit.present(0) else INDEFINITE)
        return
    if unit.width == 10:
        bits = unit.raw(0) if unit.present(0) else INDEFINITE
        unit.store(bits.exponent << 64 | bits.significand)
        return
    form = form_of(unit)
    unit.store(float_word(unit, form))


def float_word(unit: Unit, form: Format) -> int:
    """ST(0) in single or double precision."""
    sign_at, fraction = (31, 23) if form is SINGLE else (63, 52)
    top = (1 << sign_at) - (1 << fraction)
    indefinite = 1 << sign_at | top | 1 << fraction - 1
    if not unit.present(0):
        return indefinite
    value = unit.value(0)
    if value.kind == Kind.UNSUPPORTED:
        unit.note(IE)
        return indefinite
    if value.is_nan:
        unit.note(IE if value.kind == Kind.SNAN else 0)
        m = (value.m | QUIET_BIT) >> 63 - fraction & (1 << fraction) - 1
        return value.sign << sign_at | top | m
    if value.kind == Kind.INFINITY:
        return value.sign << sign_at | top
    if value.kind == Kind.ZERO:
        return value.sign << sign_at
    return unit.settle_float(Exact(value.sign, value.m, value.e), form)


def fist(unit: Unit, mode: int | None = None) -> None:
    """FIST: ST(0) to memory as an integer; what does not fit is the integer indefinite."""
    unit.store(integer_word(unit, unit.mode if mode is None else mode))


def integer_word(unit: Unit, mode: int) -> int:
    """ST(0) as an integer of the memory operand's width."""
    limit = 1 << 8 * unit.width - 1
    if not unit.present(0):
        return limit
    value = unit.value(0)
    if value.kind not in (Kind.ZERO, Kind.FINITE) or value.e > 64:
        unit.note(IE)
        return limit
    number, inexact, up = integral(value, mode)
    if not -limit <= number < limit:
        unit.note(IE)
        return limit
    unit.precision(inexact, up)
    return number & 2 * limit - 1


def fisttp(unit: Unit) -> None:
    """FISTTP: as FISTP with truncation."""
    fist(unit, CHOP)


def fbstp(unit: Unit) -> None:
    """FBSTP: ST(0) to memory as a packed decimal."""
    unit.store(decimal_word(unit))


def decimal_word(unit: Unit) -> int:
    """ST(0) as eighteen packed decimal digits and a sign."""
    indefinite = 0xFFFFC000000000000000
    if not unit.present(0):
        return indefinite
    value = unit.value(0)
    if value.kind not in (Kind.ZERO, Kind.FINITE) or value.e > 64:
        unit.note(IE)
        return indefinite
    number, inexact, up = integral(value, unit.mode)
    if abs(number) >= 10**18:
        unit.note(IE)
        return indefinite
    unit.precision(inexact, up)
    return value.sign << 79 | int(str(abs(number)), 16)


# arithmetic

Operation = Callable[[Value, Value, int], arithmetic.Answer]


def binary(operation: Operation, reverse: bool = False) -> Function:
    """FADD and its like: the first operand := it op the second; with memory, ST(0) := it op m."""

    def run(unit: Unit) -> None:
        if unit.in_memory:
            source = in_memory(unit)
            target = 0
            present = unit.present(0)
        else:
            target, other = unit.register(0), unit.register(1)
            present = unit.present(target, other)
            source = unit.value(other)
        if not present:
            unit.put(target, INDEFINITE)
            return
        pair = (source, unit.value(target)) if reverse else (unit.value(target), source)
        flags, result = operation(*pair, unit.mode)
        unit.note(flags)
        unit.put(target, unit.settle(result))

    return run


def unary(operation: Callable[[Unit, Value], tuple[int, Exact | Bits, Format | None]]) -> Function:
    """ST(0) := op ST(0); the operation says in which format the result is rounded."""

    def run(unit: Unit) -> None:
        if not unit.present(0):
            unit.put(0, INDEFINITE)
            return
        flags, result, form = operation(unit, unit.value(0))
        unit.note(flags)
        unit.put(0, unit.settle(result, form))

    return run


def fsqrt(_: Unit, value: Value) -> tuple[int, Exact | Bits, Format | None]:
    """FSQRT, to the precision that precision control says."""
    return *arithmetic.root(value), None


def frndint(unit: Unit, value: Value) -> tuple[int, Exact | Bits, Format | None]:
    """FRNDINT: to an integer by rounding control."""
    if found := arithmetic.special(value):
        return *found, None
    if value.kind == Kind.INFINITY:
        return 0, packed(value), None
    unit.note(arithmetic.denormal(value))
    bits, inexact, up = arithmetic.to_integral(value, unit.mode)
    unit.precision(inexact, up)
    return 0, bits, None


def sign_change(clear: bool) -> Function:
    """FABS, FCHS: the sign bit of whatever ST(0) holds."""

    def run(unit: Unit) -> None:
        if not unit.present(0):
            unit.put(0, INDEFINITE)
            return
        exponent, m = unit.raw(0)
        unit.put(0, Bits(exponent & 0x7FFF if clear else exponent ^ 0x8000, m))

    return run


def fscale(unit: Unit) -> None:
    """FSCALE: ST(0) := ST(0) * 2^trunc(ST(1))."""
    if not unit.present(0, 1):
        unit.put(0, INDEFINITE)
        return
    flags, result = arithmetic.scale(unit.value(0), unit.value(1))
    unit.note(flags)
    unit.put(0, unit.settle(result, FULL))


def fxtract(unit: Unit) -> None:
    """FXTRACT: ST(0) := its exponent, push its significand."""
    if not unit.room():
        return
    flags, exponent, significand = arithmetic.extract(unit.value(0))
    unit.note(flags)
    unit.put(0, unit.settle(exponent, FULL))
    unit.push(significand)


def partial_remainder(nearest: bool) -> Function:
    """FPREM, FPREM1: C2 while the reduction is partial, else C0 C3 C1 are quotient bits 2 1 0."""

    def run(unit: Unit) -> None:
        unit.conditions = unit.old_conditions & ~(C1 | C2)
        if not unit.present(0, 1):
            unit.put(0, INDEFINITE)
            return
        found = arithmetic.remainder(unit.value(0), unit.value(1), nearest)
        unit.note(found.flags)
        bits = unit.settle(found.result, FULL)
        quotient = found.quotient
        if quotient is None:
            unit.conditions = C2
        elif not found.flags & IE and bits.exponent & 0x7FFF != 0x7FFF:
            unit.conditions = C0 * (quotient >> 2 & 1) | C3 * (quotient >> 1 & 1)
            unit.conditions |= C1 * (quotient & 1)
        unit.put(0, bits)

    return run


# comparison

RELATIONS: Final = {"<": C0, "=": C3, ">": 0, "?": C0 | C2 | C3}
EFLAGS: Final = {"<": 0x01, "=": 0x40, ">": 0, "?": 0x45}


def relation(unit: Unit, quiet: bool, other: int | None = None) -> str:
    """How ST(0) stands to the operand: memory, a register, or ST(1) where none is named."""
    if unit.in_memory:
        source = in_memory(unit)
        present = unit.present(0)
    else:
        if other is None:
            other = unit.register(1) if unit.insn.op_count > 1 else 1
        present = unit.present(0, other)
        source = unit.value(other)
    if not present:
        return "?"
    flags, found = arithmetic.compare(unit.value(0), source, quiet)
    unit.note(flags)
    return found


def compare(quiet: bool) -> Function:
    """FCOM, FUCOM, FICOM: the condition codes."""

    def run(unit: Unit) -> None:
        unit.conditions = RELATIONS[relation(unit, quiet)]

    return run


def compare_flags(quiet: bool) -> Function:
    """FCOMI, FUCOMI: ZF PF CF; OF SF AF are cleared."""

    def run(unit: Unit) -> None:
        set_status_flags(unit.state, EFLAGS[relation(unit, quiet)])

    return run


def ftst(unit: Unit) -> None:
    """FTST: compare ST(0) with 0.0."""
    if not unit.present(0):
        unit.conditions = RELATIONS["?"]
        return
    flags, found = arithmetic.compare(unit.value(0), ZERO, False)
    unit.note(flags)
    unit.conditions = RELATIONS[found]


CLASSES: Final = {
    Kind.UNSUPPORTED: 0,
    Kind.QNAN: C0,
    Kind.SNAN: C0,
    Kind.FINITE: C2,
    Kind.INFINITY: C2 | C0,
    Kind.ZERO: C3,
}


def fxam(unit: Unit) -> None:
    """FXAM: the class of ST(0); C1 is its sign, of an empty register too."""
    value = unit.value(0)
    found = CLASSES[value.kind]
    if value.denormal:
        found = C3 | C2
    if unit.empty(0):
        found = C3 | C0
    unit.conditions = found | (C1 if unit.raw(0).exponent >> 15 else 0)


# moves between registers


def fxch(unit: Unit) -> None:
    """FXCH: ST(0) and ST(i) change places; an empty one counts as indefinite."""
    i = unit.register(1)
    if unit.present(0, i):
        first, second = unit.raw(0), unit.raw(i)
    else:
        first = INDEFINITE if unit.empty(0) else unit.raw(0)
        second = INDEFINITE if unit.empty(i) else unit.raw(i)
    unit.put(0, second)
    unit.put(i, first)


def conditional_move(mask: int, wanted: bool) -> Function:
    """FCMOVcc: ST(0) := ST(i) if the flags are so."""

    def run(unit: Unit) -> None:
        i = unit.register(1)
        if not unit.present(0, i):
            unit.put(0, INDEFINITE)
            return
        unit.keep_conditions()
        if bool(status_flags(unit.state) & mask) is wanted:
            unit.put(0, unit.raw(i))

    return run


def ffree(unit: Unit) -> None:
    """FFREE: tag a register empty."""
    unit.free(unit.register(0))


def rotate(step: int) -> Function:
    """FINCSTP, FDECSTP: TOP moves, tags stay."""

    def run(unit: Unit) -> None:
        unit.top += step

    return run


def fnop(unit: Unit) -> None:
    """FNOP."""
    unit.keep_conditions()


def fstpnce(unit: Unit) -> None:
    """FSTP by its alias D9 /3: an empty register is not copied, and no exception either."""
    if not unit.empty(0):
        unit.put(unit.register(0), unit.raw(0))


# transcendental functions

ANGLE_LIMIT: Final = 63  # SDM Vol. 1, Trigonometric Instructions: |ST(0)| < 2^63


def trigonometric(*results: Callable[[int, int, int], Exact]) -> Function:
    """FSIN, FCOS, FSINCOS: ST(0) := the first result, the second one pushed."""

    def run(unit: Unit) -> None:
        found = trigonometric_argument(unit, len(results) > 1)
        if found is None:
            return
        if isinstance(found, Bits):
            values = [found] * len(results)
        elif found.kind == Kind.ZERO:
            values = [packed(found) if f is functions.sine else ONE for f in results]
        else:
            values = [unit.settle(f(found.sign, found.m, found.e), FULL) for f in results]
        unit.put(0, values[0])
        for bits in values[1:]:
            unit.push(bits)

    return run


def trigonometric_argument(unit: Unit, pushes: bool) -> Value | Bits | None:
    """The argument, or its NaN, or None where the instruction is done: out of range or no stack."""
    unit.conditions = unit.old_conditions & ~(C1 | C2)
    if pushes:
        if not unit.room():
            return None
    elif not unit.present(0):
        unit.put(0, INDEFINITE)
        return None
    value = unit.value(0)
    if found := arithmetic.special(value):
        unit.note(found[0])
        return found[1]  # type: ignore[return-value]
    if value.kind == Kind.INFINITY:
        unit.note(IE)
        return INDEFINITE
    if value.kind == Kind.FINITE and value.e + value.m.bit_length() > ANGLE_LIMIT:
        unit.conditions |= C2
        return None
    unit.note(arithmetic.denormal(value))
    return value


def fptan(unit: Unit) -> None:
    """FPTAN: ST(0) := its tangent, push 1.0; a NaN is pushed twice."""
    found = trigonometric_argument(unit, True)
    if found is None:
        return
    if isinstance(found, Bits):
        unit.put(0, found)
        unit.push(found)
        return
    if found.kind == Kind.FINITE:
        unit.put(0, unit.settle(functions.tangent(found.sign, found.m, found.e), FULL))
    unit.push(ONE)


def fpatan(unit: Unit) -> None:
    """FPATAN: ST(1) := arctan(ST(1) / ST(0)) in the right quadrant, pop."""
    store_popped(unit, arctangent)


def store_popped(unit: Unit, function: Callable[[Value, Value], arithmetic.Answer]) -> None:
    """ST(1) := the function of ST(1) and ST(0), pop."""
    if not unit.present(0, 1):
        bits = INDEFINITE
    else:
        flags, result = function(unit.value(1), unit.value(0))
        unit.note(flags)
        bits = unit.settle(result, FULL)
    unit.put(1, bits)
    unit.pop()


def arctangent(y: Value, x: Value) -> arithmetic.Answer:
    """The angle of the point (x, y). SDM Vol. 2, FPATAN Results."""
    if found := arithmetic.special(y, x):
        return found
    flags = arithmetic.denormal(y, x)
    if y.kind == Kind.FINITE == x.kind:
        return flags, functions.arctangent2(y.sign, (y.m, y.e), x.sign, (x.m, x.e))
    pi = functions.pi()
    if y.kind == Kind.INFINITY:
        eighths = (6 if x.sign else 2) if x.kind == Kind.INFINITY else 4
    elif y.kind == Kind.ZERO or x.kind == Kind.INFINITY:
        eighths = 8 if x.sign else 0
    else:
        eighths = 4
    if eighths == 0:
        return flags, zero(y.sign)
    return flags, functions.inexact(y.sign, pi * eighths >> 3, -functions.PLACES)


def f2xm1(_: Unit, value: Value) -> tuple[int, Exact | Bits, Format | None]:
    """F2XM1: 2^x - 1 for -1 <= x <= 1; beyond, the manual leaves the result open: x stays."""
    if found := arithmetic.special(value):
        return *found, None
    if value.kind == Kind.INFINITY:
        return 0, Bits(0xBFFF, INTEGER_BIT) if value.sign else infinity(0), None
    if value.kind == Kind.ZERO:
        return 0, packed(value), None
    top = value.e + value.m.bit_length() - 1
    flags = arithmetic.denormal(value)
    if top > 0 or (top == 0 and value.m & value.m - 1):
        return flags, packed(value), None
    result = functions.power_of_two_less_one(value.sign, value.m, value.e)
    return flags, result, FULL


def times_logarithm(y: Value, x: Value) -> arithmetic.Answer:
    """FYL2X: y * log2(x). SDM Vol. 2, FYL2X Results."""
    if found := arithmetic.special(y, x):
        return found
    if x.sign and x.kind != Kind.ZERO:
        return arithmetic.INVALID
    flags = arithmetic.denormal(y, x)
    if x.kind == Kind.ZERO:
        if y.kind == Kind.ZERO:
            return arithmetic.INVALID
        if y.kind == Kind.INFINITY:
            return 0, infinity(y.sign ^ 1)
        return ZE | flags, infinity(y.sign ^ 1)
    if x.kind == Kind.INFINITY:
        if y.kind == Kind.ZERO:
            return arithmetic.INVALID
        return flags, infinity(y.sign)
    return product(flags, y, functions.logarithm(x.m, x.e))


def product(flags: int, y: Value, logarithm: functions.Logarithm) -> arithmetic.Answer:
    """Y times a logarithm, which may be zero."""
    sign = y.sign ^ logarithm.sign
    if y.kind == Kind.INFINITY:
        return (IE, INDEFINITE) if logarithm.m == 0 else (flags, infinity(sign))
    if y.kind == Kind.ZERO or logarithm.m == 0:
        return flags, zero(sign)
    return flags, functions.times(logarithm, y.sign, y.m, y.e)


def times_logarithm_of_one_plus(y: Value, x: Value) -> arithmetic.Answer:
    """FYL2XP1: y * log2(x + 1). SDM Vol. 2, FYL2XP1 Results."""
    if found := arithmetic.special(y, x):
        return found
    flags = arithmetic.denormal(y, x)
    if x.kind == Kind.INFINITY:
        if x.sign or y.kind == Kind.ZERO:
            return arithmetic.INVALID
        return flags, infinity(y.sign)
    if x.kind == Kind.ZERO:
        if y.kind == Kind.INFINITY:
            return arithmetic.INVALID
        return flags, zero(y.sign ^ x.sign)
    if x.sign and x.e + x.m.bit_length() > 0:
        # -1 or below: beyond what the manual defines
        if x.m & x.m - 1 == 0 and x.e + x.m.bit_length() == 1 and y.kind == Kind.FINITE:
            return ZE | flags, infinity(y.sign ^ 1)
        return arithmetic.INVALID
    return product(flags, y, functions.logarithm_of_one_plus(x.sign, x.m, x.e))


def then_pop(function: Function, count: int = 1) -> Function:
    """The instruction, then the stack popped, if it was not given up."""

    def run(unit: Unit) -> None:
        function(unit)
        unit.pop(count)

    return run


def arithmetic_rows() -> dict[str, Function]:
    """FADD, FSUB, FSUBR, FMUL, FDIV, FDIVR with their forms on integers and those that pop."""
    rows: dict[str, Function] = {}
    for name, operation in (
        ("ADD", arithmetic.add),
        ("MUL", arithmetic.multiply),
        ("SUB", arithmetic.subtract),
        ("DIV", arithmetic.divide),
    ):
        for suffix, reverse in (("", False), ("R", True))[: 1 if name in ("ADD", "MUL") else 2]:
            function = binary(operation, reverse)
            rows[f"F{name}{suffix}"] = rows[f"FI{name}{suffix}"] = function
            rows[f"F{name}{suffix}P"] = then_pop(function)
    return rows


ROWS: Final[dict[str, Function]] = {
    "FLD": fld,
    "FILD": fild,
    "FBLD": fbld,
    "FLD1": lambda unit: unit.push(ONE),
    "FLDZ": lambda unit: unit.push(zero(0)),
    **constants(),
    "FST": fst,
    "FSTP": then_pop(fst),
    "FSTPNCE": then_pop(fstpnce),
    "FIST": fist,
    "FISTP": then_pop(fist),
    "FISTTP": then_pop(fisttp),
    "FBSTP": then_pop(fbstp),
    **arithmetic_rows(),
    "FSQRT": unary(fsqrt),
    "FRNDINT": unary(frndint),
    "FABS": sign_change(clear=True),
    "FCHS": sign_change(clear=False),
    "FSCALE": fscale,
    "FXTRACT": fxtract,
    "FPREM": partial_remainder(nearest=False),
    "FPREM1": partial_remainder(nearest=True),
    "FCOM": compare(quiet=False),
    "FCOMP": then_pop(compare(quiet=False)),
    "FCOMPP": then_pop(compare(quiet=False), 2),
    "FUCOM": compare(quiet=True),
    "FUCOMP": then_pop(compare(quiet=True)),
    "FUCOMPP": then_pop(compare(quiet=True), 2),
    "FICOM": compare(quiet=False),
    "FICOMP": then_pop(compare(quiet=False)),
    "FCOMI": compare_flags(quiet=False),
    "FCOMIP": then_pop(compare_flags(quiet=False)),
    "FUCOMI": compare_flags(quiet=True),
    "FUCOMIP": then_pop(compare_flags(quiet=True)),
    "FTST": ftst,
    "FXAM": fxam,
    "FXCH": fxch,
    "FFREE": ffree,
    "FFREEP": then_pop(ffree),
    "FINCSTP": rotate(1),
    "FDECSTP": rotate(-1),
    "FNOP": fnop,
    **{
        f"FCMOV{'' if wanted else 'N'}{name}": conditional_move(mask, wanted)
        for name, mask in (("B", 0x01), ("E", 0x40), ("BE", 0x41), ("U", 0x04))
        for wanted in (True, False)
    },
    "FSIN": trigonometric(functions.sine),
    "FCOS": trigonometric(functions.cosine_of),
    "FSINCOS": trigonometric(functions.sine, functions.cosine_of),
    "FPTAN": fptan,
    "FPATAN": fpatan,
    "F2XM1": unary(f2xm1),
    "FYL2X": lambda unit: store_popped(unit, times_logarithm),
    "FYL2XP1": lambda unit: store_popped(unit, times_logarithm_of_one_plus),
}

TABLE: Final[dict[str, Callable[[Cpu, Any], None]]] = {
    name: instruction(function) for name, function in ROWS.items()
}
