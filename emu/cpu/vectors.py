"""SSE, AVX and MMX instructions as sequences of lane micro-operations.

A memory source is first loaded into a spare register, so that each operation exists once: the same
one serves the legacy, the 128-bit VEX and both lanes of the 256-bit VEX encoding, and MMX. What can
fault comes first, what writes registers after it. SDM Vol. 2, Instruction Exception Specification:
legacy 16-byte operands are aligned, VEX ones are not; VEX clears the register above the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iced_x86 import EncodingKind, Instruction, Mnemonic, OpKind

from emu.cpu import vector_floats
from emu.cpu.insns.sse_float import KINDS
from emu.cpu.registers import REGISTERS

if TYPE_CHECKING:
    from emu.cpu.decode import Translator, Uop

from emu.cpu.vector_builders import (
    AVX,
    SSE,
    X87,
    Build,
    Unsupported,
    Vec,
    align,
    alone,
    broadcast,
    broadcast_lane,
    change_format,
    compare,
    control_register,
    duplicate,
    dwords,
    extend,
    extract,
    extract_lane,
    floating,
    from_integer,
    half,
    insert,
    insert_lane,
    insert_single,
    interleave,
    mask_move,
    masked,
    move,
    move_between,
    move_general,
    one,
    paired,
    permute,
    permute_by,
    permute_in,
    permute_lanes,
    predicate,
    scalar,
    shift,
    shift_bytes,
    shuffle_bytes,
    split_immediate,
    test,
    to_integer,
    to_mask,
    two,
    zero,
)

BOTH = "svm"
TWO_WITH_MMX = (
    "PADDB PADDW PADDD PADDQ PSUBB PSUBW PSUBD PSUBQ PADDSB PADDSW PADDUSB PADDUSW PSUBSB "
    "PSUBSW PSUBUSB PSUBUSW PMINUB PMINSW PMAXUB PMAXSW PAVGB PAVGW PCMPEQB PCMPEQW PCMPEQD "
    "PCMPGTB PCMPGTW PCMPGTD PSIGNB PSIGNW PSIGND PMULLW PMULHW PMULHUW PMULUDQ PMULHRSW "
    "PMADDWD PMADDUBSW PSADBW "
)
TWO = (
    "PMINSB PMINUW PMINSD PMINUD PMAXSB PMAXUW PMAXSD PMAXUD PCMPEQQ PCMPGTQ PMULLD PMULDQ "
    "PACKUSDW PUNPCKLQDQ PUNPCKHQDQ SHUFPS PBLENDW "
)
PAIRED = "PHADDW PHADDD PHADDSW PHSUBW PHSUBD PHSUBSW PACKSSWB PACKUSWB PACKSSDW "
INTERLEAVED = "PUNPCKLBW PUNPCKLWD PUNPCKLDQ PUNPCKHBW PUNPCKHWD PUNPCKHDQ "

ROWS = (
    # moves
    *(Vec(f"MOV{n}", "", move) for n in ("APS", "APD", "DQA", "NTPS", "NTPD", "NTDQ", "NTDQA")),
    *(Vec(f"MOV{n}", "", move, unaligned=True) for n in ("UPS", "UPD", "DQU")),
    Vec("LDDQU", "", move, unaligned=True),
    Vec("MOVD", "", move_general, 4, BOTH),
    Vec("MOVQ", "", move_general, 8, BOTH),
    Vec("MOVNTQ", "", move, 8, "m"),
    Vec("MOVSS", "", scalar, 4),
    Vec("MOVSD", "", scalar, 8),
    Vec("MOVNTSS", "", scalar, 4, "s"),
    Vec("MOVNTSD", "", scalar, 8, "s"),
    Vec("MOVLPS", "low", half),
    Vec("MOVLPD", "low", half),
    Vec("MOVHPS", "high", half),
    Vec("MOVHPD", "high", half),
    Vec("MOVLHPS", "high", half),
    Vec("MOVHLPS", "low", half),
    Vec("MOVDDUP", "spread64", duplicate, 8),
    Vec("MOVSLDUP", "movsldup", one),
    Vec("MOVSHDUP", "movshdup", one),
    Vec("PMOVMSKB", "signs8", to_mask, 0, BOTH),
    Vec("MOVMSKPS", "signs32", to_mask),
    Vec("MOVMSKPD", "signs64", to_mask),
    Vec("MASKMOVDQU", "", mask_move),
    Vec("MASKMOVQ", "", mask_move, 8, "m"),
    Vec("MOVDQ2Q", "mmxto", move_between, 8, "m"),
    Vec("MOVQ2DQ", "mmxfrom", move_between, 8, "m"),
    Vec("LDMXCSR", "ldmxcsr", control_register),
    Vec("STMXCSR", "stmxcsr", control_register),
    Vec("EMMS", "emms", alone, 0, "m"),
    Vec("ZEROUPPER", "vzeroupper", zero, 0, "v"),
    Vec("ZEROALL", "vzeroall", zero, 0, "v"),
    # logic
    *(Vec(f"P{n}", f"p{n.lower()}", two, 0, BOTH) for n in ("AND", "ANDN", "OR", "XOR")),
    *(
        Vec(f"{name}P{kind}", f"p{name.lower()}", two)
        for name in ("AND", "ANDN", "OR", "XOR")
        for kind in "SD"
    ),
    # arithmetic
    *(Vec(n, n.lower(), two, 0, BOTH) for n in TWO_WITH_MMX.split()),
    *(Vec(n, n.lower(), two) for n in TWO.split()),
    *(Vec(n, n.lower(), paired, 0, BOTH) for n in PAIRED.split()),
    *(Vec(n, n.lower(), interleave, 0, BOTH) for n in INTERLEAVED.split()),
    Vec("PSHUFB", "pshufb", shuffle_bytes, 0, BOTH),
    Vec("UNPCKLPS", "punpckldq", two),
    Vec("UNPCKHPS", "punpckhdq", two),
    Vec("UNPCKLPD", "punpcklqdq", two),
    Vec("UNPCKHPD", "punpckhqdq", two),
    *(Vec(f"PABS{n}", f"pabs{n.lower()}", one, 0, BOTH) for n in "BWD"),
    Vec("PHMINPOSUW", "phminposuw", one),
    Vec("PSHUFD", "pshufd", one),
    Vec("PSHUFLW", "pshuflw", one),
    Vec("PSHUFHW", "pshufhw", one),
    Vec("PSHUFW", "pshuflw", one, 0, "m"),
    Vec("SHUFPD", "shufpd", split_immediate),
    Vec("MPSADBW", "mpsadbw", split_immediate),
    Vec("BLENDPS", "blendps", split_immediate),
    Vec("BLENDPD", "blendpd", split_immediate),
    Vec("PBLENDD", "blendps", split_immediate, 0, "v"),
    *(Vec(n, n.lower(), masked) for n in ("PBLENDVB", "BLENDVPS", "BLENDVPD")),
    Vec("PALIGNR", "palignr", align, 0, BOTH),
    *(
        Vec(n, n.lower(), shift, 0, BOTH)
        for n in ["PSLLW", "PSLLD", "PSLLQ", "PSRLW", "PSRLD", "PSRLQ", "PSRAW", "PSRAD"]
    ),
    Vec("PSLLDQ", "pslldq", shift_bytes),
    Vec("PSRLDQ", "psrldq", shift_bytes),
    *(Vec(n, n.lower(), two, 0, "v") for n in ["PSLLVD", "PSLLVQ", "PSRLVD", "PSRLVQ", "PSRAVD"]),
    *(
        Vec(f"PMOV{kind}X{letters}", f"pmov{kind.lower()}x{letters.lower()}", extend, part)
        for kind in "SZ"
        for letters, part in (("BW", 8), ("BD", 4), ("BQ", 2), ("WD", 8), ("WQ", 4), ("DQ", 8))
    ),
    # elements
    *(
        Vec(f"PEXTR{n}", "", extract, size, BOTH if n == "W" else "sv")
        for n, size in (("B", 1), ("W", 2), ("D", 4), ("Q", 8))
    ),
    *(
        Vec(f"PINSR{n}", "", insert, size, BOTH if n == "W" else "sv")
        for n, size in (("B", 1), ("W", 2), ("D", 4), ("Q", 8))
    ),
    Vec("EXTRACTPS", "", extract, 4),
    Vec("INSERTPS", "", insert_single, 4),
    Vec("PTEST", "ptest", test),
    Vec("TESTPS", "vtestps", test, 0, "v"),
    Vec("TESTPD", "vtestpd", test, 0, "v"),
    # floating point
    *(
        Vec(f"{name.upper()}{form}", f"{name}{form[1].lower()}", floating, width)
        for name in KINDS
        for form, width in (("PS", 0), ("PD", 0), ("SS", 4), ("SD", 8))
    ),
    *(
        Vec(f"{name.upper()}S{form}", f"{name}{form.lower()}", compare, width)
        for name in ("comi", "ucomi")
        for form, width in (("S", 4), ("D", 8))
    ),
    Vec("CVTSI2SS", "s", from_integer),
    Vec("CVTSI2SD", "d", from_integer),
    Vec("CVTSS2SI", "sto", to_integer, 4),
    Vec("CVTSD2SI", "dto", to_integer, 8),
    Vec("CVTTSS2SI", "stot", to_integer, 4),
    Vec("CVTTSD2SI", "dtot", to_integer, 8),
    Vec("CVTSS2SD", "ss2sd", change_format, 4),
    Vec("CVTSD2SS", "sd2ss", change_format, 8),
    Vec("CVTDQ2PS", "dq2ps", dwords),
    Vec("CVTPS2DQ", "ps2dq", dwords),
    Vec("CVTTPS2DQ", "tps2dq", dwords),
    Vec("CMPPS", "cmps", predicate),
    Vec("CMPPD", "cmpd", predicate),
    Vec("CMPSS", "cmps", predicate, 4),
    Vec("CMPSD", "cmpd", predicate, 8),
    # AVX and AVX2 alone
    Vec("BROADCASTSS", "spread32", broadcast, 4, "v"),
    Vec("BROADCASTSD", "spread64", broadcast, 8, "v"),
    Vec("PBROADCASTB", "spread8", broadcast, 1, "v"),
    Vec("PBROADCASTW", "spread16", broadcast, 2, "v"),
    Vec("PBROADCASTD", "spread32", broadcast, 4, "v"),
    Vec("PBROADCASTQ", "spread64", broadcast, 8, "v"),
    *(Vec(f"BROADCAST{k}128", "", broadcast_lane, 0, "v") for k in "FI"),
    *(Vec(f"EXTRACT{k}128", "", extract_lane, 0, "v") for k in "FI"),
    *(Vec(f"INSERT{k}128", "", insert_lane, 0, "v") for k in "FI"),
    *(Vec(f"PERM2{k}128", "", permute_lanes, 0, "v") for k in "FI"),
    Vec("PERMQ", "vpermq", permute, 0, "v"),
    Vec("PERMPD", "vpermq", permute, 0, "v"),
    Vec("PERMD", "vpermd", permute_by, 0, "v"),
    Vec("PERMPS", "vpermd", permute_by, 0, "v"),
    Vec("PERMILPS", "ps", permute_in, 0, "v"),
    Vec("PERMILPD", "pd", permute_in, 0, "v"),
)


def by_mnemonic() -> dict[int, Vec]:
    """The rows by iced-x86's mnemonic number, legacy and VEX."""
    found: dict[int, Vec] = {}
    for row in (*ROWS, *vector_floats.ROWS):
        names = [row.mnemonic] * bool({"s", "m"} & set(row.forms))
        names += ["V" + row.mnemonic] * ("v" in row.forms and hasattr(Mnemonic, "V" + row.mnemonic))
        for name in names:
            number = getattr(Mnemonic, name)
            if number in found:
                raise ValueError(f"{name}: two rows")
            found[number] = row
    return found


