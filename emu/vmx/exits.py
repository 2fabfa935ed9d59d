"""VM exits: recording, saving of guest state, loading of host state. SDM Vol. 3, VM Exits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.cpu.errors import TripleFault
from emu.cpu.flags import RF
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.paging import (
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PG,
    CR4_PAE,
    CR4_PCIDE,
    EFER_LMA,
    EFER_LME,
)
from emu.cpu.segments import UNUSABLE
from emu.cpu.state import CS, LDTR, MOV_SS, SS, STI, TR, WORD, Vector
from emu.vmx import msr_areas
from emu.vmx.bits import BLOCKING, ENTRY, EXIT, P2, PIN
from emu.vmx.region import INDEX
from emu.vmx.state_map import GUEST_TRANSFER, HOST_TRANSFER, PDPTE_TRANSFER
from vmcs.vmx.exit_reasons import EXIT_REASON, ExitReason
from vmcs.vmx.field_formats import ActivityState, VmxAbort

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

VALID, ERROR_VALID = 1 << 31, 1 << 11
ENTRY_FAILURE: Final = EXIT_REASON.word(ENTRY_FAILURE=1)
DEBUGCTL, PAT = 0x1D9, 0x277
LINEAR_SPACE = 0xFFFF_FFFF
# access rights that VM exits give the segments of the host. SDM Vol. 3, Loading Host Segment
HOST_CODE_64, HOST_CODE_32, HOST_DATA, HOST_TASK = 0xA09B, 0xC09B, 0xC093, 0x8B
CR0_KEPT: Final = CR0_CD | CR0_NW | CR0_ET | 0x1FFA_FFC0  # the last are reserved

REASON, QUALIFICATION = INDEX["VM_EXIT_REASON"], INDEX["EXIT_QUALIFICATION"]
INTERRUPTION, ERROR = INDEX["VM_EXIT_INTR_INFO"], INDEX["VM_EXIT_INTR_ERROR_CODE"]
VECTORING = INDEX["IDT_VECTORING_INFO_FIELD"]
VECTORING_ERROR = INDEX["IDT_VECTORING_ERROR_CODE"]
LENGTH, INFORMATION = INDEX["VM_EXIT_INSTRUCTION_LEN"], INDEX["VMX_INSTRUCTION_INFO"]
LINEAR, PHYSICAL = INDEX["GUEST_LINEAR_ADDRESS"], INDEX["GUEST_PHYSICAL_ADDRESS"]
INJECTED = INDEX["VM_ENTRY_INTR_INFO_FIELD"]
EXIT_CONTROLS, ENTRY_CONTROLS = INDEX["VM_EXIT_CONTROLS"], INDEX["VM_ENTRY_CONTROLS"]
CR0, CR4, RFLAGS = INDEX["GUEST_CR0"], INDEX["GUEST_CR4"], INDEX["GUEST_RFLAGS"]
SS_RIGHTS = INDEX["GUEST_SS_AR_BYTES"]
INTERRUPTIBILITY = INDEX["GUEST_INTERRUPTIBILITY_INFO"]
ACTIVITY = INDEX["GUEST_ACTIVITY_STATE"]
PENDING_DEBUG = INDEX["GUEST_PENDING_DBG_EXCEPTIONS"]
BREAKPOINTS, ENABLED, SINGLE_STEP = 0xF, 1 << 12, 1 << 14


class Record(NamedTuple):
    """Why a VM exit happens: what goes to the VM-exit information fields."""

    reason: int
    qualification: int = 0
    interruption: int = 0
    error: int = 0
    length: int | None = None
    information: int = 0
    linear: int | None = None
    physical: int | None = None
    resume_flag: int | None = None  # what RF is to be in the saved RFLAGS, where it changes


def information_of(event: Event) -> int:
    """An event as the information fields identify it."""
    code = ERROR_VALID if event.error is not None else 0
    return VALID | code | event.kind << 8 | event.vector


def write_record(vmx: Vmx, record: Record) -> None:
    """The VM-exit information fields. SDM Vol. 3, Recording VM-Exit Information."""
    fields, delivering = vmx.fields, vmx.cpu.delivering
    fields[REASON] = record.reason
    fields[QUALIFICATION] = record.qualification & WORD
    fields[INTERRUPTION] = record.interruption
    fields[ERROR] = record.error
    fields[INFORMATION] = record.information
    fields[INJECTED] = fields[INJECTED] & ~VALID
    length = record.length
    # an event that led to a double fault or a triple fault is none that was in delivery
    hidden = record.interruption & 0x7FF == EventKind.HARDWARE << 8 | Vector.DF
    if delivering is None or hidden or record.reason == ExitReason.TRIPLE_FAULT:
        fields[VECTORING] = 0
    else:
        fields[VECTORING] = information_of(delivering)
        if delivering.error is not None:
            fields[VECTORING_ERROR] = delivering.error
        if length is None and delivering.length:
            length = delivering.length
    fields[LENGTH] = length or 0
    if record.linear is not None:
        fields[LINEAR] = record.linear
    if record.physical is not None:
        fields[PHYSICAL] = record.physical


def leave(vmx: Vmx, record: Record) -> None:
    """A VM exit."""
    cpu = vmx.cpu
    write_record(vmx, record)
    save_guest(vmx, record)
    vmx.non_root.end()
    virtual_nmis = vmx["PIN_BASED_VM_EXEC_CONTROL"] & PIN.VIRTUAL_NMIS
    by_nmi = record.interruption & (VALID | 0x700) == VALID | EventKind.NMI << 8
    cpu.nmi_blocked = by_nmi or (cpu.nmi_blocked and not virtual_nmis)
    count = vmx["VM_EXIT_MSR_STORE_COUNT"]
    if count and msr_areas.store_area(cpu, vmx["VM_EXIT_MSR_STORE_ADDR"], count):
        abort(vmx, VmxAbort.SAVING_GUEST_MSRS)
    leave_non_root(vmx)
    if vmx.monitor is not None:
        vmx.monitor.exited(vmx)
    else:
        load_host(vmx)


def fail_entry(vmx: Vmx, reason: ExitReason, qualification: int) -> None:
    """A VM entry that fails after its checks of controls and host state.

    SDM Vol. 3, VM-Entry Failures During or After Loading Guest State.
    """
    fields = vmx.fields
    fields[REASON] = ENTRY_FAILURE | reason
    fields[QUALIFICATION] = qualification
    if vmx.monitor is not None:
        vmx.monitor.exited(vmx)
        return
    load_host(vmx)
    vmx.cpu.next_rip = int(vmx.cpu.state.rip)
    vmx.cpu.inhibits = 0


# saving


def save_guest(vmx: Vmx, record: Record) -> None:
    """Save the guest's state. SDM Vol. 3, Saving Guest State."""
    cpu, fields = vmx.cpu, vmx.fields
    state, controls = cpu.state, fields[EXIT_CONTROLS]
    GUEST_TRANSFER.save(vmx)
    fields[SS_RIGHTS] = fields[SS_RIGHTS] & ~0x60 | int(state.cpl) << 5
    fields[CR0], fields[CR4] = int(state.cr0), int(state.cr4)
    flags = cpu.rflags
    if record.resume_flag is not None:
        flags = flags & ~RF | (RF if record.resume_flag else 0)
    fields[RFLAGS] = flags
    if controls & EXIT.SAVE_DEBUG_CONTROLS:
        vmx["GUEST_DR7"] = int(state.dr[7])
        vmx["GUEST_IA32_DEBUGCTL"] = cpu.msrs.get(DEBUGCTL, 0)
    if controls & EXIT.SAVE_IA32_PAT:
        vmx["GUEST_IA32_PAT"] = cpu.msrs.get(PAT, 0x0007_0406_0007_0406)
    if controls & EXIT.SAVE_IA32_EFER:
        vmx["GUEST_IA32_EFER"] = int(state.efer)
    if vmx.allows(P2.UNRESTRICTED_GUEST):
        long = ENTRY.IA32E_MODE_GUEST if state.efer & EFER_LMA else 0
        fields[ENTRY_CONTROLS] = fields[ENTRY_CONTROLS] & ~ENTRY.IA32E_MODE_GUEST | long
    if vmx.enables(P2.ENABLE_EPT) and pae_paging(cpu.state):
        PDPTE_TRANSFER.save(vmx)
    save_non_register(vmx)


