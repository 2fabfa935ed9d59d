"""What KVM of each release carries of a VMCB between user space and its own copies of it.

KVM_GET_NESTED_STATE hands out 4096 bytes in the form of a VMCB: the control area that L1 gave L2,
and L1's own state save area. Neither is copied whole. Groups are additive: a form is a set of
groups (`spans_of`), and a release has those of the release before it unless it drops one. The
constants below end in the first release in which a group was seen; releases use its short name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vmcs.schema import Cited, check_cited, check_unique, cited
from vmcs.svm.control_bits import EVENT_INJ, INT_VECTOR, IntState, MiscControl
from vmcs.svm.intercepts import intercept
from vmcs.svm.vmcb import (
    HOST_STATE,
    LBR_MEMBERS,
    SAVE_MEMBERS,
    SHADOW_STACK_MEMBERS,
    VMCB_SIZE,
    member,
)

NESTED = "arch/x86/kvm/svm/nested.c"
HEADER = "arch/x86/include/asm/svm.h"
COPY_CONTROL = f"{NESTED}: copy_vmcb_control_area"
TO_CACHE = f"{NESTED}: __nested_copy_vmcb_control_to_cache"
COPY_VMRUN = f"{NESTED}: svm_copy_vmrun_state"
SET = f"{NESTED}: svm_set_nested_state"

EVERY_ELEMENT: Mapping[str, range] = MappingProxyType({})


def _every_element() -> Mapping[str, range]:
    return EVERY_ELEMENT


@dataclass(frozen=True)
class MemberGroup(Cited):
    """Members of the VMCB that a release carries together, in either direction.

    `elements` says which elements of an array member are meant, where not all are. `emitted` is
    False for members that SET takes and GET does not hand out; `needs` is the feature (Linux's
    name) without which KVM leaves the group alone.
    """

    name: str
    members: tuple[str, ...]
    elements: Mapping[str, range] = field(default_factory=_every_element, hash=False)
    emitted: bool = True
    needs: str = ""

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Byte ranges of the VMCB, as (start, end), in the order of the members."""
        ranges = []
        for name in self.members:
            row = member(name)
            size = row.size // row.count
            run = self.elements.get(name, range(row.count))
            ranges.append((row.offset + run.start * size, row.offset + run.stop * size))
        return tuple(ranges)


_COPIED_SINCE_5_8 = (
    *("intercepts", "pause_filter_thresh", "pause_filter_count", "iopm_base_pa", "msrpm_base_pa"),
    *("tsc_offset", "asid", "tlb_ctl", "int_ctl", "int_vector", "int_state", "exit_code"),
    *("exit_info_1", "exit_info_2", "exit_int_info", "exit_int_info_err", "misc_ctl"),
    *("event_inj", "event_inj_err", "nested_cr3", "misc_ctl2"),
)
_FIVE_WORDS: Mapping[str, range] = MappingProxyType({"intercepts": range(5)})
_SIXTH_WORD: Mapping[str, range] = MappingProxyType({"intercepts": range(5, 6)})

CONTROL_5_8 = MemberGroup("base", _COPIED_SINCE_5_8, _FIVE_WORDS, seen=f"{COPY_CONTROL}, 5.8")
CONTROL_5_10 = MemberGroup(
    "intercept_word_5", ("intercepts",), _SIXTH_WORD, seen=f"{COPY_CONTROL}, 5.10"
)
CONTROL_5_18 = MemberGroup(
    "enlightenments",
    ("clean", "reserved_sw"),
    emitted=False,
    needs="HYPERV_HYPERCALLS",
    seen=f"{TO_CACHE}, 5.18",
)
CONTROL_6_0 = MemberGroup("next_rip", ("next_rip",), seen=f"{TO_CACHE}, 6.0")
CONTROL_7_2 = MemberGroup("erap_ctl", ("erap_ctl",), seen=f"{TO_CACHE}, 7.2")
CONTROL_CLEAN_7_2 = MemberGroup("clean", ("clean",), emitted=False, seen=f"{TO_CACHE}, 7.2")

