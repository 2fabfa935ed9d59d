"""Byte layouts account for every byte, and additions take only bytes that were free."""

import numpy as np
import pytest

from vmcs.byte_layout import FieldAt, byte_table, carve, check_bytes, dtype_of, padding
from vmcs.schema import TableError

ROWS = byte_table(
    "frame",
    48,
    FieldAt("a", 0, "u2"),
    FieldAt("b", 2, "u2"),
    FieldAt("c", 4, "u4"),
    padding("spare", 8, "u8", 4),
    FieldAt("d", 40, "u8"),
    seen="frame.h: struct frame, 1.0",
)


def spans(rows):
    return [(row.name, row.offset, row.size) for row in rows]


def test_rows_carry_the_table_s_citation():
    assert {"Linux: frame.h: struct frame, 1.0"} == {row.cite for row in ROWS}


def test_dtype_has_every_member_at_its_offset():
    layout = dtype_of(ROWS, 64)

    assert 64 == layout.itemsize
    assert {row.name: row.offset for row in ROWS} == {
        name: where[1] for name, where in layout.fields.items()
    }


def test_dtype_reads_little_endian_words():
    page = np.frombuffer(bytes([1, 2]) + bytes(46), dtype=dtype_of(ROWS, 48))

    assert 0x0201 == page["a"][0]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (8, [("new", 8, 8), ("spare", 16, 24)]),
        (16, [("spare", 8, 8), ("new", 16, 8), ("spare_24", 24, 16)]),
        (32, [("spare", 8, 24), ("new", 32, 8)]),
    ],
)
def test_member_carved_from_padding_leaves_the_rest_reserved(offset, expected):
    made = carve(ROWS, FieldAt("new", offset, "u8", seen="2.0"))

    assert expected == spans(made)[3:-1]
    check_bytes(made, 48, "frame")


def test_padding_left_with_an_odd_size_is_counted_in_bytes():
    made = carve(ROWS, FieldAt("new", 8, "u2", seen="2.0"))

    assert ("u1", 30) == (made[4].kind, made[4].count)
    check_bytes(made, 48, "frame")


def test_additions_stack():
    made = carve(ROWS, FieldAt("new", 8, "u8", seen="2"), FieldAt("newer", 16, "u8", seen="3"))

    assert [("new", 8, 8), ("newer", 16, 8), ("spare", 24, 16)] == spans(made)[3:-1]


def test_reserved_bytes_retire_whole_members():
    made = carve(ROWS, padding("dead", 0, "u4", 1, seen="2.0"))

    assert [("dead", 0, 4), ("c", 4, 4)] == spans(made)[:2]


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (FieldAt("new", 4, "u4"), "would overwrite c"),
        (FieldAt("new", 36, "u8"), "would overwrite d"),
        (padding("dead", 0, "u1", 3), "would retire a part of b"),
        (FieldAt("new", 48, "u8"), "no bytes at 48"),
    ],
)
def test_addition_that_breaks_a_member_is_refused(added, message):
    with pytest.raises(TableError, match=message):
        carve(ROWS, added)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((FieldAt("a", 0, "u2"), FieldAt("b", 4, "u2")), "b at 4, expected 2"),
        ((FieldAt("a", 0, "u4"), FieldAt("b", 2, "u2")), "b at 2, expected 4"),
        ((FieldAt("a", 0, "u4"),), "4 bytes, expected 6"),
        ((FieldAt("a", 0, "u4"), FieldAt("a", 4, "u2")), "'a' occurs twice"),
    ],
)
def test_wrong_layout_is_refused(rows, message):
    with pytest.raises(TableError, match=message):
        byte_table("wrong", 6, *rows, seen="x")


def test_layout_without_citation_is_refused():
    with pytest.raises(TableError, match="no citation"):
        byte_table("wrong", 2, FieldAt("a", 0, "u2"))
