"""The payload of `ram` sections (version 4): a list of pages, walked to where it ends.

Each record begins with a big-endian word: an address, with the record's kind in the low 12 bits.
CONTINUE says that the page is in the same block as the page before, and no block name follows.

Read in QEMU 7.2, migration/ram.c: RAM_SAVE_FLAG_*, ram_save_setup, ram_load_precopy, load_xbzrle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from emu.migration.qemu_stream.cursor import U64, Cursor
from emu.migration.qemu_stream.errors import StreamError
from vmcs.schema import check_unique

RAM_VERSION = 4
PAGE_BYTES = 4096
FLAG_BITS = PAGE_BYTES - 1
CONTINUE = 0x20
XBZRLE_ENCODING = 1


@dataclass(frozen=True)
class RecordKind:
    """One kind of RAM record: `body` is its length after the block name, None when counted."""

    name: str
    flag: int
    named: bool
    body: int | None


RECORD_KINDS = (
    RecordKind("ZERO", 0x02, named=True, body=1),
    RecordKind("MEM_SIZE", 0x04, named=False, body=None),
    RecordKind("PAGE", 0x08, named=True, body=PAGE_BYTES),
    RecordKind("EOS", 0x10, named=False, body=0),
    RecordKind("XBZRLE", 0x40, named=True, body=None),
    RecordKind("HOOK", 0x80, named=False, body=0),
    RecordKind("COMPRESS_PAGE", 0x100, named=True, body=None),
    RecordKind("MULTIFD_FLUSH", 0x200, named=False, body=0),
)

check_unique([kind.flag for kind in RECORD_KINDS], "RECORD_KINDS")

_BY_FLAG = {kind.flag: kind for kind in RECORD_KINDS}
_ZERO, _MEM_SIZE, _PAGE, _EOS, _XBZRLE = 0x02, 0x04, 0x08, 0x10, 0x40

# zlib's compressBound of one page, which QEMU's loader checks.
COMPRESSED_PAGE_MAXIMUM = PAGE_BYTES + (PAGE_BYTES >> 12) + (PAGE_BYTES >> 14) + 13


@dataclass(frozen=True)
class RamBlock:
    """One entry of the block list: `extra` holds the words that some capabilities add."""

    name: str
    length: int
    offset: int
    extra: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the entry in the stream."""
        return 1 + len(self.name) + 8 * (1 + len(self.extra))


@dataclass(frozen=True)
class RamTally:
    """What one `ram` section holds: its records by kind, and the block list if it has one."""

    records: Mapping[str, int]
    blocks: tuple[RamBlock, ...] = ()


