import bz2
import lzma
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import InputError
from emu.machine.board import Board
from emu.machine.config import BoardConfig
from emu.machine.firmware import GIB, MIB
from emu.machine.loaders import linux, load
from tests.emu.machine.loaders import images

VMLINUX = images.elf(64, entry=0x100_0010, segments=((0x100_0000, b"\x90" * 64, 0x2000),))


def loaded(image, memory=64 * MIB, **arguments):
    board = Board(BoardConfig(memory=memory))
    return board, load(board, image, "vmlinuz", **arguments)


def word(board, gpa, size=4):
    return int.from_bytes(board.memory.read(gpa, size), "little")


def test_bzimage_is_entered_at_its_64_bit_entry_point():
    board, state = loaded(images.bzimage())

    assert (0x100_0200, b"\x90" * 4, linux.BOOT_PARAMETERS) == (
        state.rip,
        board.memory.read(state.rip, 4),
        state.gpr["rsi"],
    )


@pytest.mark.parametrize("image", [images.bzimage(), VMLINUX], ids=["bzimage", "vmlinux"])
def test_entry_state_is_that_of_the_64_bit_boot_protocol(image):
    """boot.rst, 64-bit Boot Protocol: long mode, paging, selectors 10H and 18H, IF clear."""
    board, state = loaded(image)
    gdt = [word(board, state.gdtr[0] + 8 * i, 8) for i in range(4)]

    assert (0x8000_0001, 0x20, 0x500, 0, 0x10, 0x2000, {0x18}, 31) == (
        state.cr0 & 0x8000_0001,
        state.cr4,
        state.efer,
        state.rflags & 0x200,
        state.segments["cs"].selector,
        state.segments["cs"].rights & 0x6000,
        {state.segments[name].selector for name in ("ds", "es", "ss")},
        state.gdtr[1],
    )
    assert (0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF) == (gdt[2], gdt[3])


@given(st.integers(0, 4 * GIB - 1))
def test_page_tables_map_the_first_4_gib_to_themselves(address):
    tables = linux.identity_map()

    def entry(table, index):
        return struct.unpack_from("<Q", tables, table - linux.PAGE_TABLES + 8 * index)[0]

    pml4e = entry(linux.PAGE_TABLES, address >> 39)
    pdpte = entry(pml4e & ~0xFFF, address >> 30 & 511)
    pde = entry(pdpte & ~0xFFF, address >> 21 & 511)

    assert (3, 3, 0x83, address) == (
        pml4e & 0xFFF,
        pdpte & 0xFFF,
        pde & 0xFFF,
        (pde & ~0xFFF) + (address & 0x1F_FFFF),
    )


def test_boot_parameters_hold_header_map_tables_and_command_line():
    board, _ = loaded(images.bzimage(), command_line="console=ttyS0", memory=4 * GIB)
    at = linux.BOOT_PARAMETERS
    count = word(board, at + 0x1E8, 1)
    ranges = [
        struct.unpack("<QQI", board.memory.read(at + 0x2D0 + 20 * i, 20)) for i in range(count)
    ]

    assert (b"HdrS", 0x020F, 0xFF, b"console=ttyS0\0", board.acpi.rsdp) == (
        board.memory.read(at + 0x202, 4),
        word(board, at + 0x206, 2),
        word(board, at + 0x210, 1),
        board.memory.read(word(board, at + 0x228), 14),
        word(board, at + 0x70, 8),
    )
    assert [tuple(entry) for entry in board.memory_map] == ranges


def test_initial_ram_disk_is_at_the_top_of_memory_below_its_limit():
    data = bytes(range(256)) * 33
    board, _ = loaded(images.bzimage(), initrd=data)
    gpa = word(board, linux.BOOT_PARAMETERS + 0x218)

    assert (64 * MIB - 0x3000, len(data), data) == (
        gpa,
        word(board, linux.BOOT_PARAMETERS + 0x21C),
        board.memory.read(gpa, len(data)),
    )


