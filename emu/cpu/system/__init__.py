"""Instructions that plain Python runs: rare, intricate, or both.

A module has a table `TABLE` from mnemonics (as iced-x86 spells them) to functions of the processor
and the decoded instruction. RIP is advanced afterwards; what branches sets `cpu.next_rip`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault, NotImplementedInstruction
from emu.cpu.models.instructions import lacks
from emu.cpu.state import CS, Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

MODULES = (
    "control",
    "segments",
    "far",
    "calls",
    "msrs",
    "identity",
    "ports",
    "caches",
    "xsave",
    "smm",
    "vectors",
    "frames",
    "x87",
    "crypto",
    "text",
    "scattered",
)


@functools.cache
def table() -> dict[str, Callable[[Cpu, Any], None]]:
    """Every function by mnemonic."""
    found: dict[str, Callable[[Cpu, Any], None]] = {}
    for name in MODULES:
        module = importlib.import_module(f"emu.cpu.system.{name}")
        twice = found.keys() & module.TABLE.keys()
        if twice:
            raise ValueError(f"{name}: defined twice: {sorted(twice)}")
        found.update(module.TABLE)
    return found


def run(cpu: Cpu, insn: Any) -> None:
    """Run an instruction. Bytes that are no instruction give #UD."""
    name = MNEMONICS[insn.mnemonic]
    if name == "INVALID":
        raise Fault(Vector.UD)
    function = table().get(name)
    if function is None and cpu.extension is not None:
        function = cpu.extension.table.get(name)
    elif lacks(cpu.model, insn):
        raise Fault(Vector.UD)
    if function is None:
        if lacks(cpu.model, insn):
            raise Fault(Vector.UD)
        state = cpu.state
        data = cpu.read_bytes(state.rip + state.linear_base[CS], insn.len)
        raise NotImplementedInstruction(state.rip, str(insn), data)
    function(cpu, insn)
