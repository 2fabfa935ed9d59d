"""The VMX-preemption timer. SDM Vol. 3, VMX-Preemption Timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from emu.vmx.bits import EXIT, PIN
from vmcs.vmx.capability_msrs import MISC

if TYPE_CHECKING:
    from emu.vmx.guest import NonRoot

FIELD = "VMX_PREEMPTION_TIMER_VALUE"


class PreemptionTimer:
    """Counts down by one whenever a bit of the TSC changes; at zero the guest is left."""

    def __init__(self, guest: NonRoot) -> None:
        self.guest = guest
        self.expired = False
        self.zero_at: int | None = None  # the count of changes at which it is zero
        self.cancel: Callable[[], None] | None = None

    @property
    def rate(self) -> int:
        """Which bit of the TSC: IA32_VMX_MISC bits 4:0."""
        return MISC.get(self.guest.vmx.capability("IA32_VMX_MISC"), "TIMER_RATE")

    def begin(self) -> None:
        """VM entry: start from the value in the VMCS."""
        guest = self.guest
        self.expired, self.zero_at = False, None
        if not guest.pin & PIN.ACTIVATE_VMX_PREEMPTION_TIMER:
            return
        value, now = guest.vmx[FIELD], guest.cpu.environment.ticks()
        self.zero_at = (now >> self.rate) + value
        if value == 0:
            self.expired = True
        else:
            ticks = (self.zero_at << self.rate) - now
            self.cancel = guest.cpu.environment.alarm(ticks, self.ring)

    def ring(self) -> None:
        """It is zero."""
        self.expired = True
        self.guest.cpu.update_pending()

    def end(self) -> None:
        """VM exit: save the value when that is asked for."""
        guest = self.guest
        if self.cancel is not None:
            self.cancel()
            self.cancel = None
        if self.zero_at is None:
            return
        if guest.vmx["VM_EXIT_CONTROLS"] & EXIT.SAVE_VMX_PREEMPTION_TIMER_VALUE:
            now = guest.cpu.environment.ticks() >> self.rate
            guest.vmx[FIELD] = 0 if self.expired else max(self.zero_at - now, 0)
        self.expired, self.zero_at = False, None
