"""iced-x86's register names as our numbers: which file, which place in it, how wide."""

from __future__ import annotations

from typing import NamedTuple

from iced_x86 import Register

from emu.cpu.state import GPR_NAMES, PAGE_BASE_REGISTER, ZERO_REGISTER


class Operand(NamedTuple):
    """A register operand: form letter, number as handlers use it, width in bits."""

    letter: str
    number: int
    size: int


def _gpr_spellings() -> dict[str, Operand]:
    table: dict[str, Operand] = {}
    legacy = [n[1:] for n in GPR_NAMES[:8]]
    for i, name in enumerate(GPR_NAMES):
        table[name.upper()] = Operand("R", i, 64)
        if i < 8:
            table["E" + legacy[i].upper()] = Operand("R", i, 32)
            table[legacy[i].upper()] = Operand("R", i, 16)
            low = legacy[i][0].upper() + "L" if i < 4 else legacy[i].upper() + "L"
            table[low] = Operand("R", 8 * i, 8)
            if i < 4:
                table[legacy[i][0].upper() + "H"] = Operand("R", 8 * i + 1, 8)
        else:
            table[f"R{i}D"] = Operand("R", i, 32)
            table[f"R{i}W"] = Operand("R", i, 16)
            table[f"R{i}L"] = Operand("R", 8 * i, 8)
    return table


SPELLINGS = {
    **_gpr_spellings(),
    **{name: Operand("S", i, 16) for i, name in enumerate(("ES", "CS", "SS", "DS", "FS", "GS"))},
    **{f"XMM{i}": Operand("X", i, 128) for i in range(32)},
    **{f"YMM{i}": Operand("X", i, 256) for i in range(32)},
    **{f"ZMM{i}": Operand("X", i, 512) for i in range(32)},
    **{f"MM{i}": Operand("P", i, 64) for i in range(8)},
    **{f"ST{i}": Operand("T", i, 80) for i in range(8)},
    **{f"CR{i}": Operand("C", i, 64) for i in range(16)},
    **{f"DR{i}": Operand("D", i, 64) for i in range(16)},
}

REGISTERS: dict[int, Operand] = {
    getattr(Register, name): operand
    for name, operand in SPELLINGS.items()
    if hasattr(Register, name)
}
ADDRESS_REGISTERS: dict[int, int] = {
    Register.NONE: ZERO_REGISTER,
    Register.RIP: PAGE_BASE_REGISTER,
    Register.EIP: PAGE_BASE_REGISTER,
    Register.AL: ZERO_REGISTER,  # the index of XLAT, which adds it itself
    **{register: o.number for register, o in REGISTERS.items() if o.letter == "R" and o.size != 8},
}
SEGMENTS: dict[int, int] = {
    register: operand.number for register, operand in REGISTERS.items() if operand.letter == "S"
}
assert len(REGISTERS) == len(SPELLINGS)
