"""CRC32C and FNV-1a: published values, other libraries, and every way the same."""

import crc32c as crc32c_wheel
import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import naive_batch as naive
from tests.vmcs.batch.strategies import force_compiled
from vmcs.batch import checksum, crc32c, fnv1a_64

# RFC 3720, appendix B.4.
PUBLISHED = {
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
    bytes.fromhex(
        "01c00000" + "00" * 12 + "14000000" + "00000400" + "00000014" + "00000018"
        "28000000" + "00000000" + "02000000" + "00000000"
    ): 0xD9963A56,
    b"123456789": 0xE3069283,
    b"": 0,
}

# RFC 9923, test values of FNV-1a.
PUBLISHED_FNV = {
    b"": 0xCBF29CE484222325,
    b"a": 0xAF63DC4C8601EC8C,
    b"foobar": 0x85944171F73967E8,
}

# Around a word, the three streams and whole pages.
LENGTHS = [0, 1, 7, 8, 9, 16, 23, 24, 191, 192, 193, 199, 215, 216, 217, 998, 4095, 4096, 4097]

RANDOM = np.random.default_rng(7).integers(0, 256, 100_000).astype(np.uint8)
SEED = 0xFFFF_FFFF


@pytest.fixture(params=["compiled", "plain"])
def form(request, monkeypatch):
    if request.param == "compiled":
        force_compiled(monkeypatch)
    else:
        for name, value in list(vars(checksum).items()):
            if type(value).__name__ == "Tiered":
                monkeypatch.setattr(checksum, name, value.plain)
    return request.param


@pytest.mark.parametrize("data", PUBLISHED, ids=lambda data: data[:4].hex() or "empty")
def test_crc32c_gives_the_published_values(form, data):
    assert PUBLISHED[data] == crc32c(data)


@pytest.mark.parametrize("data", PUBLISHED_FNV, ids=lambda data: data.decode() or "empty")
def test_fnv1a_gives_the_published_values(form, data):
    assert PUBLISHED_FNV[data] == fnv1a_64(data)


@pytest.mark.parametrize("length", LENGTHS)
def test_crc32c_agrees_with_other_libraries(form, length):
    data = RANDOM[3 : 3 + length].tobytes()

    assert crc32c_wheel.crc32c(data) == crc32c(data)
    assert google_crc32c.value(data) == crc32c(data)


def test_every_length_agrees_with_another_library(monkeypatch):
    force_compiled(monkeypatch)
    data = RANDOM.tobytes()

    assert [crc32c_wheel.crc32c(data[n : 2 * n]) for n in range(600)] == [
        crc32c(data[n : 2 * n]) for n in range(600)
    ]


@given(st.binary(max_size=600), st.integers(0, 600))
def test_a_checksum_continues_where_the_last_one_ended(data, cut):
    assert crc32c(data) == crc32c(data[cut:], crc32c(data[:cut]))
    assert fnv1a_64(data) == fnv1a_64(data[cut:], fnv1a_64(data[:cut]))


def ways():
    """Every implementation of CRC32C of records that this processor runs."""
    for function in (checksum.crc32c_records_by_instruction, checksum.crc32c_records_by_table):
        yield function.plain
        if not function.missing():
            yield function


@given(st.binary(min_size=230, max_size=900), st.integers(0, 9), st.integers(1, 3))
def test_all_ways_agree(data, start, count):
    array = np.frombuffer(data, np.uint8)
    length = (len(data) - start) // count
    expected = [naive.crc32c(data[start + i * length :][:length]) for i in range(count)]
    for way in ways():
        sums = np.zeros(count, np.uint32)
        way(array, start, length, length, SEED, sums)

        assert expected == sums.tolist()


@pytest.mark.parametrize("function", [checksum.crc32c_by_instruction, checksum.crc32c_by_table])
def test_one_sum_is_that_of_the_records(function):
    if function.missing():
        pytest.skip("this processor has no CRC32 instruction")
    for length in LENGTHS:
        expected = crc32c_wheel.crc32c(RANDOM[5 : 5 + length].tobytes())

        assert expected == function(RANDOM, 5, length, SEED) ^ SEED


@pytest.mark.parametrize("words", [1, 2, 3, 170, 2**20 + 1])
def test_a_register_moves_on_by_zero_words(words):
    """Multiplying by the factor does what as many zero bytes do to the register."""
    if checksum.shift_factor.missing():
        pytest.skip("this processor has no PCLMULQDQ instruction")
    start = 0x1234_5678
    zeros = bytes(8 * words)
    expected = crc32c_wheel.crc32c(zeros, start ^ SEED) ^ SEED

    assert expected == checksum.joined(start, checksum.shift_factor(words))


def test_records_lie_where_they_are_said_to(form):
    sums = checksum.crc32c_of_records(RANDOM, 3, 50, 40, 20)
    hashes = checksum.fnv1a_64_of_records(RANDOM, 3, 50, 40, 20)
    records = [RANDOM[3 + 50 * i :][:40].tobytes() for i in range(20)]

    assert [naive.crc32c(record) for record in records] == sums.tolist()
    assert [naive.fnv1a_64(record) for record in records] == hashes.tolist()


@pytest.mark.parametrize(
    ("data", "start", "stride", "length", "count"),
    [
        (RANDOM[:100], 0, 50, 51, 2),
        (RANDOM[:100], 1, 50, 50, 2),
        (RANDOM[:100], -1, 50, 50, 1),
        (RANDOM[:100], 0, -50, 50, 1),
        (RANDOM[:100:2], 0, 10, 10, 1),
        (RANDOM[:100].reshape(2, 50), 0, 50, 50, 2),
        (RANDOM[:100].astype(np.uint16), 0, 50, 50, 2),
    ],
)
def test_records_outside_the_bytes_are_refused(data, start, stride, length, count):
    with pytest.raises(ValueError, match="bytes"):
        checksum.crc32c_of_records(data, start, stride, length, count)
    with pytest.raises(ValueError, match="bytes"):
        checksum.fnv1a_64_of_records(data, start, stride, length, count)


def test_no_records_have_no_sums(form):
    assert 0 == checksum.crc32c_of_records(RANDOM[:0], 0, 8, 8, 0).size
