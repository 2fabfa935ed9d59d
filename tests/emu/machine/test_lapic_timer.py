import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.machine.apic_model import ApicModel
from emu.machine.lapic_registers import (
    BASE_EN,
    BASE_EXTD,
    IA32_APIC_BASE,
    IA32_TSC_DEADLINE,
    ApicError,
)
from tests.emu.machine.parts import (
    CURRENT,
    DIVIDE,
    EOI,
    ICR,
    INITIAL,
    LVT_TIMER,
    SVR,
    TPR,
    Apics,
    advance,
    read,
    send,
    write,
)

BASE = 0xFEE0_0000
ESR, LVT_LINT0, LVT_LINT1, LVT_ERROR, LDR, DFR = 0x280, 0x350, 0x360, 0x370, 0xD0, 0xE0
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
LOGICAL, LEVEL, ASSERT = 1 << 11, 1 << 15, 1 << 14
LOWEST, SMI, NMI, INIT, STARTUP = 1 << 8, 2 << 8, 4 << 8, 5 << 8, 6 << 8


def x2apic(apics):
    for apic in apics.apics:
        assert apic.write_msr(IA32_APIC_BASE, apic.base | BASE_EXTD)
    return apics


# registers


DIVISORS = {0: 2, 1: 4, 2: 8, 3: 16, 8: 32, 9: 64, 10: 128, 11: 1}


@pytest.mark.parametrize(("code", "divisor"), DIVISORS.items())
def test_one_shot_timer_counts_at_the_divided_bus_frequency(code, divisor):
    apics = Apics(model=ApicModel(bus_ratio=3))
    apic = apics.apics[0]
    write(apic, LVT_TIMER, 0x40)
    write(apic, DIVIDE, code)
    write(apic, INITIAL, 100)
    advance(apics.clock, 40 * divisor * 3)
    count = read(apic, CURRENT)
    advance(apics.clock, 60 * divisor * 3 - 1)
    early = apic.irr
    advance(apics.clock, 1)

    assert (60, 0, 1 << 0x40, 0) == (count, early, apic.irr, read(apic, CURRENT))


def timed(mode):
    apics = Apics()
    apic = apics.apics[0]
    write(apic, DIVIDE, 11)
    write(apic, LVT_TIMER, mode << 17 | 0x40)
    return apics, apic


def test_periodic_timer_fires_every_period():
    apics, apic = timed(1)
    write(apic, INITIAL, 2000)
    fired = []
    for _ in range(3):
        advance(apics.clock, 2000)
        fired.append(apic.acknowledge())
        write(apic, EOI, 0)
    advance(apics.clock, 30)

    assert ([0x40] * 3, 1970) == (fired, read(apic, CURRENT))


@given(st.integers(1, 999), st.integers(1, 5000))
def test_very_short_period_counts_as_any_and_expires_seldom(count, ticks):
    apics, apic = timed(1)
    write(apic, INITIAL, count)
    advance(apics.clock, count + ticks)
    event = apics.clock.next_event() - apics.clock.now

    assert (count - ticks % count, True) == (read(apic, CURRENT), event <= 1998)


def test_one_shot_that_becomes_periodic_goes_on_and_then_reloads():
    apics, apic = timed(0)
    write(apic, INITIAL, 1000)
    advance(apics.clock, 600)
    write(apic, LVT_TIMER, 1 << 17 | 0x40)
    going_on = read(apic, CURRENT)
    advance(apics.clock, 500)

    assert (400, 900) == (going_on, read(apic, CURRENT))


def test_expired_one_shot_that_becomes_periodic_stays_at_zero():
    apics, apic = timed(0)
    write(apic, INITIAL, 100)
    advance(apics.clock, 150)
    write(apic, LVT_TIMER, 1 << 17 | 0x40)
    advance(apics.clock, 500)

    assert (100, 0) == (read(apic, INITIAL), read(apic, CURRENT))


def test_zero_initial_count_stops_the_timer():
    apics, apic = timed(1)
    write(apic, INITIAL, 100)
    write(apic, INITIAL, 0)
    advance(apics.clock, 1000)

    assert (0, 0) == (apic.irr, read(apic, CURRENT))


def test_change_of_divisor_keeps_the_current_count():
    apics, apic = timed(0)
    write(apic, INITIAL, 100)
    advance(apics.clock, 50)
    write(apic, DIVIDE, 0)
    count = read(apic, CURRENT)
    advance(apics.clock, 50)

    assert (50, 25) == (count, read(apic, CURRENT))


def test_masked_timer_counts_without_interrupt():
    apics, apic = timed(0)
    write(apic, LVT_TIMER, 1 << 16 | 0x40)
    write(apic, INITIAL, 100)
    advance(apics.clock, 200)

    assert (0, 0) == (read(apic, CURRENT), apic.irr)


