"""The interval timer and port 61H. Intel 8254 Programmable Interval Timer datasheet.

A counter keeps the cycle at which it was loaded; its value and output follow from the cycles since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emu.machine.clock import Clock
from emu.machine.registers import RW, WO, Register, registers

PIT_HZ: Final = 1_193_182
_8254: Final = "8254 datasheet, Programming the 8254"
_PIIX4: Final = "82371AB PIIX4 datasheet, NMI Status and Control Register"

# fmt: off
PORTS: Final = registers("8254 ports", (
    Register(0x40, "COUNTER_0", RW, 0xFF, 0, _8254),
    Register(0x41, "COUNTER_1", RW, 0xFF, 0, _8254),
    Register(0x42, "COUNTER_2", RW, 0xFF, 0, _8254),
    Register(0x43, "CONTROL", WO, 0xFF, 0, _8254),
    Register(0x61, "NMI_STATUS", RW, 0x0F, 0, _PIIX4),
), width=8)
# fmt: on
LOW, HIGH, LOW_HIGH = 1, 2, 3
READ_BACK: Final = 3
PERIODIC: Final = (2, 3)
TRIGGERED: Final = (1, 5)  # begin at a rising gate
REFRESH_HZ: Final = 66_287  # of the refresh request that port 61H bit 4 follows


class Counter:
    """One of the three counters."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self.clock, self.changed = clock, changed
        self.mode = 3
        self.access = LOW_HIGH
        self.bcd = False
        self.gate = True
        self.count = 0x10000
        self.start: int | None = None  # the cycle at which it was loaded; None: not counting
        self.frozen: int | None = None  # cycles counted when the gate went low
        self.following: int | None = None  # the count from the next period on
        self.null_count = True
        self._low_byte = 0
        self._write_high = self._read_high = False
        self._latched: list[int] = []
        self._status: int | None = None

    # time

    @property
    def cycles(self) -> int:
        """Cycles of the input clock since power-up."""
        return self.clock.cycles(PIT_HZ)

    def elapsed(self) -> int:
        """Cycles counted since the count was loaded; whole periods have been taken off."""
        if self.start is None:
            return 0
        passed = self.cycles - self.start if self.frozen is None else self.frozen
        if self.mode in PERIODIC and passed >= self.count:
            if self.following is None:
                whole = passed // self.count * self.count
            else:
                whole, self.count, self.following = self.count, self.following, None
            self.null_count = False
            self.start += whole
            return self.elapsed()
        return passed

    @property
    def output(self) -> bool:
        """OUT."""
        if self.start is None:
            return self.mode != 0
        passed = self.elapsed()
        if self.mode in (0, 1):
            return passed >= self.count
        if self.mode == 2:
            return passed < self.count - 1
        if self.mode == 3:
            return passed < (self.count + 1) // 2
        return passed != self.count

    def value(self) -> int:
        """The counting element, as it would be latched."""
        limit = 10_000 if self.bcd else 0x10000
        if self.start is None:
            left = self.count
        elif self.mode == 3:
            half = (self.count + 1) // 2
            passed = self.elapsed()
            left = (self.count & ~1) - 2 * (passed - half if passed >= half else passed)
        else:
            left = self.count - self.elapsed()
        left %= limit
        return int(str(left), 16) if self.bcd else left

    def next_rise(self) -> int | None:
        """The cycle at which OUT rises next; None when it does not."""
        if self.start is None or self.frozen is not None:
            return None
        passed = self.elapsed()
        due = self.count + (1 if self.mode in (4, 5) else 0)
        if self.mode in PERIODIC or passed < due:
            return self.start + due
        return None

    # programming

    def control(self, word: int) -> None:
        """A control word for this counter: mode and access; it stops until a count is written."""
        self.access = word >> 4 & 3
        self.mode = (word >> 1 & 7) - (4 if word >> 1 & 7 > 5 else 0)
        self.bcd = bool(word & 1)
        self.start = self.frozen = self.following = None
        self.null_count = True
        self._write_high = self._read_high = False
        self._latched = []
        self._status = None
        self.changed()

    def write(self, value: int) -> None:
        """A byte of the count."""
        if self.access == LOW:
            self._load(value)
        elif self.access == HIGH:
            self._load(value << 8)
        elif self._write_high:
            self._write_high = False
            self._load(self._low_byte | value << 8)
        else:
            self._low_byte, self._write_high = value, True
            if self.mode == 0:
                self.start = None  # writing the first byte stops the count
                self.changed()

    def _load(self, word: int) -> None:
        if self.bcd:
            # digits above 9 count as what they weigh
            word = sum((word >> 4 * i & 0xF) * 10**i for i in range(4)) % 10_000
        count = word or (10_000 if self.bcd else 0x10000)
        self.null_count = True
        if self.mode in PERIODIC and self.start is not None:
            self.elapsed()
            self.following = count
        else:
            self.count = count
            if self.mode in TRIGGERED:
                self.start = None
            else:
                self._begin()
        self.changed()

    def _begin(self) -> None:
        self.start = self.cycles
        self.frozen = None if self.gate else 0
        self.null_count = False

    def set_gate(self, gate: bool) -> None:
        """GATE changes: low suspends modes 0, 2, 3 and 4, a rising edge begins the others."""
        if gate == self.gate:
            return
        self.gate = gate
        if self.mode in TRIGGERED:
            if gate:
                self._begin()
        elif self.start is not None:
            if not gate:
                self.frozen = self.elapsed()
            else:
                counted = 0 if self.mode in PERIODIC else self.frozen or 0
                self.start, self.frozen = self.cycles - counted, None
        self.changed()

    def latch_count(self) -> None:
        """Counter latch command: the value stays to be read; a second one is ignored."""
        if not self._latched:
            value = self.value()
            low, high = value & 0xFF, value >> 8
            self._latched = {LOW: [low], HIGH: [high]}.get(self.access, [low, high])

    def latch_status(self) -> None:
        """Read-back of the status: OUT, null count, access and mode."""
        if self._status is None:
            mode = self.mode << 1 | int(self.bcd)
            self._status = (
                int(self.output) << 7 | int(self.null_count) << 6 | self.access << 4 | mode
            )

    def read(self) -> int:
        """A byte: of the latched status, the latched count, or the running count."""
        if self._status is not None:
            status, self._status = self._status, None
            return status
        if self._latched:
            return self._latched.pop(0)
        value = self.value()
        if self.access == HIGH:
            return value >> 8
        if self.access == LOW_HIGH:
            self._read_high = not self._read_high
            return value & 0xFF if self._read_high else value >> 8
        return value & 0xFF


