"""The world switch: VMRUN and #VMEXIT. APM Vol. 2, VMRUN Instruction, Basic Operation; #VMEXIT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu import debug
from emu.cpu.errors import Fault, GuestExit
from emu.cpu.flags import IF, TF
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.paging import CR0_PG, CR4_PAE, CR4_SMEP, EFER_LMA, EFER_NXE
from emu.cpu.second_level import IN_WALK, NO_LINEAR
from emu.cpu.state import STI, Vector
from emu.cpu.system.events import deliver, deliver_exception
from emu.svm import exits, lbr
from emu.svm.compiled import transfers
from emu.svm.guest import V_NMI_ENABLE, V_NMI_MASK, SvmGuest
from emu.svm.plan import Plan, key_of, plan_of
from emu.svm.vmcb import ControlBlock
from vmcs.svm.control_bits import EVENT_INJ, TlbControl
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.vmcb import member

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.svm.extension import Svm

PAT, PAT_RESET = 0x277, 0x0007_0406_0007_0406
INVALID: Final = int(SvmExit.INVALID)
WITH_INSTRUCTION: Final = frozenset((int(SvmExit.NPF), int(SvmExit.EXCP_PF)))
"""Exits for which decode assists give the bytes of the instruction."""
INSTRUCTION: Final = member("insn_bytes")
FLUSH_ALL: Final = int(TlbControl.FLUSH_ALL)
FLUSH_GUEST: Final = (int(TlbControl.FLUSH_GUEST), int(TlbControl.FLUSH_GUEST_NON_GLOBAL))
VALID, TYPE, VECTOR = EVENT_INJ["V"].mask, EVENT_INJ["TYPE"], EVENT_INJ["VECTOR"].mask
ERROR_VALID: Final = EVENT_INJ["EV"].mask
PLANS: Final = 256  # kept by a processor


def vmrun(svm: Svm, block: ControlBlock) -> None:
    """Save the host, check the VMCB, load the guest, inject its event."""
    cpu = svm.cpu
    state = cpu.state
    state.rip = cpu.next_rip
    if svm.monitor is None:
        transfers()["save_host"](state.address, svm.host_area.host)
        svm.host_area.written()
    svm.block = block
    plan = planned(svm, block)
    if plan is None:
        refuse(svm, block)
    else:
        load(svm, block, plan)
    cpu.next_rip = int(state.rip)


def planned(svm: Svm, block: ControlBlock) -> Plan | None:
    """What VMRUN will do with a VMCB; None when a check fails. Equal control areas pass once."""
    key = key_of(svm.cpu, block)
    plan = svm.plans.get(key)
    if plan is not None:
        svm.refused_by = None
        return plan
    broken = svm.checks.refused_by(block)
    svm.refused_by = None if broken is None else broken.name
    if broken is not None:
        return None
    plan = plan_of(svm.cpu, block)
    if not svm.checks.reads_pdpes_of(block):
        if len(svm.plans) >= PLANS:
            svm.plans.clear()
        svm.plans[key] = plan
    return plan


def refuse(svm: Svm, block: ControlBlock) -> None:
    """#VMEXIT with VMEXIT_INVALID: no guest has run."""
    int_ctl, int_state, next_rip = block["int_ctl"], block["int_state"], block["next_rip"]
    transfers()["save_exit"](
        svm.cpu.state.address, block.host, INVALID, 0, 0, 0, int_ctl, int_state, next_rip
    )
    block.written()
    to_host(svm)


def load(svm: Svm, block: ControlBlock, plan: Plan) -> None:
    """Load the guest's state and control, and enter guest mode."""
    cpu = svm.cpu
    state = cpu.state
    guest = SvmGuest(svm, block, plan)
    flags = state.rflags
    guest.host_interrupts, guest.host_traps = bool(flags & IF), bool(flags & TF)
    guest.fetch_told = bool(state.efer & EFER_NXE or state.cr4 & CR4_SMEP)
    control_translations(svm, plan)
    transfers()["load_guest"](state.address, block.host)
    exchange_msrs(guest)
    state.second_level = plan.second_level
    cpu.guest = guest
    cpu.halted, cpu.monitored, cpu.debug_causes = False, None, 0
    cpu.untraced = True
    svm.gif = True
    cpu.inhibits = STI if plan.shadow else 0
    cpu.refresh()
    cpu.update_pending()
    load_pdpes(cpu)
    if plan.event_inj & VALID:
        inject(guest, plan.event_inj, plan.event_error, block["next_rip"])


def control_translations(svm: Svm, plan: Plan) -> None:
    """Enter the guest's address space, and flush as TLB_CONTROL says. APM Vol. 2, TLB Control."""
    cpu = svm.cpu
    cpu.space = cpu.tlb_context = svm.asids.context(plan.asid)
    if plan.tlb_ctl == FLUSH_ALL:
        svm.asids.flush_all()
    elif plan.tlb_ctl in FLUSH_GUEST:
        svm.asids.flush(plan.asid)


def exchange_msrs(guest: SvmGuest) -> None:
    """PAT with nested paging, the branch records with LBR virtualization."""
    cpu, block = guest.cpu, guest.block
    if guest.plan.second_level:
        guest.host_pat = cpu.msrs.get(PAT, PAT_RESET)
        cpu.msrs[PAT] = block["g_pat"]
    if guest.plan.records_branches:
        lbr.save(cpu, guest.svm.host_area)
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
    vectoring = 0 if delivering is None else exits.interrupted(delivering)
    next_rip = cpu.next_rip if svm.next_rips and code in exits.SAVING_NEXT_RIP else 0
    shadow = int(cpu.shadow_active())
    call, address = transfers(), cpu.state.address
    call["save_exit"](
        address, block.host, code, info1, info2, vectoring, guest.int_ctl, shadow, next_rip
    )
    if svm.decode_assists:
        save_instruction(cpu, block, code in WITH_INSTRUCTION)
    call["save_guest"](address, block.host)
    if guest.plan.records_branches:
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
    svm.gif = False
    if svm.monitor is not None:
        cpu.update_pending()
        svm.monitor.exited(svm)
        return
    transfers()["load_host"](cpu.state.address, svm.host_area.host)
    cpu.refresh()
    cpu.update_pending()
    load_pdpes(cpu)
    if isinstance(guest, SvmGuest) and guest.host_traps:
        cpu.debug_causes |= debug.SINGLE_STEP


def to_host_mode(svm: Svm) -> None:
    """The processor is no longer in guest mode; MSRs are the host's again."""
    cpu = svm.cpu
    guest = cpu.guest
    if isinstance(guest, SvmGuest):
        if guest.plan.records_branches:
            lbr.load(cpu, svm.host_area)
        if guest.host_pat is not None:
            cpu.msrs[PAT] = guest.host_pat
    cpu.guest = None
    cpu.space = cpu.tlb_context = 0
    cpu.state.second_level = 0
    cpu.halted, cpu.debug_causes = False, 0
