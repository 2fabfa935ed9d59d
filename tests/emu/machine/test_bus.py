import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.machine.bus import MmioMap, PortMap


class Recorder:
    """Remembers accesses and answers with the offset in every byte."""

    def __init__(self):
        self.seen = []

    def port_read(self, offset, size):
        self.seen.append(("in", offset, size))
        return int.from_bytes(bytes(offset + i & 0xFF for i in range(size)), "little")

    def port_write(self, offset, size, value):
        self.seen.append(("out", offset, size, value))

    mmio_read, mmio_write = port_read, port_write


def ports(width):
    device, bus = Recorder(), PortMap()
    bus.add(0x100, 8, device, width)
    return device, bus


@pytest.mark.parametrize("size", [1, 2, 4])
def test_port_without_device_reads_all_ones_and_loses_writes(size):
    bus = PortMap()
    bus.write(0x1234, size, 0)

    assert (1 << 8 * size) - 1 == bus.read(0x1234, size)


@pytest.mark.parametrize(
    ("width", "pieces"),
    [
        (4, [("out", 4, 4, 0x44332211)]),
        (2, [("out", 4, 2, 0x2211), ("out", 6, 2, 0x4433)]),
        (1, [("out", 4 + i, 1, 0x11 * (i + 1)) for i in range(4)]),
    ],
)
def test_wide_access_comes_in_pieces_of_the_device_width(width, pieces):
    device, bus = ports(width)
    bus.write(0x104, 4, 0x44332211)

    assert pieces == device.seen


@pytest.mark.parametrize("width", [1, 2, 4])
def test_wide_read_is_put_together_little_endian(width):
    _, bus = ports(width)

    assert 0x07060504 == bus.read(0x104, 4)


def test_read_across_the_end_of_a_device_gives_ones_behind_it():
    _, bus = ports(1)

    assert 0xFFFF0706 == bus.read(0x106, 4)


def test_access_at_the_last_port_wraps():
    device, bus = Recorder(), PortMap()
    bus.add(0xFFFF, 1, device)
    bus.add(0, 1, device)

    assert 0x0000 == bus.read(0xFFFF, 2)


def test_port_cannot_be_given_twice():
    _, bus = ports(1)

    with pytest.raises(ValueError, match="0x107"):
        bus.add(0x107, 1, Recorder())


def test_offsets_count_from_the_base_that_was_given():
    device, bus = Recorder(), PortMap()
    bus.add(0x64, 1, device, base=0x60)
    bus.write(0x64, 1, 7)

    assert [("out", 4, 1, 7)] == device.seen


def test_window_without_device_reads_all_ones():
    assert b"\xff" * 5 == MmioMap().read(0x1000, 5)


@given(st.integers(0, 0x1FF0), st.integers(1, 70))
def test_memory_mapped_reads_of_any_shape_give_the_bytes_in_order(offset, count):
    bus = MmioMap()
    bus.add(0x8000, 0x4000, Recorder())

    assert bytes((offset + i) & 0xFF for i in range(count)) == bus.read(0x8000 + offset, count)


def test_store_that_crosses_a_page_reaches_both_devices():
    first, second, bus = Recorder(), Recorder(), MmioMap()
    bus.add(0x1000, 0x1000, first)
    bus.add(0x2000, 0x1000, second)
    bus.write(0x1FFE, bytes((1, 2, 3, 4)))

    assert ([("out", 0xFFE, 2, 0x0201)], [("out", 0, 2, 0x0403)]) == (first.seen, second.seen)


def test_removed_window_no_longer_answers():
    bus = MmioMap()
    bus.add(0x1000, 0x1000, Recorder())
    bus.remove(0x1000, 0x1000)

    assert not bus.answers(0x1000)


@pytest.mark.parametrize(("gpa", "size"), [(0x1800, 0x1000), (0x2000, 0x800)])
def test_window_of_no_whole_pages_is_refused(gpa, size):
    with pytest.raises(ValueError, match="whole pages"):
        MmioMap().add(gpa, size, Recorder())
