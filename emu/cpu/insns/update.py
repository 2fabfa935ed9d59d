"""Shapes that many instructions share: read, compute, write back."""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    flat_address,
    modified,
    modify,
    raw_load,
    read_register,
    register_number,
    write_register,
)
from emu.cpu.compiler.words import restricted


@restricted
def fetch(cpu: Any, uop: Any, kind: str, size: int) -> tuple[int, int, int]:
    """A destination that is read first: its value, and the host and linear address if in memory."""
    if kind[0] == "R":
        return read_register(cpu, register_number(uop, kind), size), 0, 0
    linear = flat_address(cpu, uop)
    host = modify(cpu, uop, linear, size, uop.seg)
    return raw_load(host, size), host, linear


@restricted
def put(cpu: Any, uop: Any, kind: str, size: int, value: int, host: int, linear: int) -> None:
    """Write a destination that `fetch` read. It cannot fault."""
    if kind[0] == "R":
        write_register(cpu, register_number(uop, kind), size, value)
    else:
        modified(cpu, host, value, linear, size, uop.seg)
