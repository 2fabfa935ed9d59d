"""Rows gathered and scattered inside other jitted loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import naive_batch as naive
from tests.vmcs.batch.strategies import layouts, words
from vmcs.batch import VMCS12, gather_row, scatter_row
from vmcs.jit import jit


@jit("void(const uint8[:, ::1], const int64[::1], const int64[::1], uint64[:, ::1])")
def gather_each(records, offsets, widths, out):
    for i in range(records.shape[0]):
        gather_row(records[i], offsets, widths, out[i])


@given(st.data())
def test_a_row_is_gathered_and_scattered(data):
    layout = data.draw(layouts())
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    values = data.draw(st.lists(words, min_size=len(layout.names), max_size=len(layout.names)))
    offsets, widths = layout.offsets(), layout.widths()
    read = [naive.read(raw, place) for place in layout.places]
    [written] = naive.scatter([raw], layout.places, [values])
    for gather, scatter in ((gather_row, scatter_row), (gather_row.plain, scatter_row.plain)):
        out = np.zeros(len(read), np.uint64)
        gather(np.frombuffer(raw, np.uint8), offsets, widths, out)
        row = np.frombuffer(bytearray(raw), np.uint8)
        scatter(row, offsets, widths, np.array(values, np.uint64))

        assert read == out.tolist()
        assert written == row.tobytes()


def test_rows_are_gathered_inside_another_loop():
    records = np.random.default_rng(3).integers(0, 256, (5, VMCS12.size)).astype(np.uint8)
    out = np.zeros((5, len(VMCS12.names)), np.uint64)
    gather_each(records, VMCS12.offsets(), VMCS12.widths(), out)

    assert naive.gather([row.tobytes() for row in records], VMCS12.places) == out.tolist()
