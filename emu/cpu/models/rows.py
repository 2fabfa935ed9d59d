"""The models that ship: what of each class of processor this emulator has."""

from __future__ import annotations

from typing import Final

from emu.cpu.models.features import names
from emu.cpu.models.model import AMD, EXTENDED, INTEL, Model, Words, build

BASE: Final = names(
    "FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2",
    "SYSCALL NX LM LAHF CX16",
)
MODERN: Final = names(
    "VME SSE3 SSSE3 SSE4_1 SSE4_2 MOVBE POPCNT TSC_DEADLINE X2APIC XSAVE AVX RDRAND PCID MONITOR",
    "ARAT FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB UMIP PKU",
    "XSAVEOPT XSAVEC XGETBV1 XSAVES LZCNT PREFETCHW PDPE1GB RDTSCP INVARIANT_TSC FMA F16C AES",
    "PCLMULQDQ",
)
SKYLAKE_X: Final = (*BASE, *MODERN, *names("SS TSC_ADJUST ZERO_FCS_FDS VMX"))
SAPPHIRE_RAPIDS: Final = (*SKYLAKE_X, *names("LA57 PKS RDPID FSRM WBNOINVD"))
ZEN_3: Final = (
    *BASE,
    *MODERN,
    *names(
        "RDPID CLZERO XSAVEERPTR RDPRU WBNOINVD MISALIGNSSE SSE4A CR8_LEGACY MMXEXT FSRM",
        "SHA VAES VPCLMULQDQ",
        "SVM SKINIT NPT LBRV SVM_LOCK NRIPS TSC_RATE VMCB_CLEAN FLUSH_BY_ASID DECODE_ASSISTS",
        "PAUSE_FILTER PAUSE_THRESHOLD V_VMSAVE_VMLOAD VGIF GMET",
    ),
)
ZEN_4: Final = (*ZEN_3, *names("LA57 VNMI"))

# SDM Vol. 2, CPUID: deterministic cache parameters, one row a cache, and the TSC's ratio
SKYLAKE_X_LEAVES: Final[dict[tuple[int, int], Words]] = {
    (0x2, 0): (0x76036301, 0x00F0B5FF, 0, 0x00C30000),
    (0x4, 0): (0x04000121, 0x01C0003F, 0x3F, 0),
    (0x4, 1): (0x04000122, 0x01C0003F, 0x3F, 0),
    (0x4, 2): (0x04000143, 0x03C0003F, 0x3FF, 0),
    (0x4, 3): (0x04000163, 0x0280003F, 0x2FFF, 4),
    (0x5, 0): (64, 64, 3, 0),
    (0x15, 0): (1, 40, 25_000_000, 0),
    (0x16, 0): (1000, 1000, 100, 0),
    (EXTENDED + 6, 0): (0, 0, 0x01006040, 0),
}
# APM Vol. 3: L1, L2 and L3 cache, cache topology
ZEN_3_LEAVES: Final[dict[tuple[int, int], Words]] = {
    (0x5, 0): (64, 64, 3, 0x11),
    (EXTENDED + 5, 0): (0xFF40FF40, 0xFF40FF40, 0x20080140, 0x20080140),
    (EXTENDED + 6, 0): (0x48002200, 0x68004200, 0x02006140, 0x00809140),
    (EXTENDED + 0xA, 0): (1, 0x8000, 0, 0),  # SVM revision, number of ASIDs
    (EXTENDED + 0x1D, 0): (0x121, 0x01C0003F, 0x3F, 0),
    (EXTENDED + 0x1D, 1): (0x122, 0x01C0003F, 0x3F, 0),
    (EXTENDED + 0x1D, 2): (0x143, 0x01C0003F, 0x3FF, 2),
    (EXTENDED + 0x1D, 3): (0x163, 0x03C0003F, 0x7FFF, 1),
}

# IA32_PLATFORM_ID, IA32_MISC_ENABLE (fast strings, BTS and PEBS unavailable), PLATFORM_INFO
INTEL_MSRS: Final = {0x17: 0, 0x8B: 0x0200_0065 << 32, 0x1A0: 0x1801, 0xCE: 0}
AMD_MSRS: Final = {0x8B: 0x0A00_11D1, 0xC0010015: 0x0100_0010, 0xC0011029: 2}

MODELS: Final[dict[str, Model]] = {
    model.name: model
    for model in (
        build(
            "skylake-x", INTEL, 0x50654, "Nestling Skylake-X class", SKYLAKE_X, SKYLAKE_X_LEAVES,
            INTEL_MSRS, 46, 0x16, EXTENDED + 8,
        ),
        build(
            "sapphire-rapids", INTEL, 0x806F8, "Nestling Sapphire Rapids class",
            SAPPHIRE_RAPIDS, SKYLAKE_X_LEAVES, INTEL_MSRS, 46, 0x16, EXTENDED + 8,
        ),
        build(
            "zen3", AMD, 0xA00F11, "Nestling Zen 3 class", ZEN_3, ZEN_3_LEAVES,
            AMD_MSRS, 48, 0x10, EXTENDED + 0x21,
        ),
        build(
            "zen4", AMD, 0xA10F11, "Nestling Zen 4 class", ZEN_4, ZEN_3_LEAVES,
            AMD_MSRS, 52, 0x10, EXTENDED + 0x21,
        ),
        build(
            "minimal", INTEL, 0x600, "Nestling minimal", BASE, {},
            {0x1A0: 1}, 36, 0x7, EXTENDED + 8,
        ),
    )
}  # fmt: skip
