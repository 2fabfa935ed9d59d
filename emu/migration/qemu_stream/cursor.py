"""Bounds-checked reading of the big-endian words and counted strings of a stream."""

from __future__ import annotations

from mmap import mmap
from struct import Struct

from emu.migration.qemu_stream.errors import StreamError

Buffer = bytes | mmap

U16 = Struct(">H")
U32 = Struct(">I")
U64 = Struct(">Q")


class Cursor:
    """A position in `data`, up to `end`; every read names what it reads, for the error."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: Buffer, position: int = 0, end: int | None = None) -> None:
        self.data, self.position = data, position
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        """Bytes between the position and the end."""
        return self.end - self.position

    def skip(self, count: int, what: str) -> int:
        """Pass over `count` bytes and return where they began; raises `StreamError`."""
        if count > self.left:
            raise StreamError(
                self.position, f"{what}: {count} bytes expected, {self.left} bytes are left"
            )
        begin = self.position
        self.position += count
        return begin

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes; raises `StreamError`."""
        begin = self.skip(count, what)
        return self.data[begin : begin + count]

    def u8(self, what: str) -> int:
        """The next byte; raises `StreamError`."""
        return self.data[self.skip(1, what)]

    def u16(self, what: str) -> int:
        """The next big-endian 16-bit word; raises `StreamError`."""
        return int(U16.unpack_from(self.data, self.skip(2, what))[0])

    def u32(self, what: str) -> int:
        """The next big-endian 32-bit word; raises `StreamError`."""
        return int(U32.unpack_from(self.data, self.skip(4, what))[0])

    def u64(self, what: str) -> int:
        """The next big-endian 64-bit word; raises `StreamError`."""
        return int(U64.unpack_from(self.data, self.skip(8, what))[0])

    def text(self, count: int, what: str) -> str:
        """The next `count` bytes, which must be printable ASCII; raises `StreamError`."""
        begin = self.position
        raw = self.take(count, what)
        if not is_name(raw):
            raise StreamError(begin, f"{what}: printable ASCII expected, found {raw[:32]!r}")
        return raw.decode("ascii")

    def counted(self, what: str) -> str:
        """A string behind its length in one byte; raises `StreamError`."""
        return self.text(self.u8(f"length of {what}"), what)


def is_name(raw: bytes) -> bool:
    """Every name that QEMU writes is non-empty printable ASCII."""
    return bool(raw) and raw.isascii() and raw.decode("ascii").isprintable()
