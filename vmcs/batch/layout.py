"""Layouts: the names, offsets and widths of the fields of a record.

A field is 1, 2, 4 or 8 bytes, little-endian. A member of many elements is a field an element,
`intercepts.0` to `intercepts.5`; what stands before the dot names all of them together.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmcs.byte_layout import FieldAt

WIDTHS = (8, 4, 2, 1)


class LayoutError(ValueError):
    """Places of a layout contradict each other, or two layouts disagree."""


class UnknownFieldError(KeyError):
    """A layout has no field of that name; the message suggests one that it has."""

    def __init__(self, layout: RecordLayout, name: str) -> None:
        super().__init__(name)
        self.layout, self.name = layout, name

    def __str__(self) -> str:
        names = {known.lower(): known for known in (*self.layout.names, *self.layout.groups)}
        near = difflib.get_close_matches(self.name.lower(), names, n=1)
        hint = f"; did you mean {names[near[0]]}?" if near else ""
        return f"{self.layout.name} has no field {self.name!r}{hint}"


class Place(NamedTuple):
    """One field: `width` bytes at `offset`."""

    name: str
    offset: int
    width: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the field."""
        return self.offset + self.width


class RecordLayout:
    """The fields of a record of `size` bytes, in the order of their table.

    `parts` are the structures inside the record, by name: their offset and their own layout.
    Raises LayoutError for a field of another width, outside the record or over another one.
    """

    def __init__(
        self,
        name: str,
        size: int,
        places: Iterable[Place],
        parts: Mapping[str, tuple[int, RecordLayout]] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.size = size
        self.parts = MappingProxyType(dict(parts))
        self.places = tuple(places)
        self.by_name = {place.name: place for place in self.places}
        self.names = tuple(self.by_name)
        self._check()

    def __repr__(self) -> str:
        return f"<RecordLayout {self.name}: {len(self.places)} fields in {self.size} bytes>"

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def _check(self) -> None:
        if len(self.by_name) != len(self.places):
            raise LayoutError(f"{self.name}: a field occurs twice")
        end = 0
        for place in sorted(self.places, key=lambda place: place.offset):
            if place.width not in WIDTHS:
                raise LayoutError(f"{self.name}: {place.name} has {place.width} bytes")
            if place.offset < end or place.end > self.size:
                raise LayoutError(f"{self.name}: {place.name} lies over another field or outside")
            end = place.end

    @classmethod
    def of_rows(
        cls,
        name: str,
        size: int,
        rows: Iterable[FieldAt],
        naming: Callable[[FieldAt], str] = lambda row: row.name,
    ) -> RecordLayout:
        """Layout of the rows of a byte layout that are not reserved, called as `naming` says."""
        places: list[Place] = []
        for row in rows:
            if row.reserved:
                continue
            width = row.size // row.count
            if row.count == 1:
                places.append(Place(naming(row), row.offset, width))
            else:
                places += [
                    Place(f"{naming(row)}.{i}", row.offset + i * width, width)
                    for i in range(row.count)
                ]
        return cls(name, size, places)

    @classmethod
    def of_dtype(cls, name: str, dtype: np.dtype[Any]) -> RecordLayout:
        """Layout of a structured dtype of unsigned words; LayoutError for any other dtype."""
        if dtype.fields is None:
            raise LayoutError(f"{name}: {dtype} is no structured dtype")
        places: list[Place] = []
        for field, (kind, offset, *_) in dtype.fields.items():
            item, shape = kind.subdtype or (kind, ())
            if item.kind != "u" or len(shape) > 1:
                raise LayoutError(f"{name}: {field} is {kind}, not an unsigned word")
            steps = [f".{i}" for i in range(shape[0])] if shape else [""]
            places += [
                Place(f"{field}{step}", offset + i * item.itemsize, item.itemsize)
                for i, step in enumerate(steps)
            ]
        return cls(name, dtype.itemsize, places)

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names of the fields that share what stands before a dot, by that."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            for at, letter in enumerate(name):
                if letter == ".":
                    groups.setdefault(name[:at], []).append(name)
        return {name: tuple(members) for name, members in groups.items()}

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """Structured dtype of one record, little-endian."""
        return np.dtype(
            {
                "names": list(self.names),
                "formats": [f"<u{place.width}" for place in self.places],
                "offsets": [place.offset for place in self.places],
                "itemsize": self.size,
            }
        )

    def place(self, name: str) -> Place:
        """Where a field lies; raises UnknownFieldError."""
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownFieldError(self, name) from None

    def expand(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """Field names, with each name of several fields replaced by all of them.

        All fields of the layout for None. Raises UnknownFieldError.
        """
        if names is None:
            return self.names
        full: list[str] = []
        for name in names:
            full += self.groups.get(name) or (self.place(name).name,)
        return tuple(full)

    def offsets(self, names: Iterable[str] | None = None) -> NDArray[np.int64]:
        """Byte offsets of the given fields, as `gather_row` takes them."""
        return np.array([self.by_name[name].offset for name in self.expand(names)], np.int64)

    def widths(self, names: Iterable[str] | None = None) -> NDArray[np.int64]:
        """Widths in bytes of the given fields, as `gather_row` takes them."""
        return np.array([self.by_name[name].width for name in self.expand(names)], np.int64)

    def within(
        self, name: str, size: int, head: str, **parts: tuple[int, RecordLayout]
    ) -> RecordLayout:
        """Layout of `size` bytes: these fields, then the fields of structures inside the record.

        A part is given as its offset and layout; its fields are called `part.field`. `head` names
        these fields as a part of their own.
        """
        inner = [
            Place(f"{part}.{place.name}", start + place.offset, place.width)
            for part, (start, layout) in parts.items()
            for place in layout.places
        ]
        return RecordLayout(name, size, (*self.places, *inner), {head: (0, self), **parts})
