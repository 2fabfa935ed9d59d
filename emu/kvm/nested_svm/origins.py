"""Where the members of vmcb02 come from when L2 is entered, a row a member.

What `enter.prepare_controls` does, by name; what has no row is L1's or the processor's.
Source: arch/x86/kvm/svm/nested.c: nested_vmcb02_prepare_control, nested_vmcb02_prepare_save.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vmcs.svm.intercepts import WORDS
from vmcs.svm.vmcb import SEGMENTS

VMCB12, VMCB01, MERGED, KVM = "vmcb12", "vmcb01", "vmcb01 and vmcb12", "KVM"
ADJUSTED: Final = "vmcb12, with KVM's bits"

ORIGINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{f"intercepts.{word}": MERGED for word in range(len(WORDS))},
        "int_ctl": MERGED,
        "tsc_offset": MERGED,
        "int_vector": VMCB12,
        "int_state": VMCB12,
        "event_inj": VMCB12,
        "event_inj_err": VMCB12,
        "next_rip": VMCB12,
        "pause_filter_count": VMCB12,
        "pause_filter_thresh": VMCB12,
        "misc_ctl2": VMCB12,
        "misc_ctl": VMCB01,
        "iopm_base_pa": VMCB01,
        "msrpm_base_pa": VMCB01,
        "tlb_ctl": KVM,
        **{
            f"{name}.{part}": VMCB12
            for name in ("es", "cs", "ss", "ds", "gdtr", "idtr")
            for part in ("selector", "attrib", "limit", "base")
            if name in SEGMENTS
        },
        "cpl": VMCB12,
        "rip": VMCB12,
        "rsp": VMCB12,
        "rax": VMCB12,
        "rflags": VMCB12,
        "cr2": VMCB12,
        "cr3": VMCB12,
        "dr6": VMCB12,
        "dr7": VMCB12,
        "cr0": ADJUSTED,
        "cr4": ADJUSTED,
        "efer": ADJUSTED,
    }
)
