"""Which members of the VMCB each kernel caches, hands out and loads, as named groups.

The facts `svm_control` and `svm_save` of a release name the groups that it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emu.kvm.nested_svm.state import spans
from emu.releases.schema import Release
from vmcs.svm.control_bits import EVENT_INJ, IntState
from vmcs.svm.vmcb import HOST_STATE, LBR_MEMBERS, SHADOW_STACK_MEMBERS

NESTED = "arch/x86/kvm/svm/nested.c"

_BASE = (
    "intercepts",
    "iopm_base_pa",
    "msrpm_base_pa",
    "tsc_offset",
    "asid",
    "tlb_ctl",
    "int_ctl",
    "int_vector",
    "int_state",
    "exit_code",
    "exit_info_1",
    "exit_info_2",
    "exit_int_info",
    "exit_int_info_err",
    "misc_ctl",
    "event_inj",
    "event_inj_err",
    "nested_cr3",
    "misc_ctl2",
    "pause_filter_count",
    "pause_filter_thresh",
)


@dataclass(frozen=True)
class ControlGroup:
    """Members of the control area that SET caches; `emitted` where GET hands them out again."""

    name: str
    members: tuple[str, ...]
    emitted: bool
    seen: str


CONTROL_GROUPS: Final = (
    ControlGroup("base", _BASE, True, f"{NESTED}: copy_vmcb_control_area, 5.8"),
    ControlGroup(
        "next_rip", ("next_rip",), True, f"{NESTED}: nested_copy_vmcb_cache_to_control, 6.0"
    ),
    ControlGroup(
        "erap_ctl", ("erap_ctl",), True, f"{NESTED}: nested_copy_vmcb_cache_to_control, 7.0"
    ),
    ControlGroup("clean", ("clean",), False, f"{NESTED}: __nested_copy_vmcb_control_to_cache, 7.1"),
)

# What 7.1 and later keep of members of which only some bits are defined (the same function).
DEFINED_BITS: Final = {
    "tlb_ctl": 0x7,
    "int_vector": 0xFF,
    "int_state": int(IntState.INTERRUPT_SHADOW),
    "event_inj": sum(row.mask for row in EVENT_INJ if not row.reserved),
}

# The feature without which 7.0 and later drop an intercept (nested_svm_sanitize_intercept).
INTERCEPT_NEEDS: Final = (
    ("XSETBV", "XSAVE"),
    ("INVPCID", "INVPCID"),
    ("RDTSCP", "RDTSCP"),
    ("SKINIT", "SKINIT"),
    ("RDPRU", "RDPRU"),
)


@dataclass(frozen=True)
class SaveGroup:
    """Members of L1's save area that SET loads where KVM supports `feature` (empty: always)."""

    name: str
    members: tuple[str, ...]
    feature: str
    seen: str


SAVE_GROUPS: Final = (
    SaveGroup("vmrun", HOST_STATE, "", f"{NESTED}: svm_copy_vmrun_state, 5.13"),
    SaveGroup("cet", SHADOW_STACK_MEMBERS, "SHSTK", f"{NESTED}: svm_copy_vmrun_state, 6.18"),
    SaveGroup("lbr", LBR_MEMBERS, "LBRV", f"{NESTED}: svm_copy_vmrun_state, 7.1"),
)


def cached_controls(release: Release) -> tuple[slice, ...]:
    """The bytes of the control area that SET of `release` caches."""
    names = release.names("svm_control")
    return spans(tuple(m for group in CONTROL_GROUPS if group.name in names for m in group.members))


def emitted_controls(release: Release) -> tuple[slice, ...]:
    """The bytes of the control area that GET of `release` hands out."""
    names = release.names("svm_control")
    groups = (group for group in CONTROL_GROUPS if group.name in names and group.emitted)
    return spans(tuple(m for group in groups for m in group.members))


def loaded_state(release: Release, supported: frozenset[str]) -> tuple[slice, ...]:
    """The bytes of L1's save area that SET of `release` loads into vmcb01."""
    names = release.names("svm_save")
    groups = (
        group
        for group in SAVE_GROUPS
        if group.name in names and (not group.feature or group.feature in supported)
    )
    return spans(tuple(m for group in groups for m in group.members))
