"""What a processor asks of the machine around it: I/O ports, time, the MSRs of its local APIC."""

from __future__ import annotations

from collections.abc import Callable


class Environment:
    """A processor without a machine: no device answers, and time stands still."""

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - nobody answers
        """IN: all ones where no device answers."""
        return (1 << 8 * size) - 1

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT: lost where no device answers."""

    def ticks(self) -> int:
        """Cycles of the time-stamp counter since the machine began."""
        return 0

    def read_apic_msr(self, index: int) -> int | None:  # noqa: ARG002
        """An MSR of the local APIC; None: #GP(0)."""
        return None

    def write_apic_msr(self, index: int, value: int) -> bool:  # noqa: ARG002
        """Write an MSR of the local APIC; False: #GP(0)."""
        return False

    def task_priority(self) -> int:
        """CR8: the upper half of the task-priority register."""
        return 0

    def set_task_priority(self, value: int) -> None:
        """Write CR8."""

    def apic_id(self) -> int:
        """The initial APIC ID, as CPUID tells."""
        return 0

    def apic_enabled(self) -> bool:
        """Whether IA32_APIC_BASE enables the local APIC, as CPUID tells."""
        return False

    def pause_ticks(self) -> int:
        """What a PAUSE takes."""
        return 1

    def floating_point_error(self) -> bool:
        """FERR#, for an unmasked x87 exception without CR0.NE; True: IGNNE#, the processor goes on.

        SDM Vol. 1, Software Exception Handling, MS-DOS* Compatibility Sub-mode.
        """
        return True

    def smm(self, active: bool) -> None:
        """The processor entered system-management mode, or left it."""

    def floating_point_clear(self) -> None:
        """FERR# falls: no unmasked x87 exception is pending any more."""

    def initialised(self) -> None:
        """The processor took an INIT."""

    def alarm(self, ticks: int, ring: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Call `ring` when `ticks` have passed; what is returned cancels that."""
        return _nothing

    def end_of_interrupt(self) -> None:
        """Signal the local APIC that the interrupt in service is done with."""


def _nothing() -> None:
    return
