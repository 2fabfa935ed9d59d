"""The words that the VM-entry checks read beside the VMCS fields.

A VMCS field is a word under its own name.  The words below are what the processor, its capability
MSRs and memory contribute; `DERIVED` are written by `let` rows on the way.
"""

from typing import NamedTuple

from vmcs.check_programs import Vocabulary
from vmcs.vmx.fields import FIELDS


class Contributed(NamedTuple):
    """A word that is no VMCS field: its name and what it holds."""

    name: str
    meaning: str


# fmt: off
PROCESSOR = (
    Contributed("PHYSICAL_RESERVED", "bits at and above the physical-address width"),
    Contributed("PAGE_RESERVED", "PHYSICAL_RESERVED and bits 11:0"),
    Contributed("LINEAR_ADDRESS_WIDTH", "number of linear-address bits: 48 or 57"),
    Contributed("CR3_RESERVED", "bits that MOV to CR3 refuses, the LAM bits not among them"),
    Contributed("CURRENT_EFER", "IA32_EFER when VM entry begins"),
    Contributed("CURRENT_VMCS", "physical address of the current VMCS"),
    Contributed("IN_SMM", "1 in system-management mode"),
    Contributed("EFER_RESERVED", "bits of IA32_EFER that this processor does not have"),
    Contributed("DEBUGCTL_RESERVED", "bits of IA32_DEBUGCTL that this processor does not have"),
    Contributed("PERF_GLOBAL_RESERVED", "bits of IA32_PERF_GLOBAL_CTRL without a counter"),
    Contributed("S_CET_RESERVED", "bits of IA32_S_CET that WRMSR refuses"),
    Contributed("RTIT_CTL_RESERVED", "bits of IA32_RTIT_CTL that WRMSR refuses"),
    Contributed("LBR_CTL_RESERVED", "bits of IA32_LBR_CTL that WRMSR refuses"),
)

CAPABILITIES = (
    Contributed("VMCS_REVISION", "IA32_VMX_BASIC bits 30:0"),
    Contributed("ERROR_CODE_FREE", "IA32_VMX_BASIC bit 56: error codes need not match the vector"),
    Contributed("PIN_MUST_BE_1", "pin-based controls that must be 1"),
    Contributed("PIN_MAY_BE_1", "pin-based controls that may be 1"),
    Contributed("PROC_MUST_BE_1", "primary processor-based controls that must be 1"),
    Contributed("PROC_MAY_BE_1", "primary processor-based controls that may be 1"),
    Contributed("PROC2_MUST_BE_1", "secondary processor-based controls that must be 1"),
    Contributed("PROC2_MAY_BE_1", "secondary processor-based controls that may be 1"),
    Contributed("PROC3_MAY_BE_1", "tertiary processor-based controls that may be 1"),
    Contributed("EXIT_MUST_BE_1", "VM-exit controls that must be 1"),
    Contributed("EXIT_MAY_BE_1", "VM-exit controls that may be 1"),
    Contributed("EXIT2_MAY_BE_1", "secondary VM-exit controls that may be 1"),
    Contributed("ENTRY_MUST_BE_1", "VM-entry controls that must be 1"),
    Contributed("ENTRY_MAY_BE_1", "VM-entry controls that may be 1"),
    Contributed("CR0_FIXED0", "IA32_VMX_CR0_FIXED0, CD and NW never checked"),
    Contributed("CR0_FIXED0_UNRESTRICTED", "the same without PE and PG"),
    Contributed("CR0_FIXED1", "IA32_VMX_CR0_FIXED1, CD and NW never checked"),
    Contributed("CR4_FIXED0", "IA32_VMX_CR4_FIXED0"),
    Contributed("CR4_FIXED1", "IA32_VMX_CR4_FIXED1"),
    Contributed("CR3_TARGET_LIMIT", "IA32_VMX_MISC bits 24:16"),
    Contributed("ACTIVITY_STATES", "set of the supported activity states, as a bit set"),
    Contributed("ZERO_LENGTH_INJECTION", "IA32_VMX_MISC bit 30"),
    Contributed("EPTP_MEMORY_TYPES", "set of the memory types that EPTP bits 2:0 may hold"),
    Contributed("EPTP_WALK_LENGTHS", "set of the values that EPTP bits 5:3 may hold"),
    Contributed("EPTP_RESERVED", "bits of EPTP that must be 0 on this processor"),
    Contributed("VMFUNC_RESERVED", "VM functions that this processor does not have"),
)

MEMORY = (
    Contributed("VIRTUAL_TPR", "byte 80H of the virtual-APIC page, bits 7:4"),
    Contributed("LINK_FIRST_WORD", "first 4 bytes of the VMCS that the link pointer names"),
    Contributed("PDPTE0", "page-directory-pointer-table entry 0 that VM entry would load"),
    Contributed("PDPTE1", "page-directory-pointer-table entry 1 that VM entry would load"),
    Contributed("PDPTE2", "page-directory-pointer-table entry 2 that VM entry would load"),
    Contributed("PDPTE3", "page-directory-pointer-table entry 3 that VM entry would load"),
    Contributed("PDPTE_RESERVED", "reserved bits of a present PAE page-directory-pointer entry"),
)

DERIVED = (
    Contributed("PROC2", "secondary controls; 0 when they are not activated"),
    Contributed("PROC3", "tertiary controls; 0 when they are not activated"),
    Contributed("INJECTED", "VM-entry interruption information; 0 when it is not valid"),
    Contributed("REAL_MODE_INJECTION", "1 with unrestricted guest and GUEST_CR0 bit 0 clear"),
    Contributed("CS_DPL", "GUEST_CS_AR_BYTES bits 6:5"),
    Contributed("SS_DPL", "GUEST_SS_AR_BYTES bits 6:5"),
    Contributed("DS_DPL", "GUEST_DS_AR_BYTES bits 6:5"),
    Contributed("ES_DPL", "GUEST_ES_AR_BYTES bits 6:5"),
    Contributed("FS_DPL", "GUEST_FS_AR_BYTES bits 6:5"),
    Contributed("GS_DPL", "GUEST_GS_AR_BYTES bits 6:5"),
    Contributed("CS_RPL", "GUEST_CS_SELECTOR bits 1:0"),
    Contributed("SS_RPL", "GUEST_SS_SELECTOR bits 1:0"),
    Contributed("DS_RPL", "GUEST_DS_SELECTOR bits 1:0"),
    Contributed("ES_RPL", "GUEST_ES_SELECTOR bits 1:0"),
    Contributed("FS_RPL", "GUEST_FS_SELECTOR bits 1:0"),
    Contributed("GS_RPL", "GUEST_GS_SELECTOR bits 1:0"),
    Contributed("LINK_REVISION", "LINK_FIRST_WORD bits 30:0"),
    Contributed("PAE_PAGING", "nonzero when the guest will use PAE paging"),
)
# fmt: on

CONTRIBUTED = (*PROCESSOR, *CAPABILITIES, *MEMORY, *DERIVED)


def vocabulary() -> Vocabulary:
    """A new vocabulary of every VMCS field and every contributed word."""
    return Vocabulary((*(f.name for f in FIELDS), *(word.name for word in CONTRIBUTED)))
