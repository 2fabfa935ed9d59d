"""Processor control. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.errors import Fault
from emu.cpu.state import Vector

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu


def hlt(cpu: Cpu, insn: Any) -> None:  # noqa: ARG001
    """HLT: stop until an interrupt; #GP(0) above CPL 0."""
    if cpu.state.cpl:
        raise Fault(Vector.GP, 0)
    cpu.halted = True


TABLE: dict[str, Callable[[Cpu, Any], None]] = {"HLT": hlt}
