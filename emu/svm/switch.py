"""The world switch: VMRUN and #VMEXIT. APM Vol. 2, VMRUN Instruction, Basic Operation; #VMEXIT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu import debug
from emu.cpu.errors import Fault, GuestExit
from emu.cpu.flags import IF, TF
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.paging import (
    CR0_PG,
    CR4_LA57,
    CR4_PAE,
    CR4_SMEP,
    EFER_LMA,
    EFER_NXE,
)
from emu.cpu.second_level import (
    FIVE_LEVELS,
    GIANT_PAGES,
    GUEST_TRAP,
    IN_WALK,
    LEGACY,
    NO_EXECUTE,
    NO_LINEAR,
    NPT,
)
from emu.cpu.state import STI, Vector
from emu.cpu.system.events import deliver, deliver_exception
from emu.cpu.system.msrs import read_msr
from emu.svm import exits, lbr
from emu.svm.compiled import transfers
from emu.svm.guest import V_NMI_ENABLE, V_NMI_MASK, Controls, SvmGuest
from emu.svm.vmcb import ControlBlock, Group
from vmcs.svm.control_bits import EVENT_INJ, IntState, MiscControl, MiscControl2, TlbControl
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.vmcb import member

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.svm.extension import Svm

PAT: Final = 0x277
CONTROL_AREA: Final = Group(
    (
        *("intercepts", "pause_filter_thresh", "pause_filter_count", "iopm_base_pa"),
        *("msrpm_base_pa", "tsc_offset", "asid", "tlb_ctl", "int_ctl", "int_vector", "int_state"),
        *("misc_ctl", "event_inj", "event_inj_err", "nested_cr3", "misc_ctl2", "next_rip"),
    )
)
EXIT: Final = Group(
    ("exit_code", "exit_info_1", "exit_info_2", "exit_int_info", "exit_int_info_err")
)
MAP_OFFSET: Final = 0xFFF  # low bits of the maps' addresses, which VMRUN ignores
WITH_INSTRUCTION: Final = frozenset((int(SvmExit.NPF), int(SvmExit.EXCP_PF)))
"""Exits for which decode assists give the bytes of the instruction."""
SHADOW: Final = int(IntState.INTERRUPT_SHADOW)
VALID, TYPE, VECTOR = EVENT_INJ["V"].mask, EVENT_INJ["TYPE"], EVENT_INJ["VECTOR"].mask
ERROR_VALID: Final = EVENT_INJ["EV"].mask
INSTRUCTION: Final = member("insn_bytes")


def vmrun(svm: Svm, block: ControlBlock) -> None:
    """Save the host, check the VMCB, load the guest, inject its event."""
    cpu = svm.cpu
    state = cpu.state
    state.rip = cpu.next_rip
    host_flags = int(state.rflags)
    if svm.monitor is None:
        transfers()["save_host"](state.address, svm.host_area.host)
        svm.host_area.written()
    svm.block = block
    broken = svm.checks.refused_by(block)
    svm.refused_by = None if broken is None else broken.name
    if broken is not None:
        EXIT.write(block.data, (SvmExit.INVALID, 0, 0, 0, 0))
        block.written()
        to_host(svm)
        cpu.next_rip = int(state.rip)
        return
    load(svm, block, host_flags)
    cpu.next_rip = int(state.rip)


def load(svm: Svm, block: ControlBlock, host_flags: int) -> None:
    """Load the guest's state and control, and enter guest mode."""
    cpu = svm.cpu
    state = cpu.state
    read = dict(zip(CONTROL_AREA.names, grouped(CONTROL_AREA.read(block.data)), strict=True))
    guest = SvmGuest(svm, block, controls_of(read), read["int_ctl"])
    guest.vector = read["int_vector"] & 0xFF
    guest.host_interrupts = bool(host_flags & IF)
    guest.host_traps = bool(host_flags & TF)
    guest.fetch_told = bool(state.efer & EFER_NXE or state.cr4 & CR4_SMEP)
    nested = read["misc_ctl"] & MiscControl.NP_ENABLE and cpu.model.has("NPT")
    second_level = nested_paging(cpu, read["nested_cr3"], read["misc_ctl"]) if nested else 0
    control_translations(svm, read["asid"], read["tlb_ctl"])
    transfers()["load_guest"](state.address, block.host)
    exchange_msrs(guest, block, bool(nested))
    state.second_level = second_level
    cpu.guest = guest
    cpu.halted, cpu.monitored, cpu.debug_causes = False, None, 0
    cpu.untraced = True
    svm.gif = True
    cpu.inhibits = STI if read["int_state"] & SHADOW else 0
    cpu.refresh()
    cpu.update_pending()
    load_pdpes(cpu)
    if read["event_inj"] & VALID:
        inject(guest, read["event_inj"], read["event_inj_err"], read["next_rip"])


