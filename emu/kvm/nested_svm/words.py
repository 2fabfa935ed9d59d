"""The words that the rules of KVM_SET_NESTED_STATE on AMD read: their names, and their places.

Words of the blob are named as they stand there: the header's in upper case, members of the VMCB by
their name in `vmcs.svm.vmcb`, in upper case.  The save area of the blob is L1's, so ``CR0`` is the
CR0 that L1 had at VMRUN; what the vCPU holds at the time of the ioctl is named ``VCPU_CR0``.
"""

from typing import NamedTuple

from vmcs.nested_state import SVM_ADDED, SVM_BASE, VMCB12_OFFSET
from vmcs.schema import check_unique
from vmcs.svm.vmcb import member


class BlobWord(NamedTuple):
    """A word of the blob: byte offset and width in bytes."""

    name: str
    offset: int
    width: int
    section: str


HEADER_WORDS = tuple(
    BlobWord(row.name.upper(), row.offset, row.size, row.cite)
    for row in (*SVM_BASE, *SVM_ADDED)
    if not row.reserved
)
"""FLAGS, FORMAT, SIZE, VMCB_PA and GPAT."""

_MEMBERS = (
    "iopm_base_pa",
    "msrpm_base_pa",
    "asid",
    "tlb_ctl",
    "int_ctl",
    "misc_ctl",
    "event_inj",
    "nested_cr3",
    "cs.attrib",
    "efer",
    "cr4",
    "cr3",
    "cr0",
    "dr7",
    "dr6",
    "rflags",
)


def _of_vmcb(name: str) -> BlobWord:
    row = member(name)
    return BlobWord(name.upper(), VMCB12_OFFSET + row.offset, row.size, row.cite)


def _intercepts(word: int) -> BlobWord:
    row = member("intercepts")
    return BlobWord(f"INTERCEPTS_{word}", VMCB12_OFFSET + row.offset + 4 * word, 4, row.cite)


BLOB_WORDS = (
    *HEADER_WORDS,
    _intercepts(3),
    _intercepts(4),
    *(_of_vmcb(name) for name in _MEMBERS),
)
"""Every word of the blob that a rule reads."""

check_unique([word.name for word in BLOB_WORDS], "BLOB_WORDS")

ENVIRONMENT_WORDS = (
    "STATE_BYTES",  # bytes that can be read at the pointer that user space gave
    "VCPU_EFER",
    "VCPU_CR0",
    "VCPU_CR3",
    "VCPU_IN_SMM",  # 1 in system-management mode
    "VCPU_IN_L2",  # 1 in guest mode
    "PHYSICAL_RESERVED",  # bits that no guest-physical address of this vCPU has
    "CR3_RESERVED",  # bits that no CR3 of this vCPU has
    "CR4_RESERVED",  # bits that CR4 of this vCPU's guest must have clear
    "EFER_RESERVED",  # bits that EFER of this vCPU's guest must have clear
    "MISC_CTL_CACHED",  # bits of misc_ctl that KVM takes over for this guest
    "EXCEPTION_VECTORS",  # bit n: vector n is an exception that this guest can have
    "NESTED_PAGING",  # 1 where KVM itself uses nested paging
    "SHARED_PAT",  # 1 where the quirk is on by which L2 uses the PAT of L1
    "MSRPM_IN_MEMORY",  # 1 where the page at msrpm_base_pa lies in a memory slot
    "UNKNOWN_FLAGS",  # flags that the ioctl layer of the release refuses
    "SAVE_AREA_END",  # bytes of the blob up to the end of the save area that SET reads
)

DERIVED_WORDS = ("MISC_CTL_OF_L2", "IOPM", "MSRPM", "INJECTED")

WORDS = (*(word.name for word in BLOB_WORDS), *ENVIRONMENT_WORDS, *DERIVED_WORDS)
"""Every word of the program, in its order."""
