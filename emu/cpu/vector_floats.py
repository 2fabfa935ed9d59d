"""How conversions, rounding, horizontal and fused arithmetic become micro-operations."""

from __future__ import annotations

from collections.abc import Callable

from iced_x86 import MemorySizeInfo

from emu.cpu.insns.sse_fused import ORDERS
from emu.cpu.vector_builders import SPARE, Build, Vec, kept


def element_bytes(row: Vec) -> int:
    """Bytes of an element, by the last letter of the operation."""
    return 8 if row.op[-1] == "d" else 4


def first_lane(b: Build) -> int:
    """The lane of SRC1: DEST in legacy encodings."""
    return b.lane(1) if b.count == 3 else b.lane(0)


def source_bytes(b: Build, position: int) -> int:
    """Bytes of a source, in memory or in a register."""
    if b.is_memory(position):
        return int(MemorySizeInfo(b.insn.memory_size).size)
    return b.decode.operand_bits(b.insn, position) // 8


def part(b: Build, position: int, size: int) -> int:
    """The lane of a source of which `size` bytes count; in memory it needs no alignment."""
    if b.is_memory(position):
        b.access(f"vload{size}", SPARE)
        return SPARE
    return b.lane(position)


def widen(b: Build, row: Vec) -> None:
    """CVTPS2PD, CVTDQ2PD: elements of half the width."""
    source = part(b, 1, 8 * b.lanes)
    b.emit(row.op, b.lane(0), 0, source, 2 * b.lanes)
    b.finish(b.lane(0))


