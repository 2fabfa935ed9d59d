"""Entering L2: vmcs02 made of vmcs01 and vmcs12."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.kvm.control_registers import EFER
from emu.kvm.nested_vmx.groups import (
    EOI_EXIT_BITMAPS,
    GUEST_CET,
    INJECTION,
    PAGE_FAULT_CODES,
    PDPTRS,
    TO_VMCS02_RARE,
)
from emu.kvm.nested_vmx.masks import Entry, Exit, PinBased, ProcBased, ProcBased2

if TYPE_CHECKING:
    from emu.kvm.nested_vmx.vmcs_row import VmcsRow
    from emu.kvm.vmx import Vmx

ALL: Final = 0xFFFF_FFFF_FFFF_FFFF
DR7_KEPT, DR7_FIXED = 0xFFFF_2BFF, 0x400
LONG: Final = EFER.LMA | EFER.LME

PIN, PROC, PROC2 = (
    "PIN_BASED_VM_EXEC_CONTROL",
    "CPU_BASED_VM_EXEC_CONTROL",
    "SECONDARY_VM_EXEC_CONTROL",
)
EXIT, ENTRY = "VM_EXIT_CONTROLS", "VM_ENTRY_CONTROLS"

# Controls of vmcs02 that come from vmcs12 alone (nested.c: prepare_vmcs02_early).
NOT_OF_VMCS01_PROC: Final = int(
    ProcBased.INTERRUPT_WINDOW_EXITING | ProcBased.NMI_WINDOW_EXITING | ProcBased.USE_TPR_SHADOW
)
NOT_OF_VMCS01_PROC2: Final = int(
    ProcBased2.VIRTUALIZE_APIC_ACCESSES
    | ProcBased2.VIRTUALIZE_X2APIC_MODE
    | ProcBased2.ENABLE_INVPCID
    | ProcBased2.ENABLE_RDTSCP
    | ProcBased2.ENABLE_XSAVES_XRSTORS
    | ProcBased2.ENABLE_USER_WAIT_AND_PAUSE
    | ProcBased2.VIRTUAL_INTERRUPT_DELIVERY
    | ProcBased2.APIC_REGISTER_VIRTUALIZATION
    | ProcBased2.ENABLE_VM_FUNCTIONS
    | ProcBased2.DESCRIPTOR_TABLE_EXITING
)


def secondary_controls(vmcs12: VmcsRow) -> int:
    """The secondary controls of `vmcs12`; 0 where they are not activated."""
    if vmcs12[PROC] & ProcBased.ACTIVATE_SECONDARY_CONTROLS:
        return vmcs12[PROC2]
    return 0


def l2_efer(vmx: Vmx) -> int:
    """EFER that L2 gets (nested.c: nested_vmx_calc_efer)."""
    entry = vmx.nested.vmcs12[ENTRY]
    if vmx.nested.run_pending and entry & Entry.LOAD_IA32_EFER:
        return vmx.nested.vmcs12["GUEST_IA32_EFER"]
    if entry & Entry.IA32E_MODE_GUEST:
        return vmx.vcpu.efer | LONG
    return vmx.vcpu.efer & ~LONG


def load_dr7(vmx: Vmx, value: int) -> None:
    """DR7 as kvm_set_dr loads it: nothing where the upper half is not zero."""
    if value >> 32 == 0:
        vmx.vcpu.debug = vmx.vcpu.debug.with_dr7(value & DR7_KEPT | DR7_FIXED)


def prepare_vmcs02(vmx: Vmx) -> None:
    """Switch to vmcs02 and load L2's state up to the point where KVM checks it.

    Source: arch/x86/kvm/vmx/nested.c: nested_vmx_enter_non_root_mode, prepare_vmcs02_early,
    prepare_vmcs02.
    """
    vcpu, nested = vmx.vcpu, vmx.nested
    vmcs01, vmcs12, vmcs02 = vmx.vmcs01, nested.vmcs12, nested.vmcs02
    pending = nested.run_pending
    entry = vmcs12[ENTRY]
    loads_debug = pending and entry & Entry.LOAD_DEBUG_CONTROLS
    loads_bndcfgs = pending and entry & Entry.LOAD_IA32_BNDCFGS
    loads_cet = pending and entry & Entry.LOAD_CET_STATE
    if not loads_debug:
        nested.pre_entry_debugctl = vmcs01["GUEST_IA32_DEBUGCTL"]
    if vmx.mpx and not loads_bndcfgs:
        nested.pre_entry_bndcfgs = vmcs01["GUEST_BNDCFGS"]
    vmx.switch_to(vmcs02)
    _merge_controls(vmx, l2_efer(vmx))
    if pending:
        INJECTION.load(vmcs02, vmcs12)
    else:
        vmcs02["VM_ENTRY_INTR_INFO_FIELD"] = 0
    nested.guest_mode = True
    if nested.dirty_vmcs12:
        _load_rare(vmx)
        nested.dirty_vmcs12 = False
    if loads_debug:
        load_dr7(vmx, vmcs12["GUEST_DR7"])
        vmcs02["GUEST_IA32_DEBUGCTL"] = vmcs12["GUEST_IA32_DEBUGCTL"] & vmx.debugctl_loaded
    else:
        load_dr7(vmx, vcpu.debug.dr7)
        vmcs02["GUEST_IA32_DEBUGCTL"] = nested.pre_entry_debugctl
    if vmx.cet and not loads_cet:
        GUEST_CET.load(vmcs02, vmcs01)
    if vmx.mpx and not loads_bndcfgs:
        vmcs02["GUEST_BNDCFGS"] = nested.pre_entry_bndcfgs
    vmx.set_rflags(vmcs12["GUEST_RFLAGS"])
    vmcs02["EXCEPTION_BITMAP"] = vmx.exception_bitmap | vmcs12["EXCEPTION_BITMAP"]
    vcpu.cr0_guest_owned &= ~vmcs12["CR0_GUEST_HOST_MASK"]
    vmcs02["CR0_GUEST_HOST_MASK"] = ~vcpu.cr0_guest_owned & ALL
    if pending and entry & Entry.LOAD_IA32_PAT:
        vcpu.pat = vmcs12["GUEST_IA32_PAT"]
    vmcs02["GUEST_IA32_PAT"] = vcpu.pat
    vmcs02["TSC_OFFSET"] = vmcs01["TSC_OFFSET"] + vmx.l2_tsc_offset() & ALL
    cr0, mask0 = vmcs12["GUEST_CR0"], vmcs12["CR0_GUEST_HOST_MASK"]
    vmx.set_cr0(cr0)
    vmcs02["CR0_READ_SHADOW"] = cr0 & ~mask0 | vmcs12["CR0_READ_SHADOW"] & mask0
    cr4, mask4 = vmcs12["GUEST_CR4"], vmcs12["CR4_GUEST_HOST_MASK"]
    vmx.set_cr4(cr4)
    vmcs02["CR4_READ_SHADOW"] = cr4 & ~mask4 | vmcs12["CR4_READ_SHADOW"] & mask4
    vmx.set_efer(l2_efer(vmx))


def _merge_controls(vmx: Vmx, efer: int) -> None:
    """vmcs02's controls of L0's wishes and L1's (nested.c: prepare_vmcs02_early)."""
    vmcs01, vmcs12, vmcs02 = vmx.vmcs01, vmx.nested.vmcs12, vmx.nested.vmcs02
    vmcs02["VMCS_LINK_POINTER"] = ALL
    pin = vmcs01[PIN] | vmcs12[PIN] & ~PinBased.ACTIVATE_VMX_PREEMPTION_TIMER
    vmcs02[PIN] = pin
    proc = vmcs01[PROC] & ~NOT_OF_VMCS01_PROC | vmcs12[PROC]
    if proc & ProcBased.USE_TPR_SHADOW:
        vmcs02["TPR_THRESHOLD"] = vmcs12["TPR_THRESHOLD"]
    else:
        proc |= ProcBased.CR8_LOAD_EXITING | ProcBased.CR8_STORE_EXITING
    proc |= ProcBased.UNCONDITIONAL_IO_EXITING
    proc &= ~(ProcBased.USE_IO_BITMAPS | ProcBased.USE_MSR_BITMAPS)
    vmcs02[PROC] = proc
    second = secondary_controls(vmcs12)
    proc2 = vmcs01[PROC2] & ~NOT_OF_VMCS01_PROC2 | second
    proc2 &= ~(ProcBased2.ENABLE_PML | ProcBased2.VMCS_SHADOWING)
    if proc2 & ProcBased2.VIRTUAL_INTERRUPT_DELIVERY:
        vmcs02["GUEST_INTR_STATUS"] = vmcs12["GUEST_INTR_STATUS"]
    if not second & ProcBased2.UNRESTRICTED_GUEST:
        proc2 &= ~ProcBased2.UNRESTRICTED_GUEST
    vmcs02[PROC2] = proc2
    entry = vmcs01[ENTRY] | vmcs12[ENTRY] & ~Entry.LOAD_IA32_PERF_GLOBAL_CTRL
    entry &= ~(Entry.IA32E_MODE_GUEST | Entry.LOAD_IA32_EFER)
    leave = vmcs01[EXIT] & ~Exit.LOAD_IA32_EFER
    if efer & EFER.LMA:
        entry |= Entry.IA32E_MODE_GUEST
    if efer != vmx.host_efer:
        entry |= Entry.LOAD_IA32_EFER
        leave |= Exit.LOAD_IA32_EFER
    vmcs02[ENTRY] = entry
    vmcs02[EXIT] = leave


