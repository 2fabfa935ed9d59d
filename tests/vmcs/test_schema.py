"""Row types refuse a table that contradicts itself, and decode words as the rows say."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.schema import (
    BitTable,
    Code,
    CodeTable,
    Field,
    FieldType,
    FieldWidth,
    Layout,
    TableError,
    bit,
    bits,
    check_ascending,
    check_unique,
    code,
    flag,
    gap,
    pack,
    reserved,
    unused,
)


class Colour(BitTable, width=8, sdm="Colours", macros="COLOUR_"):
    """A word with every kind of row."""

    RED = flag(0, "Red light")
    RESERVED_1_2 = reserved(1, 2, default1=True)
    GREEN = flag(3, "Green light", "GRN", default1=True)
    RESERVED_4 = reserved(4)
    BLUE = flag(5, "Blue light", sdm="Late colours")
    RESERVED_6_7 = reserved(6, 7)


class Reason(CodeTable, apm="Reasons", macros="REASON_"):
    """A numbering with a hole and a far member."""

    FIRST = code(0, "First reason")
    UNUSED_1 = unused(1)
    SECOND = code(2, "Second reason", "2")
    LAST = code(2**64 - 1, "Last reason")


EVENT = Layout(
    "event",
    16,
    bits("VECTOR", 0, 7, "Vector"),
    bits("TYPE", 8, 10, "Type", {0: "external interrupt", 2: "NMI"}),
    gap(11, 14),
    bit("VALID", 15, "Valid", apm="Elsewhere"),
    sdm="Events",
)


def test_bit_table_has_one_row_a_bit():
    assert list(range(8)) == [row.bit for row in Colour.table]


def test_bit_table_member_is_its_mask():
    assert 0b0010_1001 == Colour.RED | Colour.GREEN | Colour.BLUE


def test_reserved_run_is_named_bit_by_bit():
    assert ("RESERVED_2", "GREEN", "RESERVED_7") == Colour.names_of(0b1000_1100)


def test_masks_of_a_bit_table_part_the_word():
    assert 0xFF == Colour.defined_mask() ^ Colour.reserved_mask()
    assert 0b0000_1110 == Colour.default1_mask()


def test_row_cites_its_own_section_before_the_table_s():
    assert "SDM: Colours" == Colour.RED.row.cite
    assert "SDM: Late colours" == Colour.BLUE.row.cite


def test_combination_of_bits_has_no_row():
    with pytest.raises(ValueError, match="not one bit"):
        _ = (Colour.RED | Colour.BLUE).row


@pytest.mark.parametrize("value", [-1, 256])
def test_names_of_refuses_a_value_wider_than_the_word(value):
    with pytest.raises(ValueError, match="8 bits of Colour"):
        Colour.names_of(value)


@given(st.integers(0, 255))
def test_rows_of_a_value_add_up_to_it(value):
    assert value == sum(row.mask for row in Colour.rows_of(value))


def test_members_survive_pickling():
    assert Colour.GREEN is pickle.loads(pickle.dumps(Colour.GREEN))
    assert Reason.LAST is pickle.loads(pickle.dumps(Reason.LAST))


def test_bit_table_refuses_a_gap():
    with pytest.raises(TableError, match="LATE does not follow bit 1"):

        class Wrong(BitTable, width=3, sdm="x"):
            EARLY = flag(0, "early")
            LATE = flag(2, "late")


def test_bit_table_refuses_a_short_word():
    with pytest.raises(TableError, match="1 bits in a word of 2"):

        class Wrong(BitTable, width=2, sdm="x"):
            ONLY = flag(0, "only")


def test_bit_table_refuses_a_row_without_citation():
    with pytest.raises(TableError, match="no citation"):

        class Wrong(BitTable, width=1):
            ONLY = flag(0, "only")


def test_code_table_names_numbers():
    assert "SECOND" == Reason.name_of(2)
    assert None is Reason.name_of(1)
    assert None is Reason.name_of(3)


def test_code_table_member_knows_its_row():
    row = Code("SECOND", 2, "Second reason", "REASON_2", apm="Reasons")

    assert row == Reason.SECOND.row


def test_code_table_refuses_falling_numbers():
    with pytest.raises(TableError, match="0x1 stands after 0x2"):

        class Wrong(CodeTable, sdm="x"):
            TWO = code(2, "two")
            ONE = code(1, "one")


def test_layout_decodes_defined_fields_only():
    assert {"VECTOR": 0x20, "TYPE": 2, "VALID": 1} == EVENT.decode(0xFA20)


def test_layout_describes_what_says_something():
    assert ("VECTOR=0x20", "TYPE=NMI", "RESERVED_11_14=0xf", "VALID") == EVENT.describe(0xFA20)


@given(st.integers(0, 0xFFFF))
def test_layout_word_undoes_decode(word):
    assert word & ~EVENT.reserved_mask() == EVENT.word(**EVENT.decode(word))


@given(st.integers(0, 0xFFFF), st.integers(0, 7))
def test_layout_put_changes_one_field(word, value):
    changed = EVENT.put(word, "TYPE", value)

    assert value == EVENT.get(changed, "TYPE")
    assert 0 == (word ^ changed) & ~0x700


def test_layout_refuses_a_value_that_does_not_fit():
    with pytest.raises(ValueError, match="3 bits of TYPE"):
        EVENT.word(TYPE=8)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((bit("A", 0, "a"), bit("B", 2, "b")), "B does not start at bit 1"),
        ((bit("A", 0, "a"), bit("B", 0, "b")), "B does not start at bit 1"),
        ((bit("A", 0, "a"),), "1 bits in a word of 2"),
        ((bit("A", 0, "a"), bit("A", 1, "b")), "'A' occurs twice"),
        ((bits("A", 0, 1, "a", {4: "four"}),), "A cannot hold 0x4"),
    ],
)
def test_layout_refuses_a_wrong_table(rows, message):
    with pytest.raises(TableError, match=message):
        Layout("wrong", 2, *rows, sdm="x")


def test_layout_refuses_rows_without_citation():
    with pytest.raises(TableError, match="no citation"):
        Layout("wrong", 1, bit("A", 0, "a"))


def test_checks_name_the_table_and_the_value():
    with pytest.raises(TableError, match="t: 7 occurs twice"):
        check_unique([7, 8, 7], "t")
    with pytest.raises(TableError, match="t: 0x3 stands after 0x3"):
        check_ascending([3, 3], "t")


def test_pack_makes_one_structured_row_a_table_row():
    packed = pack(Colour.table, bit="u1", mask="u8", reserved="?")

    assert np.dtype([("bit", "u1"), ("mask", "u8"), ("reserved", "?")]) == packed.dtype
    assert [1 << n for n in range(8)] == packed["mask"].tolist()
    assert [1, 2, 4, 6, 7] == packed["bit"][packed["reserved"]].tolist()


def test_pack_refuses_a_value_wider_than_its_column():
    with pytest.raises(OverflowError):
        pack(Reason.table, number="u4")


@pytest.mark.parametrize(
    ("width", "size", "high"),
    [
        (FieldWidth.BITS_16, 2, None),
        (FieldWidth.BITS_64, 8, 0x2005),
        (FieldWidth.BITS_32, 4, None),
        (FieldWidth.NATURAL, 8, None),
    ],
)
def test_field_knows_its_size_and_high_access(width, size, high):
    field = Field("X", 0x2004, width, FieldType.CONTROL, "x", sdm="x")

    assert size == field.size
    assert high == field.encoding_high
    assert 2 == field.index


@pytest.mark.parametrize(
    ("supported", "exists"), [({}, False), ({Colour: 1}, False), ({Colour: 40}, True)]
)
def test_field_exists_where_one_of_its_controls_is_supported(supported, exists):
    controls = (Colour.GREEN, Colour.BLUE)
    field = Field("X", 0, FieldWidth.BITS_16, FieldType.CONTROL, "x", controls, sdm="x")

    assert exists is field.exists_with(supported)


def test_field_without_condition_always_exists():
    assert Field("X", 0, FieldWidth.BITS_16, FieldType.CONTROL, "x", sdm="x").exists_with({})


def test_macro_carries_the_table_s_prefix_where_it_differs():
    assert "COLOUR_GRN" == Colour.GREEN.row.macro
    assert "" == Colour.RED.row.macro
