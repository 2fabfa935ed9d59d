"""VMREAD and VMWRITE in VMX non-root operation. SDM Vol. 3, VMCS Shadowing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.system.operands import require_privilege
from emu.vmx.bits import P2
from emu.vmx.region import NO_VMCS
from vmcs.batch.control_structures import VMCS
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.fields import BY_NAME
from vmcs.vmx.instruction_errors import InstructionError

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

ENCODINGS = 1 << 15  # the bitmaps have a bit for each value of bits 14:0


def shadow_access(
    vmx: Vmx, insn: Any, encoding: int, value: Callable[[], int] | None
) -> tuple[bool, int]:
    """Access the shadow VMCS: whether that was done, and what VMREAD found; else VM exit or VMfail.

    `value` gives what VMWRITE writes.
    """
    from emu.vmx.instructions import fail_invalid, merged  # noqa: PLC0415 - it knows this module

    guest, memory = vmx.guest, vmx.cpu.memory
    assert guest is not None
    writes = value is not None
    if traps(vmx, encoding, writes):
        reason = ExitReason.VMWRITE if writes else ExitReason.VMREAD
        guest.leave_for_instruction(reason, insn)
    require_privilege(vmx.cpu)
    link = vmx["VMCS_LINK_POINTER"]
    if link == NO_VMCS:
        fail_invalid(vmx.cpu)
        return False, 0
    found = vmx.find_field(encoding)
    if found is None:
        vmx.fail(InstructionError.UNSUPPORTED_VMCS_COMPONENT)
        return False, 0
    name, high = found
    if value is not None and BY_NAME[name].is_read_only and not vmx.writes_any:
        vmx.fail(InstructionError.VMWRITE_READ_ONLY_COMPONENT)
        return False, 0
    place = VMCS.by_name[name]
    old = int.from_bytes(memory.read(link + place.offset, place.width), "little")
    if value is None:
        return True, old >> 32 if high else old
    new = merged(name, high, old, value())
    memory.write(link + place.offset, new.to_bytes(place.width, "little"))
    return True, 0


def traps(vmx: Vmx, encoding: int, writes: bool) -> bool:
    """Whether an access causes a VM exit."""
    guest = vmx.guest
    assert guest is not None
    if not guest.proc2 & P2.VMCS_SHADOWING or encoding >= ENCODINGS:
        return True
    bitmap = vmx["VMWRITE_BITMAP" if writes else "VMREAD_BITMAP"]
    byte = vmx.cpu.memory.read(bitmap + encoding // 8, 1)[0]
    return bool(byte >> encoding % 8 & 1)
