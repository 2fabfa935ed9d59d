"""Events that wait for an instruction boundary: INIT, start-up IPI, NMI, interrupts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from emu.cpu.flags import IF

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.cpu.environment import Environment
    from emu.cpu.guest_mode import Extension, GuestMode
    from emu.cpu.smm import Smm


class PendingEvents:
    """The part of a processor that decides which event is taken next."""

    state: Any
    environment: Environment
    extension: Extension | None
    guest: GuestMode | None
    halted: bool
    waits_for_sipi: bool
    init_pending: bool
    sipi_pending: int | None
    nmi_pending: bool
    nmi_blocked: bool
    interrupt_pending: bool
    acknowledge: Callable[[], int] | None
    smm: Smm

    if TYPE_CHECKING:

        def shadow_active(self) -> bool:
            """As of `Cpu`."""

        def init_reset(self) -> None:
            """As of `Cpu`."""

    def update_pending(self) -> None:
        """Let compiled code know whether an event waits for its chance."""
        pending = self.interrupt_pending or self.nmi_pending or self.init_pending
        pending = pending or self.smm.pending
        if self.guest is not None:
            pending = pending or self.sipi_pending is not None or self.guest.pending()
        self.state.event_pending = int(pending)

    def interruptible_now(self) -> bool:
        """Whether an external interrupt would be taken at this boundary."""
        return bool(self.state.rflags & IF) and not self.shadow_active()

    def awaits_nothing(self) -> bool:
        """Whether it waits, halted or for a SIPI, and no event that ends the wait is pending."""
        guest, extension = self.guest, self.extension
        if not (self.halted or self.waits_for_sipi):
            return False
        if self.init_acceptable() or self.smi_acceptable():
            return False
        if guest is not None and (guest.pending() or self.sipi_pending is not None):
            return False
        if self.waits_for_sipi or (extension is not None and extension.blocks_events()):
            return True
        if guest is None:
            if self.nmi_pending and not self.nmi_blocked:
                return False
            return not (self.interrupt_pending and self.state.rflags & IF)
        if self.nmi_pending and not guest.nmi_blocked():
            return False
        return not (self.interrupt_pending and guest.accepts_interrupt())

    def smi_acceptable(self) -> bool:
        """Whether an SMI is pending and not blocked: by SMM, wait-for-SIPI, a shadow, GIF."""
        smm, extension = self.smm, self.extension
        if not smm.pending or smm.active or self.waits_for_sipi or self.shadow_active():
            return False
        return extension is None or not extension.blocks_events()

    def init_acceptable(self) -> bool:
        """Whether an INIT is pending and not blocked: by SMM or the extension."""
        if not self.init_pending or self.smm.active:
            return False
        return self.extension is None or not self.extension.blocks_init()

    def take_event(self) -> bool:
        """Deliver the event of highest priority that is pending and can be taken.

        SDM Vol. 3, Prioritization of Concurrent Events.
        """
        from emu.cpu.system import smm  # noqa: PLC0415 - these import this module
        from emu.cpu.system.events import deliver_interrupt, deliver_nmi  # noqa: PLC0415

        guest, extension = self.guest, self.extension
        if self.smi_acceptable():
            if guest is not None:
                guest.smi()
            smm.enter(cast("Cpu", self))
            return True
        if self.init_acceptable():
            if guest is not None:
                guest.init()
            self.init_reset()
            self.environment.initialised()
            return True
        if guest is not None:
            if self.sipi_pending is not None:
                guest.sipi(self.sipi_pending)
            if guest.boundary():
                return True
        if self.waits_for_sipi or (extension is not None and extension.blocks_events()):
            return False
        blocked = self.nmi_blocked if guest is None else guest.nmi_blocked()
        if self.nmi_pending and not blocked and not self.shadow_active():
            if guest is not None:
                guest.nmi()
            self.nmi_pending, self.nmi_blocked = False, True
            self.halted = False
            self.update_pending()
            deliver_nmi(cast("Cpu", self))
            return True
        if not self.interrupt_pending or self.acknowledge is None:
            return False
        if not (self.interruptible_now() if guest is None else guest.accepts_interrupt()):
            return False
        if guest is not None and guest.interrupt():
            return True
        self.halted = False
        deliver_interrupt(cast("Cpu", self), self.acknowledge())
        return True