def narrow(b: Build, row: Vec) -> None:
    """CVTPD2PS, CVTPD2DQ, CVTTPD2DQ: to elements of half the width in one lane."""
    size = source_bytes(b, 1)
    if b.is_memory(1):
        b.access(f"vload{size}" if b.vex else f"vload{size}a", SPARE)
        source = SPARE
    else:
        source = b.lane(1)
    b.emit(row.op, b.lane(0), 0, source, size // 8)
    b.finish(b.lane(0), 1)


def from_mmx(b: Build, row: Vec) -> None:
    """CVTPI2PS, CVTPI2PD: two integers of an MMX register or memory."""
    if b.is_memory(1):
        b.access("vload8", SPARE)
    else:
        b.emit("mmxfrom", SPARE, b.number(1))
    b.emit(row.op, b.lane(0), 0, SPARE, 2)
    if b.mmx or row.op == "dq2ps":
        b.emit("mmxused")


def to_mmx(b: Build, row: Vec) -> None:
    """CVTPS2PI, CVTPD2PI and those that truncate: two integers to an MMX register."""
    if b.is_memory(1):
        b.access("vload8" if row.width == 8 else "vload16a", SPARE)
        source = SPARE
    else:
        source = b.lane(1)
    b.emit(row.op, SPARE, 0, source, 2)
    b.emit("mmxused")
    b.emit("mmxto", b.number(0), SPARE)


def round_to(b: Build, row: Vec) -> None:
    """ROUNDPS, ROUNDSD and so on."""
    control = b.imm & 15
    last = b.source(b.count - 1, row)
    if row.width:
        kept(b, row.op, last, control | 1 << 8)
        return
    b.emit(row.op, b.lane(0), 0, last, control | 16 * b.lanes // element_bytes(row) << 8)
    b.finish(b.lane(0))


def by_lanes(b: Build, row: Vec) -> None:
    """HADDPS, HSUBPD and so on; DPPS and DPPD with their immediate."""
    last = b.source(b.count - 1, row)
    immediate = b.imm & 0xFF
    count = immediate | b.lanes << 8 if row.op.startswith("dot") else b.lanes
    b.emit(row.op, b.lane(0), first_lane(b), last, count)
    b.finish(b.lane(0))


def by_elements(b: Build, row: Vec) -> None:
    """ADDSUBPS, ADDSUBPD."""
    last = b.source(b.count - 1, row)
    b.emit(row.op, b.lane(0), first_lane(b), last, 16 * b.lanes // element_bytes(row))
    b.finish(b.lane(0))


def approximate(b: Build, row: Vec) -> None:
    """RCPPS, RSQRTPS and the scalar forms."""
    last = b.source(b.count - 1, row)
    if row.width:
        kept(b, row.op, last, 1)
        return
    b.emit(row.op, b.lane(0), 0, last, 4 * b.lanes)
    b.finish(b.lane(0))


def from_half(b: Build, row: Vec) -> None:
    """VCVTPH2PS."""
    source = part(b, 1, 8 * b.lanes)
    b.emit(row.op, b.lane(0), 0, source, 4 * b.lanes)
    b.finish(b.lane(0))


def to_half(b: Build, row: Vec) -> None:
    """VCVTPS2PH: to a register or to memory."""
    memory = b.is_memory(0)
    target = SPARE if memory else b.lane(0)
    b.emit(row.op, target, 0, b.lane(1), b.imm & 7 | 4 * b.lanes << 8)
    if memory:
        b.access(f"vstore{8 * b.lanes}", SPARE)
    else:
        b.finish(target, 1)


def fused(even: int, odd: int) -> Callable[[Build, Vec], None]:
    """VFMADD132PS and its like: what `even` and `odd` elements negate, product 1 and addend 2."""

    def build(b: Build, row: Vec) -> None:
        last = b.source(2, row)
        count = 1 if row.width else 16 * b.lanes // element_bytes(row)
        b.emit(row.op, b.lane(0), b.lane(1), last, count | even << 8 | odd << 10)
        b.finish(b.lane(0))

    return build


FUSED_KINDS = {
    "FMADD": (0, 0),
    "FMSUB": (2, 2),
    "FNMADD": (1, 1),
    "FNMSUB": (3, 3),
    "FMADDSUB": (2, 0),
    "FMSUBADD": (0, 2),
}

FORMS = (("PS", 0), ("PD", 0), ("SS", 4), ("SD", 8))

ROWS = (
    Vec("CVTPS2PD", "ps2pd", widen),
    Vec("CVTDQ2PD", "dq2pd", widen),
    Vec("CVTPD2PS", "pd2ps", narrow),
    Vec("CVTPD2DQ", "pd2dq", narrow),
    Vec("CVTTPD2DQ", "tpd2dq", narrow),
    Vec("CVTPI2PS", "dq2ps", from_mmx, 8, "m"),
    Vec("CVTPI2PD", "dq2pd", from_mmx, 8, "m"),
    Vec("CVTPS2PI", "ps2dq", to_mmx, 8, "m"),
    Vec("CVTTPS2PI", "tps2dq", to_mmx, 8, "m"),
    Vec("CVTPD2PI", "pd2dq", to_mmx, 16, "m"),
    Vec("CVTTPD2PI", "tpd2dq", to_mmx, 16, "m"),
    *(Vec(f"ROUND{form}", f"round{form[1].lower()}", round_to, width) for form, width in FORMS),
    *(
        Vec(f"H{name}P{kind}", f"h{name.lower()}{kind.lower()}", by_lanes)
        for name in ("ADD", "SUB")
        for kind in "SD"
    ),
    *(Vec(f"DPP{kind}", f"dot{kind.lower()}", by_lanes) for kind in "SD"),
    *(Vec(f"ADDSUBP{kind}", f"addsub{kind.lower()}", by_elements) for kind in "SD"),
    *(
        Vec(f"{name}{form}", name.lower(), approximate, width)
        for name in ("RCP", "RSQRT")
        for form, width in (("PS", 0), ("SS", 4))
    ),
    Vec("CVTPH2PS", "ph2ps", from_half, 0, "v"),
    Vec("CVTPS2PH", "ps2ph", to_half, 0, "v"),
    *(
        Vec(f"{name}{order}{form}", f"fma{order}{form[1].lower()}", fused(*signs), width, "v")
        for name, signs in FUSED_KINDS.items()
        for order in ORDERS
        for form, width in (FORMS if "SUBADD" not in name and "ADDSUB" not in name else FORMS[:2])
    ),
)
