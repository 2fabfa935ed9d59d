"""vmcs02 back into vmcs12, and L1's state after L2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.kvm.control_registers import EFER
from emu.kvm.nested_vmx.enter import EXIT, PIN, load_dr7, secondary_controls
from emu.kvm.nested_vmx.groups import FROM_VMCS02, FROM_VMCS02_RARE, GUEST_CET, PDPTRS, SHADOWED
from emu.kvm.nested_vmx.masks import Entry, Exit, PinBased, ProcBased2
from emu.kvm.nested_vmx.state import EVMCS_NONE, INVALID_GPA

if TYPE_CHECKING:
    from emu.kvm.vmx import Vmx

ALL: Final = 0xFFFF_FFFF_FFFF_FFFF
ENTRY: Final = "VM_ENTRY_CONTROLS"
LAUNCH_STATE_AT: Final = 8
ACTIVE, HLT, WAIT_FOR_SIPI = 0, 1, 3
MP_RUNNABLE, MP_INIT_RECEIVED, MP_HALTED = 0, 2, 3

# SDM, "Format of the VM-Exit Interruption-Information Field".
VALID, DELIVER_CODE, VECTOR = 1 << 31, 1 << 11, 0xFF
NMI, HARDWARE_EXCEPTION, SOFTWARE_INTERRUPT, SOFTWARE_EXCEPTION = (n << 8 for n in (2, 3, 4, 6))
NMI_VECTOR, DOUBLE_FAULT, SOFTWARE_EXCEPTIONS = 2, 8, (3, 4)
TRIPLE_FAULT, ENTRY_FAILURE = 2, 1 << 31

# SDM, "VM-Exit MSR-Store Area"; MSRs that no area may name.
MSR_ENTRY_SIZE: Final = 16
X2APIC_MSRS: Final = range(0x800, 0x900)
MSR_SMBASE: Final = 0x9E

# Access rights that a VM exit loads (SDM, "Loading Host Segment and Descriptor-Table Registers").
HOST_CODE_64, HOST_CODE_32, HOST_DATA, HOST_TASK, UNUSABLE = 0xA09B, 0xC09B, 0xC093, 0x8B, 1 << 16
FLAT: Final = 0xFFFF_FFFF
HOST_TO_GUEST: Final = (
    ("GUEST_SYSENTER_CS", "HOST_IA32_SYSENTER_CS"),
    ("GUEST_SYSENTER_ESP", "HOST_IA32_SYSENTER_ESP"),
    ("GUEST_SYSENTER_EIP", "HOST_IA32_SYSENTER_EIP"),
    ("GUEST_IDTR_BASE", "HOST_IDTR_BASE"),
    ("GUEST_GDTR_BASE", "HOST_GDTR_BASE"),
)
# Guest field, guest/host mask and read shadow of a control register.
MERGED: Final = {
    name: (f"GUEST_{name}", f"{name}_GUEST_HOST_MASK", f"{name}_READ_SHADOW")
    for name in ("CR0", "CR4")
}


def sync_rare(vmx: Vmx) -> None:
    """The fields that KVM reads back late (nested.c: sync_vmcs02_to_vmcs12_rare)."""
    nested = vmx.nested
    FROM_VMCS02_RARE.store(nested.vmcs12, nested.vmcs02)
    if vmx.mpx and vmx.does("syncs_bndcfgs"):
        nested.vmcs12["GUEST_BNDCFGS"] = nested.vmcs02["GUEST_BNDCFGS"]
    nested.owes_rare_from_vmcs02 = False


def sync_vmcs12(vmx: Vmx) -> None:
    """L2's state of now into vmcs12 (nested.c: sync_vmcs02_to_vmcs12)."""
    vcpu, nested = vmx.vcpu, vmx.nested
    vmcs12, vmcs02 = nested.vmcs12, nested.vmcs02
    nested.owes_rare_from_vmcs02 = True
    vmcs12["GUEST_CR0"] = _merged(vmx, "CR0", vcpu.cr0_guest_owned)
    vmcs12["GUEST_CR4"] = _merged(vmx, "CR4", vcpu.cr4_guest_owned)
    vmcs12["GUEST_RSP"] = vcpu.read_register("rsp")
    vmcs12["GUEST_RIP"] = vcpu.read_register("rip")
    FROM_VMCS02.store(vmcs12, vmcs02)
    state = ACTIVE
    if vcpu.mp_state == MP_HALTED:
        state = HLT
    elif vcpu.mp_state == MP_INIT_RECEIVED and vmx.does("syncs_wait_for_sipi"):
        state = WAIT_FOR_SIPI
    vmcs12["GUEST_ACTIVITY_STATE"] = state
    leave, second = vmcs12[EXIT], secondary_controls(vmcs12)
    if (
        leave & Exit.SAVE_VMX_PREEMPTION_TIMER_VALUE
        and vmcs12[PIN] & PinBased.ACTIVATE_VMX_PREEMPTION_TIMER
        and not (nested.run_pending and vmx.does("keeps_timer_while_pending"))
    ):
        vmcs12["VMX_PREEMPTION_TIMER_VALUE"] = max(nested.deadline - vmx.timer_now(), 0)
    if vmx.does("get_cancels_timer"):
        nested.timer_runs = False
    if vmx.does("syncs_pdptrs_always") or (second & ProcBased2.ENABLE_EPT and vcpu.pae_paging):
        PDPTRS.store(vmcs12, vmcs02)
    if second & ProcBased2.VIRTUAL_INTERRUPT_DELIVERY:
        vmcs12["GUEST_INTR_STATUS"] = vmcs02["GUEST_INTR_STATUS"]
    ia32e = int(Entry.IA32E_MODE_GUEST)
    vmcs12[ENTRY] = vmcs12[ENTRY] & ~ia32e | vmcs02[ENTRY] & ia32e
    if leave & Exit.SAVE_DEBUG_CONTROLS:
        vmcs12["GUEST_DR7"] = vcpu.debug.dr7
        if vmx.does("syncs_debugctl"):
            vmcs12["GUEST_IA32_DEBUGCTL"] = vmcs02["GUEST_IA32_DEBUGCTL"]
    if leave & Exit.SAVE_IA32_PAT and vmx.does("syncs_pat"):
        vmcs12["GUEST_IA32_PAT"] = vmcs02["GUEST_IA32_PAT"]
    if leave & Exit.SAVE_IA32_EFER:
        vmcs12["GUEST_IA32_EFER"] = vcpu.efer
    if vmx.cet:
        GUEST_CET.store(vmcs12, vmcs02)