@dataclass
class RamWalk:
    """Walks the `ram` sections of one stream, in order."""

    ignore_shared: bool = False
    lengths: dict[str, int] = field(default_factory=dict)
    block: str | None = None

    def walk(self, cursor: Cursor) -> RamTally:
        """Pass over one section's payload, to behind its EOS record; raises `StreamError`."""
        counts = dict.fromkeys((kind.name for kind in RECORD_KINDS), 0)
        blocks: list[RamBlock] = []
        while True:
            self._skip_continued(cursor, counts)
            begin = cursor.position
            word = cursor.u64("RAM record")
            flags = word & FLAG_BITS & ~CONTINUE
            kind = _BY_FLAG.get(flags)
            if kind is None:
                raise StreamError(begin, f"RAM record: QEMU has no kind {word & FLAG_BITS:#x}")
            counts[kind.name] += 1
            if kind.named:
                self._enter_block(cursor, begin, word)
            if kind.body is not None:
                cursor.skip(kind.body, f"RAM record {kind.name}")
            elif flags == _MEM_SIZE:
                blocks += self._read_blocks(cursor, word & ~FLAG_BITS)
            elif flags == _XBZRLE:
                _skip_xbzrle(cursor)
            else:
                _skip_compressed(cursor)
            if flags == _EOS:
                used = {name: count for name, count in counts.items() if count}
                return RamTally(MappingProxyType(used), tuple(blocks))

    def _skip_continued(self, cursor: Cursor, counts: dict[str, int]) -> None:
        """Pass over the records that a stream is full of, while they are as they should be.

        These are zero and whole pages of the block before. `walk` reads any other record, and
        tells what is wrong with one that is cut or outside its block.
        """
        data, position, end = cursor.data, cursor.position, cursor.end
        limit = 0 if self.block is None else self.lengths[self.block]
        unpack, record = U64.unpack_from, U64.size
        while position + record < end:
            word = unpack(data, position)[0]
            flags = word & FLAG_BITS
            if flags == _ZERO | CONTINUE:
                size, name = record + 1, "ZERO"
            elif flags == _PAGE | CONTINUE:
                size, name = record + PAGE_BYTES, "PAGE"
            else:
                break
            if word - flags >= limit or position + size > end:
                break
            counts[name] += 1
            position += size
        cursor.position = position

    def _enter_block(self, cursor: Cursor, begin: int, word: int) -> None:
        """Read the block name unless it is the one before; the address must be inside."""
        if not word & CONTINUE:
            size = cursor.u8("length of a RAM block name")
            name_at = cursor.position
            name = cursor.take(size, "RAM block name")
            self.block = name.decode("ascii", "replace")
            if self.block not in self.lengths:
                raise StreamError(name_at, f"no RAM block is named {name[:64]!r}")
        elif self.block is None:
            raise StreamError(begin, "RAM record: CONTINUE before the first block name")
        address = word & ~FLAG_BITS
        if address >= self.lengths[self.block]:
            raise StreamError(
                begin,
                f"RAM record: {address:#x} is outside {self.block}, "
                f"which has {self.lengths[self.block]:#x} bytes",
            )

    def _read_blocks(self, cursor: Cursor, total: int) -> list[RamBlock]:
        """Read the list of blocks whose lengths add up to `total`."""
        blocks = []
        while total:
            begin = cursor.position
            name = cursor.counted("RAM block name")
            length = cursor.u64(f"length of RAM block {name}")
            if length > total:
                raise StreamError(
                    begin, f"RAM block {name}: {length:#x} bytes, {total:#x} are left"
                )
            total -= length
            extra = self._read_extra(cursor, name, last=not total)
            blocks.append(RamBlock(name, length, begin, extra))
            self.lengths[name] = length
        return blocks

    def _read_extra(self, cursor: Cursor, name: str, *, last: bool) -> tuple[int, ...]:
        """Read the words behind a block's length.

        x-ignore-shared adds the block's address, and the stream's configuration says so;
        postcopy-ram adds the page size of a block on huge pages, in front of it, and nothing says
        so: but a word stands there if neither a name nor a RAM record can.
        """
        extra = []
        if self.ignore_shared:
            extra.append(cursor.u64(f"address of RAM block {name}"))
        if not _fits_next(cursor, last=last):
            extra.append(cursor.u64(f"page size of RAM block {name}"))
        return tuple(extra)


def _fits_next(cursor: Cursor, *, last: bool) -> bool:
    """What stands here can be the next block's name, or the record after the list."""
    if last:
        if cursor.left < U64.size:
            return True
        return bool(U64.unpack_from(cursor.data, cursor.position)[0] & FLAG_BITS)
    return not cursor.left or cursor.data[cursor.position] != 0


def _skip_xbzrle(cursor: Cursor) -> None:
    begin = cursor.position
    encoding = cursor.u8("XBZRLE encoding")
    if encoding != XBZRLE_ENCODING:
        raise StreamError(begin, f"XBZRLE encoding {XBZRLE_ENCODING} expected, found {encoding}")
    size = cursor.u16("XBZRLE length")
    if size > PAGE_BYTES:
        raise StreamError(begin, f"XBZRLE length: at most {PAGE_BYTES} expected, found {size}")
    cursor.skip(size, "XBZRLE page")


def _skip_compressed(cursor: Cursor) -> None:
    begin = cursor.position
    size = cursor.u32("length of a compressed page")
    if size > COMPRESSED_PAGE_MAXIMUM:
        raise StreamError(
            begin, f"compressed page: at most {COMPRESSED_PAGE_MAXIMUM} bytes, found {size}"
        )
    cursor.skip(size, "compressed page")
