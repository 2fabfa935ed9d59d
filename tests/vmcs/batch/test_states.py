"""Batches against records in plain Python, compiled and as Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import naive_batch as naive
from tests.vmcs.batch.strategies import (
    batches,
    counts,
    force_compiled,
    layouts,
    pairs_of_layouts,
    rest_of,
    rows_of,
    words,
)
from vmcs.batch import LayoutError, Place, RecordLayout, StateBatch, UnknownFieldError
from vmcs.batch import states as states_module

WIDE = RecordLayout("wide", 24, [Place("A", 0, 8), Place("B", 8, 8), Place("C", 16, 4)])
NARROW = RecordLayout("narrow", 16, [Place("A", 4, 4), Place("B", 8, 8), Place("D", 0, 4)])


@pytest.fixture(scope="module", params=["compiled", "plain"], autouse=True)
def form(request):
    """Each test runs with the kernels compiled and with their sources as Python."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "compiled":
            force_compiled(patch)
        else:
            for name, value in list(vars(states_module).items()):
                if type(value).__name__ == "Tiered":
                    patch.setattr(states_module, name, value.jitted.plain)
        yield request.param


few = settings(max_examples=30)


@few
@given(st.data())
def test_gather_reads_each_field_zero_extended(data):
    batch = data.draw(batches(data.draw(layouts()), data.draw(counts)))
    names = data.draw(st.lists(st.sampled_from(batch.layout.names), max_size=8))
    places = [batch.layout.by_name[name] for name in names]

    assert naive.gather(rows_of(batch), places) == batch.gather(names).tolist()


@few
@given(st.data())
def test_scatter_writes_each_field_and_nothing_else(data):
    batch = data.draw(batches(data.draw(layouts()), data.draw(counts)))
    names = data.draw(st.lists(st.sampled_from(batch.layout.names), unique=True))
    row = st.lists(words, min_size=len(names), max_size=len(names))
    given_words = data.draw(st.lists(row, min_size=len(batch), max_size=len(batch)))
    places = [batch.layout.by_name[name] for name in names]
    expected = naive.scatter(rows_of(batch), places, given_words)
    untouched = rest_of(batch)
    batch.scatter(np.array(given_words, np.uint64).reshape(len(batch), len(names)), names)

    assert expected == rows_of(batch)
    assert untouched == rest_of(batch)


@few
@given(st.data())
def test_what_is_gathered_is_scattered_back(data):
    batch = data.draw(batches(data.draw(layouts()), data.draw(counts)))
    before = batch.data.tobytes()
    gathered = batch.gather()
    batch.scatter(gathered)

    assert before == batch.data.tobytes()


@few
@given(st.data())
def test_copy_moves_the_named_fields_and_keeps_the_rest(data):
    left, right = data.draw(pairs_of_layouts())
    count = data.draw(counts)
    source, target = data.draw(batches(left, count)), data.draw(batches(right, count))
    names = data.draw(st.lists(st.sampled_from(left.names), unique=True))
    expected = naive.copied(rows_of(source), left.by_name, rows_of(target), right.by_name, names)
    untouched = rest_of(target)
    target.copy_from(source, names)

    assert expected == rows_of(target)
    assert untouched == rest_of(target)


@few
@given(st.data())
def test_remap_moves_common_fields_and_clears_the_rest(data):
    left, right = data.draw(layouts()), data.draw(layouts())
    widths = {place.name: place.width for place in left.places}
    fitting = [p for p in right.places if widths.get(p.name, 0) <= p.width]
    right = RecordLayout("right", right.size, fitting)
    count = data.draw(counts)
    source, target = data.draw(batches(left, count)), data.draw(batches(right, count))
    common = [name for name in left.names if name in right]
    cleared = [bytes(right.size)] * count
    expected = naive.copied(rows_of(source), left.by_name, cleared, right.by_name, common)
    untouched = rest_of(target)
    target.remap_from(source)

    assert expected == rows_of(target)
    assert expected == rows_of(source.remapped(right))
    assert untouched == rest_of(target)


@few
@given(st.data())
def test_a_remap_there_and_back_loses_no_field(data):
    left, right = data.draw(pairs_of_layouts())
    source = data.draw(batches(left, data.draw(counts)))

    assert source.gather().tolist() == source.remapped(right).remapped(left).gather().tolist()