class Pit:
    """The 8254 with counter 0 on IRQ 0 and counter 2 behind port 61H."""

    def __init__(self, clock: Clock, irq0: Callable[[bool], None]) -> None:
        self.clock = clock
        self.irq0 = irq0
        self._timer = clock.timer(self._rise)
        self.counters = (
            Counter(clock, self._reprogrammed),
            Counter(clock, _nothing),
            Counter(clock, _nothing),
        )
        self.counters[2].gate = False

    def _reprogrammed(self) -> None:
        self.irq0(self.counters[0].output)
        self._schedule()

    def _schedule(self) -> None:
        rise = self.counters[0].next_rise()
        if rise is None:
            self._timer.cancel()
        else:
            self._timer.arm(self.clock.tick_of(PIT_HZ, rise))

    def _rise(self) -> None:
        """OUT of counter 0 rises; it fell before, when nobody looked."""
        self.irq0(False)
        self.irq0(True)
        self._schedule()

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN from 40H to 43H; the control word cannot be read."""
        return self.counters[offset].read() if offset < 3 else 0xFF

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT to 40H to 43H."""
        if offset < 3:
            self.counters[offset].write(value)
        elif value >> 6 == READ_BACK:
            for i, counter in enumerate(self.counters):
                if value >> 1 + i & 1:
                    if not value & 0x20:
                        counter.latch_count()
                    if not value & 0x10:
                        counter.latch_status()
        elif value & 0x30:
            self.counters[value >> 6].control(value)
        else:
            self.counters[value >> 6].latch_count()


class SystemControlB:
    """Port 61H: the gate and the output of counter 2, the speaker, and the causes of an NMI."""

    def __init__(self, pit: Pit) -> None:
        self.pit = pit
        self.value = 0

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """IN: bit 4 toggles with each refresh, bit 5 is OUT of counter 2."""
        refresh = self.pit.clock.cycles(REFRESH_HZ) & 1
        return self.value | refresh << 4 | int(self.pit.counters[2].output) << 5

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: bit 0 is the gate of counter 2."""
        self.value = value & PORTS[4].writable
        self.pit.counters[2].set_gate(bool(value & 1))


def _nothing() -> None:
    return
