"""The controls as plain integers: `value & P1.HLT_EXITING`.

An operation on a member of an enumeration makes another member, which costs as much as a whole
instruction of the guest; entries, exits and intercepts look at dozens of bits.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from vmcs.schema import BitTable
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2
from vmcs.vmx.field_formats import Interruptibility


def plain(table: type[BitTable]) -> Any:
    """The members of a table of bits as attributes that are integers."""
    return SimpleNamespace(**{row.name: row.mask for row in table.table if not row.reserved})


PIN: Final = plain(PinBased)
P1: Final = plain(ProcBased)
P2: Final = plain(ProcBased2)
EXIT: Final = plain(Exit)
ENTRY: Final = plain(Entry)
BLOCKING: Final = plain(Interruptibility)
