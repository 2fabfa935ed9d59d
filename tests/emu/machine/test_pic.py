import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.machine.pic import PicPair
from tests.emu.machine.parts import Line

EOI, ROTATE_EOI = 0x20, 0xA0


class Rig:
    """Two 8259As as a PC programs them: vectors 20H and 28H, everything open."""

    def __init__(self, icw4=1):
        self.output = Line()
        self.pair = PicPair(self.output)
        self.devices = {}
        for first, count, device in self.pair.ports():
            self.devices.update({first + i: (device, i) for i in range(count)})
        for base, vector, icw3 in ((0x20, 0x20, 4), (0xA0, 0x28, 2)):
            for port, value in ((0, 0x11), (1, vector), (1, icw3), (1, icw4), (1, 0)):
                self.out(base + port, value)

    def out(self, port, value):
        device, offset = self.devices[port]
        device.port_write(offset, 1, value)

    def inb(self, port):
        device, offset = self.devices[port]
        return device.port_read(offset, 1)

    def pulse(self, *irqs):
        for irq in irqs:
            self.pair.set_line(irq, True)
            self.pair.set_line(irq, False)


def test_interrupts_come_by_priority_with_the_slave_at_input_2():
    rig = Rig()
    rig.pulse(7, 14, 3, 8, 1)
    order = []
    while rig.output.level:
        vector = rig.pair.acknowledge()
        order.append(vector)
        if vector >= 0x28:
            rig.out(0xA0, EOI)
        rig.out(0x20, EOI)

    assert [0x21, 0x28, 0x2E, 0x23, 0x27] == order


def test_interrupt_in_service_holds_back_lower_ones_and_lets_higher_ones_in():
    rig = Rig()
    rig.pulse(4)
    rig.pair.acknowledge()
    rig.pulse(5)
    held = rig.output.level
    rig.pulse(3)

    assert (False, True, 0x23) == (held, rig.output.level, rig.pair.acknowledge())


def test_mask_register_holds_back_and_reads_back():
    rig = Rig()
    rig.out(0x21, 0xFD)
    rig.pulse(0)
    held = rig.output.level
    rig.out(0x21, 0xFE)

    assert (False, True, 0xFE) == (held, rig.output.level, rig.inb(0x21))


def test_request_and_service_registers_are_chosen_by_ocw3():
    rig = Rig()
    rig.pulse(3, 5)
    rig.pair.acknowledge()
    irr = rig.inb(0x20)
    rig.out(0x20, 0x0B)
    isr = rig.inb(0x20)
    rig.out(0x20, 0x0A)

    assert (1 << 5, 1 << 3, 1 << 5) == (irr, isr, rig.inb(0x20))


def test_edge_that_fell_before_acknowledge_is_still_delivered():
    rig = Rig()
    rig.pulse(11)

    assert 0x2B == rig.pair.acknowledge()


def test_level_that_fell_before_acknowledge_is_spurious_on_the_slave():
    rig = Rig()
    rig.out(0x4D1, 0x08)
    rig.pulse(11)
    vector = rig.pair.acknowledge()

    assert (0x2F, 0, 1 << 2) == (vector, rig.pair.slave.isr, rig.pair.master.isr)


def test_acknowledge_without_request_is_spurious_and_not_in_service():
    rig = Rig()
    vector = rig.pair.acknowledge()

    assert (0x27, 0) == (vector, rig.pair.master.isr)


def test_level_triggered_input_requests_as_long_as_it_is_high():
    rig = Rig()
    rig.out(0x4D0, 0x20)
    rig.pair.set_line(5, True)
    first = rig.pair.acknowledge()
    rig.out(0x20, EOI)
    again = rig.output.level
    rig.pair.acknowledge()
    rig.pair.set_line(5, False)
    rig.out(0x20, EOI)

    assert (0x25, True, False) == (first, again, rig.output.level)