def _merged(vmx: Vmx, register: str, owned: int) -> int:
    """CR0 or CR4 as L2 left it: what L2 owns, what L1 keeps, and what L0 put in the read shadow.

    Source: arch/x86/kvm/vmx/nested.c: vmcs12_guest_cr0, vmcs12_guest_cr4.
    """
    vmcs12, vmcs02 = vmx.nested.vmcs12, vmx.nested.vmcs02
    guest, mask, shadow = MERGED[register]
    of_l1 = vmcs12[mask]
    return vmcs02[guest] & owned | vmcs12[guest] & of_l1 | vmcs02[shadow] & ~(of_l1 | owned) & ALL


def sync_before_get(vmx: Vmx) -> None:
    """Bring the cached vmcs12 up to date for KVM_GET_NESTED_STATE (nested.c)."""
    nested = vmx.nested
    if nested.guest_mode:
        sync_vmcs12(vmx)
        sync_rare(vmx)
        return
    if nested.owes_rare_from_vmcs02 and vmx.does("flushes_rare_on_get"):
        sync_rare(vmx)
    if not nested.owes_vmcs12_to_shadow and vmx.shadows_vmcs:
        SHADOWED.store(nested.vmcs12, nested.shadow_vmcs)


def enter_vmx_operation(vmx: Vmx) -> None:
    """Source: arch/x86/kvm/vmx/nested.c: enter_vmx_operation."""
    nested = vmx.nested
    nested.make_regions()
    nested.vmxon = True


def leave_nested(vmx: Vmx) -> None:
    """Source: arch/x86/kvm/vmx/nested.c: vmx_leave_nested, free_nested."""
    nested = vmx.nested
    if nested.guest_mode:
        nested.run_pending = False
        leave_l2(vmx)
    if not nested.in_vmx_operation:
        return
    if vmx.does("leaving_drops_page_request"):
        nested.pages_requested = False
    nested.vmxon = nested.smm_vmxon = False
    nested.vmxon_pa = nested.vmcs12_pa = INVALID_GPA
    nested.evmcs = EVMCS_NONE
    nested.drop_regions()


class ExitInformation(NamedTuple):
    """What vmcs12 tells of an exit: basic information, the event that caused it.

    `event_length` is that of the instruction whose software event was being delivered.
    """

    reason: int
    qualification: int
    interruption: int = 0
    event_length: int = 0


def exit_to_l1(
    vmx: Vmx, reason: int, qualification: int, interruption: int = 0, event_length: int = 0
) -> None:
    """A VM exit from L2 that L1 sees (nested.c: nested_vmx_vmexit, prepare_vmcs12)."""
    leave_l2(vmx, ExitInformation(reason, qualification, interruption, event_length))
    if vmx.shadows_vmcs:
        vmx.nested.owes_vmcs12_to_shadow = True


