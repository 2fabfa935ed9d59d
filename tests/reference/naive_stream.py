"""A slow reader of migration streams that takes one described field after the other.

It follows the vmdescription field by field instead of adding up sizes, keeps every value, and
knows nothing of what the fields mean. RAM is stepped through record by record.
"""

import json
from io import BytesIO


def devices_of(data: bytes) -> dict[tuple[str, int], dict[str, object]]:
    """Fields of every full section, by section name and instance id; subsections by name."""
    start = data.index(b'{"page_size"')
    described = json.loads(data[start:])
    entries = {(entry["name"], entry["instance_id"]): entry for entry in described["devices"]}
    file = BytesIO(data)
    assert b"QEVM\0\0\0\3" == file.read(8)
    if file.read(1) == b"\x07":
        file.read(number(file, 4))
        file.read(1)
    file.seek(-1, 1)
    found: dict[tuple[str, int], dict[str, object]] = {}
    while (kind := file.read(1)) != b"\0":
        section_id = number(file, 4)
        if kind in b"\x01\x04":
            name = file.read(number(file, 1)).decode()
            instance_id = number(file, 4)
            number(file, 4)
        if kind == b"\x04":
            found[name, instance_id] = read_entry(file, entries[name, instance_id])
        else:
            skip_ram(file)
        if file.read(1) == b"\x7e":
            assert section_id == number(file, 4)
        else:
            file.seek(-1, 1)
    assert start == file.tell() + 5
    return found


def number(file: BytesIO, size: int) -> int:
    """A big-endian number."""
    return int.from_bytes(file.read(size), "big")


def read_entry(file: BytesIO, entry: dict[str, object]) -> dict[str, object]:
    """The described fields, then the described subsections."""
    values: dict[str, object] = {}
    for field in entry["fields"]:
        for _ in range(field.get("array_len", 1)):
            value = read_field(file, field)
            if "array_len" in field or "index" in field:
                values.setdefault(field["name"], []).append(value)
            else:
                values[field["name"]] = value
    for subsection in entry.get("subsections", ()):
        assert b"\x05" == file.read(1)
        assert subsection["vmsd_name"].encode() == file.read(number(file, 1))
        assert subsection["version"] == number(file, 4)
        values[subsection["vmsd_name"]] = read_entry(file, subsection)
    return values


def read_field(file: BytesIO, field: dict[str, object]) -> object:
    """One element: a struct member by member, a number, or bytes."""
    begin = file.tell()
    if "struct" in field:
        value: object = read_entry(file, field["struct"])
    elif field["type"].startswith(("int", "uint")):
        signed = field["type"].startswith("int")
        value = int.from_bytes(file.read(field["size"]), "big", signed=signed)
    else:
        value = file.read(field["size"])
    assert field["size"] == file.tell() - begin
    return value


def skip_ram(file: BytesIO) -> None:
    """Records up to the one that says EOS; blocks without extra words."""
    while True:
        word = number(file, 8)
        left = word & ~0xFFF if word & 0x04 else 0
        while left:
            file.read(number(file, 1))
            left -= number(file, 8)
        if word & 0x0A and not word & 0x20:
            file.read(number(file, 1))
        file.read(1 if word & 0x02 else 4096 if word & 0x08 else 0)
        if word & 0x10:
            return
