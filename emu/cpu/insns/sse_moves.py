"""Vector registers to and from memory and general registers, a micro-operation each.

SDM Vol. 2: MOVAPS, MOVUPS, MOVDQA, MOVDQU, MOVD, MOVQ, MOVSS, MOVSD, MOVLPS, MOVHPS, MASKMOVDQU,
PINSR, PEXTR, MOVMSKPS, PMOVMSKB, LDMXCSR, STMXCSR; Vol. 1, Memory Alignment.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    check_linear,
    fault,
    flat_address,
    linear_in,
    load,
    load_slow,
    pass_device,
    raw_load,
    raw_store,
    restart,
    store,
    store_slow,
    tlb_entry,
    translate,
    write_register,
)
from emu.cpu.compiler.words import (
    outlined,
    raw_load8,
    raw_load32,
    raw_load64,
    raw_store64,
    restricted,
    unlikely,
)
from emu.cpu.insns.lanes import micro, place
from emu.cpu.paging import WRITE
from emu.cpu.physmap import PAGE, PAGE_OFFSET
from emu.cpu.state import Vector

MXCSR_RESERVED = 0xFFFF0000


@outlined
def load_wide(cpu: Any, linear: int, target: int, count: int, seg: int) -> int:
    """Read 16 or 32 bytes, whatever lies there, to the host address `target`."""
    done = 0
    while done < count:
        value = load_slow(cpu, linear + done & cpu.linear_mask, 8, seg)
        if cpu.exit_code:
            return 0
        raw_store64(target + done, value)
        done += 8
    return 0


@outlined
def store_wide(cpu: Any, linear: int, source: int, count: int, seg: int) -> int:
    """Write 16 or 32 bytes, whatever lies there; on a fault nothing is written."""
    if check_linear(cpu, linear, 1, seg, 1) == 0:
        return 0
    first = 0x1000 - (linear & PAGE_OFFSET)
    if first < count:
        # both pages before either is written
        following = linear + first & cpu.linear_mask
        if check_linear(cpu, following, 1, seg, 1) == 0:
            return 0
        translate(cpu, linear, WRITE, first)
        pass_device(cpu)
        if cpu.exit_code == 0:
            translate(cpu, following, WRITE, count - first)
            pass_device(cpu)
    done = 0
    while done < count and cpu.exit_code == 0:
        store_slow(cpu, linear + done & cpu.linear_mask, raw_load64(source + done), 8, seg)
        done += 8
    return 0


@restricted
def vector_load(cpu: Any, uop: Any, count: int, aligned: int) -> None:
    """Lanes from r0 on := memory; a smaller operand is zero-extended to a lane."""
    linear = flat_address(cpu, uop)
    target = place(cpu, uop.r0)
    if count <= 8:
        raw_store64(target, load(cpu, uop, linear, 8 * count, uop.seg))
        raw_store64(target + 8, 0)
    else:
        if aligned:
            if unlikely(linear & (count - 1)):
                fault(cpu, uop, Vector.GP, 0)
        entry = tlb_entry(cpu, linear)
        if unlikely(linear + (count - 1) & PAGE != entry.read_tag):
            spare = place(cpu, 132)
            load_wide(cpu, linear, spare, count, uop.seg)
            if cpu.exit_code:
                restart(cpu, uop)
            source = spare
        else:
            source = linear + entry.addend
        for at in range(0, count, 8):
            raw_store64(target + at, raw_load64(source + at))


@restricted
def vector_store(cpu: Any, uop: Any, count: int, aligned: int) -> None:
    """Memory := the low bytes from lane r0 on, imm bytes into it."""
    linear = flat_address(cpu, uop)
    source = place(cpu, uop.r0) + uop.imm
    if count <= 8:
        store(cpu, uop, linear, raw_load(source, 8 * count), 8 * count, uop.seg)
    else:
        if aligned:
            if unlikely(linear & (count - 1)):
                fault(cpu, uop, Vector.GP, 0)
        entry = tlb_entry(cpu, linear)
        if unlikely(linear + (count - 1) & PAGE != entry.write_tag):
            store_wide(cpu, linear, source, count, uop.seg)
            if cpu.exit_code:
                restart(cpu, uop)
        else:
            host = linear + entry.addend
            for at in range(0, count, 8):
                raw_store64(host + at, raw_load64(source + at))


@restricted
def move_lane(cpu: Any, uop: Any) -> None:
    """Lane r0 := lane r1."""
    low = raw_load64(place(cpu, uop.r1))
    high = raw_load64(place(cpu, uop.r1) + 8)
    raw_store64(place(cpu, uop.r0), low)
    raw_store64(place(cpu, uop.r0) + 8, high)


@restricted
def zero_above(cpu: Any, uop: Any, kept: int) -> None:
    """The lanes of register r0 (a lane number) from `kept` on := 0."""
    for at in range(16 * kept, 64, 8):
        raw_store64(place(cpu, uop.r0) + at, 0)


@restricted
def zero_all(cpu: Any, uop: Any, kept: int) -> None:
    """VZEROALL, VZEROUPPER: the lanes of registers 0 to imm - 1 from `kept` on := 0."""
    number = 0
    while number < uop.imm:
        for at in range(16 * kept, 64, 8):
            raw_store64(place(cpu, number << 2) + at, 0)
        number += 1


@restricted
def words_to(cpu: Any, uop: Any, low: int, high: int) -> None:
    """Lane r0 := a word of r1 and a word of r2, 0 the low one and 1 the high one."""
    first = raw_load64(place(cpu, uop.r1) + 8 * low)
    second = raw_load64(place(cpu, uop.r2) + 8 * high)
    raw_store64(place(cpu, uop.r0), first)
    raw_store64(place(cpu, uop.r0) + 8, second)


@restricted
def low_word(cpu: Any, uop: Any) -> None:
    """MOVQ: lane r0 := the low word of r1, zero-extended."""
    value = raw_load64(place(cpu, uop.r1))
    raw_store64(place(cpu, uop.r0), value)
    raw_store64(place(cpu, uop.r0) + 8, 0)


@restricted
def single_to(cpu: Any, uop: Any) -> None:
    """MOVSS between registers: r1 with its low 32 bits from r2."""
    low = raw_load64(place(cpu, uop.r1)) & ~0xFFFFFFFF | raw_load32(place(cpu, uop.r2))
    high = raw_load64(place(cpu, uop.r1) + 8)
    raw_store64(place(cpu, uop.r0), low)
    raw_store64(place(cpu, uop.r0) + 8, high)


@restricted
def from_general(cpu: Any, uop: Any, width: int) -> None:
    """MOVD, MOVQ: lane r0 := general register r1, zero-extended."""
    value = cpu.gpr[uop.r1]
    if width == 8:
        value = cpu.gpr8[uop.r1]
    elif width != 64:
        value &= (1 << width) - 1
    raw_store64(place(cpu, uop.r0), value)
    raw_store64(place(cpu, uop.r0) + 8, 0)


@restricted
def to_general(cpu: Any, uop: Any, width: int) -> None:
    """MOVD, MOVQ, PEXTR: register r0 := zero-extended bits of lane r1, imm bytes into it."""
    source = place(cpu, uop.r1) + uop.imm
    value = raw_load(source, width)
    write_register(cpu, uop.r0, 64, value)


@restricted
def insert(cpu: Any, uop: Any, width: int) -> None:
    """PINSR: lane r0 := r1 with the low bits of lane r2 put imm bytes into it."""
    value = raw_load64(place(cpu, uop.r2))
    low = raw_load64(place(cpu, uop.r1))
    high = raw_load64(place(cpu, uop.r1) + 8)
    raw_store64(place(cpu, uop.r0), low)
    raw_store64(place(cpu, uop.r0) + 8, high)
    raw_store(place(cpu, uop.r0) + uop.imm, value, width)


@restricted
def gather_signs(cpu: Any, word: int, width: int) -> int:
    """The top bit of each element of a word, in order."""
    count = 64 // width
    if width == 64:
        return word >> 63
    if width == 32:
        return word >> 31 & 1 | word >> 62 & 2
    return ((word & 0x8080808080808080) * 0x0002040810204081) >> 56 if count else 0


@restricted
def signs(cpu: Any, uop: Any, width: int, lanes: int) -> None:
    """PMOVMSKB, MOVMSKPS, MOVMSKPD: register r0 := the top bits of the elements from lane r1 on."""
    value = 0
    count = 64 // width
    for word in range(2 * lanes):
        part = gather_signs(cpu, raw_load64(place(cpu, uop.r1) + 8 * word), width)
        value |= part << (count * word)
    cpu.gpr[uop.r0] = value


@restricted
def masked_store(cpu: Any, uop: Any, mode: str) -> None:
    """MASKMOVDQU: the bytes of r0 whose bit 7 in r1 is set to DS:rDI.

    The address size's mask is imm. All bytes are asked for before one is written.
    """
    offset = cpu.rdi & uop.imm
    done = 0
    while done < 16:
        if raw_load8(place(cpu, uop.r1) + done) & 0x80:
            linear = linear_in(cpu, uop, mode, uop.seg, offset + done & uop.imm, 1, 1)
            host = translate(cpu, linear, WRITE, 1)
            pass_device(cpu)
            if host == 0 and cpu.exit_code:
                restart(cpu, uop)
        done += 1
    done = 0
    while done < 16:
        if raw_load8(place(cpu, uop.r1) + done) & 0x80:
            linear = linear_in(cpu, uop, mode, uop.seg, offset + done & uop.imm, 1, 1)
            value = raw_load8(place(cpu, uop.r0) + done)
            store(cpu, uop, linear, value, 8, uop.seg)
        done += 1


@restricted
def load_mxcsr(cpu: Any, uop: Any) -> None:
    """LDMXCSR: #GP for a reserved bit."""
    value = load(cpu, uop, flat_address(cpu, uop), 32, uop.seg)
    if unlikely(value & MXCSR_RESERVED):
        fault(cpu, uop, Vector.GP, 0)
    cpu.mxcsr = value


