"""The physical map as compiled code reads it: a word a page, host address and flags."""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import WORD, raw_load64, raw_store64, restricted

PAGE_OFFSET = 0xFFF
PAGE = WORD ^ PAGE_OFFSET

# flags in a word of the physical map
MAP_WRITABLE, MAP_CODE, MAP_DIRTY = 1, 2, 4
MAP_HOST = PAGE


@restricted
def host_of(cpu: Any, physical: int) -> int:
    """Host address of the RAM or ROM at a physical address; 0 when there is none."""
    frame = physical >> 12
    if frame >= cpu.physmap_pages:
        return 0
    host = raw_load64(cpu.physmap + frame * 8) & MAP_HOST
    if host == 0:
        return 0
    return host + (physical & PAGE_OFFSET)


@restricted
def mark_dirty(cpu: Any, frame: int) -> None:
    """Note that the physical page `frame` was written."""
    if frame < cpu.physmap_pages:
        place = cpu.physmap + frame * 8
        raw_store64(place, raw_load64(place) | MAP_DIRTY)