@few
@given(st.data())
def test_compare_names_the_fields_that_differ(data):
    left, right = data.draw(pairs_of_layouts())
    count = data.draw(counts)
    a, b = data.draw(batches(left, count)), data.draw(batches(right, count))
    b.copy_from(a, data.draw(st.lists(st.sampled_from(left.names), unique=True)))
    names = data.draw(st.permutations(left.names))
    expected = naive.differences(rows_of(a), left.by_name, rows_of(b), right.by_name, names)
    found = a.compare(b, names)

    assert expected == [list(found.of(i)) for i in range(count)]
    assert [row[0] if row else None for row in expected] == found.first_names()
    assert [names.index(row[0]) if row else -1 for row in expected] == found.first.tolist()
    assert {name: n for name in names if (n := sum(name in row for row in expected))} == (
        found.counts()
    )


@few
@given(st.data())
def test_checksums_are_of_all_bytes_or_of_the_fields_wherever_they_lie(data):
    left, right = data.draw(pairs_of_layouts())
    source = data.draw(batches(left, data.draw(counts)))
    target = source.remapped(right)
    names = data.draw(st.permutations(left.names))

    assert [naive.crc32c(row) for row in rows_of(source)] == source.checksum().tolist()
    assert [naive.fnv1a_64(row) for row in rows_of(source)] == source.fnv1a_64().tolist()
    assert source.checksum(names).tolist() == target.checksum(names).tolist()


@few
@given(st.data())
def test_columns_records_and_bytes_are_views(data):
    batch = data.draw(batches(data.draw(layouts()), data.draw(st.integers(1, 5))))
    name = data.draw(st.sampled_from(batch.layout.names))
    place = batch.layout.by_name[name]
    column = [naive.read(row, place) for row in rows_of(batch)]

    assert column == batch[name].tolist()
    assert column == batch.records[name].tolist()
    assert rows_of(batch) == [row.tobytes() for row in batch.bytes]
    batch[name] = 1
    assert [1] * len(batch) == [naive.read(row, place) for row in rows_of(batch)]
    batch.bytes[:] = 0
    assert {bytes(batch.layout.size)} == set(rows_of(batch))


def test_a_wider_field_is_zero_extended_even_where_the_rest_is_kept():
    source, target = StateBatch(NARROW, 2), StateBatch(WIDE, 2)
    source["A"] = [5, 0xFFFF_FFFF]
    target.bytes[:] = 0xEE
    target.copy_from(source)

    assert [5, 0xFFFF_FFFF] == target["A"].tolist()
    assert [0, 0] == target["B"].tolist()
    assert [0xEEEE_EEEE] * 2 == target["C"].tolist()


def test_a_narrower_field_is_refused():
    with pytest.raises(LayoutError, match="A has 8 bytes in wide and does not fit the 4 of narrow"):
        StateBatch(NARROW, 1).copy_from(StateBatch(WIDE, 1))
    with pytest.raises(LayoutError, match="A has 8 bytes in wide and 4 in narrow"):
        StateBatch(WIDE, 1).compare(StateBatch(NARROW, 1))


def test_batches_of_two_lengths_are_refused():
    with pytest.raises(LayoutError):
        StateBatch(WIDE, 1).copy_from(StateBatch(WIDE, 2))
    with pytest.raises(LayoutError):
        StateBatch(WIDE, 1).compare(StateBatch(WIDE, 2))


def test_a_field_that_a_layout_lacks_is_named():
    with pytest.raises(UnknownFieldError, match="wide has no field 'D'"):
        StateBatch(WIDE, 1).copy_from(StateBatch(NARROW, 1), ["D"])
    with pytest.raises(UnknownFieldError, match="wide has no field 'D'"):
        StateBatch(WIDE, 1).gather(["D"])


@pytest.mark.parametrize(
    ("words_given", "names"), [(np.zeros((2, 2)), None), (np.zeros(3), None), ([[1]], ["A", "B"])]
)
def test_words_of_another_shape_are_refused(words_given, names):
    with pytest.raises(LayoutError, match="want words of shape"):
        StateBatch(WIDE, 1).scatter(words_given, names)


def test_words_are_gathered_into_an_array_that_fits():
    batch, out = StateBatch(WIDE, 2), np.ones((2, 3), np.uint64)

    assert batch.gather(out=out) is out
    assert 0 == out.sum()
    with pytest.raises(LayoutError):
        batch.gather(out=np.ones((2, 2), np.uint64))


