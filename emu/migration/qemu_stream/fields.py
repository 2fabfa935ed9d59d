"""The field types of vmstate descriptions: how a row of named fields is read, written, described.

A vmstate payload is its fields in declaration order, big-endian, without tags and without padding.
The rows here name, type and count them as the vmdescription of a stream does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from emu.migration.qemu_stream.cursor import U32, Cursor, is_name
from emu.migration.qemu_stream.errors import StreamError
from vmcs.schema import check_unique, require

SUBSECTION_MARK = 0x05

Value = int | dict[str, Any] | list[Any]
"""A field's value: a number, a struct as a mapping, or a list of either when counted."""

SCALAR_SIZES = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "int32": 4, "int64": 8}


@dataclass(frozen=True)
class FieldRow:
    """One field: `count` elements of `type`, in sections of version `since` and later."""

    name: str
    type: str
    count: int = 1
    since: int = 0

    @property
    def size(self) -> int:
        """Bytes of all elements."""
        return self.count * element_size(self.type)


@dataclass(frozen=True)
class StructRow:
    """One field of a struct type that several fields share."""

    struct: str
    field: str
    type: str


# QEMU 7.2, target/i386/machine.c: vmstate_segment, vmstate_xmm_reg, vmstate_ymmh_reg,
# vmstate_zmmh_reg, vmstate_hi16_zmm_reg, vmstate_bnd_regs, vmstate_mtrr_var,
# vmstate_lbr_records_var, vmstate_fpreg. The quadwords carry the name that QEMU gives them.
STRUCTS = (
    StructRow("fpreg", "tmp_mant", "uint64"),
    StructRow("fpreg", "tmp_exp", "uint16"),
    StructRow("segment", "selector", "uint32"),
    StructRow("segment", "base", "uint64"),
    StructRow("segment", "limit", "uint32"),
    StructRow("segment", "flags", "uint32"),
    StructRow("xmm_reg", "_q_ZMMReg[0]", "uint64"),
    StructRow("xmm_reg", "_q_ZMMReg[1]", "uint64"),
    StructRow("ymmh_reg", "_q_ZMMReg[2]", "uint64"),
    StructRow("ymmh_reg", "_q_ZMMReg[3]", "uint64"),
    StructRow("zmmh_reg", "_q_ZMMReg[4]", "uint64"),
    StructRow("zmmh_reg", "_q_ZMMReg[5]", "uint64"),
    StructRow("zmmh_reg", "_q_ZMMReg[6]", "uint64"),
    StructRow("zmmh_reg", "_q_ZMMReg[7]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[0]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[1]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[2]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[3]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[4]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[5]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[6]", "uint64"),
    StructRow("hi16_zmm_reg", "_q_ZMMReg[7]", "uint64"),
    StructRow("bnd_regs", "lb", "uint64"),
    StructRow("bnd_regs", "ub", "uint64"),
    StructRow("mtrr_var", "base", "uint64"),
    StructRow("mtrr_var", "mask", "uint64"),
    StructRow("lbr_records_var", "from", "uint64"),
    StructRow("lbr_records_var", "to", "uint64"),
    StructRow("lbr_records_var", "info", "uint64"),
)

STRUCT_FIELDS: Mapping[str, tuple[StructRow, ...]] = {
    name: tuple(rows) for name, rows in groupby(STRUCTS, key=lambda row: row.struct)
}

check_unique([(row.struct, row.field) for row in STRUCTS], "STRUCTS")
for _row in STRUCTS:
    require(_row.type in SCALAR_SIZES, f"STRUCTS: {_row} has no scalar type")


def element_size(type_name: str) -> int:
    """Bytes of one element of a scalar or struct type."""
    if type_name in SCALAR_SIZES:
        return SCALAR_SIZES[type_name]
    return sum(SCALAR_SIZES[row.type] for row in STRUCT_FIELDS[type_name])


def offsets_of(rows: Sequence[FieldRow]) -> dict[str, int]:
    """Where each field of `rows` begins, counted from the first; names must be unique."""
    offsets: dict[str, int] = {}
    position = 0
    for row in rows:
        offsets[row.name] = position
        position += row.size
    return offsets


def size_of(rows: Sequence[FieldRow]) -> int:
    """Bytes of all fields of `rows`."""
    return sum(row.size for row in rows)


def decode(row: FieldRow, raw: bytes) -> Value:
    """The value of `row` in `raw`, which has exactly the row's size."""
    step = element_size(row.type)
    values = [
        _decode_element(row.type, raw[begin : begin + step]) for begin in range(0, len(raw), step)
    ]
    return values[0] if row.count == 1 else values