def grouped(values: tuple[int, ...]) -> list[int]:
    """The members of the control area; the six words of the intercepts as one number."""
    return [sum(word << 32 * n for n, word in enumerate(values[:6])), *values[6:]]


def controls_of(read: dict[str, int]) -> Controls:
    """What does not change while the guest runs."""
    return Controls(
        read["intercepts"],
        read["pause_filter_thresh"],
        read["pause_filter_count"],
        read["iopm_base_pa"] & ~MAP_OFFSET,
        read["msrpm_base_pa"] & ~MAP_OFFSET,
        read["tsc_offset"],
        read["misc_ctl2"],
    )


def nested_paging(cpu: Cpu, root: int, misc_ctl: int) -> int:
    """The second level in force: the host's paging mode over nCR3. APM Vol. 2, Nested Paging."""
    state = cpu.state
    control = NPT | root
    if not state.efer & EFER_LMA:
        control = NPT | LEGACY | root & 0xFFFF_FFE0
    elif state.cr4 & CR4_LA57:
        control |= FIVE_LEVELS
    if state.efer & EFER_NXE:
        control |= NO_EXECUTE
    if cpu.model.has("PDPE1GB"):
        control |= GIANT_PAGES
    if misc_ctl & MiscControl.GMET_ENABLE and cpu.model.has("GMET"):
        control |= GUEST_TRAP
    return int(control)


def control_translations(svm: Svm, asid: int, tlb_ctl: int) -> None:
    """Enter the guest's address space, and flush as TLB_CONTROL says. APM Vol. 2, TLB Control."""
    cpu = svm.cpu
    cpu.space = cpu.tlb_context = svm.asids.context(asid)
    if tlb_ctl == TlbControl.FLUSH_ALL:
        svm.asids.flush_all()
    elif tlb_ctl in (TlbControl.FLUSH_GUEST, TlbControl.FLUSH_GUEST_NON_GLOBAL):
        svm.asids.flush(asid)


def exchange_msrs(guest: SvmGuest, block: ControlBlock, nested: bool) -> None:
    """PAT with nested paging, the branch records with LBR virtualization."""
    cpu, svm = guest.cpu, guest.svm
    if nested:
        guest.host_pat = read_msr(cpu, PAT)
        cpu.msrs[PAT] = block["g_pat"]
    wanted = guest.controls.misc2 & MiscControl2.LBR_VIRTUALIZATION_ENABLE
    guest.records_branches = bool(wanted) and cpu.model.has("LBRV")
    if guest.records_branches:
        lbr.save(cpu, svm.host_area)
        lbr.load(cpu, block)


def load_pdpes(cpu: Cpu) -> None:
    """The four entries of PAE paging, which VMRUN reads; a walk finds reserved bits."""
    state = cpu.state
    if not state.cr0 & CR0_PG or not state.cr4 & CR4_PAE or state.efer & EFER_LMA:
        return
    data = cpu.memory.read(cpu.physical(state.cr3 & 0xFFFF_FFE0, IN_WALK | NO_LINEAR), 32)
    for n in range(4):
        state.pdpte[n] = int.from_bytes(data[8 * n : 8 * n + 8], "little")


