import pytest

from emu.machine.clock import Clock
from emu.machine.processor import ParkedProcessor, Stop
from emu.machine.scheduler import Idle, Scheduler


class Worker(ParkedProcessor):
    """A processor that retires one instruction a tick and writes down when it ran.

    `work` is how much it has to do before it halts; `reason` how it ends a slice of its own accord.
    """

    def __init__(self, index, clock, work, log, reason=None):
        super().__init__(index)
        self.clock, self.work, self.log, self.reason = clock, work, log, reason
        self.used = 0
        self.stopping = False
        self.hook = None

    def run(self, ticks):
        self.used, self.stopping = 0, False
        start = self.clock.now
        while self.used < ticks and self.work and not self.stopping:
            self.used += 1
            self.retired += 1
            self.work -= 1
            if self.hook is not None:
                self.hook(self)
            if self.reason is not None:
                break
        self.log.append((self.index, start, self.clock.now))
        if self.reason is not None:
            return self.reason
        return Stop.BUDGET if self.work else Stop.HALT

    def elapsed(self):
        return self.used

    def stop(self):
        self.stopping = True

    def halted(self):
        return not self.work


class Rig:
    """Workers under a scheduler with a quantum of 10 ticks."""

    def __init__(self, *work, reason=None):
        self.clock, self.log, self.shut = Clock(), [], []
        self.workers = [Worker(i, self.clock, w, self.log, reason) for i, w in enumerate(work)]
        self.scheduler = Scheduler(self.clock, self.workers, 10, 1000, self._shutdown)

    def _shutdown(self, index):
        self.shut.append(index)
        self.scheduler.stop()


def test_processors_take_turns_of_a_quantum_and_time_is_one():
    rig = Rig(15, 25, 5)
    rig.scheduler.run(max_ticks=45)

    assert [(0, 0, 10), (1, 10, 20), (2, 20, 25), (0, 25, 30), (1, 30, 40), (1, 40, 45)] == rig.log


def test_same_inputs_give_the_same_schedule():
    logs = []
    for _ in range(2):
        rig = Rig(100, 33, 57)
        rig.clock.timer(lambda: None).arm(41)
        rig.scheduler.run(max_ticks=190)
        logs.append(rig.log)

    assert logs[0] == logs[1]


def test_event_ends_a_slice_and_the_processor_goes_on_with_its_turn():
    rig, seen = Rig(100, 100), []
    rig.clock.timer(lambda: seen.append(rig.clock.now)).arm(4)
    rig.scheduler.run(max_ticks=20)

    assert ([4], [(0, 0, 4), (0, 4, 10), (1, 10, 20)]) == (seen, rig.log)


def test_time_charged_for_a_device_passes_without_instructions():
    rig = Rig(100, 100)
    rig.workers[0].hook = lambda worker: worker.retired == 4 and rig.clock.charge(1000)
    rig.scheduler.run(max_instructions=20)

    assert [(0, 0, 1010), (1, 1010, 1020)] == rig.log


def test_event_inside_the_time_charged_fires_at_the_next_instruction():
    rig, seen = Rig(100), []
    rig.clock.timer(lambda: seen.append((rig.clock.now, rig.workers[0].retired))).arm(500)
    rig.workers[0].hook = lambda worker: worker.retired == 4 and rig.clock.charge(1000)
    rig.scheduler.run(max_instructions=20)

    assert [(1004, 4)] == seen


def test_nothing_is_charged_outside_a_slice():
    rig = Rig(1)
    rig.clock.charge(1000)

    assert 0 == rig.clock.now


def test_event_armed_by_the_running_processor_fires_on_time():
    rig, seen = Rig(100), []
    timer = rig.clock.timer(lambda: seen.append(rig.clock.now))

    def arm(worker):
        if worker.retired == 3:
            timer.arm(rig.clock.now)

    rig.workers[0].hook = arm
    rig.scheduler.run(max_ticks=10)

    assert ([3], [(0, 0, 3), (0, 3, 10)]) == (seen, rig.log)


@pytest.mark.parametrize("limit", [1, 9, 10, 37])
def test_limit_of_instructions_is_exact(limit):
    rig = Rig(100, 100)
    reason = rig.scheduler.run(max_instructions=limit)

    assert (Idle.LIMIT, limit) == (reason, rig.scheduler.retired)


def test_woken_processor_has_the_next_turn():
    rig = Rig(100, 100, 100)
    rig.workers[0].hook = lambda worker: worker.retired == 4 and rig.scheduler.wake(2)
    rig.scheduler.run(max_ticks=24)

    assert [(0, 0, 4), (2, 4, 14), (0, 14, 24)] == rig.log


def test_waking_one_that_stays_halted_or_oneself_changes_nothing_but_the_slice():
    rig = Rig(100, 0)

    def wake(worker):
        if worker.retired == 4:
            rig.scheduler.wake(0)
        if worker.retired == 6:
            rig.scheduler.wake(1)

    rig.workers[0].hook = wake
    rig.scheduler.run(max_ticks=10)

    assert [(0, 0, 6), (0, 6, 10)] == rig.log


def test_yield_hands_the_turn_on():
    rig = Rig(5, 5, reason=Stop.YIELD)
    rig.scheduler.run(max_ticks=4)

    assert [0, 1, 0, 1] == [index for index, _, _ in rig.log]


def test_halted_machine_jumps_to_its_next_event_and_work_goes_on():
    rig = Rig(3)
    rig.clock.timer(lambda: setattr(rig.workers[0], "work", 2)).arm(500)
    reason = rig.scheduler.run()

    assert (Idle.NO_EVENT, [(0, 0, 3), (0, 500, 502)]) == (reason, rig.log)


def test_machine_that_no_interrupt_can_wake_is_told_at_once():
    rig = Rig(3)
    rig.workers[0].interruptible = lambda: False
    rig.clock.timer(lambda: None).arm(500)
    reason = rig.scheduler.run()

    assert (Idle.HALTED, 3) == (reason, rig.clock.now)


def test_machine_that_only_idles_ends_at_the_idle_limit():
    rig = Rig(0)
    timer = rig.clock.timer(lambda: timer.arm(timer.due + 90))
    timer.arm(90)
    reason = rig.scheduler.run()

    assert (Idle.IDLE_LIMIT, 990) == (reason, rig.clock.now)


def test_tick_limit_ends_an_idle_machine_in_time():
    rig = Rig(0)
    rig.clock.timer(lambda: None).arm(500)
    reason = rig.scheduler.run(max_ticks=200)

    assert (Idle.LIMIT, 200) == (reason, rig.clock.now)


def test_stop_ends_the_run_at_the_next_instruction():
    rig = Rig(100)
    rig.workers[0].hook = lambda worker: worker.retired == 5 and rig.scheduler.stop()
    reason = rig.scheduler.run()

    assert (None, 5) == (reason, rig.scheduler.retired)


def test_shutdown_of_a_processor_is_reported():
    rig = Rig(100, 100, reason=Stop.SHUTDOWN)
    rig.scheduler.run()

    assert [0] == rig.shut