def test_a_large_remap_streams_past_the_caches_and_is_the_same():
    count = states_module.STREAMED // 4096 + 3
    places = [Place(f"F{i}", 1 + i * 24, 8) for i in range(100)]
    left = RecordLayout("left", 4096, places)
    right = RecordLayout("right", 4096, [Place(p.name, 4080 - p.offset, 8) for p in places])
    source = StateBatch(left, count)
    source.data[:] = np.random.default_rng(5).integers(0, 256, source.data.size, np.uint8)
    target = source.remapped(right)
    expected = naive.copied(
        rows_of(source)[-3:], left.by_name, [bytes(4096)] * 3, right.by_name, left.names
    )

    assert expected == rows_of(target)[-3:]
    assert (source.gather() == target.gather()).all()


# Bytes that two batches share ---------------------------------------------------------------------


@given(st.data())
def test_batches_in_the_same_bytes_are_told_from_those_that_interleave(data):
    buffer = np.zeros(120, np.uint8)
    sizes = st.integers(1, 6)
    views = []
    for _ in range(2):
        size = data.draw(sizes)
        layout = RecordLayout("part", size, [Place("A", 0, 1)])
        stride = data.draw(st.sampled_from([12, 12, size]))
        count = data.draw(st.integers(1, 5))
        start = data.draw(st.integers(0, 50))
        views.append(StateBatch.over(layout, buffer, start, stride, count))
    touched = [
        {
            view.start + i * view.stride + k
            for i in range(view.count)
            for k in range(view.layout.size)
        }
        for view in views
    ]
    found = states_module._overlap(*views)

    assert found or not touched[0] & touched[1]
    if views[0].stride == views[1].stride:
        assert found == bool(touched[0] & touched[1])


def test_a_batch_is_not_copied_onto_itself():
    batch = StateBatch(WIDE, 4)

    with pytest.raises(LayoutError, match="lie in the same bytes"):
        batch[1:4].copy_from(batch[0:3])
    batch[0:2].copy_from(batch[2:4])


# Making and cutting -------------------------------------------------------------------------------


def test_a_slice_is_the_same_bytes():
    batch = StateBatch(WIDE, 5)
    batch["A"] = [0, 1, 2, 3, 4]
    middle = batch[1:4]
    middle["B"] = 9

    assert [1, 2, 3] == middle["A"].tolist()
    assert [0, 9, 9, 9, 0] == batch["B"].tolist()
    assert [0, 1, 2, 3, 4] == [row["A"] for row in batch]
    assert (4, 0) == (batch[-1]["A"], len(batch[3:1]))
    with pytest.raises(LayoutError):
        batch[::2]
    with pytest.raises(IndexError):
        batch[5]


def test_a_copy_has_bytes_of_its_own():
    batch = StateBatch(WIDE, 2)
    other = batch.copy()
    other["A"] = 1

    assert [0, 0] == batch["A"].tolist()


def test_records_are_made_of_bytes():
    raw = bytes(range(48))

    assert [raw[:24], raw[24:]] == rows_of(StateBatch.of_bytes(WIDE, raw))
    assert [raw[:24], raw[24:]] == rows_of(
        StateBatch.of_bytes(WIDE, np.arange(48, dtype=np.uint8).reshape(2, 24))
    )


@pytest.mark.parametrize("wrong", [bytes(25), np.zeros((3, 16), np.uint8)])
def test_bytes_of_another_size_are_refused(wrong):
    with pytest.raises(LayoutError, match="wide has 24 bytes"):
        StateBatch.of_bytes(WIDE, wrong)


@pytest.mark.parametrize(
    ("data", "start", "stride", "count"),
    [
        (np.zeros(48, np.uint8), 1, None, 2),
        (np.zeros(48, np.uint8), 0, 20, 1),
        (np.zeros(48, np.uint8), -1, None, 1),
        (np.zeros(48, np.uint16), 0, None, 1),
        (np.zeros((2, 24), np.uint8), 0, None, 1),
        (np.zeros(96, np.uint8)[::2], 0, None, 1),
    ],
)
def test_a_batch_lies_inside_flat_bytes(data, start, stride, count):
    with pytest.raises(LayoutError):
        StateBatch.over(WIDE, data, start, stride, count)


def test_as_many_records_as_fit_are_taken():
    assert [2, 1, 0] == [len(StateBatch.over(WIDE, np.zeros(n, np.uint8))) for n in (71, 24, 23)]


def test_a_part_is_a_batch_of_the_same_bytes():
    whole = NARROW.within("whole", 60, "head", inner=(16, WIDE))
    batch = StateBatch(whole, 3)
    inner = batch.part("inner", StateBatch)
    inner["B"] = [7, 8, 9]

    assert [7, 8, 9] == batch["inner.B"].tolist()
    with pytest.raises(LayoutError, match="whole has no part 'outer'; it has head, inner"):
        batch.part("outer", StateBatch)