def _record_exit(vmx: Vmx, told: ExitInformation) -> None:
    vmcs12, vmcs02 = vmx.nested.vmcs12, vmx.nested.vmcs02
    vmcs12["VM_EXIT_REASON"] = told.reason
    vmcs12["EXIT_QUALIFICATION"] = told.qualification
    if told.reason & ENTRY_FAILURE:
        return
    vmcs12.view[LAUNCH_STATE_AT : LAUNCH_STATE_AT + 4] = b"\x01\0\0\0"
    vmcs12["VM_ENTRY_INTR_INFO_FIELD"] &= ~VALID
    vmcs12["VM_EXIT_INTR_INFO"] = told.interruption
    vmcs12["VM_EXIT_INSTRUCTION_LEN"] = vmcs02["VM_EXIT_INSTRUCTION_LEN"]
    vmcs12["VMX_INSTRUCTION_INFO"] = vmcs02["VMX_INSTRUCTION_INFO"]
    _record_delivery(vmx, told)
    if not _store_msrs(vmx):
        vmx.abort()


def _store_msrs(vmx: Vmx) -> bool:
    """The VM-exit MSR-store area of L1's; False where an entry cannot be stored.

    Source: arch/x86/kvm/vmx/nested.c: nested_vmx_store_msr.
    """
    vcpu, vmcs12 = vmx.vcpu, vmx.nested.vmcs12
    for i in range(vmcs12["VM_EXIT_MSR_STORE_COUNT"]):
        gpa = vmcs12["VM_EXIT_MSR_STORE_ADDR"] + MSR_ENTRY_SIZE * i
        entry = vcpu.memory.read(gpa, 8)
        if entry is None:
            return False
        index, reserved = (int.from_bytes(entry[at : at + 4], "little") for at in (0, 4))
        if reserved or index in X2APIC_MSRS or index == MSR_SMBASE:
            return False
        values = vcpu.get_msrs((index,))
        if not values or not vcpu.memory.write(gpa + 8, values[0].to_bytes(8, "little")):
            return False
    return True


def _record_delivery(vmx: Vmx, told: ExitInformation) -> None:
    """The event that L0 or L1 was giving L2 (nested.c: vmcs12_save_pending_event)."""
    vmcs12, events = vmx.nested.vmcs12, vmx.vcpu.events
    double_fault = told.interruption & VALID and told.interruption & VECTOR == DOUBLE_FAULT
    info = 0
    if told.reason & 0xFFFF == TRIPLE_FAULT or double_fault:
        pass
    elif events.exception_injected:
        soft = events.exception_nr in SOFTWARE_EXCEPTIONS
        info = VALID | events.exception_nr | (SOFTWARE_EXCEPTION if soft else HARDWARE_EXCEPTION)
        if soft:
            vmcs12["VM_EXIT_INSTRUCTION_LEN"] = told.event_length
        if events.exception_has_error_code:
            info |= DELIVER_CODE
            vmcs12["IDT_VECTORING_ERROR_CODE"] = events.exception_error_code
    elif events.nmi_injected:
        info = VALID | NMI | NMI_VECTOR
    elif events.interrupt_injected:
        info = VALID | events.interrupt_nr
        if events.interrupt_soft:
            info |= SOFTWARE_INTERRUPT
            vmcs12["VM_ENTRY_INSTRUCTION_LEN"] = told.event_length
    vmcs12["IDT_VECTORING_INFO_FIELD"] = info


def leave_l2(vmx: Vmx, told: ExitInformation | None = None) -> None:
    """From L2 to L1; without `told`, no exit that L1 sees.

    Source: arch/x86/kvm/vmx/nested.c: nested_vmx_vmexit.
    """
    vcpu, nested = vmx.vcpu, vmx.nested
    if vmx.does("vmexit_drops_mtf"):
        nested.mtf_pending = False
    if vmx.does("vmexit_drops_page_request"):
        nested.pages_requested = False
    nested.guest_mode = nested.timer_runs = False
    sync_vmcs12(vmx)
    if told is not None:
        _record_exit(vmx, told)
    flush_shadow_vmcs12(vmx)
    vcpu.drop_injected_events()
    vmx.switch_to(vmx.vmcs01)
    vcpu.mp_state = MP_RUNNABLE
    load_host_state(vmx)


