"""The VMX instructions. SDM Vol. 3, VMX Instruction Reference, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault
from emu.cpu.flags import CF, STATUS, ZF
from emu.cpu.paging import CR4_VMXE
from emu.cpu.state import MOV_SS, Vector
from emu.cpu.system.operands import (
    get,
    get_register,
    is_canonical,
    load,
    memory_address,
    put,
    register_number,
    require_privilege,
    store,
)
from emu.vmx.bits import P2
from emu.vmx.entry import enter
from emu.vmx.region import INDEX, LAUNCHED, NO_VMCS, REVISION_MASK, SHADOW_INDICATOR
from emu.vmx.shadow import shadow_access
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.fields import BY_NAME
from vmcs.vmx.instruction_errors import InstructionError as Error

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.vmx.extension import Vmx

FEATURE_CONTROL: Final = 0x3A
LOCKED, OUTSIDE_SMX = 1, 4
PAGE_OFFSET: Final = 0xFFF
SINGLE_CONTEXT, ALL_CONTEXTS = 1, 2
INVEPT_TYPES: Final = {SINGLE_CONTEXT: "INVEPT_SINGLE_CONTEXT", ALL_CONTEXTS: "INVEPT_ALL_CONTEXT"}
INVVPID_TYPES: Final = {
    0: "INVVPID_INDIVIDUAL_ADDRESS",
    1: "INVVPID_SINGLE_CONTEXT",
    2: "INVVPID_ALL_CONTEXT",
    3: "INVVPID_RETAINING_GLOBALS",
}


def extension(cpu: Cpu) -> Vmx:
    """The extension of a processor that runs one of its instructions."""
    return cast("Vmx", cpu.extension)


# SDM Vol. 3, Conventions: VMsucceed, VMfailInvalid, VMfailValid


def succeed(cpu: Cpu) -> None:
    """VMsucceed: all status flags are cleared."""
    cpu.rflags = cpu.rflags & ~STATUS


def fail_invalid(cpu: Cpu) -> None:
    """VMfailInvalid: CF."""
    cpu.rflags = cpu.rflags & ~STATUS | CF


def fail_valid(cpu: Cpu) -> None:
    """VMfailValid: ZF."""
    cpu.rflags = cpu.rflags & ~STATUS | ZF


def gate(cpu: Cpu, insn: Any, reason: ExitReason) -> Vmx:
    """What VMX instructions begin with: #UD, a VM exit from non-root operation, #GP(0)."""
    vmx = extension(cpu)
    if not vmx.on or not vmx.usable:
        raise Fault(Vector.UD)
    if vmx.guest is not None:
        vmx.guest.leave_for_instruction(reason, insn)
    require_privilege(cpu)
    return vmx


def pointer(cpu: Cpu, insn: Any) -> int:
    """The 64-bit operand in memory."""
    return load(cpu, memory_address(cpu, insn, 8), 8)


def is_bad_address(cpu: Cpu, address: int) -> bool:
    """Whether an address is no page of the physical address space."""
    return bool(address & PAGE_OFFSET or address & ~int(cpu.state.physical_mask))


def first_word(cpu: Cpu, address: int) -> int:
    """The first 4 bytes of a region."""
    return int.from_bytes(cpu.memory.read(address, 4), "little")


def vmxon(cpu: Cpu, insn: Any) -> None:
    """VMXON: enter VMX operation."""
    vmx = extension(cpu)
    if not cpu.state.cr4 & CR4_VMXE or not vmx.usable:
        raise Fault(Vector.UD)
    if vmx.on:
        if vmx.guest is not None:
            vmx.guest.leave_for_instruction(ExitReason.VMXON, insn)
        require_privilege(cpu)
        vmx.fail(Error.VMXON_IN_VMX_ROOT_OPERATION)
        return
    control = cpu.msrs.get(FEATURE_CONTROL, 0)
    wanted = LOCKED | OUTSIDE_SMX
    if cpu.state.cpl or not vmx.fixed_cr_valid or control & wanted != wanted:
        raise Fault(Vector.GP, 0)
    address = pointer(cpu, insn)
    if is_bad_address(cpu, address) or first_word(cpu, address) != vmx.revision:
        fail_invalid(cpu)
        return
    vmx.reset()
    vmx.on, vmx.region = True, address
    cpu.monitored = None
    succeed(cpu)


def vmxoff(cpu: Cpu, insn: Any) -> None:
    """VMXOFF: leave VMX operation; INIT is accepted again."""
    vmx = gate(cpu, insn, ExitReason.VMXOFF)
    vmx.write_back()
    vmx.reset()
    cpu.update_pending()
    succeed(cpu)


