"""The vmdescription at a stream's tail: JSON that tells how long each device's fields are.

QEMU's loader does not read it; tools do. Here it delimits the sections, and it is kept true when
subsections come and go. Only the entries of changed devices are written anew: the rest of the
text stays as it was, with the repeated keys that QEMU writes for lists of structs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emu.migration.qemu_stream.cursor import U32, Buffer
from emu.migration.qemu_stream.errors import StreamError

VMDESCRIPTION_MARK = 0x06
HEADER_BYTES = 5
DEEPEST = 32
"""Levels of subsections that are read; QEMU's own are at most three."""

_DECODER = json.JSONDecoder()
_BLANK = " \t\r\n"


@dataclass(frozen=True)
class Device:
    """One entry of `devices`: `begin` and `end` delimit it in the text."""

    name: str
    instance_id: int
    begin: int
    end: int
    entry: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the section's payload: fields and subsections."""
        return fields_size(self.entry["fields"]) + subsections_size(self.subsections)

    @property
    def subsections(self) -> Sequence[Mapping[str, Any]]:
        """Entries of the subsections that were sent, in order."""
        found: Sequence[Mapping[str, Any]] = self.entry.get("subsections", ())
        return found


@dataclass(frozen=True)
class Description:
    """The parsed vmdescription; `offset` is where its type byte (06) stands in the file."""

    offset: int
    text: str
    page_size: int | None
    devices: tuple[Device, ...]

    @property
    def end(self) -> int:
        """Where the bytes after the JSON begin."""
        return self.offset + HEADER_BYTES + len(self.text)

    def with_subsections(self, changes: Mapping[int, Sequence[Mapping[str, Any]]]) -> bytes:
        """The vmdescription, header included, with other subsections for some devices.

        `changes` maps a position in `devices` to the entries of that device's subsections.
        """
        parts = []
        position = 0
        for index in sorted(changes):
            device = self.devices[index]
            entry = {key: value for key, value in device.entry.items() if key != "subsections"}
            if changes[index]:
                entry["subsections"] = list(changes[index])
            parts += [self.text[position : device.begin], json.dumps(entry)]
            position = device.end
        parts.append(self.text[position:])
        return vmdescription("".join(parts))


def vmdescription(text: str) -> bytes:
    """`text` behind the type byte and its length."""
    raw = text.encode("ascii")
    return bytes((VMDESCRIPTION_MARK,)) + U32.pack(len(raw)) + raw


def find_description(data: Buffer, begin: int, end: int) -> Description | None:
    """The vmdescription that ends at `end`, or None; raises `StreamError` for a malformed one.

    It stands behind the EOF byte (00), and JSON holds no NUL, so the last place that fits is it.
    """
    at = end
    while (at := data.rfind(b"\0\x06", begin, at)) >= 0:
        text_at = at + 1 + HEADER_BYTES
        if text_at < end and data[text_at] == ord("{"):
            (length,) = U32.unpack_from(data, at + 2)
            if text_at + length == end:
                return _parse(data[text_at:end], at + 1)
    return None


def fields_size(fields: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of the fields of an entry; a field's size is that of one element."""
    return sum(entry["size"] * entry.get("array_len", 1) for entry in fields)


def subsection_size(entry: Mapping[str, Any]) -> int:
    """Bytes of one subsection, its header and its own subsections included."""
    header = 6 + len(entry["vmsd_name"])
    return header + fields_size(entry["fields"]) + subsections_size(entry.get("subsections", ()))


def subsections_size(entries: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of a list of subsections."""
    return sum(subsection_size(entry) for entry in entries)


def _parse(raw: bytes, offset: int) -> Description:
    """Read the JSON; `offset` is that of the type byte. Raises `StreamError`."""
    try:
        text = raw.decode("ascii")
        found: dict[str, Any] = {}
        devices: tuple[Device, ...] = ()
        at = _expect(text, 0, "{")
        while True:
            key, at = _DECODER.raw_decode(text, _skip(text, at))
            at = _skip(text, _expect(text, at, ":"))
            if key == "devices":
                devices, at = _parse_devices(text, at)
            else:
                found[key], at = _DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if text[at : at + 1] == "}":
                break
            at = _expect(text, at, ",")
        if _skip(text, at + 1) != len(text):
            raise ValueError(f"the JSON ends at its byte {at + 1}")
    except RecursionError:
        raise StreamError(offset, "vmdescription: JSON nested too deeply") from None
    except (ValueError, TypeError) as error:
        raise StreamError(offset, f"vmdescription: {error}") from None
    page_size = found.get("page_size")
    if not isinstance(page_size, int | None):
        raise StreamError(offset, f"vmdescription: page_size is {page_size!r}")
    return Description(offset, text, page_size, devices)


def _parse_devices(text: str, at: int) -> tuple[tuple[Device, ...], int]:
    """The list of devices that begins at `at`, and where it ends; raises `ValueError`."""
    devices: list[Device] = []
    at = _skip(text, _expect(text, at, "["))
    while text[at : at + 1] != "]":
        if devices:
            at = _skip(text, _expect(text, at, ","))
        entry, end = _DECODER.raw_decode(text, at)
        _check_entry(entry, ("name", "instance_id"))
        devices.append(Device(entry["name"], entry["instance_id"], at, end, entry))
        at = _skip(text, end)
    return tuple(devices), at + 1


def _check_entry(entry: object, names: tuple[str, str], depth: int = 0) -> None:
    """A device or subsection has what delimiting it needs; raises `ValueError`."""
    if not isinstance(entry, dict):
        raise ValueError(f"an object expected, found {str(entry)[:40]}")
    if depth > DEEPEST:
        raise ValueError(f"subsections in subsections, more than {DEEPEST} deep")
    name, number = (entry.get(key) for key in names)
    if not isinstance(name, str) or not name.isascii() or not _is_count(number):
        raise ValueError(f"{names[0]} and {names[1]} are {name!r} and {number!r}")
    fields, subsections = entry.get("fields"), entry.get("subsections", [])
    if not isinstance(fields, list) or not isinstance(subsections, list):
        raise ValueError(f"{name}: lists of fields and subsections expected")
    for member in fields:
        if not isinstance(member, dict) or not _is_count(member.get("size")):
            raise ValueError(f"{name}: a field without a size")
        if not _is_count(member.get("array_len", 1)):
            raise ValueError(f"{name}: array_len is {member['array_len']!r}")
    for subsection in subsections:
        _check_entry(subsection, ("vmsd_name", "version"), depth + 1)


def _is_count(value: object) -> bool:
    """A non-negative number of at most 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def _expect(text: str, at: int, mark: str) -> int:
    """The position after `mark`, with blanks before it; raises `ValueError`."""
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"{mark!r} expected at its byte {at}, found {text[at : at + 1]!r}")
    return at + 1


def _skip(text: str, at: int) -> int:
    """The position of the next character that is not blank."""
    while text[at : at + 1] in _BLANK and at < len(text):
        at += 1
    return at