def inject(guest: SvmGuest, event_inj: int, error: int, next_rip: int) -> None:
    """Deliver the event of EVENTINJ. APM Vol. 2, Event Injection.

    INTn, INT3 and INTO return to nRIP where the processor has it.
    """
    cpu = guest.cpu
    state = cpu.state
    kind, vector = EventKind((event_inj & TYPE.mask) >> TYPE.low), event_inj & VECTOR
    if kind == EventKind.HARDWARE and vector in (Vector.BP, Vector.OF):
        kind = EventKind.SOFTWARE_EXCEPTION
    if kind == EventKind.NMI:
        block_nmis(guest)
    event = Event(kind, vector, error if event_inj & ERROR_VALID else None)
    rip = int(state.rip)
    if kind >= EventKind.SOFTWARE and cpu.model.has("NRIPS"):
        state.rip = next_rip
    try:
        deliver(cpu, event)
    except Fault as fault:
        state.rip = rip
        deliver_exception(cpu, fault)
    except GuestExit:
        state.rip = rip
        raise


def block_nmis(guest: SvmGuest) -> None:
    """An NMI is injected: the next ones wait for IRET."""
    if guest.int_ctl & V_NMI_ENABLE:
        guest.int_ctl |= V_NMI_MASK
    else:
        guest.cpu.nmi_blocked = True


def vmexit(svm: Svm, guest: SvmGuest) -> None:
    """Save the guest with the reason of its exit, and load the host."""
    cpu, block = svm.cpu, guest.block
    code, info1, info2 = guest.exit
    delivering = cpu.delivering if code in exits.DURING_DELIVERY else None
    transfers()["save_guest"](cpu.state.address, block.host)
    vectoring = (0, 0) if delivering is None else exits.interrupted(delivering)
    EXIT.write(block.data, (code, info1, info2, *vectoring))
    block["int_ctl"] = guest.int_ctl
    block["int_state"] = SHADOW if cpu.shadow_active() else 0
    block["event_inj"] &= ~VALID
    if cpu.model.has("NRIPS"):
        block["next_rip"] = cpu.next_rip if code in exits.SAVING_NEXT_RIP else 0
    if svm.decode_assists:
        save_instruction(cpu, block, code in WITH_INSTRUCTION)
    if guest.records_branches:
        lbr.save(cpu, block)
    if guest.host_pat is not None:
        block["g_pat"] = cpu.msrs[PAT]
    block.written()
    to_host(svm)


def save_instruction(cpu: Cpu, block: ControlBlock, wanted: bool) -> None:
    """The bytes of the instruction that faulted on data. APM Vol. 2, Decode Assists."""
    data = cpu.fetched() if wanted else b""
    block["insn_len"] = len(data)
    if data:
        place = INSTRUCTION.offset
        block.data[place : place + len(data)] = data


def to_host(svm: Svm) -> None:
    """Leave guest mode; the host goes on after its VMRUN, with GIF clear."""
    cpu = svm.cpu
    guest = cpu.guest
    to_host_mode(svm)
    svm.set_gif(False)
    if svm.monitor is not None:
        svm.monitor.exited(svm)
        return
    transfers()["load_host"](cpu.state.address, svm.host_area.host)
    cpu.refresh()
    load_pdpes(cpu)
    if isinstance(guest, SvmGuest) and guest.host_traps:
        cpu.debug_causes |= debug.SINGLE_STEP


def to_host_mode(svm: Svm) -> None:
    """The processor is no longer in guest mode; MSRs are the host's again."""
    cpu = svm.cpu
    guest = cpu.guest
    if isinstance(guest, SvmGuest):
        if guest.records_branches:
            lbr.load(cpu, svm.host_area)
        if guest.host_pat is not None:
            cpu.msrs[PAT] = guest.host_pat
    cpu.guest = None
    cpu.space = cpu.tlb_context = 0
    cpu.state.second_level = 0
    cpu.halted, cpu.debug_causes = False, 0
