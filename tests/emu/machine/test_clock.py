from hypothesis import given
from hypothesis import strategies as st

from emu.machine.clock import Clock
from tests.emu.machine.parts import advance


def test_events_fire_in_order_of_time_and_then_of_arming():
    clock, seen = Clock(), []
    for name, at in (("b", 20), ("a", 10), ("c", 20), ("d", 15)):
        clock.timer(lambda name=name: seen.append((name, clock.now))).arm(at)

    advance(clock, 30)

    assert [("a", 10), ("d", 15), ("b", 20), ("c", 20)] == seen


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_any_set_of_deadlines_fires_sorted_and_once(deadlines):
    clock, seen = Clock(), []
    for at in deadlines:
        clock.timer(lambda at=at: seen.append(at)).arm(at)

    advance(clock, 1000)

    assert sorted(deadlines) == seen


def test_timer_armed_again_fires_only_at_its_last_deadline():
    clock, seen = Clock(), []
    timer = clock.timer(lambda: seen.append(clock.now))
    timer.arm(10)
    timer.arm(25)

    advance(clock, 40)

    assert [25] == seen


def test_cancelled_timer_does_not_fire_and_is_no_next_event():
    clock, seen = Clock(), []
    timer = clock.timer(lambda: seen.append(clock.now))
    timer.arm(10)
    timer.cancel()

    advance(clock, 40)

    assert ([], None) == (seen, clock.next_event())


def test_timer_that_arms_itself_keeps_its_pace():
    clock, seen = Clock(), []

    def again() -> None:
        seen.append(clock.now)
        timer.arm(timer.due + 7)

    timer = clock.timer(again)
    timer.arm(7)

    advance(clock, 30)

    assert [7, 14, 21, 28] == seen


def test_overdue_events_all_fire_when_time_has_jumped():
    clock, seen = Clock(), []
    for at in (5, 3):
        clock.timer(lambda at=at: seen.append(at)).arm(at)
    clock.base = 100

    fired = clock.run_due()

    assert (2, [3, 5]) == (fired, seen)


def test_event_inside_the_running_slice_asks_the_processor_to_stop():
    clock, stops = Clock(), []
    clock.slice_end, clock.shorten = 100, lambda: stops.append(clock.now)
    clock.timer(lambda: None).arm(100)
    clock.timer(lambda: None).arm(99)

    assert [0] == stops


def test_now_counts_what_the_running_processor_has_used():
    clock = Clock()
    clock.base, clock.elapsed = 1000, lambda: 23

    assert 1023 == clock.now


@given(st.integers(1, 10**10), st.integers(0, 10**12))
def test_tick_of_is_the_first_tick_with_that_many_cycles(hz, cycle):
    clock = Clock(1_000_000_007)
    clock.base = clock.tick_of(hz, cycle)
    at = clock.cycles(hz)
    clock.base -= 1

    assert cycle == 0 or (at >= cycle > clock.cycles(hz))
