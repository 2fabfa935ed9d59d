"""The guests that ship: hypervisors of our own, each with a guest of its own, as bootable images.

A guest is a scenario (`source/churn.s` and its like) on one of two hypervisors (`source/vmx.s`,
`source/svm.s`); `emu.guests.build` makes its image from the sources. Each prints what it does on
the first serial port and ends the machine with status 0 where everything was as it should be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent


class Guest(NamedTuple):
    """A guest: what its hypervisor is, which scenario it runs, and what that shows."""

    vendor: str
    scenario: str
    shows: str

    @property
    def name(self) -> str:
        """What it is called: ``vmx-churn``."""
        return f"{self.vendor}-{self.scenario}"

    @property
    def path(self) -> Path:
        """Its image."""
        return HERE / "images" / f"{self.name}.bin"

    def image(self) -> bytes:
        """The bytes of its Multiboot image."""
        return self.path.read_bytes()


# fmt: off
GUESTS: Final = (
    Guest("vmx", "churn", "registers and memory; CPUID exits; L1 checks the result"),
    Guest("vmx", "timer", "interrupts of L1's APIC timer leave L2 and are given on to it"),
    Guest("vmx", "faults", "pages of EPT or NPT that are mapped on demand, page walks included"),
    Guest("vmx", "inject", "events that fault in delivery, an exception, a closed window"),
    Guest("vmx", "pae", "a 32-bit L2 with PAE paging that changes a PDPTE"),
    Guest("vmx", "protected", "a 32-bit L2 with rings 0 and 3 under a 64-bit L1"),
    Guest("vmx", "halt", "L2 waits in HLT"),
    Guest("vmx", "preemption", "the VMX-preemption timer takes the processor from L2"),
    Guest("vmx", "shadow", "L2 reads and writes a shadow VMCS"),
    Guest("svm", "churn", "registers and memory; CPUID exits; L1 checks the result"),
    Guest("svm", "timer", "interrupts of L1's APIC timer leave L2 and are given on to it"),
    Guest("svm", "faults", "pages of EPT or NPT that are mapped on demand, page walks included"),
    Guest("svm", "inject", "events that fault in delivery, an exception, a closed window"),
    Guest("svm", "pae", "a 32-bit L2 with PAE paging that changes a PDPTE"),
    Guest("svm", "protected", "a 32-bit L2 with rings 0 and 3 under a 64-bit L1"),
    Guest("svm", "halt", "L2 waits in HLT"),
)
# fmt: on

BY_NAME: Final = {guest.name: guest for guest in GUESTS}


def find(name: str) -> Guest | None:
    """The guest called `name`; None where none is."""
    return BY_NAME.get(name)