def vmclear(cpu: Cpu, insn: Any) -> None:
    """VMCLEAR: write a VMCS to memory and make its launch state clear."""
    vmx = gate(cpu, insn, ExitReason.VMCLEAR)
    address = pointer(cpu, insn)
    if is_bad_address(cpu, address):
        vmx.fail(Error.VMCLEAR_INVALID_ADDRESS)
    elif address == vmx.region:
        vmx.fail(Error.VMCLEAR_VMXON_POINTER)
    else:
        vmx.clear(address)
        succeed(cpu)


def vmptrld(cpu: Cpu, insn: Any) -> None:
    """VMPTRLD: make a VMCS current."""
    vmx = gate(cpu, insn, ExitReason.VMPTRLD)
    address = pointer(cpu, insn)
    if is_bad_address(cpu, address):
        vmx.fail(Error.VMPTRLD_INVALID_ADDRESS)
        return
    if address == vmx.region:
        vmx.fail(Error.VMPTRLD_VMXON_POINTER)
        return
    word = first_word(cpu, address)
    shadow = word & SHADOW_INDICATOR and not vmx.allows(P2.VMCS_SHADOWING)
    if word & REVISION_MASK != vmx.revision or shadow:
        vmx.fail(Error.VMPTRLD_INCORRECT_REVISION_ID)
        return
    vmx.make_current(address)
    succeed(cpu)


def vmptrst(cpu: Cpu, insn: Any) -> None:
    """VMPTRST: the current-VMCS pointer to memory."""
    vmx = gate(cpu, insn, ExitReason.VMPTRST)
    store(cpu, memory_address(cpu, insn, 8, True), vmx.current, 8)
    succeed(cpu)


def vmread(cpu: Cpu, insn: Any) -> None:
    """VMREAD: a field of the current VMCS; with VMCS shadowing, of the shadow VMCS."""
    vmx = extension(cpu)
    size = 64 if cpu.mode.bits == 64 else 32
    if vmx.on and vmx.usable and vmx.guest is not None:
        encoding = get(cpu, insn, 1, size)
        done, value = shadow_access(vmx, insn, encoding, None)
    else:
        vmx = gate(cpu, insn, ExitReason.VMREAD)
        encoding = get(cpu, insn, 1, size)
        done, value = read_current(vmx, encoding)
    if done:
        put(cpu, insn, 0, value & (1 << size) - 1, size)
        succeed(cpu)


def read_current(vmx: Vmx, encoding: int) -> tuple[bool, int]:
    """Whether a field could be read, and its value; else VMfail."""
    if vmx.current == NO_VMCS:
        fail_invalid(vmx.cpu)
        return False, 0
    found = vmx.find_field(encoding)
    if found is None:
        vmx.fail(Error.UNSUPPORTED_VMCS_COMPONENT)
        return False, 0
    name, high = found
    value = vmx.fields[INDEX[name]]
    return True, value >> 32 if high else value


def vmwrite(cpu: Cpu, insn: Any) -> None:
    """VMWRITE: a field of the current VMCS; with VMCS shadowing, of the shadow VMCS."""
    vmx = extension(cpu)
    size = 64 if cpu.mode.bits == 64 else 32
    if vmx.on and vmx.usable and vmx.guest is not None:
        encoding = get(cpu, insn, 0, size)
        if shadow_access(vmx, insn, encoding, lambda: get(cpu, insn, 1, size))[0]:
            succeed(cpu)
        return
    vmx = gate(cpu, insn, ExitReason.VMWRITE)
    encoding, value = get(cpu, insn, 0, size), get(cpu, insn, 1, size)
    if vmx.current == NO_VMCS:
        fail_invalid(cpu)
        return
    found = vmx.find_field(encoding)
    if found is None:
        vmx.fail(Error.UNSUPPORTED_VMCS_COMPONENT)
        return
    name, high = found
    if BY_NAME[name].is_read_only and not vmx.writes_any:
        vmx.fail(Error.VMWRITE_READ_ONLY_COMPONENT)
        return
    vmx.fields[INDEX[name]] = merged(name, high, vmx.fields[INDEX[name]], value)
    succeed(cpu)


def merged(name: str, high: bool, old: int, value: int) -> int:
    """What a field holds after a write of its whole or of its upper half."""
    if high:
        return old & 0xFFFFFFFF | (value & 0xFFFFFFFF) << 32
    return value & (1 << 8 * BY_NAME[name].size) - 1


