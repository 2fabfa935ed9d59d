"""The last VM exit in words, from the VM-exit information fields of the current VMCS.

SDM Vol. 3, VM-Exit Information Fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.exit_report import ExitReport
from vmcs.vmx.exit_qualification import qualification
from vmcs.vmx.exit_reasons import ExitReason, basic, is_entry_failure
from vmcs.vmx.field_formats import describe_field

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

VALID: Final = 1 << 31
LINEAR_ADDRESS_VALID: Final = 1 << 7  # of the qualification of an EPT violation
PHYSICAL: Final = (ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIGURATION)


def exit_report(vmx: Vmx) -> ExitReport:
    """What the current VMCS tells of its last VM exit."""
    reason, event = vmx["VM_EXIT_REASON"], vmx["VM_EXIT_INTR_INFO"]
    number = basic(reason)
    return ExitReport(
        reason,
        ExitReason.name_of(number) or f"reason {number}",
        (*details(vmx, number, event), *addresses(vmx, number)),
        vmx["GUEST_RIP"],
        valid_event(vmx, "VM_EXIT_INTR_INFO"),
        valid_event(vmx, "IDT_VECTORING_INFO_FIELD"),
        is_entry_failure(reason),
    )


def details(vmx: Vmx, number: int, event: int) -> tuple[str, ...]:
    """The exit qualification by field name."""
    layout = qualification(number, event & 0xFF if event & VALID else None)
    return layout.describe(vmx["EXIT_QUALIFICATION"]) if layout else ()


def addresses(vmx: Vmx, number: int) -> tuple[str, ...]:
    """Guest-physical and guest-linear address, where the reason gives them."""
    if number not in PHYSICAL:
        return ()
    found = [f"GUEST_PHYSICAL_ADDRESS={vmx['GUEST_PHYSICAL_ADDRESS']:#x}"]
    if number == ExitReason.EPT_VIOLATION and vmx["EXIT_QUALIFICATION"] & LINEAR_ADDRESS_VALID:
        found.append(f"GUEST_LINEAR_ADDRESS={vmx['GUEST_LINEAR_ADDRESS']:#x}")
    return tuple(found)


def valid_event(vmx: Vmx, name: str) -> tuple[str, ...]:
    """An interruption-information field by field name; nothing when it is not valid."""
    value = vmx[name]
    return describe_field(name, value) if value & VALID else ()
