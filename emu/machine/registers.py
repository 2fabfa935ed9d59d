"""Rows that describe the registers of a device, and the checks on a table of them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from vmcs.schema import check_unique


class Access(StrEnum):
    """What software may do with a register."""

    READ_ONLY = "RO"
    WRITE_ONLY = "WO"
    READ_WRITE = "RW"
    RESERVED = "-"


RO, WO, RW, RESERVED = (
    Access.READ_ONLY,
    Access.WRITE_ONLY,
    Access.READ_WRITE,
    Access.RESERVED,
)


class Register(NamedTuple):
    """A register of a device: where it stands, its name, what may be done, where that is told.

    `writable` are the bits that a write sets; the others are read-only or reserved.
    """

    offset: int
    name: str
    access: Access
    writable: int
    reset: int
    source: str


def registers(title: str, rows: Iterable[Register], width: int = 32) -> tuple[Register, ...]:
    """A checked table: names and offsets unique, masks and reset values inside `width` bits."""
    table = tuple(rows)
    check_unique([row.name for row in table], f"{title}: names")
    check_unique([(row.offset, row.access) for row in table], f"{title}: offsets")
    for row in table:
        if (row.writable | row.reset) >> width:
            raise ValueError(f"{title}: {row.name} is wider than {width} bits")
        if row.access in (RO, RESERVED) and row.writable:
            raise ValueError(f"{title}: {row.name} cannot be written and names writable bits")
        if not row.source:
            raise ValueError(f"{title}: {row.name} cites nothing")
    return table