BY_MNEMONIC = by_mnemonic()


def covers(insn: Instruction) -> Vec | None:
    """The row of a vector instruction; None for another instruction."""
    row = BY_MNEMONIC.get(insn.mnemonic)
    if row is None or insn.is_string_instruction:
        return None
    return row if insn.encoding in (EncodingKind.LEGACY, EncodingKind.VEX) else None


def is_mmx(insn: Instruction) -> bool:
    """Whether an instruction uses MMX registers and no XMM ones."""
    letters = register_letters(insn)
    return insn.mnemonic == Mnemonic.EMMS or ("P" in letters and "X" not in letters)


def register_letters(insn: Instruction) -> set[str]:
    """The register files of the operands."""
    return {
        REGISTERS[insn.op_register(i)].letter
        for i in range(insn.op_count)
        if insn.op_kind(i) == OpKind.REGISTER and insn.op_register(i) in REGISTERS
    }


def touches_x87(insn: Instruction) -> bool:
    """Whether an instruction uses MMX registers, so that pending x87 exceptions come first."""
    return insn.mnemonic == Mnemonic.EMMS or "P" in register_letters(insn)


def allowed(insn: Instruction, enabled: int) -> bool:
    """Whether CR0, CR4 and XCR0 (`enabled`: see `Cpu.vectors`) let a vector instruction run."""
    if insn.encoding == EncodingKind.VEX:
        return bool(enabled & AVX)
    needed = 0 if is_mmx(insn) else SSE
    if touches_x87(insn):
        needed |= X87
    return enabled & needed == needed


def uops(translator: Translator, insn: Instruction, bits: int, row: Vec) -> list[Uop] | None:
    """The micro-operations of a vector instruction; None for a form that nothing covers."""
    build = Build(translator, insn, bits)
    if (
        build.mmx
        and "m" not in row.forms
        and not any(build.letter(i) == "X" for i in range(insn.op_count))
    ):
        return None
    try:
        row.how(build, row)
    except (Unsupported, KeyError):
        return None
    return build.uops