SAVE_5_8 = MemberGroup(
    "whole",
    tuple(row.name for row in SAVE_MEMBERS),
    seen=f"{SET}: hsave->save, 5.8",
)
"""5.8 to 5.11: the save area of user space becomes L1's as it is, up to its C size."""

SAVE_5_14 = MemberGroup(
    "vmrun",
    (*HOST_STATE, "cpl"),
    seen=f"{COPY_VMRUN}, 5.14",
)
"""From 5.14 in place of `SAVE_5_8`: what #VMEXIT reloads; the rest of vmcb01 stays as it was."""

SAVE_6_18 = MemberGroup("cet", SHADOW_STACK_MEMBERS, needs="SHSTK", seen=f"{COPY_VMRUN}, 6.18")
SAVE_7_2 = MemberGroup("lbr", LBR_MEMBERS, needs="LBRV", seen=f"{COPY_VMRUN}, 7.2 and 6.12.117")

CONTROL_GROUPS = (
    CONTROL_5_8,
    CONTROL_5_10,
    CONTROL_5_18,
    CONTROL_6_0,
    CONTROL_7_2,
    CONTROL_CLEAN_7_2,
)
"""Members of the control area that SET takes and, where `emitted`, GET hands out."""

SAVE_GROUPS = (SAVE_5_8, SAVE_5_14, SAVE_6_18, SAVE_7_2)
"""Members of the save area that SET loads. GET hands out the save area of L1 up to its size."""

GROUPS = MappingProxyType({group.name: group for group in (*CONTROL_GROUPS, *SAVE_GROUPS)})

check_cited(GROUPS.values(), "GROUPS")
check_unique([group.name for group in (*CONTROL_GROUPS, *SAVE_GROUPS)], "GROUPS")


