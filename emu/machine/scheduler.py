"""Who runs when: processors take turns by a fixed schedule, and events fire between their slices.

Time is one for the whole machine: the ticks that one processor uses have passed for all. So a value
of the TSC that one processor publishes is never ahead of what another reads later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from emu.machine.clock import Clock
from emu.machine.processor import Processor, Stop

ALONE = 1 << 20  # ticks of a turn where nobody waits for the next


STORM = 20_000  # exceptions in a row after which a guest is given up


class Idle(Enum):
    """Why a run ended although nobody ended the machine."""

    LIMIT = "the limit of instructions or ticks is reached"
    HALTED = "every processor is halted and no interrupt can wake one"
    NO_EVENT = "every processor is halted and no event is coming"
    STORM = "exceptions follow one another, and no instruction comes to an end"
    IDLE_LIMIT = "every processor has been halted for longer than the idle limit"


class Scheduler:
    """Deterministic round-robin over the processors of a board."""

    def __init__(
        self,
        clock: Clock,
        processors: Sequence[Processor],
        quantum: int,
        idle_limit: int,
        shutdown: Callable[[int], None],
    ) -> None:
        self.clock = clock
        self.processors = processors
        self.quantum = quantum if len(processors) > 1 else max(quantum, ALONE)
        self.idle_limit = idle_limit
        self.shutdown = shutdown
        self.current = 0
        self.stopped = False
        self.fruitless = 0  # ticks in a row in which exceptions were all that happened
        # what the host does between slices, and while nobody runs until the event at a tick:
        # input may come from outside, which `idle` tells by True
        self.between: Callable[[], None] = _nothing
        self.idle: Callable[[int | None], bool] = _no_input
        self._left = self.quantum
        self._next: int | None = None

    def wake(self, index: int) -> None:
        """An interrupt went to processor `index`: the next turn is its own, if it can run.

        What one processor asks of another is so done at once, not when the sender has spun through
        its quantum.
        """
        if index != self.current and self._next is None:
            self._next = index
            self.processors[self.current].stop()

    def stop(self) -> None:
        """End the run at the next instruction boundary."""
        self.stopped = True
        self.processors[self.current].stop()

    @property
    def retired(self) -> int:
        """Instructions that all processors have retired."""
        return sum(processor.retired for processor in self.processors)

    def run(self, max_instructions: int | None = None, max_ticks: int | None = None) -> Idle | None:
        """Run until `stop` is called (None) or there is a reason not to go on."""
        self.stopped = False
        end = None if max_ticks is None else self.clock.now + max_ticks
        idle_since: int | None = None
        while True:
            self.clock.run_due()
            self.between()
            if self.stopped:
                return None
            budget = self._budget(end, max_instructions)
            if budget <= 0:
                return Idle.LIMIT
            if self.fruitless >= min(STORM, max_instructions or STORM):
                return Idle.STORM
            if not self._choose():
                idle_since = self.clock.now if idle_since is None else idle_since
                reason = self._skip(end, idle_since)
                if reason is not None:
                    return reason
                continue
            idle_since = None
            self._slice(min(budget, self._left))

    def _budget(self, end: int | None, max_instructions: int | None) -> int:
        """Ticks until something is due."""
        budget = self.quantum
        if end is not None:
            budget = min(budget, end - self.clock.now)
        if max_instructions is not None:
            # no instruction takes less than a tick
            budget = min(budget, max_instructions - self.retired)
        event = self.clock.next_event()
        return budget if event is None else min(budget, max(event - self.clock.now, 1))

    def _choose(self) -> bool:
        """Find whose turn it is; False when every processor is halted."""
        woken, self._next = self._next, None
        if woken is not None and not self.processors[woken].halted():
            self.current, self._left = woken, self.quantum
            return True
        if self._left > 0 and not self.processors[self.current].halted():
            return True
        count = len(self.processors)
        for step in range(1, count + 1):
            index = (self.current + step) % count
            if not self.processors[index].halted():
                self.current, self._left = index, self.quantum
                return True
        self._left = 0
        return False

    def _slice(self, ticks: int) -> None:
        processor, clock = self.processors[self.current], self.clock
        clock.slice_end = clock.base + ticks
        clock.elapsed, clock.shorten = processor.elapsed, processor.stop
        retired = processor.retired
        try:
            reason = processor.run(ticks)
        finally:
            clock.end_slice()
        used = processor.elapsed()
        self._left -= used
        self.fruitless = self.fruitless + used if processor.retired == retired else 0
        if reason in (Stop.YIELD, Stop.HALT):
            self._left = 0
        elif reason is Stop.SHUTDOWN:
            self.shutdown(self.current)

    def _skip(self, end: int | None, idle_since: int) -> Idle | None:
        """Nobody runs: go on to the next event, or tell why there is no sense in it."""
        if not any(processor.interruptible() for processor in self.processors):
            return Idle.HALTED
        event = self.clock.next_event()
        if self.idle(event):
            return None
        if event is None:
            return Idle.NO_EVENT
        if event - idle_since > self.idle_limit:
            return Idle.IDLE_LIMIT
        if end is not None and event >= end:
            self.clock.base = end
            return Idle.LIMIT
        self.clock.base = max(event, self.clock.base)
        return None


def _nothing() -> None:
    """The host leaves the machine alone."""


def _no_input(event: int | None) -> bool:  # noqa: ARG001 - a source of input looks at it
    """Nothing comes from outside, whenever the next event is."""
    return False
