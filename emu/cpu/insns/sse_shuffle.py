"""Elements moved about: shuffles, packs, unpacks, blends, extensions, tests.

SDM Vol. 2, the page of each mnemonic. What takes its pattern from an immediate or a register is
restricted Python on bytes; what has a fixed pattern is one shuffle of LLVM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from emu.cpu.compiler.words import (
    raw_load8,
    raw_load32,
    raw_load64,
    raw_store32,
    raw_store64,
    restricted,
)
from emu.cpu.flags import set_status_flags
from emu.cpu.insns.lanes import (
    apply,
    joined,
    lane_read,
    mask,
    micro,
    micros,
    operation,
    place,
    split,
)
from emu.cpu.insns.sse_integer import clamp, signed_range


def both(width: int) -> tuple[str, str, str]:
    """Vector type of the elements; IR that makes @a and @b; IR that makes @z of @r."""
    shape = f"<{128 // width} x i{width}>"
    return (
        shape,
        f"@a = bitcast <2 x i64> @x to {shape}\n@b = bitcast <2 x i64> @y to {shape}\n",
        f"\n@z = bitcast {shape} @r to <2 x i64>",
    )


def fixed(name: str, width: int, pattern: Sequence[int]) -> Any:
    """A shuffle of the elements of two lanes by a known pattern."""
    shape, before, after = both(width)

    def run(a: int, b: int, _: int) -> int:
        pool = split(a, width) + split(b, width)
        return joined([pool[i] for i in pattern], width)

    body = f"@r = shufflevector {shape} @a, {shape} @b, {mask(pattern)}"
    return operation(name, before + body + after, run)


def unpacks() -> Iterator[Any]:
    """PUNPCKL and PUNPCKH, UNPCKLPS and so on: elements of the lower or upper halves in turn."""
    for width, letters in ((8, "bw"), (16, "wd"), (32, "dq"), (64, "qdq")):
        count = 128 // width
        for half, start in (("l", 0), ("h", count // 2)):
            pattern = [start + i // 2 + count * (i % 2) for i in range(count)]
            yield fixed(f"punpck{half}{letters}", width, pattern)


def packs() -> Iterator[Any]:
    """PACKSSWB, PACKUSWB, PACKSSDW, PACKUSDW: signed elements halved with saturation."""
    for width, letters in ((16, "wb"), (32, "dw")):
        for kind in ("ss", "us"):
            count = 256 // width
            half = width // 2
            low, high = signed_range(half) if kind == "ss" else (0, (1 << half) - 1)
            shape = f"<{count} x i{width}>"
            small = f"<{count} x i{half}>"
            _, before, _ = both(width)
            least = ", ".join([f"i{width} {low}"] * count)
            most = ", ".join([f"i{width} {high}"] * count)
            name = f"v{count}i{width}"
            body = (
                f"@c = shufflevector <{count // 2} x i{width}> @a, <{count // 2} x i{width}> @b, "
                f"{mask(range(count))}\n"
                f"@d = call {shape} @llvm.smax.{name}({shape} @c, {shape} <{least}>)\n"
                f"@e = call {shape} @llvm.smin.{name}({shape} @d, {shape} <{most}>)\n"
                f"@f = trunc {shape} @e to {small}\n@z = bitcast {small} @f to <2 x i64>"
            )
            yield operation(
                f"pack{kind}{letters}",
                before + body,
                _packed(width, low, high),
                f"declare {shape} @llvm.smax.{name}({shape}, {shape})",
                f"declare {shape} @llvm.smin.{name}({shape}, {shape})",
            )


def _packed(width: int, low: int, high: int) -> Callable[[int, int, int], int]:
    def run(a: int, b: int, _: int) -> int:
        pool = split(a, width, True) + split(b, width, True)
        return joined([clamp(v, low, high) for v in pool], width // 2)

    return run


def extensions() -> Iterator[Any]:
    """PMOVSX, PMOVZX: the lowest elements of the second lane, made wider."""
    letters = {8: "b", 16: "w", 32: "d", 64: "q"}
    for source in (8, 16, 32):
        for target in (16, 32, 64):
            if target <= source:
                continue
            count = 128 // target
            for kind in ("s", "z"):
                body = (
                    f"@b = bitcast <2 x i64> @y to <{128 // source} x i{source}>\n"
                    f"@c = shufflevector <{128 // source} x i{source}> @b, "
                    f"<{128 // source} x i{source}> poison, {mask(range(count))}\n"
                    f"@d = {kind}ext <{count} x i{source}> @c to <{count} x i{target}>\n"
                    f"@z = bitcast <{count} x i{target}> @d to <2 x i64>"
                )
                yield operation(
                    f"pmov{kind}x{letters[source]}{letters[target]}",
                    body,
                    _extended(source, target, kind == "s"),
                )


def _extended(source: int, target: int, signed: bool) -> Callable[[int, int, int], int]:
    return lambda _, b, __: joined(split(b, source, signed)[: 128 // target], target)


def blends() -> Iterator[Any]:
    """PBLENDW, BLENDPS, BLENDPD by immediate; PBLENDVB, BLENDVPS, BLENDVPD by sign bits."""
    for name, width in (("pblendw", 16), ("blendps", 32), ("blendpd", 64)):
        count = 128 // width
        shape, before, after = both(width)
        body = (
            f"@m = trunc i64 {{3}} to i{count}\n@v = bitcast i{count} @m to <{count} x i1>\n"
            f"@r = select <{count} x i1> @v, {shape} @b, {shape} @a"
        )
        yield operation(name, before + body + after, _blended(width))
    for name, width in (("pblendvb", 8), ("blendvps", 32), ("blendvpd", 64)):
        count = 128 // width
        shape, before, after = both(width)
        body = (
            "@p = inttoptr i64 {3} to ptr\n"
            f"@w = load {shape}, ptr @p, align 1\n@v = icmp slt {shape} @w, zeroinitializer\n"
            f"@r = select <{count} x i1> @v, {shape} @b, {shape} @a"
        )
        yield operation(name, before + body + after, _blended_by_sign(width))


def _blended(width: int) -> Callable[[int, int, int], int]:
    def run(a: int, b: int, imm: int) -> int:
        pairs = zip(split(a, width), split(b, width), strict=True)
        return joined([y if imm >> i & 1 else x for i, (x, y) in enumerate(pairs)], width)

    return run


def _blended_by_sign(width: int) -> Callable[[int, int, int], int]:
    def run(a: int, b: int, address: int) -> int:
        signs = split(lane_read(address), width, True)
        triples = zip(split(a, width), split(b, width), signs, strict=True)
        return joined([y if s < 0 else x for x, y, s in triples], width)

    return run


@restricted
def apply_masked(cpu: Any, uop: Any, op: Any) -> None:
    """Run a lane operation whose fourth operand is the lane imm."""
    op(
        place(cpu, uop.r0),
        place(cpu, uop.r1),
        place(cpu, uop.r2),
        place(cpu, uop.imm & 0xFF),
    )


@restricted
def apply_part(cpu: Any, uop: Any, op: Any) -> None:
    """Run a lane operation whose second operand begins imm bytes into lane r2."""
    op(place(cpu, uop.r0), place(cpu, uop.r1), place(cpu, uop.r2) + uop.imm, 0)


@restricted
def put(cpu: Any, uop: Any, low: int, high: int) -> None:
    """Write lane r0."""
    raw_store64(place(cpu, uop.r0), low)
    raw_store64(place(cpu, uop.r0) + 8, high)


@restricted
def pshufb(cpu: Any, uop: Any) -> None:
    """PSHUFB: byte i of r0 := byte r2[i] of r1, zero where bit 7 of r2[i] is set."""
    low = 0
    high = 0
    for i in range(16):
        pick = raw_load8(place(cpu, uop.r2) + i)
        value = raw_load8(place(cpu, uop.r1) + (pick & 15))
        value = 0 if pick & 0x80 else value
        if i < 8:
            low |= value << (8 * i)
        else:
            high |= value << (8 * i - 64)
    put(cpu, uop, low, high)


@restricted
def dwords_by(cpu: Any, uop: Any, second: int) -> None:
    """PSHUFD, SHUFPS: two 32-bit elements of r1 and two of r2 (`second`) or r1, by imm."""
    a = place(cpu, uop.r1)
    b = place(cpu, uop.r2) if second else a
    imm = uop.imm
    low = raw_load32(a + (imm & 3) * 4) | raw_load32(a + (imm >> 2 & 3) * 4) << 32
    high = raw_load32(b + (imm >> 4 & 3) * 4) | raw_load32(b + (imm >> 6 & 3) * 4) << 32
    put(cpu, uop, low, high)


@restricted
def words_picked(word: int, imm: int) -> int:
    """The four 16-bit elements of a word picked by two bits of imm each."""
    value = 0
    for i in range(4):
        value |= (word >> ((imm >> (2 * i) & 3) << 4) & 0xFFFF) << (16 * i)
    return value


@restricted
def pshufw(cpu: Any, uop: Any, low: int, high: int) -> None:
    """PSHUFLW, PSHUFHW, PSHUFW: the 16-bit elements of one word of r1 shuffled."""
    first = raw_load64(place(cpu, uop.r1))
    second = raw_load64(place(cpu, uop.r1) + 8)
    if low:
        first = words_picked(first, uop.imm)
    if high:
        second = words_picked(second, uop.imm)
    put(cpu, uop, first, second)


@restricted
def shufpd(cpu: Any, uop: Any) -> None:
    """SHUFPD: the word of r1 that bit 0 of imm picks, the word of r2 that bit 1 picks."""
    low = raw_load64(place(cpu, uop.r1) + (uop.imm & 1) * 8)
    high = raw_load64(place(cpu, uop.r2) + (uop.imm >> 1 & 1) * 8)
    put(cpu, uop, low, high)


@restricted
def palignr(cpu: Any, uop: Any, width: int) -> None:
    """PALIGNR: bytes imm and up of r1:r2, where each part is `width` bytes."""
    low = 0
    high = 0
    imm = uop.imm & 0xFF
    for i in range(width):
        at = imm + i
        value = 0
        if at < width:
            value = raw_load8(place(cpu, uop.r2) + at)
        elif at < 2 * width:
            value = raw_load8(place(cpu, uop.r1) + (at - width))
        if i < 8:
            low |= value << (8 * i)
        else:
            high |= value << (8 * i - 64)
    put(cpu, uop, low, high)


@restricted
def insertps(cpu: Any, uop: Any, memory: int) -> None:
    """INSERTPS: element imm[7:6] of r2 put at imm[5:4] of r1; then imm[3:0] clears elements."""
    imm = uop.imm
    pick = 0 if memory else imm >> 6 & 3
    value = raw_load32(place(cpu, uop.r2) + pick * 4)
    low = raw_load64(place(cpu, uop.r1))
    high = raw_load64(place(cpu, uop.r1) + 8)
    put(cpu, uop, low, high)
    raw_store32(place(cpu, uop.r0) + (imm >> 4 & 3) * 4, value)
    for i in range(4):
        if imm >> i & 1:
            raw_store32(place(cpu, uop.r0) + 4 * i, 0)


@restricted
def permute_dwords(cpu: Any, uop: Any, lanes: int) -> None:
    """VPERMD, VPERMPS; VPERMILPS in one lane: elements of r2 by the low bits of those of r1."""
    first = 0
    second = 0
    third = 0
    fourth = 0
    for i in range(4 * lanes):
        pick = raw_load32(place(cpu, uop.r1) + 4 * i) & (4 * lanes - 1)
        value = raw_load32(place(cpu, uop.r2) + pick * 4) << (32 * (i % 2))
        if i // 2 == 0:
            first |= value
        elif i // 2 == 1:
            second |= value
        elif i // 2 == 2:
            third |= value
        else:
            fourth |= value
    put(cpu, uop, first, second)
    if lanes == 2:
        raw_store64(place(cpu, uop.r0) + 16, third)
        raw_store64(place(cpu, uop.r0) + 24, fourth)


@restricted
def permute_words(cpu: Any, uop: Any) -> None:
    """VPERMQ, VPERMPD: four words of r1 on, each picked by two bits of imm."""
    a = place(cpu, uop.r1)
    imm = uop.imm
    first = raw_load64(a + (imm & 3) * 8)
    second = raw_load64(a + (imm >> 2 & 3) * 8)
    third = raw_load64(a + (imm >> 4 & 3) * 8)
    fourth = raw_load64(a + (imm >> 6 & 3) * 8)
    put(cpu, uop, first, second)
    raw_store64(place(cpu, uop.r0) + 16, third)
    raw_store64(place(cpu, uop.r0) + 24, fourth)


@restricted
def permute_pair(cpu: Any, uop: Any) -> None:
    """VPERMILPD by register: words of r1 by bit 1 of those of r2."""
    low = raw_load64(place(cpu, uop.r1) + (raw_load64(place(cpu, uop.r2)) >> 1 & 1) * 8)
    high = raw_load64(place(cpu, uop.r1) + (raw_load64(place(cpu, uop.r2) + 8) >> 1 & 1) * 8)
    put(cpu, uop, low, high)


@restricted
def spread(cpu: Any, uop: Any, width: int) -> None:
    """VBROADCAST, VPBROADCAST, MOVDDUP: the low element of r1 in every place of r0."""
    value = raw_load64(place(cpu, uop.r1))
    if width == 8:
        value = (value & 0xFF) * 0x0101010101010101
    elif width == 16:
        value = (value & 0xFFFF) * 0x0001000100010001
    elif width == 32:
        value = (value & 0xFFFFFFFF) * 0x0000000100000001
    put(cpu, uop, value, value)


@restricted
def test_bits(cpu: Any, uop: Any, lanes: int, bits: int) -> None:
    """PTEST, VTESTPS, VTESTPD: ZF when r1 AND r2 is zero, CF when NOT r1 AND r2 is."""
    met = 0
    missed = 0
    for word in range(2 * lanes):
        a = raw_load64(place(cpu, uop.r1) + 8 * word)
        b = raw_load64(place(cpu, uop.r2) + 8 * word) & bits
        met |= a & b
        missed |= ~a & b
    set_status_flags(cpu, (0x40 if met == 0 else 0) | (1 if missed == 0 else 0))


@restricted
def least_word(cpu: Any, uop: Any) -> None:
    """PHMINPOSUW: the smallest 16-bit element of r2 and its position."""
    best = 0x10000
    position = 0
    for i in range(8):
        value = raw_load64(place(cpu, uop.r2) + 8 * (i // 4)) >> (16 * (i % 4)) & 0xFFFF
        position = i if value < best else position
        best = min(value, best)
    put(cpu, uop, best | position << 16, 0)


@restricted
def mpsadbw(cpu: Any, uop: Any) -> None:
    """MPSADBW: eight sums of four absolute differences; imm says where in r1 and r2."""
    low = 0
    high = 0
    from_a = uop.imm >> 2 & 1
    from_b = uop.imm & 3
    for i in range(8):
        total = 0
        for j in range(4):
            a = raw_load8(place(cpu, uop.r1) + from_a * 4 + (i + j))
            b = raw_load8(place(cpu, uop.r2) + from_b * 4 + j)
            total += a - b if a > b else b - a
        if i < 4:
            low |= total << (16 * i)
        else:
            high |= total << (16 * i - 64)
    put(cpu, uop, low, high)


MASKED = ("pblendvb", "blendvps", "blendvpd")
BLENDS = tuple(blends())
EXTENSIONS = tuple(extensions())
DUPLICATES = (
    fixed("movsldup", 32, (4, 4, 6, 6)),
    fixed("movshdup", 32, (5, 5, 7, 7)),
)

FAMILY = (
    *micros((*unpacks(), *packs(), *DUPLICATES)),
    *(micro(op.name, apply_masked if op.name in MASKED else apply, op=op) for op in BLENDS),
    *(micro(op.name, apply_part, op=op) for op in EXTENSIONS),
    micro("pshufb", pshufb),
    micro("pshufd", dwords_by, second=0),
    micro("shufps", dwords_by, second=1),
    micro("pshuflw", pshufw, low=1, high=0),
    micro("pshufhw", pshufw, low=0, high=1),
    micro("shufpd", shufpd),
    micro("palignr", palignr, width=16),
    micro("palignr_mmx", palignr, width=8),
    micro("insertps", insertps, memory=0),
    micro("insertps_m", insertps, memory=1),
    micro("vpermd", permute_dwords, lanes=2),
    micro("permildwords", permute_dwords, lanes=1),
    micro("vpermq", permute_words),
    micro("permilwords", permute_pair),
    *(micro(f"spread{width}", spread, width=width) for width in (8, 16, 32, 64)),
    *(micro(f"ptest{n}", test_bits, lanes=n, bits=(1 << 64) - 1) for n in (1, 2)),
    *(micro(f"vtestps{n}", test_bits, lanes=n, bits=0x8000000080000000) for n in (1, 2)),
    *(micro(f"vtestpd{n}", test_bits, lanes=n, bits=1 << 63) for n in (1, 2)),
    micro("phminposuw", least_word),
    micro("mpsadbw", mpsadbw),
)
