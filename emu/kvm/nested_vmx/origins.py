"""Where the fields of vmcs02 come from when L2 is entered, a row a field.

What `enter.prepare_vmcs02` does, by name; a field without a row is not written for nesting.
Source: arch/x86/kvm/vmx/nested.c: prepare_vmcs02_early, prepare_vmcs02_rare, prepare_vmcs02.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from emu.kvm.nested_vmx.enter import ENTRY, EXIT, PIN, PROC, PROC2
from emu.kvm.nested_vmx.groups import (
    EOI_EXIT_BITMAPS,
    GUEST_CET,
    INJECTION,
    PAGE_FAULT_CODES,
    PDPTRS,
    TO_VMCS02_RARE,
)

VMCS12, MERGED, ADJUSTED = "vmcs12", "vmcs01 and vmcs12", "vmcs12, with KVM's bits"
VMCS01, KVM = "vmcs01", "KVM"

ORIGINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(TO_VMCS02_RARE.fields, VMCS12),
        **dict.fromkeys(PDPTRS.fields, VMCS12),
        **dict.fromkeys(PAGE_FAULT_CODES.fields, VMCS12),
        **dict.fromkeys(EOI_EXIT_BITMAPS.fields, VMCS12),
        **dict.fromkeys(INJECTION.fields, VMCS12),
        "GUEST_RIP": VMCS12,
        "GUEST_RSP": VMCS12,
        "GUEST_RFLAGS": VMCS12,
        "GUEST_CR3": VMCS12,
        "TPR_THRESHOLD": VMCS12,
        "GUEST_INTR_STATUS": VMCS12,
        "XSS_EXIT_BITMAP": VMCS12,
        PIN: MERGED,
        PROC: MERGED,
        PROC2: MERGED,
        ENTRY: MERGED,
        EXIT: VMCS01,
        "EXCEPTION_BITMAP": MERGED,
        "TSC_OFFSET": MERGED,
        "CR0_GUEST_HOST_MASK": MERGED,
        "GUEST_IA32_DEBUGCTL": MERGED,
        "GUEST_BNDCFGS": MERGED,
        **dict.fromkeys(GUEST_CET.fields, MERGED),
        "GUEST_CR0": ADJUSTED,
        "GUEST_CR4": ADJUSTED,
        "CR0_READ_SHADOW": ADJUSTED,
        "CR4_READ_SHADOW": ADJUSTED,
        "CR4_GUEST_HOST_MASK": ADJUSTED,
        "GUEST_IA32_PAT": ADJUSTED,
        "VMCS_LINK_POINTER": KVM,
        "VIRTUAL_PROCESSOR_ID": KVM,
    }
)
