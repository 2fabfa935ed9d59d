"""CPUID words that KVM judges bit by bit: which bits have a name, and which it always passes on.

Names are those of Linux (``X86_FEATURE_*`` in arch/x86/include/asm/cpufeatures.h and
arch/x86/kvm/reverse_cpuid.h, ``KVM_FEATURE_*`` in arch/x86/include/uapi/asm/kvm_para.h).  The facts
`cpuid`, `cpuid_vmx`, `cpuid_svm`, `cpuid_svm_hidden` and `cpuid_emulated` of a release use them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from emu.kvm.cpuid import EAX, EBX, ECX, EDX
from vmcs.schema import check_unique


class Word(NamedTuple):
    """A register of a leaf: names with bit numbers, those that every release passes on apart."""

    name: str
    function: int
    subleaf: int
    register: int
    always: str = ""
    by_release: str = ""


# Linux, arch/x86/kvm/cpuid.c: __do_cpuid_ent (4.18) to kvm_initialize_cpu_caps (7.3).
# fmt: off
WORDS: Final = (
    Word(
        "1.ecx", 0x1, 0, ECX,
        "XMM3:0 PCLMULQDQ:1 SSSE3:9 FMA:12 CX16:13 PCID:17 XMM4_1:19 XMM4_2:20 MOVBE:22 POPCNT:23 "
        "AES:25 XSAVE:26 AVX:28 F16C:29 RDRAND:30",
        "DTES64:2 VMX:5 PDCM:15 X2APIC:21 TSC_DEADLINE_TIMER:24 HYPERVISOR:31",
    ),
    Word(
        "1.edx", 0x1, 0, EDX,
        "FPU:0 VME:1 DE:2 PSE:3 TSC:4 MSR:5 PAE:6 MCE:7 CX8:8 APIC:9 SEP:11 MTRR:12 PGE:13 MCA:14 "
        "CMOV:15 PAT:16 PSE36:17 CLFLUSH:19 MMX:23 FXSR:24 XMM:25 XMM2:26 SELFSNOOP:27",
        "DS:21",
    ),
    Word(
        "7.0.ebx", 0x7, 0, EBX,
        "FSGSBASE:0 BMI1:3 HLE:4 AVX2:5 SMEP:7 BMI2:8 ERMS:9 RTM:11 AVX512F:16 AVX512DQ:17 "
        "RDSEED:18 ADX:19 SMAP:20 AVX512IFMA:21 CLFLUSHOPT:23 CLWB:24 AVX512PF:26 AVX512ER:27 "
        "AVX512CD:28 SHA_NI:29 AVX512BW:30 AVX512VL:31",
        "TSC_ADJUST:1 SGX:2 FDP_EXCPTN_ONLY:6 INVPCID:10 ZERO_FCS_FDS:13 MPX:14",
    ),
    Word(
        "7.0.ecx", 0x7, 0, ECX,
        "AVX512VBMI:1 UMIP:2 AVX512_VBMI2:6 GFNI:8 VAES:9 VPCLMULQDQ:10 AVX512_VNNI:11 "
        "AVX512_BITALG:12 AVX512_VPOPCNTDQ:14 LA57:16 CLDEMOTE:25",
        "PKU:3 WAITPKG:5 SHSTK:7 RDPID:22 BUS_LOCK_DETECT:24 MOVDIRI:27 MOVDIR64B:28 SGX_LC:30",
    ),
    Word(
        "7.0.edx", 0x7, 0, EDX,
        "AVX512_4VNNIW:2 AVX512_4FMAPS:3 SPEC_CTRL:26 SPEC_CTRL_SSBD:31",
        "FSRM:4 AVX512_VP2INTERSECT:8 MD_CLEAR:10 SERIALIZE:14 TSXLDTRK:16 IBT:20 AMX_BF16:22 "
        "AVX512_FP16:23 AMX_TILE:24 AMX_INT8:25 INTEL_STIBP:27 FLUSH_L1D:28 ARCH_CAPABILITIES:29",
    ),
    Word(
        "7.1.eax", 0x7, 1, EAX, "",
        "SHA512:0 SM3:1 SM4:2 AVX_VNNI:4 AVX512_BF16:5 CMPCCXADD:7 FZRM:10 FSRS:11 FSRC:12 LKGS:18 "
        "WRMSRNS:19 AMX_FP16:21 AVX_IFMA:23 LAM:26 MOVRS:31",
    ),
    Word("7.1.ecx", 0x7, 1, ECX, "", "MSR_IMM:5"),
    Word(
        "7.1.edx", 0x7, 1, EDX, "",
        "AVX_VNNI_INT8:4 AVX_NE_CONVERT:5 AMX_COMPLEX:8 AVX_VNNI_INT16:10 PREFETCHITI:14 AVX10:19",
    ),
    Word(
        "7.2.edx", 0x7, 2, EDX, "",
        "INTEL_PSFD:0 IPRED_CTRL:1 RRSBA_CTRL:2 DDPD_U:3 BHI_CTRL:4 MCDT_NO:5",
    ),
    Word("d.1.eax", 0xD, 1, EAX, "XSAVEOPT:0 XSAVEC:1 XGETBV1:2 XSAVES:3", "XFD:4"),
    Word("12.0.eax", 0x12, 0, EAX, "", "SGX1:0 SGX2:1 SGX_EDECCSSA:11"),
    Word(
        "1e.1.eax", 0x1E, 1, EAX, "",
        "AMX_INT8_ALIAS:0 AMX_BF16_ALIAS:1 AMX_COMPLEX_ALIAS:2 AMX_FP16_ALIAS:3 AMX_FP8:4 "
        "AMX_TF32:6 AMX_AVX512:7 AMX_MOVRS:8",
    ),
    Word("24.0.ebx", 0x24, 0, EBX, "", "AVX10_128:16 AVX10_256:17 AVX10_512:18"),
    Word("24.1.ecx", 0x24, 1, ECX, "", "AVX10_VNNI_INT:2"),
    Word(
        "kvm.eax", 0x4000_0001, 0, EAX,
        "KVM_CLOCKSOURCE:0 KVM_NOP_IO_DELAY:1 KVM_CLOCKSOURCE2:3 KVM_ASYNC_PF:4 KVM_STEAL_TIME:5 "
        "KVM_PV_EOI:6 KVM_PV_UNHALT:7 KVM_PV_TLB_FLUSH:9 KVM_ASYNC_PF_VMEXIT:10 "
        "KVM_CLOCKSOURCE_STABLE_BIT:24",
        "KVM_PV_SEND_IPI:11 KVM_POLL_CONTROL:12 KVM_PV_SCHED_YIELD:13 KVM_ASYNC_PF_INT:14",
    ),
    Word(
        "80000001.ecx", 0x8000_0001, 0, ECX,
        "LAHF_LM:0 CMP_LEGACY:1 CR8_LEGACY:4 ABM:5 SSE4A:6 MISALIGNSSE:7 3DNOWPREFETCH:8 OSVW:9 "
        "XOP:11 FMA4:16 TBM:21 TOPOEXT:22",
        "SVM:2 PERFCTR_CORE:23",
    ),
    Word(
        "80000001.edx", 0x8000_0001, 0, EDX,
        "AMD_FPU:0 AMD_VME:1 AMD_DE:2 AMD_PSE:3 AMD_TSC:4 AMD_MSR:5 AMD_PAE:6 AMD_MCE:7 AMD_CX8:8 "
        "AMD_APIC:9 SYSCALL:11 AMD_MTRR:12 AMD_PGE:13 AMD_MCA:14 AMD_CMOV:15 AMD_PAT:16 "
        "AMD_PSE36:17 NX:20 MMXEXT:22 AMD_MMX:23 AMD_FXSR:24 FXSR_OPT:25 GBPAGES:26 RDTSCP:27 "
        "LM:29 3DNOWEXT:30 3DNOW:31",
    ),
    Word("80000007.edx", 0x8000_0007, 0, EDX, "CONSTANT_TSC:8"),
    Word(
        "80000008.ebx", 0x8000_0008, 0, EBX,
        "AMD_IBPB:12 AMD_IBRS:14 AMD_SSBD:24 VIRT_SSBD:25 AMD_SSB_NO:26",
        "CLZERO:0 XSAVEERPTR:2 WBNOINVD:9 AMD_STIBP:15 AMD_STIBP_ALWAYS_ON:17 "
        "AMD_IBRS_SAME_MODE:19 EFER_LMSLE_MBZ:20 AMD_PSFD:28 AMD_IBPB_RET:30",
    ),
    Word(
        "8000000a.edx", 0x8000_000A, 0, EDX, "",
        "NPT:0 LBRV:1 NRIPS:3 TSCRATEMSR:4 VMCBCLEAN:5 FLUSHBYASID:6 PAUSEFILTER:10 PFTHRESHOLD:12 "
        "V_VMSAVE_VMLOAD:15 VGIF:16 GMET:17 VNMI:25 SVME_ADDR_CHK:28",
    ),
    Word(
        "80000021.eax", 0x8000_0021, 0, EAX, "",
        "NO_NESTED_DATA_BP:0 WRMSR_XX_BASE_NS:1 LFENCE_RDTSC:2 VERW_CLEAR:5 NULL_SEL_CLR_BASE:6 "
        "AUTOIBRS:8 NO_SMM_CTL_MSR:9 GP_ON_USER_CPUID:17 PREFETCHI:20 AVX512_BMM:23 ERAPS:24 "
        "SBPB:27 IBPB_BRTYPE:28 SRSO_NO:29 SRSO_USER_KERNEL_NO:30",
    ),
    Word("80000021.ecx", 0x8000_0021, 0, ECX, "", "TSA_SQ_NO:1 TSA_L1_NO:2 TSA_FILL_NO:7"),
    Word("80000022.eax", 0x8000_0022, 0, EAX, "", "PERFMON_V2:0"),
)
# fmt: on


def _bits(text: str) -> dict[str, int]:
    return {name: 1 << int(bit) for name, bit in (token.split(":") for token in text.split())}


WORD: Final = {word.name: word for word in WORDS}
ALWAYS: Final = {word.name: sum(_bits(word.always).values()) for word in WORDS}
"""Bits of each word that every release passes on where the processor has them."""

# Name of a feature to its word and bit.
PLACE: Final = {
    name: (word.name, bit)
    for word in WORDS
    for name, bit in (_bits(word.always) | _bits(word.by_release)).items()
}
BY_RELEASE: Final = frozenset(name for word in WORDS for name in _bits(word.by_release))
"""Features that not every release passes on: the members of the facts `cpuid`."""

check_unique([word.name for word in WORDS], "WORDS")
check_unique(
    [name for word in WORDS for name in (*_bits(word.always), *_bits(word.by_release))], "WORDS"
)


def masks(names: Iterable[str]) -> dict[str, int]:
    """The bits of the features `names`, by word."""
    found: dict[str, int] = {}
    for name in names:
        word, bit = PLACE[name]
        found[word] = found.get(word, 0) | bit
    return found
