from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.machine.clock import Clock
from emu.machine.rtc import Rtc
from tests.emu.machine.parts import Line, advance

HZ = 1_000_000
EPOCH = datetime(2026, 11, 22, 23, 59, 58, tzinfo=UTC)
A, B, C, D = 0x0A, 0x0B, 0x0C, 0x0D


class Rig:
    """A clock of day that begins at EPOCH."""

    def __init__(self, epoch=EPOCH):
        self.clock = Clock(HZ)
        self.irq = Line()
        self.rtc = Rtc(self.clock, self.irq, epoch, {0x34: 0x12})
        self.alarms = Line()
        self.rtc.alarmed = lambda: self.alarms(True)

    def get(self, index):
        self.rtc.port_write(0, 1, index)
        return self.rtc.port_read(1, 1)

    def set(self, index, value):
        self.rtc.port_write(0, 1, index)
        self.rtc.port_write(1, 1, value)

    def date(self):
        return [self.get(i) for i in (0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00)]


@given(st.datetimes(datetime(1980, 1, 1), datetime(2099, 1, 1)), st.integers(0, 10**6))
def test_time_of_day_is_the_epoch_and_virtual_time_in_bcd(epoch, seconds):
    rig = Rig(epoch)
    rig.clock.base = seconds * HZ
    now = epoch.replace(microsecond=0) + timedelta(seconds=seconds)
    text = now.strftime("%Y%m%d%H%M%S")

    assert [int(text[i : i + 2], 16) for i in range(0, 14, 2)] == rig.date()


def test_binary_and_12_hour_formats():
    rig = Rig()
    rig.set(B, 0x04)

    assert ([20, 26, 11, 22, 0x80 | 11, 59, 58], 1) == (rig.date(), rig.get(0x06))


@pytest.mark.parametrize(("hour", "shown"), [(0, 0x12), (1, 0x01), (12, 0x92), (23, 0x91)])
def test_12_hour_bcd_marks_the_afternoon(hour, shown):
    rig = Rig(EPOCH.replace(hour=hour))
    rig.set(B, 0x00)

    assert shown == rig.get(0x04)


def test_time_written_under_set_runs_from_when_set_is_cleared():
    rig = Rig()
    rig.set(B, 0x82)
    for index, value in ((0x00, 0x30), (0x02, 0x15), (0x04, 0x07), (0x09, 0x30)):
        rig.set(index, value)
    advance(rig.clock, 5 * HZ)
    frozen = rig.get(0x00)
    rig.set(B, 0x02)
    advance(rig.clock, 2 * HZ)

    assert (0x30, [0x20, 0x30, 0x11, 0x22, 0x07, 0x15, 0x32]) == (frozen, rig.date())


def test_date_that_does_not_exist_leaves_the_clock_alone():
    rig = Rig()
    rig.set(0x08, 0x02)
    before = rig.date()
    rig.set(0x07, 0x31)

    assert before == rig.date()


def test_update_in_progress_is_seen_before_each_second():
    rig = Rig()
    seen = []
    for part in (0, 0.5, 0.9975, 0.9995):
        rig.clock.base = int(part * HZ)
        seen.append(rig.get(A))

    assert [0x26, 0x26, 0x26, 0xA6] == seen


def test_update_ended_interrupts_each_second_until_register_c_is_read():
    rig = Rig()
    rig.set(B, 0x12)
    advance(rig.clock, 3 * HZ)
    level, flags = rig.irq.level, rig.get(C)

    assert (True, 0x90, False, 1) == (level, flags & 0xD0, rig.irq.level, rig.irq.rises)


def test_flags_without_interrupt_are_seen_when_polled():
    rig = Rig()
    rig.get(C)
    advance(rig.clock, HZ)

    assert (0x10, 0) == (rig.get(C) & 0x90, rig.get(C))


def test_nothing_is_scheduled_when_nothing_can_interrupt():
    assert Rig().clock.next_event() is None


@pytest.mark.parametrize(
    ("alarm", "seconds"),
    [((0x05, 0x00, 0x00), 7), ((0xC0, 0xC0, 0xC0), 1), ((0x03, 0xFF, 0xFF), 5)],
)
def test_alarm_interrupts_at_its_time_and_do_not_care_matches_all(alarm, seconds):
    rig = Rig()
    for index, value in zip((0x01, 0x03, 0x05), alarm, strict=True):
        rig.set(index, value)
    rig.set(B, 0x22)
    advance(rig.clock, seconds * HZ - 1)
    before = rig.irq.level
    advance(rig.clock, 1)

    assert (False, True, True) == (before, rig.irq.level, rig.alarms.level)


@pytest.mark.parametrize(("rate", "hz"), [(6, 1024), (15, 2), (3, 8192), (1, 256), (2, 128)])
def test_periodic_interrupt_comes_at_its_rate(rate, hz):
    rig = Rig()
    rig.set(A, 0x20 | rate)
    rig.set(B, 0x42)
    count = 0
    end = rig.clock.base + HZ
    while rig.clock.base < end:
        advance(rig.clock, rig.clock.next_event() - rig.clock.base)
        count += bool(rig.get(C) & 0x40)

    assert hz == count


def test_registers_c_and_d_are_read_only_and_memory_is_kept():
    rig = Rig()
    for index in (C, D, 0x0F, 0x70):
        rig.set(index, 0x5A)

    assert (0, 0x80, 0x5A, 0x5A, 0x12) == tuple(rig.get(i) for i in (C, D, 0x0F, 0x70, 0x34))


def test_bit_7_of_the_index_is_the_nmi_mask_and_not_part_of_it():
    rig = Rig()

    assert rig.get(0x34) == rig.get(0x80 | 0x34)


@pytest.mark.parametrize(("value", "hour"), [(0x12, 0), (0x92, 12), (0x81, 13), (0x11, 11)])
def test_hour_is_set_in_12_hour_format(value, hour):
    rig = Rig()
    rig.set(B, 0x00)
    rig.set(0x04, value)

    assert hour == rig.rtc.time().hour


def test_periodic_interrupt_stops_with_a_rate_of_zero():
    rig = Rig()
    rig.set(B, 0x42)
    rig.set(A, 0x20)

    assert rig.clock.next_event() is None


def test_index_port_cannot_be_read():
    assert 0xFF == Rig().rtc.port_read(0, 1)
