"""RAM sections: every kind of record that QEMU writes, and what its loader refuses."""

from struct import pack

import pytest

from emu.migration.qemu_stream.cursor import Cursor
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.ram import RECORD_KINDS, RamWalk

ZERO, MEM_SIZE, PAGE, EOS, CONTINUE, XBZRLE = 0x02, 0x04, 0x08, 0x10, 0x20, 0x40
HOOK, COMPRESS_PAGE, MULTIFD_FLUSH = 0x80, 0x100, 0x200
NAME = b"\x06pc.ram"


def word(address, flags):
    return pack(">Q", address | flags)


def block(name, length, *extra):
    return bytes((len(name),)) + name + pack(">Q", length) + b"".join(pack(">Q", x) for x in extra)


START = word(0x4000, MEM_SIZE) + block(b"pc.ram", 0x3000) + block(b"pc.bios", 0x1000)
END = word(0, EOS)


def walked(*sections, **capabilities):
    """Tallies of several sections of one stream, each read to its last byte."""
    ram = RamWalk(**capabilities)
    tallies = []
    for section in sections:
        cursor = Cursor(section)
        tallies.append(ram.walk(cursor))
        assert not cursor.left
    return tallies


def test_block_list_is_read_until_its_lengths_add_up():
    (tally,) = walked(START + END)

    assert {"MEM_SIZE": 1, "EOS": 1} == tally.records
    assert [("pc.ram", 0x3000, 8), ("pc.bios", 0x1000, 23)] == [
        (entry.name, entry.length, entry.offset) for entry in tally.blocks
    ]


RECORDS = {
    "ZERO": word(0x1000, ZERO) + NAME + b"\0",
    "PAGE": word(0, PAGE) + NAME + bytes(range(256)) * 16,
    "XBZRLE": word(0x2000, XBZRLE) + NAME + b"\1\0\5abcde",
    "COMPRESS_PAGE": word(0, COMPRESS_PAGE) + NAME + b"\0\0\0\3xyz",
    "HOOK": word(0, HOOK),
    "MULTIFD_FLUSH": word(0, MULTIFD_FLUSH),
}


def test_every_kind_has_a_record_here():
    assert {kind.name for kind in RECORD_KINDS} == {*RECORDS, "MEM_SIZE", "EOS"}


@pytest.mark.parametrize("name", RECORDS)
def test_each_kind_of_record_is_passed_over(name):
    _, tally = walked(START + END, RECORDS[name] * 2 + END)

    assert {name: 2, "EOS": 1} == tally.records


def test_continued_records_name_no_block_even_across_sections():
    continued = [
        word(0x1000, ZERO | CONTINUE) + b"\0",
        word(0x2000, PAGE | CONTINUE) + bytes(4096),
        word(0x2000, XBZRLE | CONTINUE) + b"\1\0\0",
        word(0x1000, COMPRESS_PAGE | CONTINUE) + b"\0\0\0\0",
        word(0, ZERO | CONTINUE) + b"\0",
    ]
    _, _, tally = walked(START + END, RECORDS["ZERO"] + END, b"".join(continued) + END)

    assert {"ZERO": 2, "PAGE": 1, "XBZRLE": 1, "COMPRESS_PAGE": 1, "EOS": 1} == tally.records


def test_ignore_shared_adds_an_address_to_each_block():
    (tally,) = walked(
        word(0x2000, MEM_SIZE) + block(b"a", 0x1000, 0) + block(b"b", 0x1000, 0xFFFF_0000) + END,
        ignore_shared=True,
    )

    assert [(0,), (0xFFFF_0000,)] == [entry.extra for entry in tally.blocks]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("huge", ["first", "last", "both"])
def test_postcopy_adds_a_page_size_to_blocks_on_huge_pages(shared, huge):
    """Nothing announces it: it stands where neither a name nor a record can."""
    address = (0x10_0000,) if shared else ()
    first = ((0x20_0000,) if huge in ("first", "both") else ()) + address
    last = ((0x20_0000,) if huge in ("last", "both") else ()) + address
    (tally,) = walked(
        word(0x40_0000, MEM_SIZE)
        + block(b"a", 0x20_0000, *first)
        + block(b"b", 0x20_0000, *last)
        + END,
        ignore_shared=shared,
    )

    assert [first, last] == [entry.extra for entry in tally.blocks]


@pytest.mark.parametrize(
    ("section", "offset", "message"),
    [
        (word(0, 0x01), 0, "QEMU has no kind 0x1"),
        (word(0, 0), 0, "QEMU has no kind 0x0"),
        (word(0, PAGE | ZERO), 0, "QEMU has no kind 0xa"),
        (word(0, 0x400), 0, "QEMU has no kind 0x400"),
        (word(0, ZERO) + b"\x04nope\0", 9, "no RAM block is named b'nope'"),
        (word(0, ZERO) + b"\x00\0", 9, "no RAM block is named b''"),
        (word(0x3000, ZERO) + NAME + b"\0", 0, "0x3000 is outside pc.ram, which has 0x3000 bytes"),
        (word(0, ZERO) + NAME + b"\0" + word(0x3000, ZERO | CONTINUE), 16, "outside pc.ram"),
        (word(0, ZERO) + NAME + b"\0" + word(0x5000, PAGE | CONTINUE), 16, "outside pc.ram"),
        (word(0, XBZRLE) + NAME + b"\2\0\1x", 15, "XBZRLE encoding 1 expected, found 2"),
        (word(0, XBZRLE) + NAME + b"\1\x10\1x", 15, "at most 4096 expected, found 4097"),
        (word(0, COMPRESS_PAGE) + NAME + b"\0\1\0\0", 15, "at most 4110 bytes, found 65536"),
        (word(0x1000, MEM_SIZE) + block(b"x", 0x2000), 8, "0x2000 bytes, 0x1000 are left"),
        (word(0x1000, MEM_SIZE) + block(b"\x01", 0x1000), 9, "printable ASCII"),
    ],
)
def test_what_the_loader_refuses_is_refused_at_its_place(section, offset, message):
    ram = RamWalk()
    ram.walk(Cursor(START + END))
    with pytest.raises(StreamError, match=message) as caught:
        ram.walk(Cursor(section + END))

    assert offset == caught.value.offset


def test_continue_before_any_name_is_refused():
    with pytest.raises(StreamError, match="CONTINUE before the first block name"):
        RamWalk().walk(Cursor(word(0, ZERO | CONTINUE) + b"\0" + END))


@pytest.mark.parametrize("name", [*RECORDS, "START", "CONTINUED"])
def test_a_record_cut_anywhere_is_refused(name):
    others = {
        "START": START,
        "CONTINUED": RECORDS["ZERO"] + word(0, PAGE | CONTINUE) + bytes(4096),
    }
    record = RECORDS.get(name) or others[name]
    cuts = {*range(min(len(record), 64)), len(record) // 2, len(record) - 1, len(record)}
    for cut in sorted(cuts):
        ram = RamWalk()
        ram.walk(Cursor(START + END))
        with pytest.raises(StreamError) as caught:
            ram.walk(Cursor(record[:cut]))

        assert caught.value.offset <= cut
