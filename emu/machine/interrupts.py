"""Interrupt messages and the bus that carries them between I/O APICs and local APICs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from emu.machine.lapic_registers import ICR_ASSERT, ICR_LEVEL, ICR_LOGICAL, Delivery

if TYPE_CHECKING:
    from emu.machine.ioapic import IoApic
    from emu.machine.lapic import LocalApic

BROADCAST_XAPIC = 0xFF
BROADCAST_X2APIC = 0xFFFF_FFFF


class Message(NamedTuple):
    """An interrupt message. SDM Vol. 3, Determining IPI Destination."""

    vector: int
    delivery: Delivery = Delivery.FIXED
    destination: int = 0
    logical: bool = False
    level: bool = False
    broadcast: bool = False


def ipi(low: int, destination: int, everyone: int) -> Message | None:
    """The message that the low half of ICR describes; None for what is not sent.

    SDM Vol. 3, Interrupt Command Register (ICR): INIT level de-assert is ignored, reserved delivery
    modes are not sent; other IPIs are edge-triggered. `everyone` is the broadcast destination.
    """
    delivery = Delivery(low >> 8 & 7)
    init_deassert = delivery == Delivery.INIT and low & (ICR_LEVEL | ICR_ASSERT) == ICR_LEVEL
    if init_deassert or delivery in (Delivery.RESERVED, Delivery.EXTINT):
        return None
    return Message(
        low & 0xFF,
        delivery,
        destination,
        logical=bool(low & ICR_LOGICAL),
        broadcast=destination == everyone,
    )


class InterruptBus:
    """Carries messages to the local APICs, and ends of interrupt to the I/O APICs."""

    def __init__(self) -> None:
        self.lapics: list[LocalApic] = []
        self.ioapics: list[IoApic] = []
        self.taken: Callable[[int], None] = _nobody  # told the ID of who takes a message

    def send(self, message: Message) -> bool:
        """Deliver `message` to its destination; whether any local APIC took it."""
        return self.deliver(message, [apic for apic in self.lapics if apic.matches(message)])

    def deliver(self, message: Message, targets: list[LocalApic]) -> bool:
        """Deliver `message` to `targets`; by lowest priority, to one of them."""
        if message.delivery == Delivery.LOWEST_PRIORITY:
            able = [apic for apic in targets if apic.software_enabled]
            if not able:
                return False
            # SDM Vol. 3, Lowest Priority Delivery Mode: the processor whose priority is lowest
            targets = [min(able, key=lambda apic: apic.arbitration_priority)]
        taken = [apic for apic in targets if apic.accept(message)]
        for apic in taken:
            self.taken(apic.apic_id)
        return bool(taken)

    def message_signalled(self, address: int, data: int) -> bool:
        """A device writes `data` to FEExxxxxH. SDM Vol. 3, Message Signalled Interrupts."""
        destination = address >> 12 & 0xFF
        return self.send(
            Message(
                vector=data & 0xFF,
                delivery=Delivery(data >> 8 & 7),
                destination=destination,
                logical=bool(address >> 2 & 1),
                level=bool(data >> 15 & 1),
                broadcast=destination == BROADCAST_XAPIC,
            )
        )

    def end_of_interrupt(self, vector: int) -> None:
        """EOI of a level-triggered interrupt, broadcast to the I/O APICs."""
        for ioapic in self.ioapics:
            ioapic.end_of_interrupt(vector)


def _nobody(apic_id: int) -> None:
    """Nobody wants to know."""
