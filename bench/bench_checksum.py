"""The speed of the checksums of one buffer and of N records, beside the wheels."""

import zlib
from collections.abc import Callable, Iterator

import crc32c as crc32c_wheel
import google_crc32c
import numpy as np
import xxhash

from bench.harness import Figure, compared, skip_first_tiers
from vmcs.batch import checksum, crc32c, fnv1a_64

SIZES = (64, 4096, 1 << 20)
RECORD = 4096
COUNTS = (64, 65_536)
SEED = 0xFFFF_FFFF


def by_table(data: np.ndarray) -> int:
    return checksum.crc32c_by_table(data, 0, data.size, SEED) ^ SEED


def one_buffer(size: int) -> Iterator[Figure]:
    array = np.random.default_rng(2).integers(0, 256, size).astype(np.uint8)
    data = array.tobytes()
    candidates: dict[str, Callable[[], object]] = {
        "crc32c": lambda: crc32c(data),
        "crc32c wheel": lambda: crc32c_wheel.crc32c(data),
        "google-crc32c wheel": lambda: google_crc32c.value(data),
        "crc32c by tables": lambda: by_table(array),
        "fnv1a_64": lambda: fnv1a_64(data),
        "zlib.crc32": lambda: zlib.crc32(data),
        "xxhash wheel, XXH64": lambda: xxhash.xxh64_intdigest(data),
        "xxhash wheel, XXH3": lambda: xxhash.xxh3_64_intdigest(data),
    }
    assert crc32c(data) == crc32c_wheel.crc32c(data) == google_crc32c.value(data)
    assert crc32c(data) == by_table(array)
    yield from rates(f"one buffer of {size:,} bytes", candidates, size, "crc32c wheel")


def many_records(count: int) -> Iterator[Figure]:
    array = np.random.default_rng(2).integers(0, 256, count * RECORD, np.uint8)
    records = [array[i * RECORD : (i + 1) * RECORD].tobytes() for i in range(min(count, 4096))]
    share = len(records) / count
    sums = np.zeros(count, np.uint32)
    hashes = np.zeros(count, np.uint64)
    ours = checksum.crc32c_of_records(array, 0, RECORD, RECORD, count)
    assert [crc32c_wheel.crc32c(record) for record in records] == ours[: len(records)].tolist()
    table, hashed = checksum.crc32c_records_by_table, checksum.fnv1a_64_records
    candidates: dict[str, Callable[[], object]] = {
        "crc32c of records": lambda: checksum.crc32c_of_records(array, 0, RECORD, RECORD, count),
        "crc32c of records, by tables": lambda: table(array, 0, RECORD, RECORD, SEED, sums),
        "fnv1a_64 of records": lambda: hashed(array, 0, RECORD, RECORD, 1, hashes),
    }
    loops: dict[str, Callable[[], object]] = {
        "crc32c wheel, a loop": lambda: [crc32c_wheel.crc32c(record) for record in records],
        "google-crc32c wheel, a loop": lambda: [google_crc32c.value(record) for record in records],
        "xxhash wheel, XXH3, a loop": lambda: [xxhash.xxh3_64_intdigest(r) for r in records],
    }
    group = f"{count:,} records of {RECORD} bytes"
    timings = compared({**candidates, **loops})
    against = "crc32c wheel, a loop"
    scaled = {
        name: timing.median / (share if name in loops else 1) for name, timing in timings.items()
    }
    for name, seconds in scaled.items():
        rate = count * RECORD / seconds / 1e9
        yield Figure(group, name, rate, "GB/s", scaled[against] / seconds, against)


def rates(
    group: str, candidates: dict[str, Callable[[], object]], size: int, against: str
) -> Iterator[Figure]:
    timings = compared(candidates)
    for name, timing in timings.items():
        rate = size / timing.median / 1e9
        yield Figure(group, name, rate, "GB/s", timings[against].median / timing.median, against)


def figures() -> Iterator[Figure]:
    skip_first_tiers(checksum)
    for size in SIZES:
        yield from one_buffer(size)
    for count in COUNTS:
        yield from many_records(count)
