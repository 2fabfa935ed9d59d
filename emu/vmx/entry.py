"""VM entry: checks, loading of guest state and MSRs, event injection. SDM Vol. 3, VM Entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.errors import GuestExit
from emu.cpu.flags import VM
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.paging import CR0_CD, CR0_ET, CR0_NW, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME
from emu.cpu.state import MOV_SS, SS, STI, WORD
from emu.cpu.system.events import deliver_event
from emu.vmx import exits, msr_areas
from emu.vmx.bits import BLOCKING, ENTRY, P1, P2
from emu.vmx.region import INDEX, NO_VMCS
from emu.vmx.state_map import GUEST_TRANSFER, PDPTE_TRANSFER
from vmcs.check_programs import Program, first_stop
from vmcs.vmx.exit_qualification import InvalidGuestState
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.field_formats import ActivityState, EventType
from vmcs.vmx.instruction_errors import InstructionError

if TYPE_CHECKING:
    from emu.vmx.extension import Vmx

VALID, DELIVER_CODE = 1 << 31, 1 << 11
DEBUGCTL, PAT = 0x1D9, 0x277
DR7_FIXED, DR7_KNOWN = 0x400, 0xFFFF_2BFF
CR0_KEPT: Final = CR0_CD | CR0_NW | 0x1FFA_FFC0  # the last are reserved
PENDING_BREAKPOINTS, PENDING_ENABLED, PENDING_STEP = 0xF, 1 << 12, 1 << 14

ENTRY_CONTROLS = INDEX["VM_ENTRY_CONTROLS"]
PROC = INDEX["CPU_BASED_VM_EXEC_CONTROL"]
PROC2 = INDEX["SECONDARY_VM_EXEC_CONTROL"]
CR0, CR4, CR3 = INDEX["GUEST_CR0"], INDEX["GUEST_CR4"], INDEX["GUEST_CR3"]
EFER = INDEX["GUEST_IA32_EFER"]
RFLAGS = INDEX["GUEST_RFLAGS"]
INJECTED = INDEX["VM_ENTRY_INTR_INFO_FIELD"]
LINK = INDEX["VMCS_LINK_POINTER"]
INTERRUPTIBILITY = INDEX["GUEST_INTERRUPTIBILITY_INFO"]
ACTIVITY = INDEX["GUEST_ACTIVITY_STATE"]
PENDING_DEBUG = INDEX["GUEST_PENDING_DBG_EXCEPTIONS"]

# rows of the guest-state checks whose failure has a qualification of its own
QUALIFIED: Final = {
    "guest_injected_nmi_excludes_sti": InvalidGuestState.NMI_BLOCKED_BY_STI,
    "vmcs_link_pointer_address": InvalidGuestState.VMCS_LINK_POINTER,
    "vmcs_link_revision": InvalidGuestState.VMCS_LINK_POINTER,
    "vmcs_link_is_shadow": InvalidGuestState.VMCS_LINK_POINTER,
    "vmcs_link_is_ordinary": InvalidGuestState.VMCS_LINK_POINTER,
    "vmcs_link_not_current": InvalidGuestState.VMCS_LINK_POINTER,
    **{
        f"{place}_pdpte{i}_reserved": InvalidGuestState.PDPTE
        for place in ("guest", "memory")
        for i in range(4)
    },
}


def enter(vmx: Vmx) -> InstructionError | None:
    """VM entry with the current VMCS; the error with which the instruction fails, if it does.

    A failure after that exits to the host. On return `cpu.next_rip` is where to go on.
    """
    cpu, checks = vmx.cpu, vmx.checks
    prepare(vmx)
    if failing(vmx, checks.controls) is not None:
        return InstructionError.ENTRY_INVALID_CONTROL_FIELD
    if failing(vmx, checks.host) is not None:
        return InstructionError.ENTRY_INVALID_HOST_STATE_FIELD
    row = failing(vmx, checks.guest)
    if row is not None:
        cause = QUALIFIED.get(row, InvalidGuestState.OTHER)
        exits.fail_entry(vmx, ExitReason.INVALID_GUEST_STATE, int(cause))
        return None
    load_guest(vmx)
    count = vmx["VM_ENTRY_MSR_LOAD_COUNT"]
    failed = msr_areas.load_area(cpu, vmx["VM_ENTRY_MSR_LOAD_ADDR"], count) if count else 0
    if failed:
        exits.fail_entry(vmx, ExitReason.MSR_LOADING, failed)
        return None
    begin(vmx)
    return None


def failing(vmx: Vmx, program: Program) -> str | None:
    """The name of the first check that fails."""
    stop: int = first_stop(program.code, vmx.words, vmx.met)
    return None if stop == len(program.rows) else program.rows[stop].name


def prepare(vmx: Vmx) -> None:
    """What processor and memory contribute to the checks of this entry."""
    fields, state = vmx.fields, vmx.cpu.state
    vmx.put("CURRENT_EFER", int(state.efer))
    vmx.put("CURRENT_VMCS", vmx.current)
    if fields[PROC] & P1.USE_TPR_SHADOW:
        page = vmx["VIRTUAL_APIC_PAGE_ADDR"] & int(state.physical_mask) & ~0xFFF
        vmx.put("VIRTUAL_TPR", vmx.cpu.memory.read(page + 0x80, 1)[0] >> 4)
    link = fields[LINK]
    if link != NO_VMCS and not link & (WORD ^ int(state.physical_mask) | 0xFFF):
        word = bytes(vmx.cpu.memory.read(link, 4))
        vmx.put("LINK_FIRST_WORD", int.from_bytes(word, "little"))
    if uses_pae(vmx) and not vmx.enables(P2.ENABLE_EPT):
        data = bytes(vmx.cpu.memory.read(fields[CR3] & 0xFFFF_FFE0, 32))
        for i in range(4):
            vmx.put(f"PDPTE{i}", int.from_bytes(data[8 * i : 8 * i + 8], "little"))


def uses_pae(vmx: Vmx) -> bool:
    """Whether the guest will use PAE paging."""
    fields = vmx.fields
    paging = fields[CR0] & CR0_PG and fields[CR4] & CR4_PAE
    return bool(paging and not fields[ENTRY_CONTROLS] & ENTRY.IA32E_MODE_GUEST)


def load_guest(vmx: Vmx) -> None:
    """Load registers and MSRs of the guest. SDM Vol. 3, Loading Guest State."""
    cpu, fields = vmx.cpu, vmx.fields
    state, controls = cpu.state, fields[ENTRY_CONTROLS]
    GUEST_TRANSFER.load(vmx)
    state.cr0 = fields[CR0] & ~CR0_KEPT | int(state.cr0) & CR0_KEPT | CR0_ET
    state.cr4 = fields[CR4]
    load_efer(vmx, controls)
    if controls & ENTRY.LOAD_DEBUG_CONTROLS:
        state.dr[7] = vmx["GUEST_DR7"] & DR7_KNOWN | DR7_FIXED
        cpu.msrs[DEBUGCTL] = vmx["GUEST_IA32_DEBUGCTL"]
    if controls & ENTRY.LOAD_IA32_PAT:
        cpu.msrs[PAT] = vmx["GUEST_IA32_PAT"]
    flags = fields[RFLAGS]
    cpu.rflags = flags
    state.cpl = 3 if flags & VM else int(state.segment_rights[SS]) >> 5 & 3
    if uses_pae(vmx):
        if vmx.enables(P2.ENABLE_EPT):
            PDPTE_TRANSFER.load(vmx)
        else:
            for i in range(4):
                state.pdpte[i] = vmx.fields[vmx.checks.index(f"PDPTE{i}")]


def load_efer(vmx: Vmx, controls: int) -> None:
    """IA32_EFER: from its field, or LMA (and with paging LME) as the entry control says."""
    state = vmx.cpu.state
    if controls & ENTRY.LOAD_IA32_EFER:
        state.efer = vmx.fields[EFER]
        return
    bits = EFER_LMA | (EFER_LME if vmx.fields[CR0] & CR0_PG else 0)
    long = controls & ENTRY.IA32E_MODE_GUEST
    state.efer = int(state.efer) & ~bits | (bits if long else 0)


def begin(vmx: Vmx) -> None:
    """Enter VMX non-root operation: non-register state, translations, the event to inject."""
    cpu, fields = vmx.cpu, vmx.fields
    state = cpu.state
    guest = vmx.non_root
    vmx.guest = cpu.guest = guest
    state.vmcs_words = 0
    guest.begin()
    blocking = fields[INTERRUPTIBILITY]
    cpu.inhibits = 0
    if blocking & BLOCKING.BLOCKING_BY_STI:
        cpu.inhibits = STI
    elif blocking & BLOCKING.BLOCKING_BY_MOV_SS:
        cpu.inhibits = MOV_SS
    cpu.nmi_blocked = bool(blocking & BLOCKING.BLOCKING_BY_NMI)
    pending = fields[PENDING_DEBUG]
    cpu.debug_causes = pending & PENDING_STEP
    if pending & PENDING_ENABLED:
        cpu.debug_causes |= pending & PENDING_BREAKPOINTS
    activity = fields[ACTIVITY]
    cpu.halted = activity in (ActivityState.HLT, ActivityState.SHUTDOWN)
    cpu.waits_for_sipi = activity == ActivityState.WAIT_FOR_SIPI
    cpu.refresh()
    cpu.next_rip = int(state.rip)
    if fields[INJECTED] & VALID:
        inject(vmx, fields[INJECTED])
        cpu.next_rip = int(state.rip)
    cpu.update_pending()


def inject(vmx: Vmx, information: int) -> None:
    """Deliver an event. SDM Vol. 3, Event Injection."""
    cpu = vmx.cpu
    kind, vector = information >> 8 & 7, information & 0xFF
    if kind == EventType.OTHER_EVENT:
        vmx.non_root.step_due = True
        return
    cpu.inhibits = 0
    if kind == EventType.NMI:
        cpu.nmi_blocked = True
    error = vmx["VM_ENTRY_EXCEPTION_ERROR_CODE"] if information & DELIVER_CODE else None
    length = 0
    if kind in (4, 5, 6):
        length = vmx["VM_ENTRY_INSTRUCTION_LEN"]
    event = Event(EventKind(kind), vector, error, length, injected=True)
    vmx.non_root.step_due = True
    start = int(cpu.state.rip)
    cpu.state.rip = start + length & int(cpu.state.ip_mask)
    try:
        deliver_event(cpu, event)
    except GuestExit:
        cpu.state.rip = start
        raise
