"""KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from emu.errors import KvmError
from emu.kvm.structs import (
    VALID_NMI_PENDING,
    VALID_PAYLOAD,
    VALID_SHADOW,
    VALID_SIPI_VECTOR,
    VALID_SMM,
    VALID_TRIPLE_FAULT,
    VcpuEvents,
)

if TYPE_CHECKING:
    from emu.kvm.vcpu import Vcpu

IOCTL = "KVM_SET_VCPU_EVENTS"
MP_INIT_RECEIVED = 2


def get_vcpu_events(vcpu: Vcpu) -> VcpuEvents:
    """Source: arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_get_vcpu_events."""
    now = vcpu.events
    payload = vcpu.vm.exception_payload_enabled
    soft = now.exception_nr in (3, 4)
    injected, pending = now.exception_injected, now.exception_pending
    if not payload:
        injected |= pending
    flags = VALID_NMI_PENDING | VALID_SHADOW | VALID_SMM
    if payload:
        flags |= VALID_PAYLOAD
    if vcpu.vm.triple_fault_event:
        flags |= VALID_TRIPLE_FAULT
    return now.replaced(
        exception_injected=0 if soft else injected,
        exception_pending=0 if soft else pending,
        interrupt_injected=int(bool(now.interrupt_injected and not now.interrupt_soft)),
        interrupt_soft=0,
        interrupt_shadow=vcpu.operations.get_interrupt_shadow(),
        nmi_masked=int(vcpu.operations.get_nmi_mask()),
        sipi_vector=0,
        flags=flags,
        smi_smm=int(vcpu.smm),
        smi_pending=int(vcpu.smi_pending),
        smi_smm_inside_nmi=int(vcpu.smm_inside_nmi),
        smi_latched_init=int(vcpu.pending_init),
        triple_fault_pending=now.triple_fault_pending if vcpu.vm.triple_fault_event else 0,
    )


def set_vcpu_events(vcpu: Vcpu, events: VcpuEvents) -> None:
    """Source: arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_set_vcpu_events."""
    flags = events.flags
    known = (
        VALID_NMI_PENDING | VALID_SIPI_VECTOR | VALID_SHADOW | VALID_SMM
        | (VALID_PAYLOAD if vcpu.release.has("capabilities", "KVM_CAP_EXCEPTION_PAYLOAD") else 0)
        | (
            VALID_TRIPLE_FAULT
            if vcpu.release.has("capabilities", "KVM_CAP_X86_TRIPLE_FAULT_EVENT")
            else 0
        )
    )  # fmt: skip
    if flags & ~known:
        raise KvmError(IOCTL, EINVAL, "events_flags_known", f"flags {flags:#x}")
    if flags & VALID_PAYLOAD:
        if not vcpu.vm.exception_payload_enabled:
            raise KvmError(IOCTL, EINVAL, "events_payload_enabled")
        if events.exception_pending:
            events = events.replaced(exception_injected=0)
        else:
            events = events.replaced(exception_has_payload=0)
    else:
        events = events.replaced(exception_pending=0, exception_has_payload=0)
    if (events.exception_injected or events.exception_pending) and (
        events.exception_nr > 31 or events.exception_nr == 2
    ):
        raise KvmError(IOCTL, EINVAL, "events_exception_vector", str(events.exception_nr))
    if (
        "events_mind_latched_init" in vcpu.behaviours
        and flags & VALID_SMM
        and (events.smi_smm or events.smi_pending)
        and vcpu.mp_state == MP_INIT_RECEIVED
    ):
        raise KvmError(IOCTL, EINVAL, "events_smm_while_waiting_for_sipi")
    kept = vcpu.events
    ops = vcpu.operations
    vcpu.events = events.replaced(
        flags=0,
        nmi_pending=events.nmi_pending if flags & VALID_NMI_PENDING else kept.nmi_pending,
        sipi_vector=events.sipi_vector if flags & VALID_SIPI_VECTOR else kept.sipi_vector,
        triple_fault_pending=kept.triple_fault_pending,
    )
    if flags & VALID_SHADOW:
        ops.set_interrupt_shadow(events.interrupt_shadow)
    ops.set_nmi_mask(bool(events.nmi_masked))
    if flags & VALID_SMM:
        _set_smm(vcpu, events)
    if flags & VALID_TRIPLE_FAULT:
        if not vcpu.vm.triple_fault_event:
            raise KvmError(IOCTL, EINVAL, "events_triple_fault_enabled")
        vcpu.events = vcpu.events.replaced(triple_fault_pending=events.triple_fault_pending)


def _set_smm(vcpu: Vcpu, events: VcpuEvents) -> None:
    smm = bool(events.smi_smm)
    if vcpu.smm != smm:
        leaves = "smm_change_leaves_nested" in vcpu.behaviours
        if leaves and "smm_change_leaves_nested_first" in vcpu.behaviours:
            vcpu.operations.leave_nested()
        vcpu.smm = smm
        if leaves and "smm_change_leaves_nested_first" not in vcpu.behaviours:
            vcpu.operations.leave_nested()
    vcpu.smi_pending = bool(events.smi_pending)
    if smm:
        vcpu.smm_inside_nmi = bool(events.smi_smm_inside_nmi)
    if vcpu.vm.irqchip_in_kernel:
        vcpu.pending_init = bool(events.smi_latched_init)
