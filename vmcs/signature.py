"""Signatures of jitted functions: what their strings mean, and the same conversions in Python.

A jitted function converts its arguments and its result to the types of its signature. Where its
source runs as Python instead, the functions below do that, so that both give the same results.
"""

import functools
import re
from typing import Any, Final, NamedTuple

import numpy as np

INTEGERS: Final = tuple(f"{sign}int{width}" for sign in ("", "u") for width in (8, 16, 32, 64))
SCALARS: Final = frozenset((*INTEGERS, "boolean", "float32", "float64"))


class JitType(NamedTuple):
    """One type of a signature: a scalar, an array of `dims` dimensions, or a tuple of `items`."""

    name: str
    dims: int = 0
    layout: str = ""
    readonly: bool = False
    items: tuple["JitType", ...] = ()


class Signature(NamedTuple):
    """What a jitted function takes and returns."""

    returns: JitType
    arguments: tuple[JitType, ...]


def parse_signature(text: str, dtypes: dict[str, Any] | None = None) -> Signature:
    """The types that a signature string names; TypeError for a type that it cannot name."""
    head, arguments = _call(text.strip())
    known = SCALARS.union(dtypes or ())
    return Signature(
        _parse_type(head, known), tuple(_parse_type(part, known) for part in _split(arguments))
    )


def _call(text: str) -> tuple[str, str]:
    """The two halves of `name(arguments)`, split at the parenthesis that the last one closes."""
    depth = 0
    if text.endswith(")"):
        for at in range(len(text) - 1, -1, -1):
            depth += (text[at] == ")") - (text[at] == "(")
            if depth == 0:
                return text[:at].strip(), text[at + 1 : -1].strip()
    raise TypeError(f"{text!r} is no signature: expected result(argument, ...)")


def _split(text: str) -> list[str]:
    """Parts between the commas that no bracket encloses."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _parse_type(text: str, known: frozenset[str]) -> JitType:
    if text == "void":
        return JitType("void")
    if text.startswith("Tuple("):
        inside = _call(_call(text)[1])[1]
        return JitType("tuple", items=tuple(_parse_type(part, known) for part in _split(inside)))
    if text.startswith("UniTuple("):
        item, count = _split(_call(text)[1])
        return JitType("tuple", items=(_parse_type(item, known),) * int(count))
    matched = re.fullmatch(r"(const\s+)?(\w+)\s*(?:\[([:1,\s]+)\])?", text)
    if matched is None or matched[2] not in known:
        raise TypeError(f"{text!r} names no type of a jitted function; known: {sorted(known)}")
    if matched[3] is None:
        if matched[2] not in SCALARS or matched[1]:
            raise TypeError(f"{text!r}: a structured dtype and `const` are for arrays")
        return JitType(matched[2])
    steps = [step.strip() for step in matched[3].split(",")]
    if steps[:-1] != [":"] * (len(steps) - 1) or steps[-1] not in (":", "::1"):
        raise TypeError(f"{text!r}: an array is [:], [::1], [:, ::1] and so on")
    layout = "C" if steps[-1] == "::1" else "A"
    return JitType(matched[2], len(steps), layout, matched[1] is not None)


def accepts(kind: JitType, value: object) -> bool:
    """Whether the compiled function would take this argument."""
    if kind.dims:
        return (
            isinstance(value, np.ndarray)
            and value.ndim == kind.dims
            and (kind.name not in SCALARS or value.dtype == _dtype(kind.name))
            and (kind.layout == "A" or value.flags.c_contiguous)
            and (kind.readonly or value.flags.writeable)
        )
    if kind.name == "tuple":
        return (
            isinstance(value, tuple)
            and len(value) == len(kind.items)
            and all(map(accepts, kind.items, value))
        )
    return isinstance(value, bool | int | float | np.number | np.bool_)


def as_typed(kind: JitType, value: Any) -> Any:
    """An argument or a result as the compiled code would have it: numbers of numpy's types."""
    if kind.dims:
        return value
    if kind.name == "void":
        return None
    if kind.name == "tuple":
        return tuple(map(as_typed, kind.items, value))
    if kind.name in INTEGERS:
        return _dtype(kind.name).type(_wrapped(kind.name, int(value)))
    return _dtype(kind.name).type(value)


def as_python(value: Any) -> Any:
    """A typed result as Python receives it from a compiled function."""
    if isinstance(value, tuple):
        return tuple(map(as_python, value))
    return value.item() if isinstance(value, np.generic) else value


@functools.cache
def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype({"boolean": "bool"}.get(name, name))


def _wrapped(name: str, value: int) -> int:
    width = 8 * _dtype(name).itemsize
    value &= (1 << width) - 1
    return value - (1 << width) if name[0] == "i" and value >> (width - 1) else value


def describe(value: object) -> str:
    """The type of an argument as an error message states it."""
    if isinstance(value, np.ndarray):
        kind = "" if value.flags.c_contiguous else " strided"
        return f"{value.dtype}{list(value.shape)}{kind}"
    return type(value).__name__