def pae_paging(state: object) -> bool:
    """Whether the processor uses PAE paging."""
    cr0, cr4, efer = (int(getattr(state, name)) for name in ("cr0", "cr4", "efer"))
    return bool(cr0 & CR0_PG and cr4 & CR4_PAE and not efer & EFER_LMA)


def save_non_register(vmx: Vmx) -> None:
    """Activity and interruptibility state, pending debug exceptions."""
    cpu, fields = vmx.cpu, vmx.fields
    shadow = cpu.shadow_kind()
    blocking = BLOCKING.BLOCKING_BY_STI if shadow == STI else 0
    if shadow == MOV_SS:
        blocking = BLOCKING.BLOCKING_BY_MOV_SS
    if cpu.nmi_blocked:
        blocking |= BLOCKING.BLOCKING_BY_NMI
    fields[INTERRUPTIBILITY] = int(blocking)
    activity = ActivityState.ACTIVE
    if cpu.waits_for_sipi:
        activity = ActivityState.WAIT_FOR_SIPI
    elif cpu.halted and cpu.delivering is None:
        activity = vmx.non_root.inactive
    fields[ACTIVITY] = int(activity)
    causes = cpu.debug_causes
    pending = causes & (BREAKPOINTS | SINGLE_STEP)
    fields[PENDING_DEBUG] = pending | (ENABLED if causes & BREAKPOINTS else 0)
    cpu.debug_causes = 0