def spans_of(names: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Byte ranges of the groups called `names`, merged and rising; raises `KeyError`."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for name in names for span in GROUPS[name].spans()):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def mask_of(names: Iterable[str]) -> NDArray[np.bool_]:
    """Which bytes of a VMCB the groups called `names` carry, shape (4096,)."""
    mask = np.zeros(VMCB_SIZE, np.bool_)
    for start, end in spans_of(names):
        mask[start:end] = True
    return mask


@dataclass(frozen=True)
class CopySize(Cited):
    """Bytes of each area that GET copies out and SET copies in: the sizes of the C structures.

    The save area starts at byte 400h of the data in every release; GET clears the rest.
    """

    name: str
    control: int
    save: int


COPY_SIZES = (
    CopySize("SIZES_5_8", 0x100, 664, seen=f"{HEADER}: struct vmcb_save_area, 5.8"),
    CopySize("SIZES_5_10", 0x100, 1032, seen=f"{HEADER}: EXPECTED_VMCB_SAVE_AREA_SIZE, 5.10"),
    CopySize("SIZES_5_11", 0x110, 1032, seen=f"{HEADER}: EXPECTED_VMCB_CONTROL_AREA_SIZE, 5.11"),
    CopySize("SIZES_5_14", 0x400, 1032, seen=f"{HEADER}: EXPECTED_VMCB_CONTROL_AREA_SIZE, 5.14"),
    CopySize("SIZES_6_1", 0x400, 740, seen=f"{HEADER}: EXPECTED_VMCB_SAVE_AREA_SIZE, 6.1.192"),
    CopySize("SIZES_6_12", 0x400, 744, seen=f"{HEADER}: EXPECTED_VMCB_SAVE_AREA_SIZE, 6.12.117"),
)
"""By the release in which each pair was seen; from 5.14 on, what differs is zero in every guest."""

check_cited(COPY_SIZES, "COPY_SIZES")
check_unique([row.name for row in COPY_SIZES], "COPY_SIZES")


@dataclass(frozen=True)
class Legalized(Cited):
    """How SET changes a member that it takes: bits that it clears, then bits that it sets.

    `element` is the index in an array member. With `unless`, a feature of the guest (Linux's name),
    the change is made only for a guest without that feature.
    """

    name: str
    member: str
    clear: int = 0
    set: int = 0
    element: int = 0
    unless: str = ""

    def of(self, value: int) -> int:
        """`value` of the member after SET."""
        return value & ~self.clear | self.set


PAGE_OFFSET = 0xFFF
RFLAGS_FIXED = 1 << 1
DEBUGCTL_LBR = 1 << 0
BYTE, WORD, QUADWORD = 0xFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF
TLB_CONTROL_MASK = 0b111


def _intercept_unless(name: str, feature: str) -> Legalized:
    row = intercept(name)
    return Legalized(
        f"intercept_{name.lower()}_7_2",
        "intercepts",
        row.mask,
        element=row.word,
        unless=feature,
        seen=f"{TO_CACHE}, 7.2",
    )


LEGALIZED = (
    Legalized("iopm_base_pa_5_8", "iopm_base_pa", PAGE_OFFSET, seen=f"{TO_CACHE}, 5.8"),
    Legalized("msrpm_base_pa_5_8", "msrpm_base_pa", PAGE_OFFSET, seen=f"{TO_CACHE}, 5.8"),
    _intercept_unless("XSETBV", "XSAVE"),
    _intercept_unless("INVPCID", "INVPCID"),
    _intercept_unless("RDTSCP", "RDTSCP"),
    _intercept_unless("SKINIT", "SKINIT"),
    _intercept_unless("RDPRU", "RDPRU"),
    Legalized(
        "misc_ctl_np_7_2", "misc_ctl", MiscControl.NP_ENABLE, unless="NPT", seen=f"{TO_CACHE}, 7.2"
    ),
    Legalized(
        "misc_ctl_gmet_7_2",
        "misc_ctl",
        MiscControl.GMET_ENABLE,
        unless="GMET",
        seen=f"{TO_CACHE}, 7.2",
    ),
    Legalized("tlb_ctl_7_2", "tlb_ctl", BYTE & ~TLB_CONTROL_MASK, seen=f"{TO_CACHE}, 7.2"),
    Legalized("int_vector_7_2", "int_vector", INT_VECTOR.reserved_mask(), seen=f"{TO_CACHE}, 7.2"),
    Legalized(
        "int_state_7_2", "int_state", WORD & ~IntState.INTERRUPT_SHADOW, seen=f"{TO_CACHE}, 7.2"
    ),
    Legalized("event_inj_7_2", "event_inj", EVENT_INJ.reserved_mask(), seen=f"{TO_CACHE}, 7.2"),
    Legalized("rflags_5_14", "rflags", set=RFLAGS_FIXED, seen=f"{COPY_VMRUN}, 5.14"),
    Legalized("cpl_5_14", "cpl", BYTE, seen=f"{COPY_VMRUN}, 5.14"),
    Legalized("dbgctl_7_2", "dbgctl", QUADWORD & ~DEBUGCTL_LBR, seen=f"{COPY_VMRUN}, 7.2"),
)
"""Changes that SET makes to what user space gave, by the release in which each was first seen."""

check_cited(LEGALIZED, "LEGALIZED")
check_unique([row.name for row in LEGALIZED], "LEGALIZED")


@dataclass(frozen=True)
class FormerName(Cited):
    """Names that Linux had for a member up to the release `until`."""

    member: str
    names: tuple[str, ...]
    until: str


_FOUR_INTERCEPTS = ("intercept_cr", "intercept_dr", "intercept_exceptions", "intercept")

FORMER_NAMES = cited(
    (
        FormerName("intercepts", _FOUR_INTERCEPTS, "5.9"),
        FormerName("exit_code", ("exit_code", "exit_code_hi"), "6.19"),
        FormerName("misc_ctl", ("nested_ctl",), "6.19"),
        FormerName("misc_ctl2", ("virt_ext",), "6.19"),
    ),
    seen=f"{HEADER}: struct vmcb_control_area, 5.8 to 7.3",
)
