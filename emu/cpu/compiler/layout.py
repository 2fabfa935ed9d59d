"""Structures in memory: a table of fields, for numpy, plain Python and IR alike."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
CTYPES = {
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
}


class Field(NamedTuple):
    """A named field: unsigned integers of `type`, `length` of them.

    `alias` places the field inside an earlier one ("gpr+32") instead of after the last one.
    """

    name: str
    type: str = "u64"
    length: int = 1
    alias: str = ""


class Place(NamedTuple):
    """Where a field lies: byte offset, element width in bytes, number of elements."""

    offset: int
    width: int
    length: int
    type: str


class Layout:
    """A structure: fields at fixed offsets. Calling it with an address gives a view of memory."""

    def __init__(self, name: str, fields: Sequence[Field], align: int = 8) -> None:
        self.name = name
        self.places: dict[str, Place] = {}
        end = 0
        for field in fields:
            width = WIDTHS[field.type]
            if field.alias:
                base, _, delta = field.alias.partition("+")
                offset = self.places[base].offset + int(delta or 0)
            else:
                offset = -(-end // width) * width
            if field.name in self.places or field.name == "address":
                raise ValueError(f"{name}: field {field.name} is defined twice")
            self.places[field.name] = Place(offset, width, field.length, field.type)
            end = max(end, offset + width * field.length)
        self.size = -(-end // align) * align
        self.view = _view_class(self)

    def __call__(self, address: int) -> Any:
        """The structure at `address`, as an object with one attribute a field."""
        return self.view(address)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The same structure as a numpy dtype; overlapping fields stay overlapping."""
        return np.dtype(
            {
                "names": list(self.places),
                "formats": [
                    (f"<u{p.width}", (p.length,)) if p.length > 1 else f"<u{p.width}"
                    for p in self.places.values()
                ],
                "offsets": [p.offset for p in self.places.values()],
                "itemsize": self.size,
            }
        )


class _Array:
    """One array field of a structure in memory, as plain Python reads and writes it."""

    __slots__ = ("_array",)

    def __init__(self, address: int, place: Place) -> None:
        self._array = (CTYPES[place.type] * place.length).from_address(address + place.offset)

    def __getitem__(self, index: int) -> int:
        return int(self._array[index])

    def __setitem__(self, index: int, value: int) -> None:
        if index >= len(self._array):
            raise IndexError(index)
        self._array[index] = value

    def __len__(self) -> int:
        return len(self._array)


def _view_class(layout: Layout) -> type[Any]:
    """A class whose properties are the fields of `layout` at `self.address`."""

    def __init__(self: Any, address: int) -> None:  # noqa: N807
        object.__setattr__(self, "address", address)

    members: dict[str, Any] = {
        "__init__": __init__,
        "__slots__": ("address",),
        "__doc__": f"{layout.name} in memory.",
        "layout": layout,
    }
    for name, place in layout.places.items():
        members[name] = _array_member(place) if place.length > 1 else _scalar_member(place)
    return type(layout.name, (), members)


def _array_member(place: Place) -> property:
    return property(lambda self: _Array(self.address, place))


def _scalar_member(place: Place) -> property:
    ctype, offset = CTYPES[place.type], place.offset

    def read(self: Any) -> int:
        return int(ctype.from_address(self.address + offset).value)

    def write(self: Any, value: int) -> None:
        ctype.from_address(self.address + offset).value = value

    return property(read, write)
