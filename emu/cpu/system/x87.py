"""The x87 FPU's instructions; `emu.cpu.x87` says what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.x87 import control, data

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

TABLE: dict[str, Callable[[Cpu, Any], None]] = {**data.TABLE, **control.TABLE}
