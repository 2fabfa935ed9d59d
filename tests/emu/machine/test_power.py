import pytest

from emu.machine.clock import Clock
from emu.machine.power import (
    GLOBAL_STATUS,
    PM_TIMER_HZ,
    POWER_BUTTON,
    RTC_STATUS,
    Port92,
    PowerManagement,
    ResetControl,
)
from tests.emu.machine.parts import Line, advance


class Machine:
    """Remembers what was asked of it."""

    def __init__(self):
        self.asked = []

    def power_off(self):
        self.asked.append("power off")

    def sleep(self):
        self.asked.append("sleep")

    def reset(self):
        self.asked.append("reset")


class Rig:
    """Power management whose timer runs at one cycle a tick."""

    def __init__(self):
        self.machine, self.sci = Machine(), Line()
        self.clock = Clock(PM_TIMER_HZ)
        self.power = PowerManagement(self.clock, self.machine, self.sci)


def test_timer_is_24_bits_wide_and_counts():
    rig = Rig()
    rig.clock.base = (3 << 24) + 12345

    assert (12345, 12345 >> 8) == (rig.power.port_read(8, 4), rig.power.port_read(9, 2))


def test_timer_carry_sets_its_status_and_interrupts_when_enabled():
    rig = Rig()
    rig.power.port_write(2, 2, 1)
    advance(rig.clock, (1 << 23) - 1)
    before = rig.sci.level
    advance(rig.clock, 1)
    raised, status = rig.sci.level, rig.power.port_read(0, 2)
    rig.power.port_write(0, 2, 1)

    assert (False, True, 1, False) == (before, raised, status, rig.sci.level)


def test_timer_carry_is_seen_when_polled():
    rig = Rig()
    rig.clock.base = 1 << 23

    assert 1 == rig.power.port_read(0, 2)


@pytest.mark.parametrize("event", [POWER_BUTTON, RTC_STATUS])
def test_fixed_event_interrupts_when_enabled_until_a_one_is_written(event):
    rig = Rig()
    rig.power.event(event)
    before = rig.sci.level
    rig.power.port_write(2, 2, 0xFFFF)
    raised = rig.sci.level
    rig.power.port_write(0, 2, GLOBAL_STATUS)
    still = rig.sci.level
    rig.power.port_write(0, 2, event)

    assert (False, True, True, False) == (before, raised, still, rig.sci.level)


def test_enable_register_keeps_its_writable_bits_also_by_bytes():
    rig = Rig()
    rig.power.port_write(2, 1, 0xFF)
    rig.power.port_write(3, 1, 0xFF)

    assert 0x0721 == rig.power.port_read(2, 2)


def test_status_and_enable_in_one_access():
    rig = Rig()
    rig.power.event(POWER_BUTTON)
    rig.power.port_write(0, 4, 0x0100_0000 | POWER_BUTTON)

    assert 0x0100_0000 == rig.power.port_read(0, 4)


@pytest.mark.parametrize(
    ("control", "asked"),
    [(0x2000, ["power off"]), (0x2400, ["sleep"]), (0x0400, []), (0x3400, [])],
)
def test_sleep_enable_enters_the_state_that_its_type_names(control, asked):
    rig = Rig()
    rig.power.port_write(4, 2, control)

    assert (asked, 1) == (rig.machine.asked, rig.power.port_read(4, 2) & 0x2001)


def test_high_byte_of_control_alone_sleeps():
    rig = Rig()
    rig.power.port_write(5, 1, 0x20)

    assert ["power off"] == rig.machine.asked


@pytest.mark.parametrize(("values", "resets"), [((2, 6), 1), ((4,), 1), ((2, 2), 0), ((0xE,), 1)])
def test_reset_control_resets_on_a_rising_bit_2(values, resets):
    machine = Machine()
    port = ResetControl(machine)
    for value in values:
        port.port_write(0, 1, value)

    assert resets == len(machine.asked)


def test_port_92_keeps_the_a20_bit_and_resets_by_bit_0():
    machine = Machine()
    port = Port92(machine)
    before = port.port_read(0, 1)
    port.port_write(0, 1, 0)
    port.port_write(0, 1, 3)

    assert (2, 2, ["reset"]) == (before, port.port_read(0, 1), machine.asked)