@restricted
def store_mxcsr(cpu: Any, uop: Any) -> None:
    """STMXCSR."""
    store(cpu, uop, flat_address(cpu, uop), cpu.mxcsr, 32, uop.seg)


@restricted
def mmx_from(cpu: Any, uop: Any) -> None:
    """Lane r0 := MMX register r1, zero-extended. SDM Vol. 1, MMX Registers: the mantissas."""
    raw_store64(place(cpu, uop.r0), cpu.st_mantissa[uop.r1])
    raw_store64(place(cpu, uop.r0) + 8, 0)


@restricted
def mmx_to(cpu: Any, uop: Any) -> None:
    """MMX register r0 := the low word of lane r1."""
    cpu.st_mantissa[uop.r0] = raw_load64(place(cpu, uop.r1))
    cpu.st_exponent[uop.r0] = 0xFFFF


@restricted
def mmx_used(cpu: Any, uop: Any) -> None:
    """Any MMX instruction but EMMS: TOP := 0, all tags valid. SDM Vol. 3, MMX and the x87 FPU."""
    cpu.fsw &= 0xC7FF
    cpu.ftw = 0xFF


@restricted
def emms(cpu: Any, uop: Any) -> None:
    """EMMS: all tags empty, TOP := 0."""
    cpu.ftw = 0


