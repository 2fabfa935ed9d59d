"""Slots, ROM, windows and dirty pages of the physical address space."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from emu.memory import PhysicalMemory

PAGE = 4096


@pytest.fixture
def memory():
    memory = PhysicalMemory()
    memory.add_ram(0, 4 * PAGE)
    memory.add_rom(8 * PAGE, PAGE)
    return memory


class Echo:
    """A device that answers with the offset."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []

    def read(self, offset: int, count: int) -> bytes:
        return bytes([offset & 0xFF] * count)

    def write(self, offset: int, data: bytes) -> None:
        self.written.append((offset, data))


def test_bytes_written_across_pages_are_read_back(memory):
    memory.write(PAGE - 2, b"abcd")

    assert b"abcd" == memory.read(PAGE - 2, 4)


def test_writes_to_rom_are_lost_and_loading_it_is_not(memory):
    memory.load(8 * PAGE, b"boot")
    memory.write(8 * PAGE, b"xxxx")

    assert b"boot" == memory.read(8 * PAGE, 4)


def test_nothing_reads_as_ones_and_takes_writes(memory):
    memory.write(6 * PAGE, b"xx")

    assert b"\xff\xff" == memory.read(6 * PAGE, 2)


def test_loading_where_there_is_nothing_is_an_error(memory):
    with pytest.raises(ValueError, match="no memory at 0x6000"):
        memory.load(6 * PAGE, b"x")


def test_a_window_answers_by_offset(memory):
    echo = Echo()
    memory.add_device(16 * PAGE, PAGE, echo)
    memory.write(16 * PAGE + 5, b"z")

    assert b"\x07\x07" == memory.read(16 * PAGE + 7, 2)
    assert [(5, b"z")] == echo.written


def test_a_slot_over_shared_memory_is_that_memory(memory):
    store = mmap.mmap(-1, PAGE)
    memory.add_ram(32 * PAGE, np.frombuffer(store, np.uint8))
    memory.write(32 * PAGE, b"shared")

    assert b"shared" == store[:6]


@pytest.mark.parametrize(("gpa", "size", "message"), [
    (1, PAGE, "page-aligned"), (PAGE, PAGE, "memory already"), (1 << 40, PAGE, "ends beyond"),
])  # fmt: skip
def test_a_slot_that_does_not_fit_is_refused(memory, gpa, size, message):
    with pytest.raises(ValueError, match=message):
        memory.add_ram(gpa, size)


def test_dirty_pages_are_those_written_since_cleared(memory):
    memory.write(PAGE, b"x")
    memory.clear_dirty(0, 4 * PAGE)
    memory.write(2 * PAGE, b"x")

    assert [False, False, True, False] == memory.dirty(0, 4 * PAGE).tolist()


def test_a_removed_slot_is_gone(memory):
    memory.remove(0, 4 * PAGE)

    assert 0 == memory.host(0)