def _load_rare(vmx: Vmx) -> None:
    """The fields that KVM loads only where L1 changed vmcs12 (nested.c: prepare_vmcs02_rare)."""
    nested = vmx.nested
    vmcs12, vmcs02 = nested.vmcs12, nested.vmcs02
    TO_VMCS02_RARE.load(vmcs02, vmcs12)
    if vmx.does("loads_pdptrs_rare"):
        PDPTRS.load(vmcs02, vmcs12)
    entry = vmcs12[ENTRY]
    if vmx.mpx and nested.run_pending and entry & Entry.LOAD_IA32_BNDCFGS:
        vmcs02["GUEST_BNDCFGS"] = vmcs12["GUEST_BNDCFGS"]
    if secondary_controls(vmcs12) & ProcBased2.ENABLE_XSAVES_XRSTORS:
        vmcs02["XSS_EXIT_BITMAP"] = vmcs12["XSS_EXIT_BITMAP"]
    PAGE_FAULT_CODES.load(vmcs02, vmcs12)
    if vmx.apicv:
        EOI_EXIT_BITMAPS.load(vmcs02, vmcs12)
    if vmx.cet and entry & Entry.LOAD_CET_STATE:
        GUEST_CET.load(vmcs02, vmcs12)
    vmx.update_cr4_mask()