def vmlaunch(cpu: Cpu, insn: Any) -> None:
    """VMLAUNCH, VMRESUME: VM entry."""
    launches = MNEMONICS[insn.mnemonic] == "VMLAUNCH"
    vmx = gate(cpu, insn, ExitReason.VMLAUNCH if launches else ExitReason.VMRESUME)
    if vmx.current == NO_VMCS or vmx.is_shadow:
        fail_invalid(cpu)
        return
    if cpu.shadow_kind() == MOV_SS:
        vmx.fail(Error.ENTRY_EVENTS_BLOCKED_BY_MOV_SS)
    elif launches and vmx.launch_state == LAUNCHED:
        vmx.fail(Error.VMLAUNCH_NON_CLEAR_VMCS)
    elif not launches and vmx.launch_state != LAUNCHED:
        vmx.fail(Error.VMRESUME_NON_LAUNCHED_VMCS)
    else:
        cpu.untraced = True
        error = enter(vmx)
        if error is not None:
            vmx.fail(error)
        elif vmx.guest is not None:
            vmx.launch_state = LAUNCHED


def vmcall(cpu: Cpu, insn: Any) -> None:
    """VMCALL: a VM exit; in root operation VMfail, as there is no dual-monitor treatment."""
    vmx = extension(cpu)
    if not vmx.on:
        raise Fault(Vector.UD)
    if vmx.guest is not None:
        vmx.guest.leave_for_instruction(ExitReason.VMCALL, insn)
    vmx = gate(cpu, insn, ExitReason.VMCALL)
    vmx.fail(Error.VMCALL_IN_VMX_ROOT_OPERATION)


def vmfunc(cpu: Cpu, insn: Any) -> None:
    """VMFUNC: #UD outside VMX non-root operation."""
    vmx = extension(cpu)
    if vmx.guest is None:
        raise Fault(Vector.UD)
    vmx.guest.vm_function(insn)


def descriptor(cpu: Cpu, insn: Any) -> tuple[int, int]:
    """The 128-bit operand of INVEPT and INVVPID."""
    linear = memory_address(cpu, insn, 16)
    return load(cpu, linear, 8), load(cpu, linear + 8, 8)


def invept(cpu: Cpu, insn: Any) -> None:
    """INVEPT: drop translations by EP4TA."""
    if not extension(cpu).can("INVEPT"):
        raise Fault(Vector.UD)
    vmx = gate(cpu, insn, ExitReason.INVEPT)
    size = 64 if cpu.mode.bits == 64 else 32
    kind = get_register(cpu, register_number(insn, 0), size)
    name = INVEPT_TYPES.get(kind)
    if name is None or not vmx.can(name):
        vmx.fail(Error.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    pointed, _ = descriptor(cpu, insn)
    if kind == SINGLE_CONTEXT and not vmx.is_valid_eptp(pointed):
        vmx.fail(Error.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    vmx.translations.drop()
    succeed(cpu)


def invvpid(cpu: Cpu, insn: Any) -> None:
    """INVVPID: drop translations by VPID."""
    if not extension(cpu).can("INVVPID"):
        raise Fault(Vector.UD)
    vmx = gate(cpu, insn, ExitReason.INVVPID)
    size = 64 if cpu.mode.bits == 64 else 32
    kind = get_register(cpu, register_number(insn, 0), size)
    name = INVVPID_TYPES.get(kind)
    if name is None or not vmx.can(name):
        vmx.fail(Error.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    low, linear = descriptor(cpu, insn)
    vpid = low & 0xFFFF
    bad = low >> 16 or (kind != ALL_CONTEXTS and not vpid)
    if bad or (kind == 0 and not is_canonical(cpu, linear)):
        vmx.fail(Error.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return
    vmx.translations.drop(None if kind == ALL_CONTEXTS else vpid)
    succeed(cpu)


TABLE: Final[dict[str, Callable[[Cpu, Any], None]]] = {
    "VMXON": vmxon,
    "VMXOFF": vmxoff,
    "VMCLEAR": vmclear,
    "VMPTRLD": vmptrld,
    "VMPTRST": vmptrst,
    "VMREAD": vmread,
    "VMWRITE": vmwrite,
    "VMLAUNCH": vmlaunch,
    "VMRESUME": vmlaunch,
    "VMCALL": vmcall,
    "VMFUNC": vmfunc,
    "INVEPT": invept,
    "INVVPID": invvpid,
}
