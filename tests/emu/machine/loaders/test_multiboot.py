import struct

import pytest

from emu.errors import InputError
from emu.machine.board import Board
from emu.machine.config import BoardConfig
from emu.machine.firmware import MIB
from emu.machine.loaders import multiboot
from emu.machine.loaders.multiboot import Module
from tests.emu.machine.loaders import images


class Guest:
    """The information structure as a guest reads it."""

    def __init__(self, board, state):
        self.memory, self.info = board.memory, state.gpr["rbx"]

    def word(self, gpa):
        return int.from_bytes(self.memory.read(gpa, 4), "little")

    def field(self, offset):
        return self.word(self.info + offset)

    def string(self, gpa):
        return self.memory.read(gpa, 256).split(b"\0")[0]


def loaded(image=None, **arguments):
    board = Board(BoardConfig(memory=64 * MIB))
    state = multiboot.load(board, image or images.multiboot_elf(), "kernel", **arguments)
    return board, state, Guest(board, state)


def test_entry_state_is_that_of_the_specification():
    _, state, _ = loaded()

    assert (0x40_000C, 0x2BADB002, 1, 0, 0, 0, 0xC09B, {0xC093}) == (
        state.rip,
        state.gpr["rax"],
        state.cr0 & 1,
        state.cr0 >> 31,
        state.rflags & 0x200,
        state.segments["cs"].base,
        state.segments["cs"].rights,
        {state.segments[name].rights for name in ("ds", "es", "fs", "gs", "ss")},
    )


def test_image_is_in_memory():
    board, _, _ = loaded()

    assert images.multiboot_header() == board.memory.read(0x40_0000, 12)


def test_command_line_memory_and_loader_name():
    _, _, guest = loaded(command_line="dummy.flat a b")

    assert (0b10_0100_0101, b"dummy.flat a b", 639, 63 * 1024, b"nestling") == (
        guest.field(0),
        guest.string(guest.field(16)),
        guest.field(4),
        guest.field(8),
        guest.string(guest.field(64)),
    )


def test_memory_map_is_that_of_the_board():
    board, _, guest = loaded()
    at, entries = guest.field(48), []
    while at < guest.field(48) + guest.field(44):
        size, gpa, length, kind = struct.unpack("<IQQI", board.memory.read(at, 24))
        entries.append((gpa, length, kind))
        at += 4 + size

    assert [tuple(entry) for entry in board.memory_map] == entries


def test_modules_stand_page_aligned_behind_the_image():
    modules = (Module(b"NR_CPUS=1\n", "environ"), Module(b"x" * 5000))
    board, _, guest = loaded(modules=modules)
    found = []
    for i in range(guest.field(20)):
        start, end, text = (guest.word(guest.field(24) + 16 * i + 4 * j) for j in range(3))
        found.append((start, board.memory.read(start, end - start), guest.string(text)))

    assert [
        (0x40_1000, b"NR_CPUS=1\n", b"environ"),
        (0x40_2000, b"x" * 5000, b""),
    ] == found


def test_environ_module_tells_the_machine():
    board = Board(BoardConfig(processors=3, memory=64 * MIB))

    assert (b"NR_CPUS=3\nMEMSIZE=64\nTEST_DEVICE=1\n", "environ") == multiboot.environ(board)


def test_module_flag_is_set_with_modules_only():
    flags = [loaded(modules=m)[2].field(0) & 8 for m in ((), (Module(b"x"),))]

    assert [0, 8] == flags


def test_address_fields_describe_an_image_that_is_no_elf():
    header = images.multiboot_header(1 << 16, 0x20_0004, 0x20_0000, 0, 0x20_1000, 0x20_0040)
    image = b"\xaa\xbb\xcc\xdd" + header.ljust(100, b"\x11")
    board, state, _ = loaded(image)

    assert (0x20_0040, image) == (state.rip, board.memory.read(0x20_0000, len(image)))


def test_load_end_address_cuts_the_image():
    header = images.multiboot_header(1 << 16, 0x20_0000, 0x20_0000, 0x20_0030, 0, 0x20_0000)
    board, _, _ = loaded(header.ljust(64, b"\x11"))

    assert b"\x11" * 16 + bytes(4) == board.memory.read(0x20_0020, 20)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (images.elf(), "no Multiboot header"),
        (images.multiboot_elf(flags=4), "unknown features 0x4"),
        (images.multiboot_elf(size=1 << 30), "not RAM of a machine with 64 MiB"),
        (images.multiboot_elf(gpa=0xA_0000), "not RAM"),
        (images.multiboot_elf(gpa=0x9_0000), "overlaps segment 0"),
        (images.multiboot_elf()[:-1], "truncated"),
        (images.multiboot_header(1 << 16, 0x1000, 0x2000, 0, 0, 0), "outside the file"),
        (images.multiboot_header(1 << 16, 0x20_0000, 0x20_0000, 0x20_1000, 0, 0), "truncated"),
        (images.multiboot_header(1 << 16), "no Multiboot header"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(image, message):
    with pytest.raises(InputError, match=message) as error:
        loaded(image)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("offset", [0, 4, 8180])
def test_header_is_found_where_it_may_stand(offset):
    assert offset == multiboot.find_header(bytes(offset) + images.multiboot_header()).offset


@pytest.mark.parametrize("offset", [2, 8184])
def test_header_elsewhere_is_none(offset):
    assert multiboot.find_header(bytes(offset) + images.multiboot_header()) is None
