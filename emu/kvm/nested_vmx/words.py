"""The words that the program of KVM_SET_NESTED_STATE on Intel reads.

The members of the ioctl's structure and the fields of its vmcs12 come from the blob; the rest is
what the vCPU, the release and guest memory contribute.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.kvm.nested_vmx.vmcs_row import PLACES
from vmcs.vmx.entry_checks.words import CONTRIBUTED
from vmcs.vmx.fields import FIELDS


class BlobWord(NamedTuple):
    """A member of the blob: its name, byte offset and width, and what it holds."""

    name: str
    offset: int
    width: int
    meaning: str


class KvmWord(NamedTuple):
    """A word that no blob holds: its name and what it holds."""

    name: str
    meaning: str


HEADER_SIZE: Final = 128
VMCS12_AT: Final = 128
SHADOW_AT: Final = 128 + 4096
WHOLE_SIZE: Final = 128 + 2 * 4096

# fmt: off
# include/uapi: struct kvm_nested_state and struct kvm_vmx_nested_state_hdr
HEADER_WORDS: Final = (
    BlobWord("FLAGS", 0, 2, "flags"),
    BlobWord("FORMAT", 2, 2, "format"),
    BlobWord("SIZE", 4, 4, "size"),
    BlobWord("VMXON_PA", 8, 8, "hdr.vmx.vmxon_pa"),
    BlobWord("VMCS12_PA", 16, 8, "hdr.vmx.vmcs12_pa"),
    BlobWord("SMM_FLAGS", 24, 2, "hdr.vmx.smm.flags"),
    BlobWord("VMX_HEADER_FLAGS", 28, 4, "hdr.vmx.flags"),
    BlobWord("DEADLINE", 32, 8, "hdr.vmx.preemption_timer_deadline"),
    BlobWord("VMCS12_FIRST_WORD", VMCS12_AT, 4, "vmcs12: revision and shadow-VMCS indicator"),
    BlobWord("SHADOW_FIRST_WORD", SHADOW_AT, 4, "shadow vmcs12: the same"),
)

KVM_WORDS: Final = (
    KvmWord("ONE", "1"),
    KvmWord("STATE_BYTES", "bytes that user space gave, from the header on"),
    KvmWord("UNKNOWN_FLAGS", "flags that the release's ioctl layer does not know"),
    KvmWord("GUEST_HAS_VMX", "1 where the guest's CPUID has VMX and KVM lets it"),
    KvmWord("EVMCS_ENABLED", "1 after KVM_ENABLE_CAP(KVM_CAP_HYPERV_ENLIGHTENED_VMCS)"),
    KvmWord("EVMCS_VISIBLE", "1 where the guest itself also sees Hyper-V's enlightened VMCS"),
    KvmWord("HAS_HYPERV", "1 where the kernel was built with CONFIG_KVM_HYPERV"),
    KvmWord("VMCS12_SHORT_SIZE", "largest size that has no room for vmcs12"),
    KvmWord("SHADOW_SHORT_SIZE", "largest size that has no room for the shadow vmcs12"),
    KvmWord("ENTRY_STATUS", "what the ioctl gives where L2 cannot be entered"),
    KvmWord("CR4_RESERVED", "bits of CR4 that KVM refuses for the guest's CPUID"),
    KvmWord("VCPU_ADDRESS_WIDTH", "linear-address bits that CR4.LA57 of the vCPU selects"),
    KvmWord("MSR_AREA_LIMIT", "most entries of an MSR area that IA32_VMX_MISC allows"),
    KvmWord("LINK_BACKED", "1 where a memory slot holds the page at the link pointer"),
    KvmWord("PDPTES_BACKED", "1 where a memory slot holds the 32 bytes at L2's CR3"),
    KvmWord("PMU_HAS_GLOBAL_CTRL", "1 where the vCPU's PMU has IA32_PERF_GLOBAL_CTRL"),
    KvmWord("REAL_MODE_L2", "1 where L2 is an unrestricted guest in real mode"),
    KvmWord("L2_PAE_WITHOUT_EPT", "nonzero where KVM loads L2's PDPTEs itself"),
)
# fmt: on

# The VMCS fields that vmcs12 holds, at their place in the blob.
VMCS12_WORDS: Final = {
    name: (VMCS12_AT + offset, width) for name, (offset, width) in PLACES.items()
}
BLOB_WORDS: Final = {
    **{word.name: (word.offset, word.width) for word in HEADER_WORDS},
    **VMCS12_WORDS,
}
NAMES: Final = (
    *(word.name for word in HEADER_WORDS),
    *(word.name for word in KVM_WORDS),
    *(field.name for field in FIELDS),
    *(word.name for word in CONTRIBUTED),
)
