"""From vmcb12 and vmcb01 to the control block that runs L2, and back to L1 by force.

Kernels before 5.13 have one block that runs both: what L1 needs again lies in `hsave` meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.kvm.nested_svm.state import ControlBlock
from vmcs.nested_state import INVALID_GPA
from vmcs.svm.control_bits import INT_CTL, MiscControl2, TlbControl
from vmcs.svm.intercepts import intercept

if TYPE_CHECKING:
    from emu.kvm.svm import Svm

ALL64: Final = 0xFFFF_FFFF_FFFF_FFFF
RFLAGS_IF: Final = 1 << 9
V_TPR: Final = 0x0F
V_IRQ, V_GIF = INT_CTL["V_IRQ"].mask, INT_CTL["V_GIF"].mask
V_IRQ_INJECTION: Final = V_IRQ | INT_CTL["V_INTR_PRIO"].mask | INT_CTL["V_IGN_TPR"].mask
V_INTR_MASKING: Final = INT_CTL["V_INTR_MASKING"].mask
V_GIF_ENABLE, V_NMI_ENABLE = INT_CTL["V_GIF_ENABLE"].mask, INT_CTL["V_NMI_ENABLE"].mask
V_NMI_PENDING, V_NMI_BLOCKING = INT_CTL["V_NMI"].mask, INT_CTL["V_NMI_MASK"].mask
V_NMI_BITS: Final = V_NMI_ENABLE | V_NMI_PENDING | V_NMI_BLOCKING
OF_L1: Final = V_INTR_MASKING | V_GIF | V_GIF_ENABLE

CR8_READ, CR8_WRITE, VINTR, VMMCALL, VMLOAD, VMSAVE = (
    1 << intercept(name).position
    for name in ("CR8_READ", "CR8_WRITE", "VINTR", "VMMCALL", "VMLOAD", "VMSAVE")
)
VMSAVE_VMLOAD_ENABLE: Final = int(MiscControl2.VMSAVE_VMLOAD_ENABLE)
LBR_ENABLE: Final = int(MiscControl2.LBR_VIRTUALIZATION_ENABLE)
VMLOAD_AND_VMSAVE: Final = VMLOAD | VMSAVE

# Members that L2 has from vmcb12 as they are (nested_vmcb02_prepare_control).
_TAKEN: Final = ("int_vector", "int_state", "event_inj", "event_inj_err")
# What copy_vmcb_control_area of 5.8 to 5.12 copies: all that is cached, and not the ASID.
_ASID: Final = "asid"


def prepare_controls(svm: Svm) -> None:
    """Make the controls that L2 runs under from those of vmcb12 and of L1, and enter guest mode.

    Source: arch/x86/kvm/svm/nested.c: nested_vmcb02_prepare_control, nested_prepare_vmcb_control.
    """
    if svm.two_blocks:
        _prepare_vmcb02(svm)
    else:
        _prepare_vmcb(svm)
    svm.nested.in_guest_mode = True
    merge_intercepts(svm)


def _prepare_vmcb(svm: Svm) -> None:
    vmcb, vmcb12, hsave = svm.vmcb, svm.nested.vmcb12, svm.vmcb02
    keeps = OF_L1
    taken = V_TPR | V_IRQ_INJECTION if svm.does("svm_int_ctl_by_list") else ALL64 & ~OF_L1
    vmcb["tsc_offset"] = (svm.l1_tsc_offset + vmcb12["tsc_offset"]) & ALL64
    vmcb["int_ctl"] = vmcb12["int_ctl"] & taken | hsave["int_ctl"] & keeps
    if not svm.does("svm_int_ctl_by_list"):
        vmcb["misc_ctl2"] = vmcb12["misc_ctl2"]
    for name in (*_TAKEN, "pause_filter_count", "pause_filter_thresh"):
        vmcb[name] = vmcb12[name]


def _prepare_vmcb02(svm: Svm) -> None:
    vmcb01, vmcb02, vmcb12 = svm.vmcb01, svm.vmcb02, svm.nested.vmcb12
    from_vmcb12, from_vmcb01 = V_TPR | V_IRQ_INJECTION, V_INTR_MASKING
    if svm.nested_vgif:
        from_vmcb12 |= V_GIF | V_GIF_ENABLE
    else:
        from_vmcb01 |= V_GIF | V_GIF_ENABLE
    if svm.nested_vnmi:
        from_vmcb12 |= V_NMI_BITS
    vmcb02["misc_ctl"] = vmcb01["misc_ctl"]
    vmcb02["iopm_base_pa"] = vmcb01["iopm_base_pa"]
    vmcb02["msrpm_base_pa"] = vmcb01["msrpm_base_pa"]
    vmcb02["tlb_ctl"] = TlbControl.DO_NOTHING
    vmcb02["tsc_offset"] = svm.l2_tsc_offset(vmcb12["tsc_offset"])
    vmcb02["int_ctl"] = vmcb12["int_ctl"] & from_vmcb12 | vmcb01["int_ctl"] & from_vmcb01
    for name in _TAKEN:
        vmcb02[name] = vmcb12[name]
    if svm.guest_has("NRIPS") or not svm.nested.run_pending:
        vmcb02["next_rip"] = vmcb12["next_rip"]
    if svm.does("svm_gif_of_vgif_block"):
        for name, feature in (
            ("pause_filter_count", "PAUSEFILTER"),
            ("pause_filter_thresh", "PFTHRESHOLD"),
        ):
            vmcb02[name] = vmcb12[name] if svm.guest_has(feature) else 0
        usable = 0
        if svm.guest_has("V_VMSAVE_VMLOAD") and svm.nested_npt:
            usable |= VMSAVE_VMLOAD_ENABLE
        if svm.guest_has("LBRV"):
            usable |= LBR_ENABLE
        vmcb02["misc_ctl2"] = vmcb12["misc_ctl2"] & usable


def merge_intercepts(svm: Svm) -> None:
    """L2 leaves to KVM where L1 or KVM itself wants it to.

    Source: arch/x86/kvm/svm/nested.c: recalc_intercepts, nested_vmcb02_recalc_intercepts.
    """
    l1 = svm.vmcb01 if svm.two_blocks else svm.vmcb02
    vmcb12 = svm.nested.vmcb12
    vector = l1.intercept_vector()
    if vmcb12["int_ctl"] & V_INTR_MASKING:
        vector &= ~CR8_WRITE
        if not svm.does("svm_cr8_reads_intercepted"):
            vector &= ~CR8_READ
        if not svm.does("svm_vintr_by_rflags_of_l1") or not l1["rflags"] & RFLAGS_IF:
            vector &= ~VINTR
    if not svm.does("svm_keeps_vmmcall_intercept"):
        vector &= ~VMMCALL
    vector |= vmcb12.intercept_vector()
    if not (svm.two_blocks and svm.vmcb["misc_ctl2"] & VMSAVE_VMLOAD_ENABLE):
        vector |= VMLOAD_AND_VMSAVE
    svm.vmcb.set_intercept_vector(vector)


def save_l1_controls(svm: Svm) -> None:
    """Put the controls that run now into the host save area (copy_vmcb_control_area)."""
    _copy_controls(svm, svm.vmcb, svm.vmcb02)


def _copy_controls(svm: Svm, source: ControlBlock, destination: ControlBlock) -> None:
    asid = destination[_ASID]
    destination.take(source.view, svm.forms.cached)
    destination[_ASID] = asid


def leave_guest_mode(svm: Svm) -> None:
    """Leave L2 without telling L1, where the vCPU is in it.

    Source: arch/x86/kvm/svm/nested.c: svm_leave_nested.
    """
    nested = svm.nested
    if nested.in_guest_mode:
        nested.run_pending = False
        nested.in_guest_mode = False
        if svm.two_blocks:
            nested.vmcb12_gpa = INVALID_GPA
            svm.vmcb = svm.vmcb01
        else:
            _copy_controls(svm, svm.vmcb02, svm.vmcb)
        if svm.does("svm_leave_nested_sets_gif"):
            svm.set_gif(True)
    nested.pages_requested = False
