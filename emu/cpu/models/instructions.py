"""Which instructions a model has: iced-x86 names the features that bring each."""

from __future__ import annotations

from typing import Any, Final

from iced_x86 import Code, CpuidFeature

from emu.cpu.models.model import Model

FEATURE_NAMES: Final = {v: k for k, v in vars(CpuidFeature).items() if isinstance(v, int)}
# what every x86-64 processor has; hints that are NOPs where a processor does not know them
ALWAYS: Final = ("INTEL", "FPU", "X64", "CPUID", "MULTIBYTENOP", "PAUSE", "RDPMC", "SMM")
HINTS: Final = ("CET_IBT", "PREFETCHW")
# iced-x86's names of what CPUID has another name for
RENAMED: Final = {"HLE_OR_RTM": "RTM", "CMPXCHG16B": "CX16"}
# what runs where the prefix F3 is not known. SDM Vol. 2, LZCNT; TZCNT; APM Vol. 3, WBNOINVD
WITHOUT_PREFIX: Final = {
    getattr(Code, f"{name}_R{size}_RM{size}"): getattr(Code, f"{plain}_R{size}_RM{size}")
    for name, plain in (("LZCNT", "BSR"), ("TZCNT", "BSF"))
    for size in (16, 32, 64)
} | {Code.WBNOINVD: Code.WBINVD}


def needed(insn: Any) -> list[str]:
    """The features that bring an instruction, by their names in `features`."""
    names = (FEATURE_NAMES[number] for number in insn.cpuid_features())
    return [
        RENAMED.get(name, name)
        for name in names
        if not name.startswith(ALWAYS) and name not in HINTS
    ]


def lacks(model: Model, insn: Any) -> bool:
    """Whether a processor has no such instruction."""
    known: bool | None = model.lacking.get(insn.code)
    if known is None:
        known = model.lacking[insn.code] = not all(model.has(name) for name in needed(insn))
    return known


def as_known(model: Model, insn: Any) -> bool:
    """Turn an instruction into what its bytes mean here; False: they are no instruction."""
    if not lacks(model, insn):
        return True
    plain = WITHOUT_PREFIX.get(insn.code)
    if plain is None:
        return False
    insn.code = plain
    return True
