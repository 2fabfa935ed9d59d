import pytest

from emu.machine.keyboard import KeyboardController
from tests.emu.machine.parts import Line


class Rig:
    """A controller with nothing attached."""

    def __init__(self):
        self.resets, self.irq1, self.irq12 = Line(), Line(), Line()
        self.device = KeyboardController(
            lambda: self.resets(not self.resets.level), self.irq1, self.irq12
        )

    def command(self, value, *data):
        self.device.port_write(4, 1, value)
        for byte in data:
            self.device.port_write(0, 1, byte)

    def answer(self):
        status = self.device.port_read(4, 1)
        return status & 0x61, self.device.port_read(0, 1)


@pytest.mark.parametrize(
    ("command", "answer"), [(0xAA, 0x55), (0xAB, 0), (0xA9, 0), (0x20, 0x45), (0xD0, 0x03)]
)
def test_command_answers_with_a_byte(command, answer):
    rig = Rig()
    rig.command(command)

    assert ((1, answer), 0) == (rig.answer(), rig.device.port_read(4, 1) & 1)


def test_command_byte_is_written_and_interrupts_follow_it():
    rig = Rig()
    rig.command(0x60, 0x42)
    rig.command(0xD2, 0x1E)
    quiet = rig.irq1.level
    rig.command(0x60, 0x43)

    assert (False, True, (1, 0x1E), False) == (
        quiet,
        rig.irq1.level,
        rig.answer(),
        rig.irq1.level,
    )


def test_auxiliary_bytes_are_marked_and_use_their_own_interrupt():
    rig = Rig()
    rig.command(0x60, 0x03)
    rig.command(0xD3, 0x77)

    assert (False, True, (0x21, 0x77)) == (rig.irq1.level, rig.irq12.level, rig.answer())


@pytest.mark.parametrize(("write", "answer"), [((0xD4, 0xFF), (0x61, 0xFE)), ((), (0x41, 0xFE))])
def test_absent_devices_time_out(write, answer):
    rig = Rig()
    if write:
        rig.command(*write)
    else:
        rig.device.port_write(0, 1, 0xFF)

    assert answer == rig.answer()


@pytest.mark.parametrize(("command", "bit"), [(0xAD, 0x10), (0xA7, 0x20)])
def test_interfaces_are_disabled_and_enabled(command, bit):
    rig = Rig()
    rig.command(command)
    disabled = rig.device.command_byte & bit
    rig.command(command + 1)

    assert (bit, 0) == (disabled, rig.device.command_byte & bit)


@pytest.mark.parametrize("command", [(0xFE,), (0xF0,), (0xD1, 0x02)])
def test_pulling_the_reset_line_resets(command):
    rig = Rig()
    rig.command(*command)

    assert 1 == rig.resets.rises


@pytest.mark.parametrize("command", [(0xFF,), (0xD1, 0x03)])
def test_leaving_the_reset_line_high_does_not(command):
    rig = Rig()
    rig.command(*command)

    assert 0 == rig.resets.rises


def test_status_tells_whether_the_last_write_was_a_command():
    rig = Rig()
    rig.command(0xAE)
    after_command = rig.device.port_read(4, 1)
    rig.command(0x60, 0x45)

    assert (0x1C, 0x14) == (after_command, rig.device.port_read(4, 1))
