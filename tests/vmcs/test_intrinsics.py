"""Intrinsics: the instruction and the Python beside it do the same."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs import intrinsics
from vmcs.jit import jit

SIZE = 48

data_of = st.binary(min_size=SIZE, max_size=SIZE)
positions = st.integers(0, SIZE - 8)
words = st.integers(0, 2**64 - 1)
lengths = st.integers(0, SIZE // 2)

load_u8, load_u16 = intrinsics.load_u8, intrinsics.load_u16
load_u32, load_u64 = intrinsics.load_u32, intrinsics.load_u64
store_u8, store_u16 = intrinsics.store_u8, intrinsics.store_u16
store_u32, store_u64 = intrinsics.store_u32, intrinsics.store_u64
copy_bytes, clear_bytes = intrinsics.copy_bytes, intrinsics.clear_bytes
stream_16, fence, prefetch = intrinsics.stream_16, intrinsics.fence, intrinsics.prefetch
crc32c_u8, crc32c_u64 = intrinsics.crc32c_u8, intrinsics.crc32c_u64
carryless_product = intrinsics.carryless_product


@jit("void(const uint8[::1], int64, uint64[::1])")
def load_all(data, at, out):
    out[0] = load_u8(data, at)
    out[1] = load_u16(data, at)
    out[2] = load_u32(data, at)
    out[3] = load_u64(data, at)


@jit("void(uint8[::1], int64, int64, uint64)")
def store_one(data, at, width, word):
    if width == 1:
        store_u8(data, at, word)
    elif width == 2:
        store_u16(data, at, word)
    elif width == 4:
        store_u32(data, at, word)
    else:
        store_u64(data, at, word)


@jit("void(uint8[::1], int64, const uint8[::1], int64, int64)")
def copy_and_clear(target, to, source, at, length):
    prefetch(source, at)
    copy_bytes(target, to, source, at, length)
    clear_bytes(target, to, length // 2)


@jit("void(uint8[::1], int64, const uint8[::1], int64)")
def stream(target, to, source, at):
    stream_16(target, to, source, at)
    fence()


@jit("uint64(uint64, uint64)")
def crc_word(crc, word):
    return crc32c_u64(crc, word)


@jit("uint64(uint64, uint64)")
def crc_byte(crc, byte):
    return crc32c_u8(crc, byte)


@jit("uint64(uint64, uint64)")
def product(a, b):
    return carryless_product(a, b)


def forms(function):
    """The compiled form where this processor has it, and the Python one."""
    return [function.plain] if function.missing() else [function.plain, function]


@given(data_of, positions)
def test_loads_are_little_endian_at_any_alignment(data, at):
    expected = [struct.unpack_from(f"<{kind}", data, at)[0] for kind in "BHIQ"]
    for form in forms(load_all):
        out = np.zeros(4, np.uint64)
        form(np.frombuffer(data, np.uint8), at, out)

        assert expected == out.tolist()


@given(data_of, positions, st.sampled_from([1, 2, 4, 8]), words)
def test_stores_write_their_width_and_no_more(data, at, width, word):
    expected = bytearray(data)
    expected[at : at + width] = word.to_bytes(8, "little")[:width]
    for form in forms(store_one):
        array = np.frombuffer(bytearray(data), np.uint8)
        form(array, at, width, word)

        assert bytes(expected) == array.tobytes()


@given(data_of, data_of, st.integers(0, SIZE // 2), st.integers(0, SIZE // 2), lengths)
def test_bytes_are_copied_and_cleared(old, new, to, at, length):
    expected = bytearray(old)
    expected[to : to + length] = new[at : at + length]
    expected[to : to + length // 2] = bytes(length // 2)
    for form in forms(copy_and_clear):
        array = np.frombuffer(bytearray(old), np.uint8)
        form(array, to, np.frombuffer(new, np.uint8), at, length)

        assert bytes(expected) == array.tobytes()


@given(data_of, st.integers(0, SIZE - 16), st.sampled_from([0, 16, 32]))
def test_streamed_bytes_arrive(data, at, to):
    for form in forms(stream):
        room = np.zeros(SIZE + 16, np.uint8)
        start = -room.ctypes.data % 16
        form(room, start + to, np.frombuffer(data, np.uint8), at)

        assert data[at : at + 16] == room[start + to : start + to + 16].tobytes()
        assert int(np.frombuffer(data, np.uint8)[at : at + 16].sum()) == int(room.sum())


def crc32c_bits(crc, data):
    """The register after `data`, by the polynomial itself, a bit a step."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


@given(st.integers(0, 2**32 - 1), words)
def test_crc32_steps_by_a_word_and_by_a_byte(crc, word):
    whole = crc32c_bits(crc, word.to_bytes(8, "little"))
    single = crc32c_bits(crc, bytes([word & 0xFF]))

    assert {whole} == {form(crc, word) for form in forms(crc_word)}
    assert {single} == {form(crc, word) for form in forms(crc_byte)}


@given(words, words)
def test_the_carryless_product_is_that_of_polynomials(a, b):
    expected = 0
    for bit in range(64):
        expected ^= (b << bit) if a >> bit & 1 else 0

    assert {expected % 2**64} == {form(a, b) for form in forms(product)}


@pytest.mark.parametrize(
    ("function", "needs"),
    [(crc_word, {"sse4_2"}), (product, {"pclmulqdq"}), (load_all, set())],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_functions_need_what_their_intrinsics_need(function, needs):
    assert needs == function.needs()
