"""Random layouts and batches for property tests."""

import numpy as np
from hypothesis import strategies as st

from vmcs.batch import Place, RecordLayout, StateBatch, checksum, states

NAMES = [f"F{i}" for i in range(12)]


@st.composite
def layouts(draw, names=None, widths=None):
    """A layout with the given fields, in any order, with gaps of any size between them."""
    some = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
    wanted = draw(st.permutations(names) if names else some)
    places, at = [], 0
    for name in wanted:
        at += draw(st.integers(0, 5) | st.just(0) | st.just(70))
        width = widths[name] if widths else draw(st.sampled_from([1, 2, 4, 8]))
        places.append(Place(name, at, width))
        at += width
    ordered = sorted(places, key=lambda place: place.name)
    return RecordLayout("random", at + draw(st.integers(0, 9)), ordered)


@st.composite
def pairs_of_layouts(draw):
    """Two layouts of the same fields, each of the same width in both."""
    left = draw(layouts())
    widths = {place.name: place.width for place in left.places}
    return left, draw(layouts(left.names, widths))


@st.composite
def batches(draw, layout, count):
    """A batch of random records, which may lie apart, off alignment and among other bytes."""
    start, gap = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    stride = layout.size + gap
    data = draw(st.binary(min_size=start + stride * count, max_size=start + stride * count))
    return StateBatch.over(layout, np.frombuffer(bytearray(data), np.uint8), start, stride, count)


counts = st.integers(0, 7)
words = st.integers(0, 2**64 - 1)


def rows_of(batch):
    """Every record as bytes, read without the batch's own code."""
    size = batch.layout.size
    starts = range(batch.start, batch.start + batch.count * batch.stride, batch.stride)
    raw = batch.data.tobytes()
    return [raw[start : start + size] for start in starts]


def rest_of(batch):
    """The bytes that belong to no record."""
    raw = bytearray(batch.data.tobytes())
    for i in range(batch.count):
        at = batch.start + i * batch.stride
        raw[at : at + batch.layout.size] = bytes(batch.layout.size)
    return bytes(raw)


def force_compiled(monkeypatch):
    """Skip the tier that runs as Python, so that the compiled kernels are what is tested."""
    for module in (checksum, states):
        for name, value in vars(module).items():
            if type(value).__name__ == "Tiered":
                monkeypatch.setattr(module, name, value.jitted)
