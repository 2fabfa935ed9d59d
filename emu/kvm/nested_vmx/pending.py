"""Events that wait while L2 is active, in the order in which KVM looks at them.

Source: arch/x86/kvm/vmx/nested.c: vmx_check_nested_events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.cpu.state import Vector
from emu.kvm.nested_vmx.enter import EXIT, PIN
from emu.kvm.nested_vmx.masks import Exit, PinBased
from emu.kvm.nested_vmx.sync import exit_to_l1
from emu.kvm.nested_vmx.wants import exits_on_interrupt, exits_on_nmi, wants_exception
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.kvm.running.vmx_run import VmxRun

VALID, DELIVER_CODE, NMI, HARDWARE = 1 << 31, 1 << 11, 2 << 8, 3 << 8


def check_nested_events(l0: VmxRun) -> None:
    """Leave L2 for the event of highest priority that L1 is to see; nothing while L2 is entered."""
    vmx, nested, events = l0.vmx, l0.vmx.nested, l0.vcpu.events
    if nested.run_pending:
        return
    delivering = events.exception_injected or events.nmi_injected or events.interrupt_injected
    if l0.vcpu.pending_init or l0.vcpu.pending_sipi:
        if not delivering:
            vmx.deliver_init_or_sipi_to_l1()
        return
    if events.exception_pending:
        _exception(l0)
        return
    if delivering:
        return
    if nested.mtf_pending:
        exit_to_l1(vmx, ExitReason.MONITOR_TRAP_FLAG, 0)
    elif timer_expired(l0):
        exit_to_l1(vmx, ExitReason.VMX_PREEMPTION_TIMER, 0)
    elif events.nmi_pending and not vmx.get_nmi_mask():
        if exits_on_nmi(nested.vmcs12):
            info = VALID | NMI | int(Vector.NMI)
            exit_to_l1(vmx, ExitReason.EXCEPTION_OR_NMI, 0, info)
            l0.vcpu.events = l0.vcpu.events.replaced(nmi_pending=0)
            vmx.set_nmi_mask(True)
    elif l0.core.interrupt_waits and exits_on_interrupt(nested.vmcs12):
        info = 0
        if nested.vmcs12[EXIT] & Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT:
            info = VALID | l0.core.acknowledge()
        exit_to_l1(vmx, ExitReason.EXTERNAL_INTERRUPT, 0, info)


def _exception(l0: VmxRun) -> None:
    """An exception that waits for L2 leaves L2 where L1 intercepts it."""
    events, vmcs12 = l0.vcpu.events, l0.vmx.nested.vmcs12
    vector, error = events.exception_nr, events.exception_error_code
    if not wants_exception(vmcs12, vector, error):
        return
    info = VALID | HARDWARE | vector
    if events.exception_has_error_code:
        info |= DELIVER_CODE
        vmcs12["VM_EXIT_INTR_ERROR_CODE"] = error
    exit_to_l1(l0.vmx, ExitReason.EXCEPTION_OR_NMI, events.exception_payload, info)


def timer_expired(l0: VmxRun) -> bool:
    """Whether L1's VMX-preemption timer has run out in L2."""
    nested = l0.vmx.nested
    active = nested.vmcs12[PIN] & PinBased.ACTIVATE_VMX_PREEMPTION_TIMER
    return bool(active and nested.timer_runs and l0.vmx.timer_now() >= nested.deadline)
