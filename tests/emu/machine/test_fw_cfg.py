import struct

import pytest

from emu.machine.fw_cfg import FwCfg, Key


class Memory:
    """Guest memory as one byte array."""

    def __init__(self):
        self.data = bytearray(0x4000)

    def read(self, gpa, count):
        return bytes(self.data[gpa : gpa + count])

    def write(self, gpa, data):
        self.data[gpa : gpa + len(data)] = data

    def host(self, gpa):
        return int(gpa < len(self.data))


def items(device, key, count):
    device.port_write(0, 2, key)
    return bytes(device.port_read(1, 1) for _ in range(count))


def dma(device, control, length=0, gpa=0x1000):
    """Run a DMA request: the control word that it leaves."""
    memory = device.memory
    memory.write(0x100, struct.pack(">IIQ", control, length, gpa))
    device.port_write(4, 4, 0)
    device.port_write(8, 4, int.from_bytes((0x100).to_bytes(4, "big"), "little"))
    return int.from_bytes(memory.read(0x100, 4), "big")


def test_signature_and_version():
    device = FwCfg(Memory())

    assert (b"QEMU", b"\x03\0\0\0") == (items(device, 0, 4), items(device, 1, 4))


def test_reading_behind_an_item_or_an_absent_one_gives_zeros():
    device = FwCfg(Memory())
    device.add_number(Key.NB_CPUS, 0x0102, 2)

    assert (b"\x02\x01\0\0", b"\0\0") == (items(device, 5, 4), items(device, 0x11, 2))


def test_selecting_begins_again_and_ignores_the_write_bit():
    device = FwCfg(Memory())
    items(device, 0, 3)

    assert b"QEM" == items(device, 0x4000, 3)


def test_directory_lists_files_by_name():
    device = FwCfg(Memory())
    device.add_file("opt/b", b"12345")
    device.add_file("etc/a", b"1")
    directory = items(device, Key.FILE_DIR, 4 + 2 * 64)
    entries = [struct.unpack_from(">IHH56s", directory, 4 + 64 * i) for i in range(2)]

    assert (2, [(1, 0x21, b"etc/a"), (5, 0x20, b"opt/b")]) == (
        int.from_bytes(directory[:4], "big"),
        [(size, key, name.rstrip(b"\0")) for size, key, _, name in entries],
    )


def test_dma_signature_is_read_at_the_address_port():
    device = FwCfg(Memory())
    words = [device.port_read(4, 4), device.port_read(8, 4)]

    assert b"QEMU CFG" == b"".join(word.to_bytes(4, "little") for word in words)


def test_dma_selects_skips_and_reads():
    device = FwCfg(Memory())
    key = device.add_file("f", b"abcdefgh")
    dma(device, key << 16 | 0x08 | 0x04, 3)
    control = dma(device, 0x02, 7)

    assert (0, b"defgh\0\0") == (control, device.memory.read(0x1000, 7))


def test_dma_into_no_memory_is_an_error_and_fills_what_there_is():
    device = FwCfg(Memory())
    key = device.add_file("f", b"x" * 0x3000)

    assert (1, b"x" * 0x2000, 0x4000) == (
        dma(device, key << 16 | 0x0A, 0xFFFF_FFFF, 0x2000),
        device.memory.read(0x2000, 0x3000),
        len(device.memory.data),
    )


def test_dma_write_needs_a_writable_item_and_room():
    device, seen = FwCfg(Memory()), []
    fixed = device.add_file("fixed", b"1234")
    open_ = device.add_file("open", b"1234", seen.append)
    device.memory.write(0x1000, b"wxyz")
    outcomes = [
        dma(device, key << 16 | 0x18, size) for key, size in ((fixed, 4), (open_, 5), (open_, 3))
    ]

    assert ([1, 1, 0], [b"wxy4"], b"wxy4", b"1234") == (
        outcomes,
        seen,
        bytes(device.items[open_]),
        bytes(device.items[fixed]),
    )


def test_key_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="0x1 is taken"):
        FwCfg(Memory()).add(Key.ID, b"")


def test_long_file_name_and_full_directory_are_refused():
    device = FwCfg(Memory())
    with pytest.raises(ValueError, match="longer than 55"):
        device.add_file("x" * 56, b"")
    for i in range(0x20):
        device.add_file(f"f{i}", b"")

    with pytest.raises(ValueError, match="full"):
        device.add_file("one more", b"")