def flush_shadow_vmcs12(vmx: Vmx) -> None:
    """The cached shadow vmcs12 to guest memory (nested.c: nested_flush_cached_shadow_vmcs12)."""
    nested = vmx.nested
    link = nested.vmcs12["VMCS_LINK_POINTER"]
    if secondary_controls(nested.vmcs12) & ProcBased2.VMCS_SHADOWING and link != INVALID_GPA:
        vmx.vcpu.memory.write(link, nested.shadow_vmcs12.view)


def load_host_state(vmx: Vmx) -> None:
    """L1's registers from vmcs12's host fields (nested.c: load_vmcs12_host_state)."""
    vcpu, vmcs01, vmcs12 = vmx.vcpu, vmx.vmcs01, vmx.nested.vmcs12
    leave = vmcs12[EXIT]
    host_64 = bool(leave & Exit.HOST_ADDRESS_SPACE_SIZE)
    if leave & Exit.LOAD_IA32_EFER:
        efer = vmcs12["HOST_IA32_EFER"]
    elif host_64:
        efer = vcpu.efer | EFER.LMA | EFER.LME
    else:
        efer = vcpu.efer & ~(EFER.LMA | EFER.LME)
    vmx.set_efer(efer)
    vcpu.write_register("rsp", vmcs12["HOST_RSP"])
    vcpu.write_register("rip", vmcs12["HOST_RIP"])
    vmx.set_rflags(2)
    vmx.set_interrupt_shadow(0)
    vcpu.cr0_guest_owned = vmx.cr0_owned_by_l1
    vmx.set_cr0(vmcs12["HOST_CR0"])
    vcpu.cr4_guest_owned = ~vmcs01["CR4_GUEST_HOST_MASK"] & ALL
    vmx.set_cr4(vmcs12["HOST_CR4"])
    if not load_host_cr3(vmx, vmcs12["HOST_CR3"]):
        vmx.abort()
    for guest, host in HOST_TO_GUEST:
        vmcs01[guest] = vmcs12[host]
    vmcs01["GUEST_IDTR_LIMIT"] = vmcs01["GUEST_GDTR_LIMIT"] = 0xFFFF
    if leave & Exit.CLEAR_IA32_BNDCFGS:
        vmcs01["GUEST_BNDCFGS"] = 0
    if vmx.cet:
        source = "HOST" if leave & Exit.LOAD_CET_STATE else "GUEST"
        for name in ("S_CET", "SSP", "INTR_SSP_TABLE"):
            vmcs01[f"GUEST_{name}"] = vmcs12[f"{source}_{name}"]
    if leave & Exit.LOAD_IA32_PAT:
        vmcs01["GUEST_IA32_PAT"] = vcpu.pat = vmcs12["HOST_IA32_PAT"]
    code = HOST_CODE_64 if host_64 else HOST_CODE_32
    vmx.load_segment("CS", vmcs12["HOST_CS_SELECTOR"], 0, FLAT, code)
    vmx.load_segment("DS", vmcs12["HOST_DS_SELECTOR"], 0, FLAT, HOST_DATA)
    vmx.load_segment("ES", vmcs12["HOST_ES_SELECTOR"], 0, FLAT, HOST_DATA)
    vmx.load_segment("SS", vmcs12["HOST_SS_SELECTOR"], 0, FLAT, HOST_DATA)
    vmx.load_segment("FS", vmcs12["HOST_FS_SELECTOR"], vmcs12["HOST_FS_BASE"], FLAT, HOST_DATA)
    vmx.load_segment("GS", vmcs12["HOST_GS_SELECTOR"], vmcs12["HOST_GS_BASE"], FLAT, HOST_DATA)
    vmx.load_segment("TR", vmcs12["HOST_TR_SELECTOR"], vmcs12["HOST_TR_BASE"], 0x67, HOST_TASK)
    if vmx.does("loads_host_ldtr"):
        vmx.load_segment("LDTR", 0, 0, 0, UNUSABLE)
    load_dr7(vmx, 0x400)
    vmcs01["GUEST_IA32_DEBUGCTL"] = 0
    if vmx.load_msr_list(vmcs12["VM_EXIT_MSR_LOAD_ADDR"], vmcs12["VM_EXIT_MSR_LOAD_COUNT"]):
        vmx.abort()


def load_host_cr3(vmx: Vmx, cr3: int) -> bool:
    """Load L1's CR3; False, and CR3 as it was, where it or its PDPTEs are not valid.

    Source: arch/x86/kvm/vmx/nested.c: nested_vmx_load_cr3.
    """
    vcpu = vmx.vcpu
    if cr3 & vcpu.cr3_reserved:
        return False
    if vcpu.pae_paging and not vcpu.load_pdptrs(cr3):
        return False
    vmx.load_cr3(cr3)
    return True
