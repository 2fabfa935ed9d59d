"""Jitted loops over records: gather, scatter, copy, remap and compare.

A batch is flat bytes; record i starts at byte `start + i * stride`. What to do to each record comes
as tables that `vmcs.batch.plan` makes:

`ops`     one word an operation: place in the source, or column, in the low half, place in the
          target, or column, in the high half; operations on 8 bytes first, then on 4, 2 and 1
`bounds`  where each width begins in `ops`, and the end: 5 words
`blocks`  source, target and length of runs that are long enough to be copied as bytes
`clears`  target and length of bytes that are cleared
`lines`   offsets of the cache lines that a record touches
"""

import numpy as np
from numpy.typing import NDArray

from vmcs.intrinsics import (
    clear_bytes,
    copy_bytes,
    fence,
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    prefetch,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
    stream_16,
)
from vmcs.jit import jit

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Table = NDArray[np.int64]

ZERO = np.uint64(0)
FIRST = np.uint64(0)
WIDE = np.uint64(1)
HALF = np.uint64(2)
QUARTER = np.uint64(3)
END = np.uint64(4)
LOW = 0xFFFF_FFFF
AHEAD = 4
"""How many records ahead the cache lines are fetched."""


@jit("void(const uint8[::1], const int64[::1], const int64[::1], uint64[::1])")
def gather_row(row: Bytes, offsets: Table, widths: Table, out: Words) -> None:
    """Words of one record, zero-extended: out[f] is the `widths[f]` bytes at `offsets[f]`.

    For use inside other jitted loops. The places must lie inside `row`.
    """
    for f in range(offsets.size):
        at = offsets[f]
        width = widths[f]
        if width == 8:
            out[f] = load_u64(row, at)
        elif width == 4:
            out[f] = load_u32(row, at)
        elif width == 2:
            out[f] = load_u16(row, at)
        else:
            out[f] = load_u8(row, at)


@jit("void(uint8[::1], const int64[::1], const int64[::1], const uint64[::1])")
def scatter_row(row: Bytes, offsets: Table, widths: Table, words: Words) -> None:
    """Store words into one record, each cut to its width: the converse of `gather_row`."""
    for f in range(offsets.size):
        at = offsets[f]
        width = widths[f]
        if width == 8:
            store_u64(row, at, words[f])
        elif width == 4:
            store_u32(row, at, words[f])
        elif width == 2:
            store_u16(row, at, words[f])
        else:
            store_u8(row, at, words[f])


@jit(
    "void(const uint8[::1], int64, int64, const int64[::1], const int64[::1], const int64[::1],"
    " uint64[:, ::1])"
)
def gather(
    source: Bytes, start: int, stride: int, ops: Table, bounds: Table, lines: Table, words: Words
) -> None:
    """Words of every record, zero-extended, into `words` (records, columns)."""
    last = words.shape[0] - 1
    for i in range(words.shape[0]):
        at = start + i * stride
        ahead = start + min(i + AHEAD, last) * stride
        for k in range(np.uint64(lines.size)):
            prefetch(source, ahead + lines[k])
        for k in range(np.uint64(bounds[FIRST]), np.uint64(bounds[WIDE])):
            words[i, ops[k] >> 32] = load_u64(source, at + (ops[k] & LOW))
        for k in range(np.uint64(bounds[WIDE]), np.uint64(bounds[HALF])):
            words[i, ops[k] >> 32] = load_u32(source, at + (ops[k] & LOW))
        for k in range(np.uint64(bounds[HALF]), np.uint64(bounds[QUARTER])):
            words[i, ops[k] >> 32] = load_u16(source, at + (ops[k] & LOW))
        for k in range(np.uint64(bounds[QUARTER]), np.uint64(bounds[END])):
            words[i, ops[k] >> 32] = load_u8(source, at + (ops[k] & LOW))


