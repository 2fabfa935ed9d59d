"""Virtual time: ticks of the time-stamp counter, and the events that are due at one of them.

Nothing here looks at a wall clock. Time advances as processors retire instructions, and events fire
in the order of their times; those of the same tick fire in the order in which they were armed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Clock:
    """Time of the machine in ticks, `hz` of them a second, and its queue of events.

    While a processor runs, `elapsed` tells how far it is into its slice, so that a device that it
    accesses sees the time of the access.
    """

    def __init__(self, hz: int = 1_000_000_000) -> None:
        self.hz = hz
        self.base = 0
        self.elapsed: Callable[[], int] = _nothing
        self.slice_end: int | None = None
        self.shorten: Callable[[], None] = _nothing_to_do
        self._queue: list[tuple[int, int, Timer]] = []
        self._armed = 0

    @property
    def now(self) -> int:
        """The current tick."""
        return self.base + self.elapsed()

    def cycles(self, hz: int) -> int:
        """How many cycles a signal of `hz` has completed by now."""
        return self.now * hz // self.hz

    def tick_of(self, hz: int, cycle: int) -> int:
        """The first tick at which a signal of `hz` has completed `cycle` cycles."""
        return -(-cycle * self.hz // hz)

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer that calls `callback` when it is due."""
        return Timer(self, callback)

    def charge(self, ticks: int) -> None:
        """Time passes in which the running processor retires nothing: it waits for a device.

        Outside a slice nobody waits, and no time passes.
        """
        if self.slice_end is None:
            return
        self.base += ticks
        self.slice_end += ticks
        event = self.next_event()
        if event is not None and event < self.slice_end:
            self.shorten()

    def next_event(self) -> int | None:
        """The tick of the earliest event; None when nothing is armed."""
        queue = self._queue
        while queue and queue[0][1] != queue[0][2].entry:
            heapq.heappop(queue)
        return queue[0][0] if queue else None

    def run_due(self) -> int:
        """Fire what is due, in order; how many events that were."""
        fired = 0
        while (at := self.next_event()) is not None and at <= self.now:
            _, _, timer = heapq.heappop(self._queue)
            timer.due, timer.entry, timer.deadline = timer.deadline or 0, None, None
            timer.callback()
            fired += 1
        return fired

    def end_slice(self) -> None:
        """The processor that ran has come back: its ticks have passed."""
        self.base += self.elapsed()
        self.elapsed, self.shorten, self.slice_end = _nothing, _nothing_to_do, None

    def _push(self, timer: Timer, at: int) -> int:
        self._armed += 1
        heapq.heappush(self._queue, (at, self._armed, timer))
        if self.slice_end is not None and at < self.slice_end:
            self.shorten()
        return self._armed


class Timer:
    """An event of a clock: armed for a tick, or not armed; `due` is when it fired last."""

    __slots__ = ("callback", "clock", "deadline", "due", "entry")

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self.clock, self.callback = clock, callback
        self.deadline: int | None = None
        self.entry: int | None = None
        self.due = 0

    def arm(self, at: int) -> None:
        """Fire at tick `at`, or at once when that has passed; a timer has one deadline."""
        if at != self.deadline:
            self.deadline = at
            self.entry = self.clock._push(self, at)

    def cancel(self) -> None:
        """Do not fire."""
        self.deadline = self.entry = None


def _nothing() -> int:
    return 0


def _nothing_to_do() -> None:
    return