FAMILY = (
    *(micro(f"vload{n}", vector_load, count=n, aligned=0) for n in (1, 2, 4, 8, 16, 32)),
    *(micro(f"vload{n}a", vector_load, count=n, aligned=1) for n in (16, 32)),
    *(micro(f"vstore{n}", vector_store, count=n, aligned=0) for n in (1, 2, 4, 8, 16, 32)),
    *(micro(f"vstore{n}a", vector_store, count=n, aligned=1) for n in (16, 32)),
    micro("vmove", move_lane),
    micro("vzero1", zero_above, kept=1),
    micro("vzero2", zero_above, kept=2),
    micro("vzeroupper", zero_all, kept=1),
    micro("vzeroall", zero_all, kept=0),
    *(micro(f"words{a}{b}", words_to, low=a, high=b) for a in (0, 1) for b in (0, 1)),
    micro("lowword", low_word),
    micro("single", single_to),
    *(micro(f"fromgpr{n}", from_general, width=n) for n in (8, 16, 32, 64)),
    *(micro(f"togpr{n}", to_general, width=n) for n in (8, 16, 32, 64)),
    *(micro(f"insert{n}", insert, width=n) for n in (8, 16, 32, 64)),
    *(micro(f"signs{w}x{n}", signs, width=w, lanes=n) for w in (8, 32, 64) for n in (1, 2)),
    micro("maskmovdqu_long", masked_store, mode="long"),
    micro("maskmovdqu_legacy", masked_store, mode="legacy"),
    micro("ldmxcsr", load_mxcsr),
    micro("stmxcsr", store_mxcsr),
    micro("mmxfrom", mmx_from),
    micro("mmxto", mmx_to),
    micro("mmxused", mmx_used),
    micro("emms", emms),
)