@jit(
    "void(const uint64[:, ::1], uint8[::1], int64, int64, const int64[::1], const int64[::1],"
    " const int64[::1])"
)
def scatter(
    words: Words, target: Bytes, start: int, stride: int, ops: Table, bounds: Table, lines: Table
) -> None:
    """Store `words` (records, columns) into every record, each word cut to its width."""
    last = words.shape[0] - 1
    for i in range(words.shape[0]):
        to = start + i * stride
        ahead = start + min(i + AHEAD, last) * stride
        for k in range(np.uint64(lines.size)):
            prefetch(target, ahead + lines[k])
        for k in range(np.uint64(bounds[FIRST]), np.uint64(bounds[WIDE])):
            store_u64(target, to + (ops[k] >> 32), words[i, ops[k] & LOW])
        for k in range(np.uint64(bounds[WIDE]), np.uint64(bounds[HALF])):
            store_u32(target, to + (ops[k] >> 32), words[i, ops[k] & LOW])
        for k in range(np.uint64(bounds[HALF]), np.uint64(bounds[QUARTER])):
            store_u16(target, to + (ops[k] >> 32), words[i, ops[k] & LOW])
        for k in range(np.uint64(bounds[QUARTER]), np.uint64(bounds[END])):
            store_u8(target, to + (ops[k] >> 32), words[i, ops[k] & LOW])


@jit(
    "void(const uint8[::1], int64, uint8[::1], int64, const int64[::1], const int64[::1],"
    " const int64[:, ::1])"
)
def copy_record(
    source: Bytes, at: int, target: Bytes, to: int, ops: Table, bounds: Table, blocks: Table
) -> None:
    """Copy the runs of one record at byte `at` of the source to byte `to` of the target."""
    for k in range(blocks.shape[0]):
        copy_bytes(target, to + blocks[k, 1], source, at + blocks[k, 0], blocks[k, 2])
    for k in range(np.uint64(bounds[FIRST]), np.uint64(bounds[WIDE])):
        store_u64(target, to + (ops[k] >> 32), load_u64(source, at + (ops[k] & LOW)))
    for k in range(np.uint64(bounds[WIDE]), np.uint64(bounds[HALF])):
        store_u32(target, to + (ops[k] >> 32), load_u32(source, at + (ops[k] & LOW)))
    for k in range(np.uint64(bounds[HALF]), np.uint64(bounds[QUARTER])):
        store_u16(target, to + (ops[k] >> 32), load_u16(source, at + (ops[k] & LOW)))
    for k in range(np.uint64(bounds[QUARTER]), np.uint64(bounds[END])):
        store_u8(target, to + (ops[k] >> 32), load_u8(source, at + (ops[k] & LOW)))


@jit(
    "void(const uint8[::1], int64, int64, uint8[::1], int64, int64, int64, const int64[::1],"
    " const int64[::1], const int64[:, ::1], const int64[:, ::1], const int64[::1],"
    " const int64[::1])"
)
def copy_into(
    source: Bytes,
    source_start: int,
    source_stride: int,
    target: Bytes,
    target_start: int,
    target_stride: int,
    count: int,
    ops: Table,
    bounds: Table,
    blocks: Table,
    clears: Table,
    source_lines: Table,
    target_lines: Table,
) -> None:
    """Copy the runs of `count` records; the other bytes of the target keep their values."""
    for i in range(count):
        at = source_start + i * source_stride
        to = target_start + i * target_stride
        ahead = min(i + AHEAD, count - 1)
        for k in range(np.uint64(source_lines.size)):
            prefetch(source, source_start + ahead * source_stride + source_lines[k])
        for k in range(np.uint64(target_lines.size)):
            prefetch(target, target_start + ahead * target_stride + target_lines[k])
        for k in range(clears.shape[0]):
            clear_bytes(target, to + clears[k, 0], clears[k, 1])
        copy_record(source, at, target, to, ops, bounds, blocks)


