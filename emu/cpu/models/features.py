"""Features by name: where CPUID tells them. SDM Vol. 2, CPUID; APM Vol. 3, Appendix E."""

from __future__ import annotations

from typing import Final, NamedTuple

from vmcs.schema import check_unique

EAX, EBX, ECX, EDX = range(4)


class Feature(NamedTuple):
    """A bit of CPUID."""

    name: str
    leaf: int
    subleaf: int
    register: int
    bit: int


def names(*lines: str) -> tuple[str, ...]:
    """The names in lines of text."""
    return tuple(name for line in lines for name in line.split())


class Word(NamedTuple):
    """A register of a leaf and the names of its bits."""

    leaf: int
    subleaf: int
    register: int
    names: str


# fmt: off
WORDS: Final = (
    Word(0x1, 0, ECX,
        "SSE3:0 PCLMULQDQ:1 DTES64:2 MONITOR:3 VMX:5 SMX:6 SSSE3:9 FMA:12 CX16:13 PDCM:15 PCID:17 "
        "SSE4_1:19 SSE4_2:20 X2APIC:21 MOVBE:22 POPCNT:23 TSC_DEADLINE:24 AES:25 XSAVE:26 "
        "OSXSAVE:27 AVX:28 F16C:29 RDRAND:30 HYPERVISOR:31"),
    Word(0x1, 0, EDX,
        "FPU:0 VME:1 DE:2 PSE:3 TSC:4 MSR:5 PAE:6 MCE:7 CX8:8 APIC:9 SEP:11 MTRR:12 PGE:13 MCA:14 "
        "CMOV:15 PAT:16 PSE36:17 CLFSH:19 MMX:23 FXSR:24 SSE:25 SSE2:26 SS:27 HTT:28"),
    Word(0x6, 0, EAX, "ARAT:2"),
    Word(0x7, 0, EBX,
        "FSGSBASE:0 TSC_ADJUST:1 BMI1:3 HLE:4 AVX2:5 SMEP:7 BMI2:8 ERMS:9 INVPCID:10 RTM:11 "
        "ZERO_FCS_FDS:13 RDSEED:18 ADX:19 SMAP:20 CLFLUSHOPT:23 CLWB:24 SHA:29"),
    Word(0x7, 0, ECX, "UMIP:2 PKU:3 OSPKE:4 VAES:9 VPCLMULQDQ:10 LA57:16 RDPID:22 PKS:31"),
    Word(0x7, 0, EDX, "FSRM:4 MD_CLEAR:10 SPEC_CTRL:26 STIBP:27 ARCH_CAPABILITIES:29 SSBD:31"),
    Word(0xD, 1, EAX, "XSAVEOPT:0 XSAVEC:1 XGETBV1:2 XSAVES:3"),
    Word(0x80000001, 0, ECX,
        "LAHF:0 CMP_LEGACY:1 SVM:2 CR8_LEGACY:4 LZCNT:5 SSE4A:6 MISALIGNSSE:7 PREFETCHW:8 "
        "SKINIT:12 TOPOEXT:22"),
    Word(0x80000001, 0, EDX,
        "SYSCALL:11 NX:20 MMXEXT:22 FFXSR:25 PDPE1GB:26 RDTSCP:27 LM:29"),
    Word(0x80000007, 0, EDX, "INVARIANT_TSC:8"),
    Word(0x80000008, 0, EBX, "CLZERO:0 XSAVEERPTR:2 RDPRU:4 WBNOINVD:9"),
    Word(0x8000000A, 0, EDX,
        "NPT:0 LBRV:1 SVM_LOCK:2 NRIPS:3 TSC_RATE:4 VMCB_CLEAN:5 FLUSH_BY_ASID:6 "
        "DECODE_ASSISTS:7 PAUSE_FILTER:10 PAUSE_THRESHOLD:12 V_VMSAVE_VMLOAD:15 VGIF:16 GMET:17 "
        "VNMI:25"),
)
# fmt: on
# bits of 80000001H:EDX that repeat those of 01H:EDX on AMD processors
REPEATED: Final = names(
    "FPU VME DE PSE TSC MSR PAE MCE CX8 APIC MTRR PGE MCA CMOV PAT PSE36 MMX FXSR",
)

FEATURES: Final = {
    name: Feature(name, word.leaf, word.subleaf, word.register, int(bit))
    for word in WORDS
    for name, bit in (item.split(":") for item in word.names.split())
}
check_unique([f[1:] for f in FEATURES.values()], "CPUID bits")
