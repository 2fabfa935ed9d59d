"""Byte layouts: structures of an ABI with every byte accounted for, as rows and as numpy dtypes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

import numpy as np

from vmcs.schema import Cited, TableError, check_cited, check_unique, cited, require

ITEM_SIZES: Final = {"u1": 1, "u2": 2, "u4": 4, "u8": 8}


@dataclass(frozen=True)
class FieldAt(Cited):
    """A member of a byte layout: `count` elements of numpy `kind` ("u1".."u8") at `offset`.

    `meaning` says what it holds: the VMCS field's name in vmcs12, the manual's phrase elsewhere.
    """

    name: str
    offset: int
    kind: str
    meaning: str = ""
    count: int = 1
    reserved: bool = False

    @property
    def size(self) -> int:
        """Size in bytes."""
        return ITEM_SIZES[self.kind] * self.count

    @property
    def end(self) -> int:
        """The offset of the first byte after this member."""
        return self.offset + self.size


def padding(name: str, offset: int, kind: str, count: int, *, seen: str = "") -> FieldAt:
    """Row for reserved bytes of a byte layout."""
    return FieldAt(name, offset, kind, "Reserved", count, reserved=True, seen=seen)


def byte_table(
    name: str, size: int, *rows: FieldAt, sdm: str = "", apm: str = "", seen: str = ""
) -> tuple[FieldAt, ...]:
    """Rows of the byte layout called `name`, cited and checked; raises `TableError`."""
    made = cited(rows, sdm=sdm, apm=apm, seen=seen)
    check_cited(made, name)
    check_bytes(made, size, name)
    return made


def check_bytes(rows: Sequence[FieldAt], size: int, table: str) -> None:
    """`rows` cover bytes 0 to `size` - 1 in order, without gap or overlap; raises `TableError`."""
    at = 0
    for row in rows:
        if row.offset != at:
            raise TableError(f"{table}: {row.name} at {row.offset}, expected {at}")
        at = row.end
    require(at == size, f"{table}: {at} bytes, expected {size}")
    check_unique([row.name for row in rows], table)


def dtype_of(rows: Iterable[FieldAt], size: int) -> np.dtype[np.void]:
    """Numpy dtype of a byte layout in `size` bytes: every row at its offset, reserved ones too.

    Words are little-endian, as in guest memory and in the ioctl structures.
    """
    kept = tuple(rows)
    layout = np.dtype(
        {
            "names": [row.name for row in kept],
            "formats": [row.kind if row.count == 1 else (row.kind, row.count) for row in kept],
            "offsets": [row.offset for row in kept],
            "itemsize": size,
        }
    )
    return layout.newbyteorder("<")


def carve(rows: Sequence[FieldAt], *added: FieldAt) -> tuple[FieldAt, ...]:
    """`rows` with each row of `added` in the place of the bytes that it covers.

    A member may take reserved bytes, whose rest stays reserved; reserved bytes may take whole
    members, which retires them. Anything else raises `TableError`.
    """
    made = list(rows)
    for new in added:
        first = bisect_right(made, new.offset, key=_offset)
        first -= first > 0 and made[first - 1].end > new.offset
        beyond = bisect_left(made, new.end, key=_offset)
        require(first < beyond, f"{new.name}: no bytes at {new.offset}")
        left: list[FieldAt] = []
        right: list[FieldAt] = []
        for row in made[first:beyond]:
            if new.reserved and not row.reserved:
                whole = new.offset <= row.offset and row.end <= new.end
                require(whole, f"{new.name} would retire a part of {row.name}")
            else:
                require(row.reserved, f"{new.name} at {new.offset} would overwrite {row.name}")
                left += _left_of(row, new)
                right += _right_of(row, new)
        made[first:beyond] = [*left, new, *right]
    return tuple(made)


_offset = attrgetter("offset")


def _left_of(row: FieldAt, new: FieldAt) -> list[FieldAt]:
    left = max(new.offset - row.offset, 0)
    if not left:
        return []
    return [_part(row, row.name, row.offset, left)]


def _right_of(row: FieldAt, new: FieldAt) -> list[FieldAt]:
    right = max(row.end - new.end, 0)
    if not right:
        return []
    split = new.offset > row.offset
    return [_part(row, f"{row.name}_{new.end}" if split else row.name, new.end, right)]


def _part(row: FieldAt, name: str, offset: int, size: int) -> FieldAt:
    kind = row.kind if size % ITEM_SIZES[row.kind] == 0 else "u1"
    return replace(row, name=name, offset=offset, kind=kind, count=size // ITEM_SIZES[kind])
