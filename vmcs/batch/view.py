"""One record by the names of its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmcs.batch.layout import LayoutError, RecordLayout, UnknownFieldError

Bytes = NDArray[np.uint8]


class StateView:
    """One record: fields as numbers, by `view["GUEST_RIP"]` or `view.GUEST_RIP`.

    A name of several fields gives its members: `view.cs.base`, `view.intercepts[3]`. The view
    writes through to the bytes that it was given.
    """

    __slots__ = ("_data", "layout")
    _data: memoryview
    layout: RecordLayout

    def __init__(self, data: Bytes | bytearray | bytes, layout: RecordLayout) -> None:
        array = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data
        if array.dtype != np.uint8 or array.shape != (layout.size,):
            raise LayoutError(f"{layout.name} has {layout.size} bytes, got {array.nbytes}")
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "_data", array.data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.layout.name}>"

    def __getitem__(self, name: str) -> int:
        """The field `name`, zero-extended; raises UnknownFieldError."""
        try:
            _, offset, width = self.layout.by_name[name]
        except KeyError:
            raise UnknownFieldError(self.layout, name) from None
        return int.from_bytes(self._data[offset : offset + width], "little")

    def __setitem__(self, name: str, value: int) -> None:
        """Set a field; raises OverflowError for a value that does not fit its width."""
        _, offset, width = self.layout.place(name)
        number = int(value)
        if not 0 <= number < 1 << 8 * width:
            raise OverflowError(
                f"{self.layout.name}: {name} has {8 * width} bits, {number:#x} does not fit"
            )
        self._data[offset : offset + width] = number.to_bytes(width, "little")

    def __getattr__(self, name: str) -> Any:
        if name in self.layout.by_name:
            return self[name]
        if name in self.layout.groups:
            return Members(self, name)
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(str(UnknownFieldError(self.layout, name)))

    def __setattr__(self, name: str, value: int) -> None:
        if name not in self.layout:
            raise AttributeError(str(UnknownFieldError(self.layout, name)))
        self[name] = value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.layout.names, *self.layout.groups]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateView):
            return NotImplemented
        return self.layout is other.layout and self.bytes == other.bytes

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.names)

    @property
    def bytes(self) -> bytes:
        """All bytes of the record, copied."""
        return self._data.tobytes()

    def fields(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """Values of the given fields, or of all, by name."""
        return {name: self[name] for name in self.layout.expand(names)}

    def diff(self, other: StateView) -> dict[str, tuple[int, int]]:
        """Fields that both layouts have and that differ: name to (value here, value there)."""
        pairs = ((name, self[name], other[name]) for name in self if name in other.layout)
        return {name: (here, there) for name, here, there in pairs if here != there}

    def update(self, values: dict[str, int]) -> None:
        """Set several fields by name; nothing is set where one of them does not fit."""
        before = self.bytes
        try:
            for name, value in values.items():
                self[name] = value
        except (KeyError, OverflowError):
            self._data[:] = before
            raise


class Members:
    """The fields of a record that share a name before the dot: `view.cs`, `view.intercepts`."""

    __slots__ = ("_name", "_view")
    _name: str
    _view: StateView

    def __init__(self, view: StateView, name: str) -> None:
        object.__setattr__(self, "_view", view)
        object.__setattr__(self, "_name", name)

    def __repr__(self) -> str:
        return f"<{self._name} of {self._view!r}>"

    def __len__(self) -> int:
        return len(self._view.layout.groups[self._name])

    def __getitem__(self, index: int) -> int:
        """The field at `index`, in the order of the layout."""
        return self._view[self._view.layout.groups[self._name][index]]

    def __setitem__(self, index: int, value: int) -> None:
        self._view[self._view.layout.groups[self._name][index]] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, f"{self._name}.{name}")

    def __setattr__(self, name: str, value: int) -> None:
        setattr(self._view, f"{self._name}.{name}", value)

    def fields(self) -> dict[str, int]:
        """Values of the members, by full name."""
        return self._view.fields([self._name])
