import pytest

from emu.machine.pci import PciBus


def config(bus, device, register, function=0):
    bus.port_write(0, 4, 1 << 31 | device << 11 | function << 8 | register)


def test_host_bridge_is_device_0_and_nothing_else_is_there():
    bus, found = PciBus(), []
    for device in range(32):
        config(bus, device, 0)
        found.append(bus.port_read(4, 4))

    assert [0x29C0_8086] + [0xFFFF_FFFF] * 31 == found


def test_class_is_that_of_a_host_bridge():
    bus = PciBus()
    config(bus, 0, 0x08)

    assert 0x0600 == bus.port_read(6, 2)


def test_only_writable_bits_change():
    bus = PciBus()
    config(bus, 0, 0x04)
    bus.port_write(4, 4, 0xFFFF_FFFF)

    assert 0x0000_0146 == bus.port_read(4, 4)


@pytest.mark.parametrize("size", [1, 2])
def test_narrow_access_to_the_address_is_not_decoded(size):
    bus = PciBus()
    bus.port_write(0, size, 0xFF)

    assert ((1 << 8 * size) - 1, 0) == (bus.port_read(0, size), bus.address)


def test_address_reads_back_without_its_reserved_bits():
    bus = PciBus()
    bus.port_write(0, 4, 0xFFFF_FFFF)

    assert 0x80FF_FFFC == bus.port_read(0, 4)


@pytest.mark.parametrize("address", [0x0000_0000, 0x8001_0000, 0x8000_0100])
def test_disabled_address_other_bus_and_other_function_read_all_ones(address):
    bus = PciBus()
    bus.port_write(0, 4, address)

    assert 0xFFFF_FFFF == bus.port_read(4, 4)
