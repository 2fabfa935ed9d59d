"""Record layouts: where fields lie, what may not be, and names that are nearly right."""

import numpy as np
import pytest
from hypothesis import given

from tests.vmcs.batch.strategies import layouts
from vmcs.batch import LayoutError, Place, RecordLayout, UnknownFieldError
from vmcs.byte_layout import FieldAt, padding

ROWS = (
    FieldAt("flags", 0, "u2"),
    padding("reserved", 2, "u2", 1),
    FieldAt("intercepts", 4, "u4", "Intercept vectors", 3),
    FieldAt("cs.base", 16, "u8"),
    FieldAt("cs.limit", 24, "u4"),
)
LAYOUT = RecordLayout.of_rows("record", 32, ROWS)


def test_rows_that_are_reserved_are_no_fields():
    expected = (
        Place("flags", 0, 2),
        Place("intercepts.0", 4, 4),
        Place("intercepts.1", 8, 4),
        Place("intercepts.2", 12, 4),
        Place("cs.base", 16, 8),
        Place("cs.limit", 24, 4),
    )

    assert expected == LAYOUT.places


def test_rows_may_be_called_otherwise():
    layout = RecordLayout.of_rows("record", 32, ROWS, lambda row: row.name.upper())

    assert "INTERCEPTS.2" in layout
    assert "flags" not in layout


def test_a_name_before_the_dot_stands_for_all_its_fields():
    assert ("cs.base", "cs.limit", "flags") == LAYOUT.expand(["cs", "flags"])
    assert LAYOUT.names == LAYOUT.expand()


def test_offsets_and_widths_are_those_of_the_fields():
    assert [16, 24, 0] == LAYOUT.offsets(["cs", "flags"]).tolist()
    assert [8, 4, 2] == LAYOUT.widths(["cs", "flags"]).tolist()


@given(layouts())
def test_a_layout_becomes_a_dtype_and_comes_back(layout):
    again = RecordLayout.of_dtype("again", layout.dtype)

    assert (layout.places, layout.size) == (again.places, again.size)


def test_arrays_in_a_dtype_are_a_field_an_element():
    dtype = np.dtype([("flags", "<u2"), ("words", "<u8", (2,))])

    assert (Place("flags", 0, 2), Place("words.0", 2, 8), Place("words.1", 10, 8)) == (
        RecordLayout.of_dtype("record", dtype).places
    )


@pytest.mark.parametrize("dtype", ["<i4", "<u4", [("a", "<i8")], [("a", "<u2", (2, 2))]])
def test_a_dtype_of_anything_else_is_refused(dtype):
    with pytest.raises(LayoutError):
        RecordLayout.of_dtype("record", np.dtype(dtype))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([Place("A", 0, 4), Place("B", 2, 4)], "B lies over"),
        ([Place("A", 6, 4)], "outside"),
        ([Place("A", -1, 4)], "outside"),
        ([Place("A", 0, 3)], "A has 3 bytes"),
        ([Place("A", 0, 2), Place("A", 4, 2)], "occurs twice"),
    ],
)
def test_contradictions_are_refused(places, message):
    with pytest.raises(LayoutError, match=message):
        RecordLayout("record", 8, places)


@pytest.mark.parametrize(
    ("name", "hint"), [("flag", "flags"), ("CS.BASE", "cs.base"), ("intercept", "intercepts")]
)
def test_an_unknown_name_is_answered_with_a_near_one(name, hint):
    with pytest.raises(UnknownFieldError) as refused:
        LAYOUT.place(name)

    assert f"record has no field {name!r}; did you mean {hint}?" == str(refused.value)


def test_a_name_that_is_far_from_all_gets_no_hint():
    assert "record has no field 'qqqq'" == str(UnknownFieldError(LAYOUT, "qqqq"))


def test_structures_inside_are_parts():
    head = RecordLayout("head", 4, [Place("size", 0, 4)])
    whole = head.within("whole", 100, "header", first=(8, LAYOUT), second=(60, LAYOUT))

    assert Place("second.cs.base", 76, 8) == whole.place("second.cs.base")
    assert {"header": (0, head), "first": (8, LAYOUT), "second": (60, LAYOUT)} == dict(whole.parts)
    assert "first.cs" in whole.groups
    with pytest.raises(LayoutError):
        head.within("whole", 60, "header", first=(40, LAYOUT))
