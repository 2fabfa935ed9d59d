"""What the board asks of a processor, and the state in which a loader hands the machine over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol


class Stop(Enum):
    """Why a processor came back from `run`."""

    BUDGET = "the ticks granted are used up, or the board asked it to stop"
    YIELD = "PAUSE: another processor may have something better to do"
    HALT = "HLT, MWAIT or wait-for-SIPI: nothing to do until an event arrives"
    SHUTDOWN = "a triple fault: the processor is in the shutdown state"


class Segment(NamedTuple):
    """A segment register with its hidden part; `rights` as the VMCS keeps access rights."""

    selector: int
    base: int
    limit: int
    rights: int


@dataclass(frozen=True)
class EntryState:
    """Registers with which a processor begins; what is not named is as after RESET."""

    rip: int
    gpr: Mapping[str, int] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    rflags: int = 2
    cr0: int = 0x6000_0010
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    gdtr: tuple[int, int] = (0, 0xFFFF)
    idtr: tuple[int, int] = (0, 0xFFFF)


class Processor(Protocol):
    """One logical processor as the board meets it. A tick is a cycle of the TSC.

    The board grants time with `run`; `elapsed` must be right whenever the processor calls into the
    board (a port, a window of a device, an MSR of the local APIC), so that devices see the time of
    the access. Whether an interrupt is requested comes from the local APIC by `interrupt_request`;
    when RFLAGS.IF and the shadows allow it, the processor takes the vector from
    `LocalApic.acknowledge`. On INIT, once it is not blocked, it calls `LocalApic.init_reset`.
    """

    index: int

    @property
    def retired(self) -> int:
        """Instructions in all, up to date outside `run`."""

    def run(self, ticks: int) -> Stop:
        """Run until `ticks` are used up, `stop` is called, or there is nothing to do."""

    def elapsed(self) -> int:
        """Ticks used since the current (or else the last) `run` began."""

    def stop(self) -> None:
        """Come back from `run` at the next instruction boundary."""

    def halted(self) -> bool:
        """Whether the processor waits for an event, and none that it accepts is pending."""

    def interruptible(self) -> bool:
        """Whether an interrupt of the local APIC would end its wait."""

    def interrupt_request(self, asserted: bool) -> None:
        """The level of the interrupt request from the local APIC or the interrupt controller."""

    def nmi(self) -> None:
        """A non-maskable interrupt arrived."""

    def smi(self) -> None:
        """A system-management interrupt arrived."""

    def flush(self) -> None:
        """Memory came or went: translations do not hold any more."""

    def init(self) -> None:
        """An INIT arrived."""

    def sipi(self, vector: int) -> None:
        """A start-up IPI arrived: begin at `vector` << 12 if waiting for one."""

    def set_up(self, smbase: int) -> None:
        """What firmware does on each processor; SMM's state goes to `smbase`."""

    def reset(self) -> None:
        """RESET: the bootstrap processor begins at the reset vector, others wait for a SIPI."""

    def enter(self, state: EntryState) -> None:
        """Begin in `state`, as a loader leaves the machine."""


class ParkedProcessor:
    """A processor that never runs and remembers what arrived; a board without a CPU has these."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.retired = 0
        self.requested = False
        self.arrived: list[str] = []
        self.entered: EntryState | None = None

    def run(self, ticks: int) -> Stop:  # noqa: ARG002 - it has no use for them
        """Nothing to do."""
        return Stop.HALT

    def elapsed(self) -> int:
        """No ticks are used."""
        return 0

    def stop(self) -> None:
        """It does not run."""

    def halted(self) -> bool:
        """Always."""
        return True

    def interruptible(self) -> bool:
        """Interrupts change nothing for it, but time may pass."""
        return True

    def interrupt_request(self, asserted: bool) -> None:
        """Remember the level."""
        self.requested = asserted

    def nmi(self) -> None:
        """Remember it."""
        self.arrived.append("nmi")

    def smi(self) -> None:
        """Remember it."""
        self.arrived.append("smi")

    def flush(self) -> None:
        """It has no translations."""

    def init(self) -> None:
        """Remember it."""
        self.arrived.append("init")

    def sipi(self, vector: int) -> None:
        """Remember it, with its vector."""
        self.arrived.append(f"sipi {vector:#04x}")

    def set_up(self, smbase: int) -> None:
        """It has no system-management mode."""

    def reset(self) -> None:
        """Remember it."""
        self.arrived.append("reset")

    def enter(self, state: EntryState) -> None:
        """Remember the state."""
        self.entered = state