def finish_entry(vmx: Vmx) -> None:
    """What follows once CR3 has been checked (nested.c: nested_vmx_load_cr3, prepare_vmcs02)."""
    vcpu, nested = vmx.vcpu, vmx.nested
    vmcs12, vmcs02 = nested.vmcs12, nested.vmcs02
    vmx.load_cr3(vmcs12["GUEST_CR3"])
    vmcs02["GUEST_CR3"] = vmcs12["GUEST_CR3"]
    if secondary_controls(vmcs12) & ProcBased2.ENABLE_EPT and vcpu.pae_paging:
        PDPTRS.load(vmcs02, vmcs12)
    vcpu.write_register("rsp", vmcs12["GUEST_RSP"])
    vcpu.write_register("rip", vmcs12["GUEST_RIP"])
    nested.pages_requested = True
    if vmcs12[PIN] & PinBased.ACTIVATE_VMX_PREEMPTION_TIMER and not nested.has_deadline:
        nested.deadline = vmcs12["VMX_PREEMPTION_TIMER_VALUE"] + vmx.timer_now() & ALL
        nested.has_deadline = vmx.release.has("vmx_header", "preemption_timer_deadline")


def abandon_entry(vmx: Vmx) -> None:
    """Back to vmcs01 with L2 not entered; L1's registers are not loaded again."""
    vmx.nested.guest_mode = False
    vmx.switch_to(vmx.vmcs01)
