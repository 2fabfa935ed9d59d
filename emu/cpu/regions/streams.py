"""Memory operands of a region: the page that each was last in is remembered in variables.

An operand mostly stays in its page. While it does, the look into the data TLB is saved. What is
remembered is a copy of a TLB entry; every call that can change the TLB makes all copies invalid, so
that a copy never says what the TLB does not say. Only aligned operands use it: one comparison then
tells that every byte is in the page.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.access import (
    load_slow,
    modify_slow,
    raw_load,
    raw_store,
    restart,
    store_slow,
    tlb_entry,
)
from emu.cpu.compiler.layout import Field, Layout
from emu.cpu.compiler.words import restricted, unlikely
from emu.cpu.physmap import PAGE

STREAM = Layout("Stream", (Field("read_tag"), Field("write_tag"), Field("addend")))
"""Copies of the fields of a TLB entry."""
NO_TAG = 0x801
"""What no aligned address of a page is equal to, whatever the width of the operand."""


@restricted
def copied(tag: int) -> int:
    """A tag of the TLB as it is remembered: an odd one is that of no page."""
    return tag | (tag & 1) << 11


@restricted
def remember(stream: Any, entry: Any) -> None:
    """Copy a TLB entry."""
    stream.read_tag = copied(entry.read_tag)
    stream.write_tag = copied(entry.write_tag)
    stream.addend = entry.addend


@restricted
def load(cpu: Any, uop: Any, linear: int, size: int, seg: int, stream: Any) -> int:
    """As `access.load`."""
    count = size >> 3
    if unlikely(linear & (PAGE | count - 1) != stream.read_tag):
        entry = tlb_entry(cpu, linear)
        if unlikely(linear + (count - 1) & PAGE != entry.read_tag):
            value = load_slow(cpu, linear, count, seg)
            if cpu.exit_code:
                restart(cpu, uop)
            return value
        remember(stream, entry)
    return raw_load(linear + stream.addend, size)


@restricted
def store(cpu: Any, uop: Any, linear: int, value: int, size: int, seg: int, stream: Any) -> None:
    """As `access.store`."""
    count = size >> 3
    if unlikely(linear & (PAGE | count - 1) != stream.write_tag):
        entry = tlb_entry(cpu, linear)
        if unlikely(linear + (count - 1) & PAGE != entry.write_tag):
            store_slow(cpu, linear, value, count, seg)
            if cpu.exit_code:
                restart(cpu, uop)
            return
        remember(stream, entry)
    raw_store(linear + stream.addend, value, size)


@restricted
def modify(cpu: Any, uop: Any, linear: int, size: int, seg: int, stream: Any) -> int:
    """As `access.modify`."""
    count = size >> 3
    if unlikely(linear & (PAGE | count - 1) != stream.write_tag):
        entry = tlb_entry(cpu, linear)
        if unlikely(linear + (count - 1) & PAGE != entry.write_tag):
            host = modify_slow(cpu, linear, count, seg)
            if cpu.exit_code:
                restart(cpu, uop)
            return host
        remember(stream, entry)
    return linear + stream.addend