def encode(row: FieldRow, value: Value) -> bytes:
    """`value` as the bytes of `row`; raises `ValueError` when it does not fit."""
    if row.count == 1:
        return _encode_element(row, row.type, value)
    if not isinstance(value, list) or len(value) != row.count:
        raise ValueError(f"{row.name}: a list of {row.count} values expected, found {value!r}")
    return b"".join(_encode_element(row, row.type, element) for element in value)


def describe(rows: Sequence[FieldRow], prefix: str = "env.") -> list[dict[str, Any]]:
    """The `fields` list that QEMU's vmdescription holds for `rows`."""
    return [_describe_row(row, prefix) for row in rows]


def subsection_header(name: str, version: int) -> bytes:
    """The bytes in front of a subsection's payload."""
    raw = name.encode("ascii")
    return bytes((SUBSECTION_MARK, len(raw))) + raw + U32.pack(version)


def read_subsection_header(cursor: Cursor) -> tuple[str, int]:
    """Name and version of the subsection that begins here; raises `StreamError`."""
    begin = cursor.position
    mark = cursor.u8("subsection")
    if mark != SUBSECTION_MARK:
        raise StreamError(begin, f"subsection (05) expected, found {mark:02x}")
    return cursor.counted("subsection name"), cursor.u32("subsection version")


def peek_subsection(cursor: Cursor, owner: str) -> str | None:
    """Name of the subsection of `owner` that begins here; None when the list has ended.

    As in QEMU's loader (migration/vmstate.c: vmstate_subsection_load): a list ends at the first
    byte that does not begin a subsection whose longer name starts with its owner's.
    """
    at = cursor.position
    if cursor.left < 2 or cursor.data[at] != SUBSECTION_MARK:
        return None
    raw = cursor.data[at + 2 : min(at + 2 + cursor.data[at + 1], cursor.end)]
    if len(raw) != cursor.data[at + 1] or not is_name(raw) or len(raw) <= len(owner):
        return None
    name = raw.decode("ascii")
    return name if name.startswith(owner) else None


def _decode_element(type_name: str, raw: bytes) -> int | dict[str, int]:
    if type_name in SCALAR_SIZES:
        return int.from_bytes(raw, "big", signed=type_name.startswith("int"))
    values: dict[str, int] = {}
    position = 0
    for row in STRUCT_FIELDS[type_name]:
        size = SCALAR_SIZES[row.type]
        values[row.field] = int.from_bytes(raw[position : position + size], "big")
        position += size
    return values


def _encode_element(row: FieldRow, type_name: str, value: Value) -> bytes:
    if type_name in SCALAR_SIZES:
        if not isinstance(value, int):
            raise ValueError(f"{row.name}: a number expected, found {value!r}")
        try:
            return value.to_bytes(
                SCALAR_SIZES[type_name], "big", signed=type_name.startswith("int")
            )
        except OverflowError:
            raise ValueError(f"{row.name}: {value:#x} does not fit {type_name}") from None
    members = STRUCT_FIELDS[type_name]
    if not isinstance(value, dict) or set(value) != {member.field for member in members}:
        raise ValueError(f"{row.name}: the members of {type_name} expected, found {value!r}")
    return b"".join(_encode_element(row, member.type, value[member.field]) for member in members)


def _describe_row(row: FieldRow, prefix: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": prefix + row.name}
    if row.count > 1:
        entry["array_len"] = row.count
    if row.type in SCALAR_SIZES:
        entry["type"] = row.type
    else:
        entry["type"] = "struct"
        entry["struct"] = _describe_struct(row.type)
    entry["size"] = element_size(row.type)
    return entry


def _describe_struct(name: str) -> dict[str, Any]:
    fields = [
        {"name": row.field, "type": row.type, "size": SCALAR_SIZES[row.type]}
        for row in STRUCT_FIELDS[name]
    ]
    if name != "fpreg":
        return {"vmsd_name": name, "version": 1, "fields": fields}
    # The floating-point registers pass through a temporary (VMSTATE_WITH_TMP), which QEMU
    # describes as one more level, both without a version.
    tmp = {"name": "tmp", "type": "tmp", "vmsd_name": "fpreg_tmp", "version": 0, "fields": fields}
    return {"vmsd_name": name, "version": 0, "fields": [{**tmp, "size": element_size(name)}]}