# loading


def leave_non_root(vmx: Vmx) -> None:
    """The processor is in VMX root operation again; its translations are those of the root."""
    cpu = vmx.cpu
    vmx.guest = cpu.guest = None
    vmx.set_current(vmx.current)
    cpu.halted = cpu.waits_for_sipi = False
    cpu.sipi_pending = None
    cpu.delivering = None
    cpu.debug_causes = 0
    cpu.monitored = None
    vmx.translations.leave()


def load_host(vmx: Vmx) -> None:
    """Load the host's state. SDM Vol. 3, Loading Host State."""
    cpu, fields = vmx.cpu, vmx.fields
    state, controls = cpu.state, fields[EXIT_CONTROLS]
    long = bool(controls & EXIT.HOST_ADDRESS_SPACE_SIZE)
    if not long and state.efer & EFER_LMA and state.rip >> 32:
        abort(vmx, VmxAbort.HOST_NOT_64_BIT)
    HOST_TRANSFER.load(vmx)
    state.cr0 = vmx["HOST_CR0"] & ~CR0_KEPT | int(state.cr0) & CR0_KEPT
    cr4 = vmx["HOST_CR4"]
    state.cr4 = cr4 | CR4_PAE if long else cr4 & ~CR4_PCIDE
    state.dr[7] = 0x400
    cpu.msrs[DEBUGCTL] = 0
    if controls & EXIT.LOAD_IA32_EFER:
        state.efer = vmx["HOST_IA32_EFER"]
    else:
        bits = EFER_LMA | EFER_LME
        state.efer = int(state.efer) & ~bits | (bits if long else 0)
    if controls & EXIT.LOAD_IA32_PAT:
        cpu.msrs[PAT] = vmx["HOST_IA32_PAT"]
    load_host_segments(state, long)
    state.gdtr_limit = state.idtr_limit = 0xFFFF
    cpu.rflags = 2
    state.cpl = 0
    state.shadow_budget = WORD
    if pae_paging(state) and not load_host_pdptes(vmx):
        abort(vmx, VmxAbort.HOST_PDPTES)
    count = vmx["VM_EXIT_MSR_LOAD_COUNT"]
    if count and msr_areas.load_area(cpu, vmx["VM_EXIT_MSR_LOAD_ADDR"], count):
        abort(vmx, VmxAbort.LOADING_HOST_MSRS)
    cpu.refresh()
    cpu.update_pending()


def load_host_segments(state: object, long: bool) -> None:
    """Bases, limits and access rights of the host's segments."""
    selector, base = state.selector, state.segment_base  # type: ignore[attr-defined]
    limit, rights = state.segment_limit, state.segment_rights  # type: ignore[attr-defined]
    for seg in (0, SS, 3, 4, 5):
        limit[seg] = LINEAR_SPACE
        rights[seg] = HOST_DATA if selector[seg] else UNUSABLE
    for seg in (0, CS, SS, 3):
        base[seg] = 0
    limit[CS], rights[CS] = LINEAR_SPACE, HOST_CODE_64 if long else HOST_CODE_32
    limit[TR], rights[TR] = 0x67, HOST_TASK
    selector[LDTR] = base[LDTR] = 0
    limit[LDTR], rights[LDTR] = LINEAR_SPACE, UNUSABLE


def load_host_pdptes(vmx: Vmx) -> bool:
    """Load the PDPTEs that HOST_CR3 points to; False when one sets reserved bits."""
    state = vmx.cpu.state
    data = bytes(vmx.cpu.memory.read(int(state.cr3) & 0xFFFF_FFE0, 32))
    reserved = vmx.fields[vmx.checks.index("PDPTE_RESERVED")]
    for i in range(4):
        entry = int.from_bytes(data[8 * i : 8 * i + 8], "little")
        if entry & 1 and entry & reserved:
            return False
        state.pdpte[i] = entry
    return True


def abort(vmx: Vmx, indicator: VmxAbort) -> None:
    """A VMX abort: the indicator goes to the region, the processor shuts down."""
    vmx.header = vmx.header[:4] + int(indicator).to_bytes(4, "little") + vmx.header[8:]
    vmx.write_back()
    vmx.guest = vmx.cpu.guest = None
    raise TripleFault
