"""EPT as the guest's exits show it: violations, #VE, the page-modification log, EPTP switching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu import second_level as levels
from emu.cpu.errors import Fault
from emu.cpu.guest_mode import SecondLevelFault
from emu.cpu.paging import CR0_PE
from emu.cpu.state import Vector
from emu.vmx.bits import P2
from vmcs.vmx.exit_qualification import EPT_VIOLATION
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.field_formats import EPTP

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx
    from emu.vmx.guest import NonRoot

LAST_INDEX: Final = 511  # of the page-modification log and of the EPTP list
PAGE = ~0xFFF
BUSY: Final = 0xFFFF_FFFF
VE_BUSY, VE_SIZE = 4, 34


def second_level(vmx: Vmx, proc2: int) -> int:
    """The EPT in force, as `emu.cpu.second_level` wants it; 0 without EPT."""
    if not proc2 & P2.ENABLE_EPT:
        return 0
    return flags(vmx, proc2, vmx["EPT_POINTER"])


def flags(vmx: Vmx, proc2: int, pointer: int) -> int:
    """An EPT pointer and the controls that change what entries mean."""
    value = levels.EPT | EPTP.get(pointer, "ADDRESS") << 12
    for condition, flag in (
        (EPTP.get(pointer, "WALK_LENGTH_MINUS_1") == 4, levels.FIVE_LEVELS),
        (EPTP.get(pointer, "ACCESSED_DIRTY"), levels.DIRTY_FLAGS),
        (proc2 & P2.MODE_BASED_EXECUTE_CONTROL, levels.USER_EXECUTE),
        (proc2 & P2.ENABLE_PML, levels.LOG_DIRTY),
        (vmx.can("EXECUTE_ONLY"), levels.EXECUTE_ONLY),
        (vmx.can("PAGE_1G"), levels.GIANT_PAGES),
    ):
        if condition:
            value |= flag
    return value


def refused(guest: NonRoot, fault: SecondLevelFault) -> None:
    """What EPT refused: an exit, an exception, or an entry of the log and another try."""
    if fault.kind == levels.LOG:
        log(guest, fault)
    elif fault.kind == levels.MISCONFIGURATION:
        guest.exit(ExitReason.EPT_MISCONFIGURATION, physical=fault.gpa)
    elif is_convertible(guest, fault):
        convert(guest, fault)
    else:
        linear = None if fault.access & levels.NO_LINEAR else fault.linear
        guest.exit(
            ExitReason.EPT_VIOLATION, qualification(guest, fault), linear=linear, physical=fault.gpa
        )


def qualification(guest: NonRoot, fault: SecondLevelFault) -> int:
    """The exit qualification of an EPT violation."""
    access, rights = fault.access, fault.rights
    in_walk = bool(access & levels.IN_WALK)
    fetches = bool(access & levels.FETCH) and not in_walk
    # with accessed and dirty flags, the guest's paging structures are read and written
    updates = in_walk and bool(guest.cpu.state.second_level & levels.DIRTY_FLAGS)
    writes = bool(access & levels.WRITE) or updates
    reads = not fetches and (not access & levels.WRITE or updates)
    linear = not access & levels.NO_LINEAR
    return EPT_VIOLATION.word(
        DATA_READ=int(reads),
        DATA_WRITE=int(writes),
        INSTRUCTION_FETCH=int(fetches),
        READABLE=rights & 1,
        WRITABLE=rights >> 1 & 1,
        EXECUTABLE=rights >> 2 & 1,
        USER_EXECUTABLE=rights >> 10 & 1,
        LINEAR_ADDRESS_VALID=int(linear),
        TRANSLATED=int(linear and not in_walk),
    )


# virtualization exceptions


def is_convertible(guest: NonRoot, fault: SecondLevelFault) -> bool:
    """Whether a violation becomes #VE. SDM Vol. 3, Convertible EPT Violations."""
    cpu = guest.cpu
    if not guest.proc2 & P2.EPT_VIOLATION_VE or fault.rights & levels.SUPPRESS:
        return False
    if not cpu.state.cr0 & CR0_PE or cpu.delivering is not None:
        return False
    area = guest.vmx["VE_INFORMATION_ADDRESS"]
    return not int.from_bytes(cpu.memory.read(area + VE_BUSY, 4), "little")


def convert(guest: NonRoot, fault: SecondLevelFault) -> None:
    """#VE: what the exit would tell goes to the virtualization-exception information area."""
    vmx, area = guest.vmx, guest.vmx["VE_INFORMATION_ADDRESS"]
    words = (
        (int(ExitReason.EPT_VIOLATION), 4),
        (BUSY, 4),
        (qualification(guest, fault), 8),
        (fault.linear, 8),
        (fault.gpa, 8),
        (vmx["EPTP_INDEX"], 2),
    )
    guest.cpu.memory.write(area, b"".join(value.to_bytes(size, "little") for value, size in words))
    raise Fault(Vector.VE)


# page-modification logging


def log(guest: NonRoot, fault: SecondLevelFault) -> None:
    """Log a page that becomes dirty, and let it. SDM Vol. 3, Page-Modification Logging."""
    vmx, cpu = guest.vmx, guest.cpu
    index = vmx["GUEST_PML_INDEX"]
    if index > LAST_INDEX:
        guest.exit(ExitReason.PAGE_MODIFICATION_LOG_FULL)
    place = vmx["PML_ADDRESS"] + 8 * index
    cpu.memory.write(place, (fault.gpa & PAGE).to_bytes(8, "little"))
    vmx["GUEST_PML_INDEX"] = index - 1 & 0xFFFF
    state = cpu.state
    logging = int(state.second_level)
    state.second_level = logging & ~levels.LOG_DIRTY
    try:
        cpu.physical(fault.gpa, fault.access, fault.linear)
    finally:
        state.second_level = logging


# VM functions


def switch_eptp(guest: NonRoot) -> bool:
    """EPTP switching; False when it causes a VM exit instead. SDM Vol. 3, EPTP Switching."""
    vmx, cpu = guest.vmx, guest.cpu
    index = int(cpu.state.rcx) & 0xFFFF_FFFF
    if index > LAST_INDEX:
        return False
    place = vmx["EPTP_LIST_ADDRESS"] + 8 * index
    pointer = int.from_bytes(cpu.memory.read(place, 8), "little")
    if not vmx.is_valid_eptp(pointer):
        return False
    vmx["EPT_POINTER"] = pointer
    if vmx.allows(P2.EPT_VIOLATION_VE):
        vmx["EPTP_INDEX"] = index
    cpu.state.second_level = flags(vmx, guest.proc2, pointer)
    cpu.flush_tlb(cpu.tlb_context)
    return True
