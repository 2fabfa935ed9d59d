"""Which VMX capabilities KVM of a release offers to L1, out of what the newest KVM offers there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.kvm.nested_vmx.capabilities import (
    MSR_BASIC,
    MSR_CR4_FIXED1,
    MSR_ENTRY,
    MSR_EPT_VPID,
    MSR_EXIT,
    MSR_MISC,
    MSR_PROC2,
    MSR_TRUE_ENTRY,
    MSR_TRUE_EXIT,
    MSR_VMCS_ENUM,
)
from vmcs.schema import check_unique
from vmcs.vmx.controls import Entry, Exit, ProcBased2

if TYPE_CHECKING:
    from emu.releases.schema import Release


class Offered(NamedTuple):
    """A capability that some releases do not offer: the MSRs and their bits that announce it."""

    name: str
    msrs: tuple[int, ...]
    bits: int


ENTRY_MSRS, EXIT_MSRS = (MSR_TRUE_ENTRY, MSR_ENTRY), (MSR_TRUE_EXIT, MSR_EXIT)


def _allowed(name: str, msrs: tuple[int, ...], control: int) -> Offered:
    """A control that its MSRs allow to be 1: a bit of their upper halves."""
    return Offered(name, msrs, int(control) << 32)


# fmt: off
OFFERED: Final = (
    Offered("NO_HW_ERROR_CODE_CC", (MSR_BASIC,), 1 << 56),
    Offered("ACTIVITY_WAIT_SIPI", (MSR_MISC,), 1 << 8),
    _allowed("LOAD_IA32_PERF_GLOBAL_CTRL_ENTRY", ENTRY_MSRS, Entry.LOAD_IA32_PERF_GLOBAL_CTRL),
    _allowed("LOAD_IA32_PERF_GLOBAL_CTRL_EXIT", EXIT_MSRS, Exit.LOAD_IA32_PERF_GLOBAL_CTRL),
    _allowed("LOAD_CET_STATE_ENTRY", ENTRY_MSRS, Entry.LOAD_CET_STATE),
    _allowed("LOAD_CET_STATE_EXIT", EXIT_MSRS, Exit.LOAD_CET_STATE),
    _allowed("ENABLE_ENCLS_EXITING", (MSR_PROC2,), ProcBased2.ENABLE_ENCLS_EXITING),
    _allowed("USE_TSC_SCALING", (MSR_PROC2,), ProcBased2.USE_TSC_SCALING),
    _allowed("ENABLE_USER_WAIT_AND_PAUSE", (MSR_PROC2,), ProcBased2.ENABLE_USER_WAIT_AND_PAUSE),
    _allowed("MODE_BASED_EXECUTE_CONTROL", (MSR_PROC2,), ProcBased2.MODE_BASED_EXECUTE_CONTROL),
    Offered("EPT_PAGE_WALK_5", (MSR_EPT_VPID,), 1 << 7),
    Offered("EPT_ADVANCED_EXIT_INFORMATION", (MSR_EPT_VPID,), 1 << 22),
    Offered("EMULATED_UMIP_IN_CR4", (MSR_CR4_FIXED1,), 1 << 11),
)
# fmt: on

check_unique([row.name for row in OFFERED], "OFFERED")

# IA32_VMX_VMCS_ENUM is the highest index that KVM knows, times 2: a constant until it knew better
# (arch/x86/kvm/vmx/nested.c: nested_vmx_calc_vmcs_enum_msr).
VMCS_ENUM_CONSTANT: Final = 0x2E


def offered_msrs(msrs: Mapping[int, int], release: Release) -> dict[int, int]:
    """`msrs` as KVM of `release` gives them, where the newest KVM gives `msrs`."""
    known = release.names("vmx_controls")
    made = dict(msrs)
    for row in OFFERED:
        if row.name not in known:
            for index in row.msrs:
                if index in made:
                    made[index] &= ~row.bits
    if MSR_VMCS_ENUM in made and "COMPUTED_VMCS_ENUM" not in known:
        made[MSR_VMCS_ENUM] = VMCS_ENUM_CONSTANT
    return made
