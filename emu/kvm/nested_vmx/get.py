"""KVM_GET_NESTED_STATE on Intel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from emu.kvm.nested_vmx.enter import PIN, secondary_controls
from emu.kvm.nested_vmx.masks import PinBased, ProcBased2
from emu.kvm.nested_vmx.rules import (
    DEADLINE_VALID,
    EVMCS,
    GUEST_MODE,
    MTF_PENDING,
    RUN_PENDING,
    SMM_GUEST_MODE,
    SMM_VMXON,
)
from emu.kvm.nested_vmx.state import EVMCS_NONE, INVALID_GPA
from emu.kvm.nested_vmx.sync import sync_before_get
from emu.kvm.nested_vmx.words import HEADER_SIZE, SHADOW_AT, VMCS12_AT
from vmcs.vmx.vmcs12 import VMCS12_SIZE

if TYPE_CHECKING:
    from emu.kvm.vmx import Vmx

FORMAT_VMX: Final = 0
_HEADER: Final = struct.Struct("<HHIQQH2xIQ88x")


def has_vmcs12(vmx: Vmx) -> bool:
    """Whether there is a vmcs12 to save (vmx.h: vmx_has_valid_vmcs12)."""
    nested = vmx.nested
    if nested.vmcs12_pa != INVALID_GPA:
        return True
    return vmx.does("evmcs_has_vmcs12") and (nested.guest_mode or nested.evmcs != EVMCS_NONE)


def get_nested_state(vmx: Vmx, buffer: bytearray, size: int) -> int:
    """Fill the user's `buffer` and give the size that the state needs.

    Source: arch/x86/kvm/vmx/nested.c: vmx_get_nested_state.
    """
    nested = vmx.nested
    needed, flags, smm_flags, header_flags, deadline = HEADER_SIZE, 0, 0, 0, 0
    vmxon_pa = vmcs12_pa = INVALID_GPA
    valid = has_vmcs12(vmx)
    if vmx.does("evmcs_flag_means_enabled") and vmx.guest_has_vmx and nested.evmcs_enabled:
        flags |= EVMCS
    if vmx.guest_has_vmx and nested.in_vmx_operation:
        vmxon_pa, vmcs12_pa = nested.vmxon_pa, nested.vmcs12_pa
        if valid:
            needed += VMCS12_SIZE
            if nested.evmcs != EVMCS_NONE:
                flags |= EVMCS
            if nested.guest_mode and _has_shadow(vmx):
                needed += VMCS12_SIZE
        smm_flags |= SMM_VMXON if nested.smm_vmxon else 0
        smm_flags |= SMM_GUEST_MODE if nested.smm_guest_mode else 0
        if nested.guest_mode:
            flags |= GUEST_MODE
            flags |= RUN_PENDING if nested.run_pending else 0
            if nested.mtf_pending and vmx.does("gives_mtf_pending"):
                flags |= MTF_PENDING
            timer = nested.vmcs12[PIN] & PinBased.ACTIVATE_VMX_PREEMPTION_TIMER
            if timer and nested.has_deadline:
                header_flags, deadline = DEADLINE_VALID, nested.deadline
    if size < needed:
        return needed
    _HEADER.pack_into(
        buffer, 0, flags, FORMAT_VMX, needed, vmxon_pa, vmcs12_pa, smm_flags, header_flags, deadline
    )
    if not valid:
        return needed
    sync_before_get(vmx)
    count = vmx.release.number("vmcs12_bytes_out")
    buffer[VMCS12_AT : VMCS12_AT + count] = nested.vmcs12.view[:count]
    # KVM does not ask here whether L2 is active: it may write behind what `size` says.
    if _has_shadow(vmx):
        buffer[SHADOW_AT : SHADOW_AT + count] = nested.shadow_vmcs12.view[:count]
    return needed


def _has_shadow(vmx: Vmx) -> bool:
    vmcs12 = vmx.nested.vmcs12
    return (
        bool(secondary_controls(vmcs12) & ProcBased2.VMCS_SHADOWING)
        and vmcs12["VMCS_LINK_POINTER"] != INVALID_GPA
    )
