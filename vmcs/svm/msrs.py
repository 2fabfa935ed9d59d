"""MSRs of SVM, and the permission maps that intercept accesses to MSRs and I/O ports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vmcs.schema import Cited, Layout, bit, bits, check_ascending, cited, gap


class Access(Enum):
    """What RDMSR and WRMSR may do with an MSR; the other of the two raises #GP(0)."""

    READ_WRITE = "read and write"
    READ_ONLY = "read only"
    WRITE_ONLY = "write only"
    WRITE_ONLY_READS_0 = "write only, reads as zero"


@dataclass(frozen=True)
class Msr:
    """One MSR, as a row; its layout cites the manual.

    `macro` is Linux's in ``arch/x86/include/asm/msr-index.h`` of 7.3.
    """

    name: str
    index: int
    layout: Layout
    access: Access = Access.READ_WRITE
    macro: str = ""


VM_CR = Layout(
    "VM_CR",
    64,
    bit("DPD", 0, "Disable the external hardware debug port"),
    bit("R_INIT", 1, "Non-intercepted INIT signals become #SX exceptions"),
    bit("DIS_A20M", 2, "Disable A20 masking"),
    bit("LOCK", 3, "Writes to LOCK and SVMDIS are silently ignored"),
    bit("SVMDIS", 4, "Writes to EFER treat the SVME bit as MBZ"),
    gap(5, 63),
    apm="VM_CR MSR",
)
IGNNE = Layout(
    "IGNNE", 64, bit("IGNNE", 0, "State of the IGNNE signal"), gap(1, 63), apm="IGNNE MSR"
)
SMM_CTL = Layout(
    "SMM_CTL",
    64,
    bit("DISMISS", 0, "Clear the processor-internal SMI-pending flag"),
    bit("ENTER", 1, "Enter SMM"),
    bit("SMI_CYCLE", 2, "Send SMI special cycle"),
    bit("EXIT", 3, "Exit SMM"),
    bit("RSM_CYCLE", 4, "Send RSM special cycle"),
    gap(5, 63),
    apm="SMM_CTL MSR",
)
TSC_RATIO = Layout(
    "TSC_RATIO",
    64,
    bits("FRAC", 0, 31, "Fractional part of TSCRatio"),
    bits("INT", 32, 39, "Integer part of TSCRatio"),
    gap(40, 63),
    apm="TSC Ratio MSR",
)
TSC_RATIO_RESET = 1 << 32
"""TSCRatio of 1.0, the value after reset. APM: TSC Ratio MSR."""

DOORBELL = Layout(
    "AVIC_DOORBELL",
    64,
    bits("PHYSICAL_APIC_ID", 0, 7, "APIC ID of the core to signal"),
    gap(8, 63),
    apm="Doorbell Mechanism",
)
VMPAGE_FLUSH = Layout(
    "VMPAGE_FLUSH",
    64,
    bits("ASID", 0, 11, "Guest ASID to use for the flush"),
    bits("VIRTUAL_ADDR", 12, 63, "Host virtual address of the page to flush"),
    apm="Page Flush MSR",
)
SEV_STATUS = Layout(
    "SEV_STATUS",
    64,
    bit("SEV_ENABLED", 0, "SEV was enabled in VMCB offset 90h"),
    bit("SEV_ES_ENABLED", 1, "SEV-ES was enabled in VMCB offset 90h"),
    bit("SNP_ACTIVE", 2, "SNP-Active mode is selected"),
    bit("VTOM_ACTIVE", 3, "Virtual TOM is enabled"),
    bit("REFLECT_VC_ACTIVE", 4, "ReflectVC is enabled"),
    bit("RESTRICTED_INJECTION_ACTIVE", 5, "Restricted Injection is enabled"),
    bit("ALTERNATE_INJECTION_ACTIVE", 6, "Alternate Injection is enabled"),
    bit("DEBUG_VIRTUALIZATION_ACTIVE", 7, "Debug Virtualization is enabled"),
    bit("PREVENT_HOST_IBS_ACTIVE", 8, "PreventHostIBS is enabled"),
    bit("SNP_BTB_ISOLATION_ACTIVE", 9, "BTB isolation is enabled"),
    bit("VMPL_SSS_ACTIVE", 10, "VMPL SSS is enabled"),
    bit("SECURE_TSC_ACTIVE", 11, "Secure TSC is enabled"),
    bit("VMGEXIT_PARAMETER_ACTIVE", 12, "VMGEXIT Parameter is enabled"),
    bit("PMC_VIRTUALIZATION_ACTIVE", 13, "PMC Virtualization is enabled"),
    bit("IBS_VIRTUALIZATION_ACTIVE", 14, "IBS Virtualization is enabled"),
    bit("GUEST_INTERCEPT_CTL_ACTIVE", 15, "Guest Intercept Control is enabled"),
    bit("VMSA_REG_PROT_ACTIVE", 16, "VMSA Register Protection is enabled"),
    bit("SMT_PROTECTION_ACTIVE", 17, "SMT Protection is enabled"),
    bit("SECURE_AVIC_ACTIVE", 18, "Secure AVIC is enabled"),
    gap(19, 22),
    bit("IBPB_ON_ENTRY_ACTIVE", 23, "IBPB on Entry is enabled"),
    gap(24, 63),
    apm="SEV_STATUS MSR",
)
VM_HSAVE_PA = Layout(
    "VM_HSAVE_PA",
    64,
    gap(0, 11),
    bits("ADDRESS", 12, 63, "Physical address of the 4 KB block that holds host state"),
    apm="VM_HSAVE_PA MSR",
)


