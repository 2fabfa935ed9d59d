"""Integer arithmetic and logic on vector lanes. SDM Vol. 2, the page of each mnemonic.

Names are those of the operation: PADDB, VPADDB on 128 and 256 bits and MMX PADDB are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from emu.cpu.insns.lanes import (
    elements,
    joined,
    mask,
    micros,
    operation,
    splat,
    split,
)

LETTER = {8: "b", 16: "w", 32: "d", 64: "q"}


def clamp(value: int, low: int, high: int) -> int:
    """The value in low..high that is nearest."""
    return max(low, min(high, value))


def signed_range(width: int) -> tuple[int, int]:
    """Least and greatest two's complement number."""
    return -(1 << width - 1), (1 << width - 1) - 1


def llvm(name: str, width: int, count: int = 2) -> tuple[str, str]:
    """A call of a vector intrinsic of LLVM on @a and @b, and its declaration; S is the type."""
    full = f"@llvm.{name}.v{128 // width}i{width}"
    return f"@r = call S {full}(S @a, S @b)", f"declare S {full}({', '.join(['S'] * count)})"


def arithmetic() -> Iterator[Any]:
    """PADD, PSUB, PADDS, PADDUS, PSUBS, PSUBUS, PMIN, PMAX, PAVG, PCMPEQ, PCMPGT, PABS, PSIGN."""
    for width, letter in LETTER.items():
        low, high = signed_range(width)
        top = (1 << width) - 1
        yield elements(f"padd{letter}", width, "@r = add S @a, @b", lambda a, b: a + b)
        yield elements(f"psub{letter}", width, "@r = sub S @a, @b", lambda a, b: a - b)
        yield elements(
            f"pcmpeq{letter}",
            width,
            f"@t = icmp eq S @a, @b\n@r = sext <{128 // width} x i1> @t to S",
            lambda a, b: -int(a == b),
        )
        yield elements(
            f"pcmpgt{letter}",
            width,
            f"@t = icmp sgt S @a, @b\n@r = sext <{128 // width} x i1> @t to S",
            lambda a, b: -int(a > b),
            signed=True,
        )
        if width == 64:
            continue
        zero = splat(0, width)
        for kind, is_signed in (("s", True), ("u", False)):
            for which, pick in (("min", min), ("max", max)):
                body, declare = llvm(f"{kind}{which}", width)
                name = f"p{which}{kind}{letter}"
                yield elements(name, width, body, pick, declare, signed=is_signed)
        yield elements(
            f"pabs{letter}",
            width,
            f"@n = sub S {zero}, @b\n@t = icmp slt S @b, {zero}\n"
            f"@r = select <{128 // width} x i1> @t, S @n, S @b",
            lambda _, b: abs(b),
            signed=True,
        )
        yield elements(
            f"psign{letter}",
            width,
            f"@n = sub S {zero}, @a\n@t = icmp slt S @b, {zero}\n@e = icmp eq S @b, {zero}\n"
            f"@p = select <{128 // width} x i1> @t, S @n, S @a\n"
            f"@r = select <{128 // width} x i1> @e, S {zero}, S @p",
            lambda a, b: -a if b < 0 else a if b else 0,
            signed=True,
        )
        if width == 32:
            continue
        for verb, ir, sign in (("add", "add", 1), ("sub", "sub", -1)):
            body, declare = llvm(f"s{ir}.sat", width)
            yield elements(
                f"p{verb}s{letter}", width, body, _saturated(sign, low, high), declare, signed=True
            )
            body, declare = llvm(f"u{ir}.sat", width)
            yield elements(f"p{verb}us{letter}", width, body, _saturated(sign, 0, top), declare)
        wide = f"<{128 // width} x i{2 * width}>"
        ones = ", ".join([f"i{2 * width} 1"] * (128 // width))
        yield elements(
            f"pavg{letter}",
            width,
            f"@c = zext S @a to {wide}\n@d = zext S @b to {wide}\n@e = add {wide} @c, @d\n"
            f"@f = add {wide} @e, <{ones}>\n@g = lshr {wide} @f, <{ones}>\n"
            f"@r = trunc {wide} @g to S",
            lambda a, b: a + b + 1 >> 1,
        )


def _saturated(sign: int, low: int, high: int) -> Callable[[int, int], int]:
    return lambda a, b: clamp(a + sign * b, low, high)


LOGIC = (
    operation("pand", "@z = and <2 x i64> @x, @y", lambda a, b, _: a & b),
    operation(
        "pandn",
        "@n = xor <2 x i64> @x, <i64 -1, i64 -1>\n@z = and <2 x i64> @n, @y",
        lambda a, b, _: ~a & b,
    ),
    operation("por", "@z = or <2 x i64> @x, @y", lambda a, b, _: a | b),
    operation("pxor", "@z = xor <2 x i64> @x, @y", lambda a, b, _: a ^ b),
)


def widened(kind: str, take: str, width: int = 16) -> str:
    """IR of a product twice as wide as its factors; `take` the half of it that stays."""
    wide = f"<{128 // width} x i{2 * width}>"
    text = f"@c = {kind} S @a to {wide}\n@d = {kind} S @b to {wide}\n@e = mul {wide} @c, @d\n"
    shift = ", ".join([f"i{2 * width} {width}"] * (128 // width))
    if take == "high":
        return text + f"@f = lshr {wide} @e, <{shift}>\n@r = trunc {wide} @f to S"
    return text + f"@r = trunc {wide} @e to S"


ROUND_WIDE = "<8 x i32>"


def products() -> Iterator[Any]:
    """PMULLW, PMULHW, PMULHUW, PMULLD, PMULUDQ, PMULDQ, PMULHRSW, PMADDWD, PMADDUBSW, PSADBW."""
    yield elements("pmullw", 16, "@r = mul S @a, @b", lambda a, b: a * b)
    yield elements("pmulld", 32, "@r = mul S @a, @b", lambda a, b: a * b)
    yield elements("pmulhw", 16, widened("sext", "high"), lambda a, b: a * b >> 16, signed=True)
    yield elements("pmulhuw", 16, widened("zext", "high"), lambda a, b: a * b >> 16)
    low = splat(0xFFFFFFFF, 64)
    yield elements(
        "pmuludq",
        64,
        f"@c = and S @a, {low}\n@d = and S @b, {low}\n@r = mul S @c, @d",
        lambda a, b: (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF),
    )
    by = splat(32, 64)
    yield elements(
        "pmuldq",
        64,
        f"@c = shl S @a, {by}\n@d = shl S @b, {by}\n@e = ashr S @c, {by}\n@f = ashr S @d, {by}\n"
        "@r = mul S @e, @f",
        lambda a, b: _low32(a) * _low32(b),
    )
    fourteen = ", ".join(["i32 14"] * 8)
    one = ", ".join(["i32 1"] * 8)
    yield elements(
        "pmulhrsw",
        16,
        "@c = sext S @a to <8 x i32>\n@d = sext S @b to <8 x i32>\n@e = mul <8 x i32> @c, @d\n"
        f"@f = ashr <8 x i32> @e, <{fourteen}>\n@g = add <8 x i32> @f, <{one}>\n"
        f"@h = ashr <8 x i32> @g, <{one}>\n@r = trunc <8 x i32> @h to S",
        lambda a, b: (a * b >> 14) + 1 >> 1,
        signed=True,
    )
    even8, odd8 = mask(range(0, 8, 2)), mask(range(1, 8, 2))
    yield operation(
        "pmaddwd",
        "@a = bitcast <2 x i64> @x to <8 x i16>\n@b = bitcast <2 x i64> @y to <8 x i16>\n"
        "@c = sext <8 x i16> @a to <8 x i32>\n@d = sext <8 x i16> @b to <8 x i32>\n"
        "@e = mul <8 x i32> @c, @d\n"
        f"@f = shufflevector <8 x i32> @e, <8 x i32> poison, {even8}\n"
        f"@g = shufflevector <8 x i32> @e, <8 x i32> poison, {odd8}\n"
        "@h = add <4 x i32> @f, @g\n@z = bitcast <4 x i32> @h to <2 x i64>",
        lambda a, b, _: joined(_pair_sums(split(a, 16, True), split(b, 16, True)), 32),
    )
    even16, odd16 = mask(range(0, 16, 2)), mask(range(1, 16, 2))
    yield operation(
        "pmaddubsw",
        "@a = bitcast <2 x i64> @x to <16 x i8>\n@b = bitcast <2 x i64> @y to <16 x i8>\n"
        "@c = zext <16 x i8> @a to <16 x i32>\n@d = sext <16 x i8> @b to <16 x i32>\n"
        "@e = mul <16 x i32> @c, @d\n"
        f"@f = shufflevector <16 x i32> @e, <16 x i32> poison, {even16}\n"
        f"@g = shufflevector <16 x i32> @e, <16 x i32> poison, {odd16}\n"
        "@h = add <8 x i32> @f, @g\n"
        f"@i = call <8 x i32> @llvm.smin.v8i32(<8 x i32> @h, <8 x i32> <{_many(32767)}>)\n"
        f"@j = call <8 x i32> @llvm.smax.v8i32(<8 x i32> @i, <8 x i32> <{_many(-32768)}>)\n"
        "@k = trunc <8 x i32> @j to <8 x i16>\n@z = bitcast <8 x i16> @k to <2 x i64>",
        lambda a, b, _: joined(
            [clamp(s, -32768, 32767) for s in _pair_sums(split(a, 8), split(b, 8, True))], 16
        ),
        "declare <8 x i32> @llvm.smin.v8i32(<8 x i32>, <8 x i32>)",
        "declare <8 x i32> @llvm.smax.v8i32(<8 x i32>, <8 x i32>)",
    )
    yield operation(
        "psadbw",
        "@a = bitcast <2 x i64> @x to <16 x i8>\n@b = bitcast <2 x i64> @y to <16 x i8>\n"
        "@c = call <16 x i8> @llvm.umax.v16i8(<16 x i8> @a, <16 x i8> @b)\n"
        "@d = call <16 x i8> @llvm.umin.v16i8(<16 x i8> @a, <16 x i8> @b)\n"
        "@e = sub <16 x i8> @c, @d\n@f = zext <16 x i8> @e to <16 x i64>\n"
        f"@g = shufflevector <16 x i64> @f, <16 x i64> poison, {mask(range(8))}\n"
        f"@h = shufflevector <16 x i64> @f, <16 x i64> poison, {mask(range(8, 16))}\n"
        "@i = call i64 @llvm.vector.reduce.add.v8i64(<8 x i64> @g)\n"
        "@j = call i64 @llvm.vector.reduce.add.v8i64(<8 x i64> @h)\n"
        "@k = insertelement <2 x i64> poison, i64 @i, i64 0\n"
        "@z = insertelement <2 x i64> @k, i64 @j, i64 1",
        lambda a, b, _: joined(_distances(split(a, 8), split(b, 8)), 64),
        "declare <16 x i8> @llvm.umax.v16i8(<16 x i8>, <16 x i8>)",
        "declare <16 x i8> @llvm.umin.v16i8(<16 x i8>, <16 x i8>)",
        "declare i64 @llvm.vector.reduce.add.v8i64(<8 x i64>)",
    )


def _many(value: int) -> str:
    return ", ".join([f"i32 {value}"] * 8)


def _low32(value: int) -> int:
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _pair_sums(a: list[int], b: list[int]) -> list[int]:
    return [a[i] * b[i] + a[i + 1] * b[i + 1] for i in range(0, len(a), 2)]


def _distances(a: list[int], b: list[int]) -> list[int]:
    return [sum(abs(a[i] - b[i]) for i in range(at, at + 8)) for at in (0, 8)]


def horizontal() -> Iterator[Any]:
    """PHADDW, PHADDD, PHSUBW, PHSUBD, PHADDSW, PHSUBSW."""
    for width, letter in ((16, "w"), (32, "d")):
        count = 128 // width
        shape = f"<{count} x i{width}>"
        pairs = (
            f"@a = bitcast <2 x i64> @x to {shape}\n@b = bitcast <2 x i64> @y to {shape}\n"
            f"@e = shufflevector {shape} @a, {shape} @b, {mask(range(0, 2 * count, 2))}\n"
            f"@o = shufflevector {shape} @a, {shape} @b, {mask(range(1, 2 * count, 2))}\n"
        )
        back = f"\n@z = bitcast {shape} @r to <2 x i64>"
        for verb, sign in (("add", 1), ("sub", -1)):
            yield operation(
                f"ph{verb}{letter}",
                pairs + f"@r = {verb} {shape} @e, @o" + back,
                _across(width, sign, None),
            )
            if width == 16:
                call = f"@llvm.s{verb}.sat.v8i16"
                yield operation(
                    f"ph{verb}sw",
                    pairs + f"@r = call {shape} {call}({shape} @e, {shape} @o)" + back,
                    _across(width, sign, signed_range(16)),
                    f"declare {shape} {call}({shape}, {shape})",
                )


def _across(
    width: int, sign: int, limits: tuple[int, int] | None
) -> Callable[[int, int, int], int]:
    def run(a: int, b: int, _: int) -> int:
        both = split(a, width, True) + split(b, width, True)
        sums = [both[i] + sign * both[i + 1] for i in range(0, len(both), 2)]
        return joined([clamp(s, *limits) if limits else s for s in sums], width)

    return run


def shifts() -> Iterator[Any]:
    """PSLL, PSRL, PSRA by the low word of a lane, and by an immediate; PSLLV and so on."""
    for width in (16, 32, 64):
        count = 128 // width
        shape = f"<{count} x i{width}>"
        letter = LETTER[width]
        for name, ir in (("psll", "shl"), ("psrl", "lshr"), ("psra", "ashr")):
            arithmetic_shift = ir == "ashr"
            if arithmetic_shift and width == 64:
                continue
            for immediate in (False, True):
                amount = (
                    "@n = add i64 {3}, 0"
                    if immediate
                    else "@n = extractelement <2 x i64> @y, i64 0"
                )
                body = (
                    f"{amount}\n@over = icmp ugt i64 @n, {width - 1}\n"
                    f"@m = select i1 @over, i64 {width - 1}, i64 @n\n"
                    f"@s = trunc i64 @m to i{width}\n"
                    if width != 64
                    else f"{amount}\n@over = icmp ugt i64 @n, 63\n"
                    "@s = select i1 @over, i64 63, i64 @n\n"
                )
                body += (
                    f"@v = insertelement {shape} poison, i{width} @s, i64 0\n"
                    f"@w = shufflevector {shape} @v, {shape} poison, {mask([0] * count)}\n"
                    f"@a = bitcast <2 x i64> @x to {shape}\n@q = {ir} {shape} @a, @w\n"
                )
                if arithmetic_shift:
                    body += f"@z = bitcast {shape} @q to <2 x i64>"
                else:
                    body += (
                        f"@r = bitcast {shape} @q to <2 x i64>\n"
                        "@z = select i1 @over, <2 x i64> zeroinitializer, <2 x i64> @r"
                    )
                yield operation(
                    f"{name}{letter}" + ("_i" if immediate else ""),
                    body,
                    _shifted(ir, width, immediate),
                )
            if width >= 32:
                top = splat(width - 1, width)
                body = f"@over = icmp ugt S @b, {top}\n"
                if arithmetic_shift:
                    body += f"@s = select <{count} x i1> @over, S {top}, S @b\n@r = ashr S @a, @s"
                else:
                    body += (
                        f"@s = and S @b, {top}\n@q = {ir} S @a, @s\n"
                        f"@r = select <{count} x i1> @over, S zeroinitializer, S @q"
                    )
                yield elements(f"{name}v{letter}", width, body, _shifted_each(ir, width))
    for name, ir in (("pslldq", "shl"), ("psrldq", "lshr")):
        yield operation(
            name,
            "@a = bitcast <2 x i64> @x to i128\n@m = and i64 {3}, 255\n"
            "@over = icmp ugt i64 @m, 15\n@c = select i1 @over, i64 0, i64 @m\n"
            "@w = zext i64 @c to i128\n@s = shl i128 @w, 3\n"
            f"@q = {ir} i128 @a, @s\n@r = select i1 @over, i128 0, i128 @q\n"
            "@z = bitcast i128 @r to <2 x i64>",
            _bytes_shifted(ir),
        )


def shift_element(ir: str, value: int, count: int, width: int) -> int:
    """One element shifted; a count beyond its width leaves zeros, or the sign."""
    if ir == "ashr":
        half = 1 << (width - 1)
        return ((value ^ half) - half) >> min(count, width - 1)
    if count >= width:
        return 0
    return value << count if ir == "shl" else value >> count


def _shifted(ir: str, width: int, immediate: bool) -> Callable[[int, int, int], int]:
    def run(a: int, b: int, imm: int) -> int:
        count = imm if immediate else b & (1 << 64) - 1
        return joined([shift_element(ir, v, count, width) for v in split(a, width)], width)

    return run


def _shifted_each(ir: str, width: int) -> Callable[[int, int], int]:
    return lambda a, b: shift_element(ir, a, b, width)


def _bytes_shifted(ir: str) -> Callable[[int, int, int], int]:
    def run(a: int, _: int, imm: int) -> int:
        if imm & 255 > 15:
            return 0
        count = 8 * (imm & 255)
        return (a << count) & (1 << 128) - 1 if ir == "shl" else a >> count

    return run


OPERATIONS = (*LOGIC, *arithmetic(), *products(), *horizontal(), *shifts())

FAMILY = micros(OPERATIONS)