@jit(
    "void(const uint8[::1], int64, int64, uint8[::1], int64, int64, int64, int64, const int64[::1],"
    " const int64[::1], const int64[:, ::1], const int64[::1], uint8[::1], int64, boolean)"
)
def copy_anew(
    source: Bytes,
    source_start: int,
    source_stride: int,
    target: Bytes,
    target_start: int,
    target_stride: int,
    size: int,
    count: int,
    ops: Table,
    bounds: Table,
    blocks: Table,
    source_lines: Table,
    scratch: Bytes,
    scratch_start: int,
    streams: bool,
) -> None:
    """Copy the runs of `count` records of `size` bytes; the other bytes of the target become 0.

    Each record is put together in `scratch`, whose bytes between the runs are 0 and stay so, and
    then written whole. With `streams` it is written past the caches, which spares reading the
    target's old bytes from memory; its records must then lie at multiples of 16.
    """
    for i in range(count):
        at = source_start + i * source_stride
        to = target_start + i * target_stride
        ahead = source_start + min(i + AHEAD, count - 1) * source_stride
        for k in range(np.uint64(source_lines.size)):
            prefetch(source, ahead + source_lines[k])
        copy_record(source, at, scratch, scratch_start, ops, bounds, blocks)
        if streams:
            whole = size - size % 16
            for k in range(0, whole, 16):
                stream_16(target, to + k, scratch, scratch_start + k)
            copy_bytes(target, to + whole, scratch, scratch_start + whole, size - whole)
        else:
            copy_bytes(target, to, scratch, scratch_start, size)
    if streams:
        fence()


@jit("int64(int64, int64, boolean, uint8[::1])")
def noted(lowest: int, column: int, same: bool, differs: Bytes) -> int:
    """Write whether a column differs; the lowest column so far that does."""
    differs[column] = 0 if same else 1
    return lowest if same else min(lowest, column)


@jit(
    "void(const uint8[::1], int64, int64, const uint8[::1], int64, int64, const int64[::1],"
    " const int64[::1], const int64[::1], const int64[::1], const int64[::1], uint8[:, ::1],"
    " int64[::1])"
)
def compare(
    left: Bytes,
    left_start: int,
    left_stride: int,
    right: Bytes,
    right_start: int,
    right_stride: int,
    ops: Table,
    bounds: Table,
    columns: Table,
    left_lines: Table,
    right_lines: Table,
    differs: Bytes,
    first: Table,
) -> None:
    """Compare fields of two batches: differs[i, c] is 1 where column c of record i is not equal.

    `columns` holds the column of each operation; first[i] is the lowest column that differs, -1
    where none does.
    """
    for i in range(first.size):
        a = left_start + i * left_stride
        b = right_start + i * right_stride
        ahead = min(i + AHEAD, first.size - 1)
        for k in range(np.uint64(left_lines.size)):
            prefetch(left, left_start + ahead * left_stride + left_lines[k])
        for k in range(np.uint64(right_lines.size)):
            prefetch(right, right_start + ahead * right_stride + right_lines[k])
        row = differs[i]
        lowest = columns.size
        for k in range(np.uint64(bounds[FIRST]), np.uint64(bounds[WIDE])):
            same = load_u64(left, a + (ops[k] & LOW)) == load_u64(right, b + (ops[k] >> 32))
            lowest = noted(lowest, columns[k], same, row)
        for k in range(np.uint64(bounds[WIDE]), np.uint64(bounds[HALF])):
            same = load_u32(left, a + (ops[k] & LOW)) == load_u32(right, b + (ops[k] >> 32))
            lowest = noted(lowest, columns[k], same, row)
        for k in range(np.uint64(bounds[HALF]), np.uint64(bounds[QUARTER])):
            same = load_u16(left, a + (ops[k] & LOW)) == load_u16(right, b + (ops[k] >> 32))
            lowest = noted(lowest, columns[k], same, row)
        for k in range(np.uint64(bounds[QUARTER]), np.uint64(bounds[END])):
            same = load_u8(left, a + (ops[k] & LOW)) == load_u8(right, b + (ops[k] >> 32))
            lowest = noted(lowest, columns[k], same, row)
        first[i] = -1 if lowest == columns.size else lowest
