import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.machine.clock import Clock
from emu.machine.pit import PIT_HZ, Pit, SystemControlB
from tests.emu.machine.parts import Line, advance


class Rig:
    """A timer whose input runs at one cycle a tick."""

    def __init__(self):
        self.clock = Clock(PIT_HZ)
        self.irq = Line()
        self.pit = Pit(self.clock, self.irq)
        self.port61 = SystemControlB(self.pit)

    def program(self, counter, mode, count, access=3, bcd=0):
        self.pit.port_write(3, 1, counter << 6 | access << 4 | mode << 1 | bcd)
        if access & 1:
            self.pit.port_write(counter, 1, count & 0xFF)
        if access & 2:
            self.pit.port_write(counter, 1, count >> 8)

    def latch(self, counter):
        self.pit.port_write(3, 1, counter << 6)
        return self.pit.port_read(counter, 1) | self.pit.port_read(counter, 1) << 8

    def status(self, counter):
        self.pit.port_write(3, 1, 0xE0 | 2 << counter)
        return self.pit.port_read(counter, 1)


def test_mode_0_interrupts_once_on_terminal_count():
    rig = Rig()
    rig.program(0, 0, 100)
    advance(rig.clock, 99)
    before = rig.irq.level
    advance(rig.clock, 1000)

    assert (False, True, 1) == (before, rig.irq.level, rig.irq.rises)


@pytest.mark.parametrize("mode", [2, 3, 6, 7])
@pytest.mark.parametrize("count", [2, 3, 100, 0])
def test_periodic_modes_interrupt_every_period(mode, count):
    rig = Rig()
    rig.program(0, mode, count)
    rises = rig.irq.rises
    advance(rig.clock, 5 * (count or 0x10000))

    assert 5 == rig.irq.rises - rises


@given(st.integers(2, 0xFFFF), st.integers(0, 200_000))
def test_mode_2_value_counts_down_from_the_count_and_reloads(count, ticks):
    rig = Rig()
    rig.program(0, 2, count)
    rig.clock.base = ticks

    assert count - ticks % count == rig.latch(0)


@given(st.integers(2, 0xFFFF), st.integers(0, 200_000))
def test_mode_3_is_high_for_the_first_half_and_counts_by_two(count, ticks):
    rig = Rig()
    rig.program(0, 3, count)
    rig.clock.base = ticks
    into, half = ticks % count, (count + 1) // 2

    assert ((count & ~1) - 2 * (into % half), int(into < half)) == (
        rig.latch(0),
        rig.status(0) >> 7,
    )


def test_mode_0_value_goes_on_below_zero():
    rig = Rig()
    rig.program(2, 0, 10)
    rig.port61.port_write(0, 1, 1)
    advance(rig.clock, 15)

    assert 0xFFFB == rig.latch(2)


def test_mode_1_is_low_for_the_count_after_each_gate():
    rig = Rig()
    rig.program(2, 1, 10)
    levels = [rig.port61.port_read(0, 1) >> 5 & 1]
    rig.port61.port_write(0, 1, 1)
    for _ in range(2):
        advance(rig.clock, 9)
        levels.append(rig.port61.port_read(0, 1) >> 5 & 1)
    rig.port61.port_write(0, 1, 0)
    rig.port61.port_write(0, 1, 1)
    levels.append(rig.port61.port_read(0, 1) >> 5 & 1)

    assert [1, 0, 1, 0] == levels


@pytest.mark.parametrize("mode", [4, 5])
def test_strobe_modes_are_low_for_one_cycle_at_the_end(mode):
    rig = Rig()
    rig.port61.port_write(0, 1, mode == 4)
    rig.program(2, mode, 10)
    rig.port61.port_write(0, 1, 1)
    levels = []
    for _ in range(12):
        levels.append(rig.port61.port_read(0, 1) >> 5 & 1)
        advance(rig.clock, 1)

    assert [1] * 10 + [0, 1] == levels


