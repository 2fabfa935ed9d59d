"""One record by name: numbers in and out, and errors that say what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import naive_batch as naive
from tests.vmcs.batch.strategies import layouts, words
from vmcs.batch import LayoutError, Place, RecordLayout, StateBatch, StateView

LAYOUT = RecordLayout(
    "record",
    32,
    [
        Place("RIP", 0, 8),
        Place("cs.selector", 8, 2),
        Place("cs.base", 16, 8),
        Place("words.0", 24, 4),
        Place("words.1", 28, 4),
    ],
)


@pytest.fixture
def view():
    return StateView(bytearray(32), LAYOUT)


@given(st.data())
def test_a_field_is_read_and_written_alone(data):
    layout = data.draw(layouts())
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    place = data.draw(st.sampled_from(layout.places))
    view = StateView(bytearray(raw), layout)
    value = data.draw(words) % (1 << 8 * place.width)

    assert naive.read(raw, place) == view[place.name]
    view[place.name] = value
    assert naive.write(raw, place, value) == view.bytes


def test_fields_are_attributes_too(view):
    view.RIP = 2**64 - 1
    view.cs.base = 0x1000
    view.words[1] = 7
    expected = {"RIP": 2**64 - 1, "cs.selector": 0, "cs.base": 0x1000, "words.0": 0, "words.1": 7}

    assert expected == view.fields()
    assert {"cs.selector": 0, "cs.base": 0x1000} == view.fields(["cs"]) == view.cs.fields()
    assert (2**64 - 1, 0x1000, 7, 2) == (view.RIP, view.cs.base, view.words[1], len(view.words))
    assert {"RIP", "cs", "words"} <= set(dir(view))


@pytest.mark.parametrize("value", [2**16, -1, 2**64])
def test_a_value_that_does_not_fit_is_refused(view, value):
    with pytest.raises(OverflowError, match=r"record: cs\.selector has 16 bits"):
        view["cs.selector"] = value
    with pytest.raises(OverflowError):
        view.cs.selector = value


def test_numpy_numbers_are_numbers(view):
    view.RIP = np.uint64(2**64 - 1)

    assert 2**64 - 1 == view.RIP
    assert type(view.RIP) is int


def test_an_unknown_name_is_answered_with_a_near_one(view):
    with pytest.raises(KeyError, match="record has no field 'RIPS'; did you mean RIP"):
        view["RIPS"]
    with pytest.raises(KeyError, match="did you mean RIP"):
        view["RIPS"] = 1
    with pytest.raises(AttributeError, match="did you mean RIP"):
        view.RIPS  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean cs\.base"):
        view.cs.bas = 1
    with pytest.raises(AttributeError, match="did you mean RIP"):
        view.RIPS = 1


def test_views_of_other_layouts_are_compared_by_field(view):
    other = StateView(bytearray(12), RecordLayout("other", 12, [Place("RIP", 4, 8)]))
    other.RIP = 5

    assert {"RIP": (0, 5)} == view.diff(other)
    assert {"RIP": (5, 0)} == other.diff(view)
    assert {} == view.diff(StateView(bytearray(32), LAYOUT))


def test_views_are_equal_by_their_bytes(view):
    other = StateView(bytearray(32), LAYOUT)

    assert view == other
    other.RIP = 1
    assert view != other
    assert view != "RIP"


def test_several_fields_are_set_together_or_not_at_all(view):
    view.update({"RIP": 1, "cs.base": 2})

    with pytest.raises(OverflowError):
        view.update({"RIP": 9, "cs.selector": 2**16})
    with pytest.raises(KeyError):
        view.update({"RIP": 9, "RIPS": 1})
    assert (1, 2) == (view.RIP, view.cs.base)


def test_a_view_of_a_batch_writes_through():
    batch = StateBatch(LAYOUT, 3)
    batch[1].RIP = 9

    assert [0, 9, 0] == batch["RIP"].tolist()


def test_a_view_of_constant_bytes_is_read_only():
    view = StateView(bytes(range(32)), LAYOUT)

    assert 0x0908 == view.cs.selector
    with pytest.raises(TypeError):
        view.RIP = 1


@pytest.mark.parametrize("data", [bytes(31), np.zeros(16, np.uint16), np.zeros((1, 32), np.uint8)])
def test_bytes_of_another_size_are_refused(data):
    with pytest.raises(LayoutError, match="record has 32 bytes"):
        StateView(data, LAYOUT)
