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
        view = self.view.from_address(address)
        view.address = address
        return view

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


class _View(ctypes.Union):
    """A structure in memory: an attribute a field, at `address`."""

    address: int


def _view_class(layout: Layout) -> type[_View]:
    """A class whose attributes are the fields of `layout`.

    A field is the one member, behind padding, of an anonymous structure in a union: so fields may
    overlap, and ctypes reaches them without a call of Python code.
    """
    members = []
    for name, place in layout.places.items():
        kind: Any = CTYPES[place.type]
        if place.length > 1:
            kind *= place.length
        fields = [("padding", ctypes.c_char * place.offset), (name, kind)]
        holder = type(name, (ctypes.Structure,), {"_fields_": fields})
        members.append((f"_{name}", holder))
    names = {"_anonymous_": [name for name, _ in members], "_fields_": members}
    return type(layout.name, (_View,), {"__doc__": f"{layout.name} in memory.", **names})