def test_low_gate_suspends_mode_0_and_restarts_mode_2():
    values = []
    for mode in (0, 2):
        rig = Rig()
        rig.port61.port_write(0, 1, 1)
        rig.program(2, mode, 100)
        advance(rig.clock, 30)
        rig.port61.port_write(0, 1, 0)
        advance(rig.clock, 50)
        rig.port61.port_write(0, 1, 1)
        advance(rig.clock, 5)
        values.append(rig.latch(2))

    assert [65, 95] == values


def test_count_written_in_a_periodic_mode_takes_effect_with_the_next_period():
    rig = Rig()
    rig.program(0, 2, 100)
    advance(rig.clock, 30)
    rig.pit.port_write(0, 1, 50)
    rig.pit.port_write(0, 1, 0)
    advance(rig.clock, 60)
    old = rig.latch(0)
    advance(rig.clock, 15)

    assert (10, 45) == (old, rig.latch(0))


def test_latched_count_waits_and_a_second_latch_is_ignored():
    rig = Rig()
    rig.program(0, 2, 1000)
    advance(rig.clock, 100)
    rig.pit.port_write(3, 1, 0)
    advance(rig.clock, 100)
    rig.pit.port_write(3, 1, 0)
    low = rig.pit.port_read(0, 1)

    assert 900 == low | rig.pit.port_read(0, 1) << 8


@pytest.mark.parametrize(("access", "value"), [(1, 0x34), (2, 0x12)])
def test_single_byte_access_reads_that_byte(access, value):
    rig = Rig()
    rig.program(0, 2, 0x1234, access=3)
    rig.pit.counters[0].access = access

    assert value == rig.pit.port_read(0, 1)


def test_status_tells_output_access_and_mode_until_a_count_is_written():
    rig = Rig()
    rig.pit.port_write(3, 1, 0x34)
    without = rig.status(0)
    rig.program(0, 2, 100)

    assert (0xF4, 0xB4) == (without, rig.status(0))


def test_read_back_latches_several_counters():
    rig = Rig()
    rig.program(0, 2, 100)
    rig.program(1, 2, 200)
    advance(rig.clock, 10)
    rig.pit.port_write(3, 1, 0xD6)
    advance(rig.clock, 10)

    assert (90, 190) == (rig.pit.port_read(0, 1), rig.pit.port_read(1, 1))


def test_bcd_counts_in_decimal():
    rig = Rig()
    rig.program(0, 2, 0x1000, bcd=1)
    advance(rig.clock, 1)

    assert 0x0999 == rig.latch(0)


def test_refresh_bit_toggles_and_speaker_bits_read_back():
    rig = Rig()
    rig.port61.port_write(0, 1, 0xFF)
    seen = set()
    for _ in range(40):
        seen.add(rig.port61.port_read(0, 1) & 0x1F)
        advance(rig.clock, 1)

    assert {0x0F, 0x1F} == seen


@pytest.mark.parametrize(("access", "count"), [(1, 0x34), (2, 0x1200)])
def test_single_byte_access_writes_that_byte_and_zeros_the_other(access, count):
    rig = Rig()
    rig.program(0, 2, 0x1234, access=access)

    assert count == rig.pit.counters[0].count


def test_unlatched_reads_alternate_between_the_bytes():
    rig = Rig()
    rig.program(0, 2, 0x1234)
    rig.clock.base = 1
    bytes_read = [rig.pit.port_read(0, 1) for _ in range(4)]

    assert [0x33, 0x12, 0x33, 0x12] == bytes_read


def test_counter_that_has_no_count_yet_stands_still():
    rig = Rig()
    rig.program(0, 2, 100)
    rig.pit.port_write(3, 1, 0x34)
    rig.clock.base = 55

    assert (100, 0) == (rig.latch(0), rig.pit.counters[0].elapsed())


def test_first_byte_of_a_new_count_stops_mode_0():
    rig = Rig()
    rig.program(0, 0, 100)
    rig.pit.port_write(0, 1, 50)
    advance(rig.clock, 1000)
    stopped = rig.irq.level
    rig.pit.port_write(0, 1, 0)
    advance(rig.clock, 50)

    assert (False, True) == (stopped, rig.irq.level)