def _whole(name: str, phrase: str, section: str) -> Layout:
    return Layout(name, 64, bits("VALUE", 0, 63, phrase), apm=section)


SVM_KEY = _whole("SVM_KEY", "Key that clears VM_CR.LOCK when it is written again", "SVM_KEY MSR")
SMM_KEY = _whole("SMM_KEY", "Key that clears SmmLock when it is written again", "SMM_KEY MSR")
GHCB = _whole("GHCB", "Guest physical address of GHCB", "GHCB")

SVM_MSRS = (
    Msr("TSC_RATIO", 0xC000_0104, TSC_RATIO, macro="MSR_AMD64_TSC_RATIO"),
    Msr("VM_CR", 0xC001_0114, VM_CR, macro="MSR_VM_CR"),
    Msr("IGNNE", 0xC001_0115, IGNNE, macro="MSR_VM_IGNNE"),
    Msr("SMM_CTL", 0xC001_0116, SMM_CTL, Access.WRITE_ONLY),
    Msr("VM_HSAVE_PA", 0xC001_0117, VM_HSAVE_PA, macro="MSR_VM_HSAVE_PA"),
    Msr("SVM_KEY", 0xC001_0118, SVM_KEY, Access.WRITE_ONLY_READS_0),
    Msr("SMM_KEY", 0xC001_0119, SMM_KEY, Access.WRITE_ONLY_READS_0),
    Msr("AVIC_DOORBELL", 0xC001_011B, DOORBELL, Access.WRITE_ONLY, "MSR_AMD64_SVM_AVIC_DOORBELL"),
    Msr("VMPAGE_FLUSH", 0xC001_011E, VMPAGE_FLUSH, Access.WRITE_ONLY, "MSR_AMD64_VM_PAGE_FLUSH"),
    Msr("GHCB", 0xC001_0130, GHCB, macro="MSR_AMD64_SEV_ES_GHCB"),
    Msr("SEV_STATUS", 0xC001_0131, SEV_STATUS, Access.READ_ONLY, "MSR_AMD64_SEV"),
)
"""The MSRs that SVM adds, by rising index. GHCB exists in guest mode only."""

check_ascending([row.index for row in SVM_MSRS], "SVM_MSRS")

IOPM_SIZE = 3 * 4096
"""Bytes of the I/O permissions map: a bit a port, 64K + 3 bits. APM: I/O Permissions Map."""

MSRPM_SIZE = 2 * 4096
"""Bytes of the MSR permissions map: two bits an MSR, read below write. APM: MSR Intercepts."""


@dataclass(frozen=True)
class MsrpmRange(Cited):
    """A run of MSRs that the MSR permissions map covers, from byte `offset` of the map."""

    offset: int
    first: int
    last: int


MSRPM_RANGES = cited(
    (
        MsrpmRange(0x0000, 0x0000_0000, 0x0000_1FFF),
        MsrpmRange(0x0800, 0xC000_0000, 0xC000_1FFF),
        MsrpmRange(0x1000, 0xC001_0000, 0xC001_1FFF),
    ),
    apm="MSR Intercepts",
)
"""MSR ranges covered by the map; bytes 1800h to 1FFFh are reserved."""


def msrpm_bit(index: int) -> int | None:
    """Bit number in the map that intercepts RDMSR of `index`; WRMSR has the bit above.

    None for an MSR that the map does not cover: such accesses are always intercepted.
    """
    for run in MSRPM_RANGES:
        if run.first <= index <= run.last:
            return run.offset * 8 + (index - run.first) * 2
    return None
