"""Control registers in VMX non-root operation. SDM Vol. 3, Changes to Instruction Behavior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault
from emu.cpu.paging import CR0_PE, CR0_TS
from emu.cpu.state import Vector
from emu.cpu.system.operands import get, offset_of
from emu.vmx.bits import P1
from emu.vmx.information import has_memory, register_of
from vmcs.vmx.exit_qualification import CR_ACCESS
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.vmx.guest import NonRoot

MOV_TO, MOV_FROM, CLTS, LMSW = range(4)
MACHINE_STATUS = 0xF


def leave(guest: NonRoot, number: int, access: int, insn: Any, **more: int) -> None:
    """VM exit for an access to a control register."""
    qualification = CR_ACCESS.word(REGISTER=number, ACCESS_TYPE=access, **more)
    linear = None
    if more.get("LMSW_MEMORY"):
        state = guest.cpu.state
        linear = offset_of(guest.cpu, insn) & int(state.linear_mask)
    guest.leave_for_instruction(ExitReason.CR_ACCESS, insn, qualification, linear=linear)


def read(guest: NonRoot, number: int, value: int, insn: Any) -> int:
    """MOV from CR and SMSW."""
    vmx = guest.vmx
    if number in (0, 4):
        mask, shadow = vmx[f"CR{number}_GUEST_HOST_MASK"], vmx[f"CR{number}_READ_SHADOW"]
        return value & ~mask | shadow & mask
    if number == 3 and guest.proc & P1.CR3_STORE_EXITING:
        leave(guest, 3, MOV_FROM, insn, GENERAL_REGISTER=register_of(insn, 0))
    if number == 8:
        if guest.proc & P1.CR8_STORE_EXITING:
            leave(guest, 8, MOV_FROM, insn, GENERAL_REGISTER=register_of(insn, 0))
        if guest.proc & P1.USE_TPR_SHADOW:
            return guest.apic.register(0x80) >> 4 & 15
    return value


def write(guest: NonRoot, number: int, value: int, insn: Any) -> int | None:
    """MOV to CR, CLTS and LMSW."""
    name = MNEMONICS[insn.mnemonic]
    if name == "CLTS":
        return clear_task_switched(guest, value, insn)
    if name == "LMSW":
        return load_machine_status(guest, value, insn)
    general = register_of(insn, 1)
    if number in (0, 4):
        return masked(guest, number, value, insn, general)
    if number == 3 and guest.proc & P1.CR3_LOAD_EXITING and not is_target(guest, value):
        leave(guest, 3, MOV_TO, insn, GENERAL_REGISTER=general)
    if number == 8:
        return write_priority(guest, value, insn, general)
    return value


def masked(guest: NonRoot, number: int, value: int, insn: Any, general: int) -> int:
    """MOV to CR0 or CR4: bits that the host owns must be as in the shadow, and do not change."""
    vmx = guest.vmx
    mask, shadow = vmx[f"CR{number}_GUEST_HOST_MASK"], vmx[f"CR{number}_READ_SHADOW"]
    if (value ^ shadow) & mask:
        leave(guest, number, MOV_TO, insn, GENERAL_REGISTER=general)
    own = int(guest.cpu.state.cr0 if number == 0 else guest.cpu.state.cr4)
    return value & ~mask | own & mask


def clear_task_switched(guest: NonRoot, value: int, insn: Any) -> int:
    """CLTS: an exit when the host owns TS and the shadow has it set."""
    vmx = guest.vmx
    if not vmx["CR0_GUEST_HOST_MASK"] & CR0_TS:
        return value
    if vmx["CR0_READ_SHADOW"] & CR0_TS:
        leave(guest, 0, CLTS, insn)
    return int(guest.cpu.state.cr0)


def load_machine_status(guest: NonRoot, value: int, insn: Any) -> int:
    """LMSW: PE counts only where it would be set."""
    vmx, own = guest.vmx, int(guest.cpu.state.cr0)
    mask, shadow = vmx["CR0_GUEST_HOST_MASK"] & MACHINE_STATUS, vmx["CR0_READ_SHADOW"]
    source = get(guest.cpu, insn, 0, 16)
    differing = (source ^ shadow) & mask
    if not source & CR0_PE:
        differing &= ~CR0_PE
    if differing:
        memory = int(has_memory(insn))
        leave(guest, 0, LMSW, insn, LMSW_MEMORY=memory, LMSW_SOURCE=source)
    return value & ~mask | own & mask


def is_target(guest: NonRoot, value: int) -> bool:
    """Whether a value of CR3 is one of the CR3-target values."""
    vmx = guest.vmx
    return any(value == vmx[f"CR3_TARGET_VALUE{i}"] for i in range(vmx["CR3_TARGET_COUNT"]))


def write_priority(guest: NonRoot, value: int, insn: Any, general: int) -> int | None:
    """MOV to CR8: with the TPR shadow it goes to the virtual TPR."""
    if guest.proc & P1.CR8_LOAD_EXITING:
        leave(guest, 8, MOV_TO, insn, GENERAL_REGISTER=general)
    if not guest.proc & P1.USE_TPR_SHADOW:
        return value
    if value & ~15:
        raise Fault(Vector.GP, 0)
    guest.apic.set_register(0x80, value << 4)
    guest.apic.priority_changed()
    return None
