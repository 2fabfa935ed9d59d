"""Copies between registers and the control structure of a virtualization extension, by rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu.cpu.compiler.words import (
    outlined,
    raw_load16,
    raw_load32,
    raw_load64,
    raw_store16,
    raw_store32,
    raw_store64,
)
from emu.cpu.state import CPU


@outlined
def load_registers(cpu: Any, rows: int, count: int, words: int) -> int:
    """Write registers from words: a row has the number of a word, a place in the state, a width."""
    end = rows + count * 24
    while rows < end:
        value = raw_load64(words + raw_load64(rows) * 8)
        place = cpu.address + raw_load64(rows + 8)
        width = raw_load64(rows + 16)
        if width == 8:
            raw_store64(place, value)
        elif width == 4:
            raw_store32(place, value)
        else:
            raw_store16(place, value)
        rows += 24
    return 0


@outlined
def save_registers(cpu: Any, rows: int, count: int, words: int) -> int:
    """Write words from registers."""
    end = rows + count * 24
    while rows < end:
        place = cpu.address + raw_load64(rows + 8)
        width = raw_load64(rows + 16)
        if width == 8:
            value = raw_load64(place)
        elif width == 4:
            value = raw_load32(place)
        else:
            value = raw_load16(place)
        raw_store64(words + raw_load64(rows) * 8, value)
        rows += 24
    return 0


CALLED: tuple[Any, ...] = (load_registers, save_registers)
"""What only plain Python calls."""


def compiled_rows(rows: Iterable[tuple[int, str, int]]) -> NDArray[np.uint64]:
    """Rows (number of a word, register, element of it) as the functions above read them."""
    table = []
    for word, register, element in rows:
        place = CPU.places[register]
        table.append((word, place.offset + element * place.width, place.width))
    return np.array(table, np.uint64)