def test_initial_ram_disk_avoids_a_kernel_at_the_top():
    image = images.bzimage(pref=60 * MIB, init_size=4 * MIB)
    board, _ = loaded(image, initrd=b"x" * 4096)

    assert 60 * MIB - 4096 == word(board, linux.BOOT_PARAMETERS + 0x218)


@pytest.mark.parametrize(
    "pack",
    [
        images.gzipped,
        lambda data: lzma.compress(data) + b"\0\0\0\0",
        lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
        bz2.compress,
        bytes,
    ],
    ids=["gzip", "xz", "lzma", "bzip2", "none"],
)
def test_payload_is_decompressed_and_entered_as_a_vmlinux(pack):
    board, state = loaded(images.bzimage(pack(VMLINUX)), decompress=True)

    assert (0x100_0010, b"\x90" * 64, 0x020F) == (
        state.rip,
        board.memory.read(0x100_0000, 64),
        word(board, linux.BOOT_PARAMETERS + 0x206, 2),
    )


def test_virtual_entry_point_of_a_vmlinux_becomes_physical():
    image = bytearray(VMLINUX)
    struct.pack_into("<Q", image, 64 + 16, 0xFFFF_FFFF_8100_0000)
    struct.pack_into("<Q", image, 24, 0xFFFF_FFFF_8100_0010)
    _, state = loaded(bytes(image))

    assert 0x100_0010 == state.rip


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (images.bzimage()[:-100], {}, "truncated"),
        (images.bzimage()[:0x230], {}, "truncated in the setup header"),
        (images.bzimage(version=0x020A), {}, r"boot protocol 2\.10 without"),
        (images.bzimage(xloadflags=0), {}, "without a 64-bit entry point"),
        (images.bzimage(init_size=1 << 30), {}, "the kernel needs 0x40000000 bytes"),
        (images.bzimage(), {"command_line": "x" * 256}, "takes 255"),
        (images.bzimage(), {"initrd": bytes(64 * MIB)}, "no room for the initial RAM disk"),
        (images.bzimage(), {"decompress": True}, "no whole payload"),
        (images.bzimage(b"\x28\xb5\x2f\xfd" * 9), {"decompress": True}, "Zstandard"),
        (images.bzimage(b"\x1f\x8b" + b"\xff" * 40), {"decompress": True}, "damaged"),
        (images.bzimage(b"????????"), {"decompress": True}, "unknown format"),
        (images.elf(64, entry=0x5), {}, "entry point 0x5 is in no segment"),
        (images.elf(32), {"command_line": "x"}, "takes no arguments"),
        (images.elf(32, segments=((0x90_0000_0, b"", 1 << 29),)), {}, "which are not RAM"),
        (b"#!/bin/sh\n", {}, "neither a Multiboot image"),
        (b"", {}, "neither a Multiboot image"),
        (images.bzimage(), {"modules": ("x",)}, "only a Multiboot image takes modules"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(image, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        loaded(image, **arguments)

    assert (True, 1) == (
        str(error.value).startswith("vmlinuz: "),
        len(str(error.value).splitlines()),
    )


@given(st.data())
def test_any_damaged_header_is_an_input_error_or_loads(data):
    image = bytearray(images.bzimage(images.gzipped(VMLINUX)))
    for _ in range(data.draw(st.integers(1, 3))):
        image[data.draw(st.integers(0x1F1, 0x264))] = data.draw(st.integers(0, 255))
    direct = data.draw(st.booleans())
    try:
        _, state = loaded(bytes(image), decompress=direct)
    except InputError:
        return

    assert state.gpr["rsi"] == linux.BOOT_PARAMETERS


def test_plain_32_bit_elf_is_entered_in_protected_mode():
    board, state = loaded(images.elf(32))

    assert (0x10_0000, {}, 0, 1, b"\x90" * 32) == (
        state.rip,
        state.gpr,
        state.cr0 >> 31,
        state.cr0 & 1,
        board.memory.read(0x10_0000, 32),
    )


def test_board_enters_what_was_loaded():
    board, state = loaded(images.multiboot_elf(), initrd=b"module")

    assert state is board.processors[0].entered
