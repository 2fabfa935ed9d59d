"""The real-time clock and its memory. Motorola MC146818 datasheet; ports as in the PC AT.

The time of day is that of the configuration plus virtual time; nothing reads the host's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from emu.machine.clock import Clock
from emu.machine.registers import RO, RW, Register, registers

_146818: Final = "MC146818 datasheet, Address Map and Registers"
_AT: Final = "IBM Personal Computer AT Technical Reference, CMOS RAM address map"

# fmt: off
MAP: Final = registers("MC146818", (
    Register(0x00, "SECONDS", RW, 0xFF, 0, _146818),
    Register(0x01, "SECONDS_ALARM", RW, 0xFF, 0, _146818),
    Register(0x02, "MINUTES", RW, 0xFF, 0, _146818),
    Register(0x03, "MINUTES_ALARM", RW, 0xFF, 0, _146818),
    Register(0x04, "HOURS", RW, 0xFF, 0, _146818),
    Register(0x05, "HOURS_ALARM", RW, 0xFF, 0, _146818),
    Register(0x06, "DAY_OF_WEEK", RW, 0xFF, 0, _146818),
    Register(0x07, "DAY_OF_MONTH", RW, 0xFF, 0, _146818),
    Register(0x08, "MONTH", RW, 0xFF, 0, _146818),
    Register(0x09, "YEAR", RW, 0xFF, 0, _146818),
    Register(0x0A, "REGISTER_A", RW, 0x7F, 0x26, _146818),
    Register(0x0B, "REGISTER_B", RW, 0xFF, 0x02, _146818),
    Register(0x0C, "REGISTER_C", RO, 0, 0, _146818),
    Register(0x0D, "REGISTER_D", RO, 0, 0x80, _146818),
    Register(0x0F, "SHUTDOWN_STATUS", RW, 0xFF, 0, _AT),
    Register(0x10, "DISKETTE_TYPES", RW, 0xFF, 0, _AT),
    Register(0x14, "EQUIPMENT", RW, 0xFF, 0x02, _AT),
    Register(0x32, "CENTURY", RW, 0xFF, 0, _AT),
), width=8)
# fmt: on
A, B, C, D, SHUTDOWN, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x0F, 0x32
UPDATE_IN_PROGRESS: Final = 0x80  # register A
SET, PIE, AIE, UIE, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02  # register B
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10  # register C
OSCILLATOR_HZ: Final = 32_768
UPDATE_CYCLES: Final = 65  # UIP is seen 244 us and the update lasts 1984 us with this time base
DO_NOT_CARE: Final = 0xC0
ALARMS: Final = (0x01, 0x03, 0x05)
DAY: Final = 86_400  # seconds; alarms of days gone by are those of the last one
TIME_OFFSETS: Final = (0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, CENTURY)


class Rtc:
    """Clock, alarm, periodic interrupt and 114 bytes of memory behind ports 70H and 71H."""

    def __init__(
        self,
        clock: Clock,
        irq8: Callable[[bool], None],
        epoch: datetime,
        memory: Mapping[int, int] | None = None,
    ) -> None:
        self.clock, self.irq8 = clock, irq8
        self.index = 0
        self.nmi_masked = False
        self.memory = bytearray(128)
        for row in MAP:
            self.memory[row.offset] = row.reset
        for offset, value in (memory or {}).items():
            self.memory[offset] = value
        self.flags = 0
        self.alarmed: Callable[[], None] = _nothing
        self._epoch = epoch.replace(tzinfo=UTC, microsecond=0)
        self._set_at = 0  # the tick that the epoch stands for
        self._periodic = clock.timer(self._period)
        self._second = clock.timer(self._updated)
        self._seen = 0
        self._schedule_second()

    # time of day

    def time(self) -> datetime:
        """The time of day."""
        return self._epoch + timedelta(seconds=(self.clock.now - self._set_at) // self.clock.hz)

    def _encode(self, value: int) -> int:
        return value if self.memory[B] & BINARY else value // 10 << 4 | value % 10

    def _decode(self, value: int) -> int:
        return value if self.memory[B] & BINARY else (value >> 4) * 10 + (value & 0xF)

    def _encode_hour(self, hour: int) -> int:
        if self.memory[B] & HOURS_24:
            return self._encode(hour)
        return self._encode(hour % 12 or 12) | (0x80 if hour >= 12 else 0)

    def _decode_hour(self, value: int) -> int:
        if self.memory[B] & HOURS_24:
            return self._decode(value)
        return self._decode(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    def _fields(self) -> dict[int, int]:
        now = self.time()
        return {
            0x00: self._encode(now.second),
            0x02: self._encode(now.minute),
            0x04: self._encode_hour(now.hour),
            0x06: self._encode(now.isoweekday() % 7 + 1),
            0x07: self._encode(now.day),
            0x08: self._encode(now.month),
            0x09: self._encode(now.year % 100),
            CENTURY: self._encode(now.year // 100),
        }

    def _set_fields(self, fields: Mapping[int, int]) -> None:
        """Set the time of day; a date that does not exist leaves the clock as it was."""
        century = self._decode(fields[CENTURY])
        try:
            self._epoch = datetime(
                century * 100 + self._decode(fields[0x09]),
                self._decode(fields[0x08]),
                self._decode(fields[0x07]),
                self._decode_hour(fields[0x04]),
                self._decode(fields[0x02]),
                self._decode(fields[0x00]),
                tzinfo=UTC,
            )
        except ValueError:
            return
        self._set_at = self.clock.now

    # events

    def _seconds(self) -> int:
        return (self.clock.now - self._set_at) // self.clock.hz

    def _schedule_second(self) -> None:
        """Wait for the next update only when it can interrupt; else it is seen when looked at."""
        self._seen = self._seconds()
        if self.memory[B] & SET or not self.memory[B] & (AIE | UIE):
            self._second.cancel()
        else:
            self._second.arm(self._set_at + (self._seen + 1) * self.clock.hz)

    def _updated(self) -> None:
        """Seconds have passed: update-ended and alarm flags."""
        seconds = self._seconds()
        if not self.memory[B] & SET and seconds > self._seen:
            self.flags |= UF
            first = max(self._seen + 1, seconds - DAY + 1)
            if any(self._alarm_at(second) for second in range(first, seconds + 1)):
                self.flags |= AF
                if self.memory[B] & AIE:
                    self.alarmed()
        self._schedule_second()
        self._update_irq()

    def _alarm_at(self, second: int) -> bool:
        time = self._epoch + timedelta(seconds=second)
        shown = (self._encode(time.second), self._encode(time.minute), self._encode_hour(time.hour))
        return all(
            self.memory[alarm] & DO_NOT_CARE == DO_NOT_CARE or self.memory[alarm] == value
            for alarm, value in zip(ALARMS, shown, strict=True)
        )

    def _rate(self) -> int:
        """Cycles of the oscillator between periodic interrupts; 0: none."""
        select = self.memory[A] & 0xF
        if select == 0 or self.memory[A] >> 4 & 7 != 2:
            return 0
        return 1 << (select + 7 if select <= 2 else select) - 1

    def _schedule_period(self) -> None:
        rate = self._rate()
        if not rate or not self.memory[B] & PIE:
            self._periodic.cancel()
            return
        cycle = (self.clock.cycles(OSCILLATOR_HZ) // rate + 1) * rate
        self._periodic.arm(self.clock.tick_of(OSCILLATOR_HZ, cycle))

    def _period(self) -> None:
        self.flags |= PF
        self._schedule_period()
        self._update_irq()

    def _update_irq(self) -> None:
        if self.flags & self.memory[B] & (PF | AF | UF):
            self.flags |= IRQF
        self.irq8(bool(self.flags & IRQF))

    # ports

    def port_read(self, offset: int, size: int) -> int:  # noqa: ARG002 - one byte wide
        """IN from 71H; the index at 70H is write-only."""
        if offset == 0:
            return 0xFF
        index = self.index
        if index in TIME_OFFSETS:
            return self.memory[index] if self.memory[B] & SET else self._fields()[index]
        if index == A:
            into = (self.clock.now - self._set_at) % self.clock.hz
            left = (self.clock.hz - into) * OSCILLATOR_HZ // self.clock.hz
            updating = left < UPDATE_CYCLES and not self.memory[B] & SET
            return self.memory[A] | (UPDATE_IN_PROGRESS if updating else 0)
        if index == C:
            self._updated()
            flags, self.flags = self.flags, 0
            self._update_irq()
            return flags
        return self.memory[index]

    def port_write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """OUT: the index (bit 7 disables NMI), or the byte that it selects."""
        if offset == 0:
            self.index, self.nmi_masked = value & 0x7F, bool(value & 0x80)
            return
        index = self.index
        if index in TIME_OFFSETS:
            if self.memory[B] & SET:
                self.memory[index] = value
            else:
                self._set_fields({**self._fields(), index: value})
                self._schedule_second()
        elif index == B:
            self._write_b(value)
        elif index == A:
            self.memory[A] = value & 0x7F
            self._schedule_period()
        elif index not in (C, D):
            self.memory[index] = value

    def _write_b(self, value: int) -> None:
        before = self.memory[B]
        if value & SET and not before & SET:
            for at, field in self._fields().items():
                self.memory[at] = field
            value &= ~UIE  # SET clears the update-ended interrupt enable
        self.memory[B] = value
        if before & SET and not value & SET:
            self._set_fields({at: self.memory[at] for at in TIME_OFFSETS})
        self._schedule_second()
        self._schedule_period()
        self._update_irq()


def _nothing() -> None:
    return