def test_tsc_deadline_fires_at_that_tsc_and_clears_the_msr():
    apics, apic = timed(2)
    apic.timer.set_tsc_offset(1000)
    apic.write_msr(IA32_TSC_DEADLINE, 1500)
    armed = apic.read_msr(IA32_TSC_DEADLINE)
    advance(apics.clock, 499)
    early = apic.irr
    advance(apics.clock, 1)

    assert (1500, 0, 1 << 0x40, 0) == (
        armed,
        early,
        apic.irr,
        apic.read_msr(IA32_TSC_DEADLINE),
    )


def test_past_tsc_deadline_fires_at_once():
    apics, apic = timed(2)
    apics.clock.base = 5000
    apic.write_msr(IA32_TSC_DEADLINE, 1)
    apics.clock.run_due()

    assert 1 << 0x40 == apic.irr


def test_writing_the_tsc_moves_a_deadline():
    apics, apic = timed(2)
    apic.write_msr(IA32_TSC_DEADLINE, 1000)
    apic.timer.set_tsc_offset(900)
    advance(apics.clock, 100)

    assert 1 << 0x40 == apic.irr


def test_deadline_is_ignored_outside_its_mode_and_counts_inside_it():
    apics, apic = timed(0)
    apic.write_msr(IA32_TSC_DEADLINE, 1000)
    outside = apic.read_msr(IA32_TSC_DEADLINE)
    write(apic, LVT_TIMER, 2 << 17 | 0x40)
    write(apic, INITIAL, 50)

    assert (0, 0, None) == (outside, read(apic, CURRENT), apics.clock.next_event())


def test_leaving_deadline_mode_disarms():
    apics, apic = timed(2)
    apic.write_msr(IA32_TSC_DEADLINE, 1000)
    write(apic, LVT_TIMER, 0x40)

    assert (0, None) == (apic.read_msr(IA32_TSC_DEADLINE), apics.clock.next_event())


def test_tsc_deadline_msr_faults_without_the_feature():
    apic = Apics(model=ApicModel(tsc_deadline=False)).apics[0]

    assert (None, False) == (
        apic.read_msr(IA32_TSC_DEADLINE),
        apic.write_msr(IA32_TSC_DEADLINE, 1),
    )


def test_icr_reads_back_without_delivery_status():
    apics = Apics(2)
    send(apics.apics[0], 1 << 12 | 0x81, 1)

    assert 0x81 == read(apics.apics[0], ICR)


def test_base_and_cr8_read_back():
    apic = Apics(2).apics[1]
    write(apic, TPR, 0x5A)

    assert (BASE | BASE_EN, 5) == (apic.read_msr(IA32_APIC_BASE), apic.cr8)


def test_store_to_a_reserved_address_is_an_illegal_register_access():
    apic = Apics().apics[0]
    write(apic, 0x3F0, 0xF1)
    write(apic, ESR, 0)

    assert (ApicError.ILLEGAL_REGISTER, 0) == (read(apic, ESR), apic.irr)


def test_level_pin_that_is_high_interrupts_when_its_entry_is_opened():
    apic = Apics().apics[0]
    write(apic, LVT_LINT1, 1 << 16 | LEVEL | 0x61)
    apic.pin(1, True)
    masked = apic.irr
    write(apic, LVT_LINT1, LEVEL | 0x61)

    assert (0, 1 << 0x61) == (masked, apic.irr)


@pytest.mark.parametrize("trigger", [0, LEVEL])
def test_pin_with_another_delivery_mode_reaches_the_core(trigger):
    apics = Apics()
    write(apics.apics[0], LVT_LINT1, trigger | SMI)
    apics.apics[0].pin(1, True)

    assert (["smi"], 0) == (apics.cores[0].arrived, apics.apics[0].irr)


@pytest.mark.parametrize(
    ("destination", "reached"),
    [(0x0101, [False, False, False]), (0xFFFF_FFFF, [True, False, True])],
)
def test_x2apic_sender_reaches_xapic_mode_by_broadcast_or_8_bits(destination, reached):
    apics = Apics(3)
    for apic in apics.apics[:2]:
        write(apic, LDR, 0xFF00_0000)
    apics.apics[1].write_msr(IA32_APIC_BASE, BASE)
    apics.apics[2].write_msr(IA32_APIC_BASE, BASE | BASE_EN | BASE_EXTD)
    apics.apics[2].write_msr(0x830, destination << 32 | LOGICAL | 0x81)

    assert reached == apics.pending(0x81)


def test_illegal_vector_of_a_local_source_is_a_receive_error():
    apics, apic = timed(0)
    write(apic, LVT_TIMER, 0x05)
    write(apic, INITIAL, 10)
    advance(apics.clock, 10)
    write(apic, ESR, 0)

    assert (ApicError.RECEIVE_ILLEGAL_VECTOR, 0) == (read(apic, ESR), apic.irr)


def test_lowest_priority_without_an_enabled_destination_is_not_taken():
    apics = Apics(2)
    write(apics.apics[1], SVR, 0xFF)
    send(apics.apics[0], LOWEST | 0x91, 1)

    assert [False, False] == apics.pending(0x91)
