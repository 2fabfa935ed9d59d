"""The timer of the local APIC. SDM Vol. 3, APIC Timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emu.machine.clock import Clock
from emu.machine.lapic_registers import TimerMode

SHORTEST_PERIOD: Final = 1000  # ticks between two expiries of a periodic timer


class ApicTimer:
    """Counts down at the bus frequency over the divide value, or waits for a TSC deadline.

    It keeps the tick at which the count reaches zero, so that reading the current count and
    changing mode or divisor need no bookkeeping in between. A period shorter than SHORTEST_PERIOD
    counts as it should and expires every few periods only: nothing sees more of it than one bit.
    """

    def __init__(self, clock: Clock, bus_ratio: int, expired: Callable[[], None]) -> None:
        self.clock = clock
        self.bus_ratio = bus_ratio  # ticks a cycle of the bus
        self.tsc_offset = 0
        self.expired = expired
        self.mode = TimerMode.ONE_SHOT
        self.initial = 0
        self.divide = 0
        self._deadline = 0  # as IA32_TSC_DEADLINE reads
        self._timer = clock.timer(self._expire)

    def reset(self) -> None:
        """As after power-up: stopped, one-shot, divide by 2."""
        self.mode = TimerMode.ONE_SHOT
        self.initial = self.divide = self._deadline = 0
        self._timer.cancel()

    @property
    def _unit(self) -> int:
        """Ticks a count: bits 3, 1 and 0 of the divide configuration choose 2, 4 ... 128 or 1."""
        code = self.divide & 3 | self.divide >> 1 & 4
        return self.bus_ratio * (1 if code == 7 else 2 << code)

    @property
    def current(self) -> int:
        """The current-count register."""
        if self.mode == TimerMode.TSC_DEADLINE or self._timer.deadline is None:
            return 0
        remaining = max(self._timer.deadline - self.clock.now, 0)
        count = -(-remaining // self._unit)
        if self.mode == TimerMode.PERIODIC and count > self.initial:
            return (count - 1) % self.initial + 1
        return count

    @property
    def deadline(self) -> int:
        """IA32_TSC_DEADLINE: 0 when not armed, or not in that mode."""
        return self._deadline

    def set_mode(self, mode: TimerMode) -> None:
        """Change the mode; into and out of TSC-deadline mode disarms, others count on."""
        if TimerMode.TSC_DEADLINE in (mode, self.mode) and mode != self.mode:
            self._timer.cancel()
            self._deadline = 0
            self.initial = 0
        self.mode = mode

    def set_initial(self, count: int) -> None:
        """Write the initial count: the timer begins with it; 0 stops; ignored for TSC deadlines."""
        if self.mode == TimerMode.TSC_DEADLINE:
            return
        self.initial = count
        if count:
            self._timer.arm(self.clock.now + count * self._unit)
        else:
            self._timer.cancel()

    def set_divide(self, divide: int) -> None:
        """Write the divide configuration: the current count goes on at the new pace."""
        remaining = self.current
        self.divide = divide
        if self.mode != TimerMode.TSC_DEADLINE and self._timer.deadline is not None:
            self._timer.arm(self.clock.now + remaining * self._unit)

    def set_deadline(self, tsc: int) -> None:
        """Write IA32_TSC_DEADLINE: ignored outside that mode; 0 disarms; a past one fires now."""
        if self.mode != TimerMode.TSC_DEADLINE:
            return
        self._deadline = tsc
        self._arm_deadline()

    def set_tsc_offset(self, offset: int) -> None:
        """The processor's TSC is now the clock plus `offset`."""
        self.tsc_offset = offset
        if self.mode == TimerMode.TSC_DEADLINE:
            self._arm_deadline()

    def _arm_deadline(self) -> None:
        if self._deadline:
            self._timer.arm(max(self._deadline - self.tsc_offset, self.clock.now))
        else:
            self._timer.cancel()

    def _expire(self) -> None:
        if self.mode == TimerMode.PERIODIC and self.initial:
            period = self.initial * self._unit
            self._timer.arm(self._timer.due + period * -(-SHORTEST_PERIOD // period))
        self._deadline = 0
        self.expired()
