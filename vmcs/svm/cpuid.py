"""CPUID leaf 8000_000Ah: which parts of SVM a processor has.

Bits have the names of the manual, volume 3; macros are Linux's ``X86_FEATURE_`` of
``arch/x86/include/asm/cpufeatures.h`` in 7.3.
"""

from __future__ import annotations

from vmcs.schema import BitTable, Layout, bits, flag, gap, reserved

LEAF = 0x8000_000A
"""Number of the leaf, which exists where CPUID Fn8000_0001_ECX[SVM] is 1."""

SVM_FEATURES = "CPUID Fn8000_000A, SVM Revision and Feature Identification"

EAX = Layout(
    "Fn8000_000A_EAX", 32, bits("SVM_REV", 0, 7, "SVM revision"), gap(8, 31), apm=SVM_FEATURES
)
EBX = Layout(
    "Fn8000_000A_EBX", 32, bits("NASID", 0, 31, "Number of address space IDs"), apm=SVM_FEATURES
)


class SvmFeatureEcx(BitTable, width=32, apm=SVM_FEATURES, macros="X86_FEATURE_"):
    """Feature bits in ECX."""

    RESERVED_0_3 = reserved(0, 3)
    PML = flag(4, "Page modification logging", apm="Page Modification Logging")
    ENHANCED_TLBI = flag(5, "Enhanced INVLPGB and TLBSYNC")
    X2AVIC_EXT = flag(6, "4096 vCPUs supported in x2AVIC mode", "X2AVIC_EXT")
    RESERVED_7_31 = reserved(7, 31)


class SvmFeature(BitTable, width=32, apm=SVM_FEATURES, macros="X86_FEATURE_"):
    """Feature bits in EDX."""

    NP = flag(0, "Nested paging", "NPT")
    LBR_VIRT = flag(1, "LBR virtualization", "LBRV")
    SVML = flag(2, "SVM lock", "SVML")
    NRIPS = flag(3, "NRIP save on #VMEXIT", "NRIPS")
    TSC_RATE_MSR = flag(4, "MSR based TSC rate control", "TSCRATEMSR")
    VMCB_CLEAN = flag(5, "VMCB clean bits", "VMCBCLEAN")
    FLUSH_BY_ASID = flag(6, "TLB flush by ASID", "FLUSHBYASID")
    DECODE_ASSISTS = flag(7, "Decode assists", "DECODEASSISTS")
    PMC_VIRT = flag(8, "Performance monitoring counter virtualization")
    RESERVED_9 = reserved(9)
    PAUSE_FILTER = flag(10, "Pause intercept filter", "PAUSEFILTER")
    RESERVED_11 = reserved(11)
    PAUSE_FILTER_THRESHOLD = flag(12, "PAUSE filter cycle count threshold", "PFTHRESHOLD")
    AVIC = flag(13, "AMD virtual interrupt controller", "AVIC")
    RESERVED_14 = reserved(14)
    VMSAVE_VIRT = flag(15, "VMSAVE and VMLOAD virtualization", "V_VMSAVE_VMLOAD")
    VGIF = flag(16, "Virtualized GIF", "VGIF")
    GMET = flag(17, "Guest mode execution trap", "GMET")
    X2AVIC = flag(18, "Virtualized x2APIC", "X2AVIC")
    SSS_CHECK = flag(19, "SVM supervisor shadow stack restrictions")
    SPEC_CTRL = flag(20, "SPEC_CTRL virtualization", "V_SPEC_CTRL")
    ROGPT = flag(21, "Read-only guest page table feature support")
    RESERVED_22 = reserved(22)
    HOST_MCE_OVERRIDE = flag(23, "Host machine-check handling overrides the guest's")
    TLBI_CTL = flag(24, "INVLPGB/TLBSYNC hypervisor enable and TLBSYNC intercept")
    VNMI = flag(25, "NMI virtualization", "VNMI")
    IBS_VIRT = flag(26, "IBS virtualization")
    EXT_LVT_AVIC_ACCESS_CHG = flag(27, "Extended interrupt LVT register AVIC access changes")
    NESTED_VIRT_VMCB_ADDR_CHK = flag(28, "Guest VMCB address check", "SVME_ADDR_CHK")
    BUS_LOCK_THRESHOLD = flag(29, "Bus lock threshold", "BUS_LOCK_THRESHOLD")
    IDLE_HLT_INTERCEPT = flag(30, "Idle HLT intercept", "IDLE_HLT")
    RESERVED_31 = reserved(31)