@pytest.mark.parametrize(("port", "kept"), [(0x4D0, 0xF8), (0x4D1, 0xDE)])
def test_elcr_bits_of_inputs_that_are_always_edges_cannot_be_set(port, kept):
    rig = Rig()
    rig.out(port, 0xFF)

    assert kept == rig.inb(port)


def test_specific_eoi_ends_that_input():
    rig = Rig()
    rig.pulse(3)
    rig.pair.acknowledge()
    rig.pulse(1)
    rig.pair.acknowledge()
    rig.out(0x20, 0x63)

    assert 1 << 1 == rig.pair.master.isr


def test_rotating_eoi_gives_the_served_input_the_lowest_priority():
    rig = Rig()
    rig.pulse(3)
    rig.pair.acknowledge()
    rig.out(0x20, ROTATE_EOI)
    rig.pulse(3, 4, 1)
    order = []
    while rig.output.level:
        order.append(rig.pair.acknowledge())
        rig.out(0x20, EOI)

    assert [0x24, 0x21, 0x23] == order


@given(st.integers(0, 7), st.sets(st.integers(0, 7).filter(lambda i: i != 2), min_size=1))
def test_set_priority_orders_from_the_input_after_the_lowest(lowest, irqs):
    rig = Rig()
    rig.out(0x20, 0xC0 | lowest)
    rig.pulse(*irqs)
    order = []
    while rig.output.level:
        order.append(rig.pair.acknowledge() - 0x20)
        rig.out(0x20, EOI)

    assert sorted(irqs, key=lambda i: (i - lowest - 1) % 8) == order


def test_automatic_eoi_leaves_nothing_in_service():
    rig = Rig(icw4=3)
    rig.pulse(3)
    rig.pair.acknowledge()

    assert 0 == rig.pair.master.isr


def test_special_mask_mode_lets_lower_priorities_in_while_masked():
    rig = Rig()
    rig.pulse(1)
    rig.pair.acknowledge()
    rig.pulse(6)
    held = rig.output.level
    rig.out(0x21, 0x02)
    rig.out(0x20, 0x68)

    assert (False, True, 0x26) == (held, rig.output.level, rig.pair.acknowledge())


def test_poll_acknowledges_by_a_read():
    rig = Rig()
    rig.pulse(6)
    rig.out(0x20, 0x0C)
    polled = rig.inb(0x20)
    rig.out(0x20, 0x0C)

    assert (0x86, 0, 1 << 6) == (polled, rig.inb(0x20), rig.pair.master.isr)


def test_initialisation_clears_masks_and_requests():
    rig = Rig()
    rig.out(0x21, 0xFF)
    rig.pulse(3)
    rig.out(0x20, 0x11)

    assert (0, False) == (rig.pair.master.imr, rig.output.level)


def test_single_mode_without_icw4_ends_its_initialisation_after_icw2():
    rig = Rig()
    for port, value in ((0x20, 0x12), (0x21, 0x40), (0x21, 0xAA)):
        rig.out(port, value)

    assert (0x40, 0xAA) == (rig.pair.master.base, rig.inb(0x21))


def test_special_fully_nested_master_lets_a_higher_slave_input_in():
    taken = []
    for icw4 in (0x01, 0x11):
        rig = Rig(icw4)
        rig.pulse(12)
        rig.pair.acknowledge()
        rig.pulse(9)
        taken.append(rig.pair.acknowledge() if rig.output.level else None)

    assert [None, 0x29] == taken


@pytest.mark.parametrize(("command", "first"), [(0x80, 0x24), (0x00, 0x21)])
def test_rotation_in_automatic_eoi_mode(command, first):
    rig = Rig(icw4=3)
    rig.out(0x20, 0x80)
    rig.out(0x20, command)
    rig.pulse(3)
    rig.pair.acknowledge()
    rig.pulse(1, 4)

    assert first == rig.pair.acknowledge()
