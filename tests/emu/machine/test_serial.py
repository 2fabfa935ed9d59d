import pytest

from emu.machine.serial import Serial
from tests.emu.machine.parts import Line

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 3, 4, 5, 6, 7
OUT2, LOOP = 0x08, 0x10


class Rig:
    """A port whose interrupt is let through."""

    def __init__(self):
        self.sent = bytearray()
        self.irq = Line()
        self.serial = Serial(self.sent.extend, self.irq)
        self.set(MCR, OUT2)

    def set(self, register, value):
        self.serial.port_write(register, 1, value)

    def get(self, register):
        return self.serial.port_read(register, 1)


def test_bytes_are_transmitted_at_once_and_the_transmitter_is_always_empty():
    rig = Rig()
    for byte in b"hello":
        rig.set(DATA, byte)

    assert (b"hello", 0x60) == (rig.sent, rig.get(LSR))


def test_divisor_stands_behind_its_latch_bit():
    rig = Rig()
    rig.set(LCR, 0x83)
    rig.set(DATA, 0x0C)
    rig.set(IER, 0x01)
    divisor = rig.get(DATA), rig.get(IER)
    rig.set(LCR, 0x03)

    assert ((0x0C, 0x01), b"", 0) == (divisor, bytes(rig.sent), rig.get(IER))


@pytest.mark.parametrize(("register", "kept"), [(IER, 0x0F), (LCR, 0xFF), (MCR, 0x1F), (SCR, 0xFF)])
def test_register_keeps_its_writable_bits(register, kept):
    rig = Rig()
    rig.set(register, 0xFF)
    rig.set(LCR, rig.get(LCR) & 0x7F if register != LCR else 0xFF)

    assert kept == rig.get(register)


def test_received_bytes_wait_until_there_is_room():
    rig = Rig()
    rig.serial.receive(b"abc")
    got = []
    while rig.get(LSR) & 1:
        got.append(rig.get(DATA))

    assert (list(b"abc"), ord("c")) == (got, rig.get(DATA))


def test_fifo_bits_tell_a_16550a():
    rig = Rig()
    without = rig.get(IIR)
    rig.set(IIR, 0x07)

    assert (0x01, 0xC1) == (without, rig.get(IIR))


def test_receiver_interrupts_at_the_trigger_level_and_times_out_below_it():
    rig = Rig()
    rig.set(IIR, 0x81)
    rig.set(IER, 1)
    rig.serial.receive(b"1234567")
    below = rig.get(IIR)
    rig.serial.receive(b"8")

    assert (0xCC, 0xC4, True) == (below, rig.get(IIR), rig.irq.level)


def test_clearing_the_receiver_fifo_drops_what_it_held():
    rig = Rig()
    rig.set(IIR, 0x01)
    rig.serial.receive(b"abc")
    rig.set(IIR, 0x03)

    assert 0x60 == rig.get(LSR)


def test_transmitter_interrupt_is_raised_by_enabling_and_cleared_by_reading_iir():
    rig = Rig()
    rig.set(IER, 2)
    raised, cause = rig.irq.level, rig.get(IIR)
    after = rig.irq.level
    rig.set(DATA, 0x41)

    assert (True, 2, False, True) == (raised, cause, after, rig.irq.level)


def test_interrupts_are_identified_by_priority():
    rig = Rig()
    rig.set(MCR, OUT2 | LOOP)
    rig.set(IER, 0x0F)
    rig.set(DATA, 1)
    rig.set(DATA, 2)  # the receiver holds one byte: overrun
    causes = [rig.get(IIR)]
    rig.get(LSR)
    causes.append(rig.get(IIR))
    rig.get(DATA)
    causes += [rig.get(IIR), rig.get(IIR)]
    rig.get(MSR)
    causes.append(rig.get(IIR))

    assert [6, 4, 2, 0, 1] == causes


def test_out2_gates_the_interrupt():
    rig = Rig()
    rig.set(MCR, 0)
    rig.set(IER, 2)
    gated = rig.irq.level
    rig.set(MCR, OUT2)

    assert (False, True) == (gated, rig.irq.level)


@pytest.mark.parametrize(
    ("outputs", "inputs"), [(1, 0x20), (2, 0x10), (4, 0x40), (8, 0x80), (0xF, 0xF0), (0, 0)]
)
def test_loopback_joins_modem_outputs_to_inputs(outputs, inputs):
    rig = Rig()
    rig.set(MCR, LOOP | outputs)

    assert inputs == rig.get(MSR) & 0xF0


def test_modem_changes_are_told_once():
    rig = Rig()
    rig.set(MCR, LOOP)
    first = rig.get(MSR)

    assert (0x0B, 0) == (first, rig.get(MSR))


def test_ring_indicator_tells_its_trailing_edge():
    rig = Rig()
    rig.set(MCR, LOOP | 4)
    rig.get(MSR)
    rig.set(MCR, LOOP)

    assert 0x04 == rig.get(MSR)


def test_loopback_returns_what_is_sent_and_keeps_the_line_quiet():
    rig = Rig()
    rig.set(MCR, LOOP)
    rig.set(DATA, 0x55)

    assert (0x55, b"") == (rig.get(DATA), bytes(rig.sent))


def test_full_fifo_keeps_its_bytes_and_a_full_buffer_the_last():
    kept = []
    for fifo in (1, 0):
        rig = Rig()
        rig.set(IIR, fifo)
        rig.set(MCR, LOOP)
        for byte in range(18):
            rig.set(DATA, byte)
        kept.append((rig.get(LSR) & 2, rig.get(DATA)))

    assert [(2, 0), (2, 17)] == kept


def test_bytes_that_wait_interrupt_one_by_one_without_fifos():
    """The line falls between two bytes: an edge-triggered controller sees each of them."""
    levels = []
    serial = Serial(lambda data: None, levels.append)
    serial.port_write(4, 1, 0x0B)
    serial.port_write(1, 1, 0x01)
    serial.receive(b"ab")

    assert [True] == levels
    assert ord("a") == serial.port_read(0, 1)
    assert [True, False, True] == levels
    assert ord("b") == serial.port_read(0, 1)
    assert [True, False, True, False] == levels
