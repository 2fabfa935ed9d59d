"""Checksums of bytes and of every record of a batch: CRC32C and FNV-1a.

CRC32C (RFC 3720, appendix B.4) runs on the processor's CRC32 instruction where there is one: three
streams side by side hide its latency, and PCLMULQDQ joins them. Elsewhere tables do sixteen bytes
a step. All ways give the same value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmcs.intrinsics import (
    CRC32C_POLYNOMIAL,
    carryless_product,
    crc32c_u8,
    crc32c_u64,
    load_u8,
    load_u64,
    prefetch,
)
from vmcs.jit import Jitted, jit, tiered
from vmcs.jitcache import lacks

Bytes = NDArray[np.uint8]
Sums = NDArray[np.uint32]
Words = NDArray[np.uint64]

ZERO = np.uint64(0)
ONE = np.uint64(1)
EIGHT = np.uint64(8)
BYTE = np.uint64(0xFF)
INVERTED = np.uint64(0xFFFF_FFFF)

FNV_OFFSET_BASIS = 0xCBF2_9CE4_8422_2325
FNV_PRIME = np.uint64(0x100_0000_01B3)
"""FNV-1a, 64 bits (RFC 9923)."""

STREAMED = 192
"""Bytes from which three streams are faster than one."""

LINE = 64
FETCHED = 8192
"""Bytes up to which the whole of the next record is fetched while one is summed."""

PLAIN_BYTES = 1 << 18
"""Bytes that a process sums in Python before it loads the compiler."""


@jit("uint64(uint64, uint64)")
def joined(crc: np.uint64, factor: np.uint64) -> np.uint64:
    """The CRC32C register moved on by the zero bytes that `factor` stands for."""
    return crc32c_u64(ZERO, carryless_product(crc, factor))


@jit("uint64(int64)")
def shift_factor(words: int) -> np.uint64:
    """The factor that moves a CRC32C register on by `words` zero words of 8 bytes; words >= 1.

    It is x to the power of 64 * words - 33 modulo the polynomial: the reflected product of two
    32-bit polynomials is one place short, and CRC32 multiplies by x to the power of 32. With that
    bias carried along, the factor for one word is x to the power of 31, which is 1 reflected.
    """
    bit = 0
    while words >> (bit + 1) != 0:
        bit += 1
    factor = ONE
    while bit > 0:
        bit -= 1
        factor = joined(factor, factor)
        if words >> bit & 1:
            factor = joined(factor, ONE)
    return factor


@jit("uint64(const uint8[::1], int64, int64, uint64, uint64, uint64)")
def crc32c_streams(
    data: Bytes, start: int, length: int, crc: np.uint64, once: np.uint64, twice: np.uint64
) -> np.uint64:
    """CRC32C register after `length` bytes at `start`, by the processor's instruction.

    `once` and `twice` move a register on by one and two thirds of the words; 0 for one stream.
    """
    at = start
    if once != ZERO:
        third = 8 * (length // 24)
        second = ZERO
        last = ZERO
        for i in range(start, start + third, 8):
            crc = crc32c_u64(crc, load_u64(data, i))
            second = crc32c_u64(second, load_u64(data, i + third))
            last = crc32c_u64(last, load_u64(data, i + 2 * third))
        crc = joined(crc, twice) ^ joined(second, once) ^ last
        at = start + 3 * third
    end = start + length
    while at + 8 <= end:
        crc = crc32c_u64(crc, load_u64(data, at))
        at += 8
    while at < end:
        crc = crc32c_u8(crc, load_u8(data, at))
        at += 1
    return crc


@jit("uint64(const uint8[::1], int64, int64, uint64)")
def crc32c_by_instruction(data: Bytes, start: int, length: int, crc: np.uint64) -> np.uint64:
    """CRC32C register after `length` bytes at `start`."""
    once = ZERO
    if length >= STREAMED:
        once = shift_factor(length // 24)
    return crc32c_streams(data, start, length, crc, once, joined(once, once))


@jit("void(const uint8[::1], int64, int64, int64, uint64, uint32[::1])")
def crc32c_records_by_instruction(
    data: Bytes, start: int, stride: int, length: int, crc: np.uint64, sums: Sums
) -> None:
    """CRC32C of `length` bytes at `start` of each record, `stride` bytes apart, into `sums`."""
    once = ZERO
    if length >= STREAMED:
        once = shift_factor(length // 24)
    twice = joined(once, once)
    fetched = length if length <= FETCHED else 0
    for i in range(sums.size):
        following = start + min(i + 1, sums.size - 1) * stride
        for k in range(0, fetched, LINE):
            prefetch(data, following + k)
        register = crc32c_streams(data, start + i * stride, length, crc, once, twice)
        sums[i] = np.uint32(register ^ INVERTED)


def _tables() -> Sums:
    """Tables (16, 256): entry [k, b] is the register of byte b followed by k zero bytes."""
    tables = np.zeros((16, 256), np.uint32)
    register = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = register & np.uint32(1)
        register = register >> np.uint32(1) ^ odd * np.uint32(CRC32C_POLYNOMIAL)
    for k in range(16):
        tables[k] = register
        register = tables[0][register & np.uint32(0xFF)] ^ register >> np.uint32(8)
    tables.setflags(write=False)
    return tables


TABLES = _tables()


@jit("uint64(const uint8[::1], int64, int64, uint64)")
def crc32c_by_table(data: Bytes, start: int, length: int, crc: np.uint64) -> np.uint64:
    """CRC32C register after `length` bytes at `start`, sixteen bytes a step."""
    at = start
    end = start + length
    while at + 16 <= end:
        low = load_u64(data, at) ^ crc
        high = load_u64(data, at + 8)
        crc = ZERO
        for k in range(8):
            shift = np.uint64(8 * k)
            crc ^= np.uint64(TABLES[15 - k, (low >> shift) & BYTE])
            crc ^= np.uint64(TABLES[7 - k, (high >> shift) & BYTE])
        at += 16
    while at < end:
        crc = np.uint64(TABLES[0, (crc ^ load_u8(data, at)) & BYTE]) ^ (crc >> EIGHT)
        at += 1
    return crc


@jit("void(const uint8[::1], int64, int64, int64, uint64, uint32[::1])")
def crc32c_records_by_table(
    data: Bytes, start: int, stride: int, length: int, crc: np.uint64, sums: Sums
) -> None:
    """As `crc32c_records_by_instruction`, by tables."""
    for i in range(sums.size):
        register = crc32c_by_table(data, start + i * stride, length, crc)
        sums[i] = np.uint32(register ^ INVERTED)


@jit("uint64(const uint8[::1], int64, int64, uint64)")
def fnv1a_64_register(data: Bytes, start: int, length: int, total: np.uint64) -> np.uint64:
    """FNV-1a hash after `length` bytes at `start`."""
    for k in range(start, start + length):
        total = (total ^ np.uint64(data[k])) * FNV_PRIME
    return total


@jit("void(const uint8[::1], int64, int64, int64, uint64, uint64[::1])")
def fnv1a_64_records(
    data: Bytes, start: int, stride: int, length: int, basis: np.uint64, sums: Words
) -> None:
    """FNV-1a of `length` bytes at `start` of each record, `stride` bytes apart, into `sums`."""
    for i in range(sums.size):
        sums[i] = fnv1a_64_register(data, start + i * stride, length, basis)


# The first tier: a process that sums a few states does not wait for the compiler.


def _crc32c_plain(data: Bytes, start: int, length: int, crc: int) -> int:
    table = TABLES[0].tolist()
    register = int(crc)
    for byte in data[start : start + length].tobytes():
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register


def _crc32c_records_plain(
    data: Bytes, start: int, stride: int, length: int, crc: int, sums: Sums
) -> None:
    for i in range(sums.size):
        sums[i] = _crc32c_plain(data, start + i * stride, length, crc) ^ int(INVERTED)


def _fnv1a_64_plain(data: Bytes, start: int, length: int, total: int) -> int:
    prime = int(FNV_PRIME)
    for byte in data[start : start + length].tobytes():
        total = (total ^ byte) * prime & 0xFFFF_FFFF_FFFF_FFFF
    return total


def _fnv1a_64_records_plain(
    data: Bytes, start: int, stride: int, length: int, basis: int, sums: Words
) -> None:
    for i in range(sums.size):
        sums[i] = _fnv1a_64_plain(data, start + i * stride, length, basis)


def _by_instruction_or_table(instruction: Jitted[Any], table: Jitted[Any]) -> Jitted[Any]:
    return table if any(map(lacks, ("sse4_2", "pclmulqdq"))) else instruction


_crc32c = tiered(
    _by_instruction_or_table(crc32c_by_instruction, crc32c_by_table),
    PLAIN_BYTES,
    cost=lambda _data, _start, length, _crc: length,
    plain=_crc32c_plain,
)
_crc32c_records = tiered(
    _by_instruction_or_table(crc32c_records_by_instruction, crc32c_records_by_table),
    PLAIN_BYTES,
    cost=lambda _data, _start, _stride, length, _crc, sums: length * sums.size,
    plain=_crc32c_records_plain,
)
_fnv1a_64 = tiered(
    fnv1a_64_register,
    PLAIN_BYTES,
    cost=lambda _data, _start, length, _total: length,
    plain=_fnv1a_64_plain,
)
_fnv1a_64_records = tiered(
    fnv1a_64_records,
    PLAIN_BYTES,
    cost=lambda _data, _start, _stride, length, _basis, sums: length * sums.size,
    plain=_fnv1a_64_records_plain,
)


def crc32c(data: Any, crc: int = 0) -> int:
    """CRC32C of a bytes-like object; `crc` is the checksum of what came before it."""
    flat = np.frombuffer(data, np.uint8)
    return int(_crc32c(flat, 0, flat.size, crc ^ 0xFFFF_FFFF)) ^ 0xFFFF_FFFF


def fnv1a_64(data: Any, basis: int = FNV_OFFSET_BASIS) -> int:
    """FNV-1a, 64 bits, of a bytes-like object; `basis` is the hash of what came before it."""
    flat = np.frombuffer(data, np.uint8)
    return int(_fnv1a_64(flat, 0, flat.size, basis))


def crc32c_of_records(
    data: Bytes, start: int, stride: int, length: int, count: int
) -> NDArray[np.uint32]:
    """CRC32C of `length` bytes of each of `count` records, `stride` bytes apart in flat `data`.

    Raises ValueError where the records do not lie inside `data`.
    """
    _check_inside(data, start, stride, length, count)
    sums = np.zeros(count, np.uint32)
    _crc32c_records(data, start, stride, length, 0xFFFF_FFFF, sums)
    return sums


def fnv1a_64_of_records(
    data: Bytes, start: int, stride: int, length: int, count: int
) -> NDArray[np.uint64]:
    """FNV-1a, 64 bits, of the same bytes as `crc32c_of_records` takes."""
    _check_inside(data, start, stride, length, count)
    sums = np.zeros(count, np.uint64)
    _fnv1a_64_records(data, start, stride, length, FNV_OFFSET_BASIS, sums)
    return sums


def _check_inside(data: Bytes, start: int, stride: int, length: int, count: int) -> None:
    if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
        raise ValueError("checksums take a flat contiguous array of bytes")
    end = start + max(count - 1, 0) * stride + length
    if min(start, stride, length, count) < 0 or (count and end > data.size):
        raise ValueError(
            f"{count} records of {length} bytes, {stride} apart from byte {start}, do not lie "
            f"inside {data.size} bytes"
        )
