"""Model-specific registers: a row each. SDM Vol. 4; APM Vol. 2, MSR Cross-Reference."""

from __future__ import annotations

from typing import Final, NamedTuple

from vmcs.schema import check_unique

ALL = (1 << 64) - 1
MASK32 = (1 << 32) - 1


class Msr(NamedTuple):
    """An MSR: where its value is kept and which values it may have.

    `field` is a field of the processor's state, else the value is in `Cpu.msrs`. A write of bits
    outside `writable` gives #GP(0); with `rule` "canonical", "pat", "mtrr", "efer" and so on the
    value is looked at further (`msrs.RULES`). `feature` names what brings it; "read-only" values
    are those of the model.
    """

    address: int
    name: str
    field: str = ""
    writable: int = ALL
    rule: str = ""
    feature: str = ""
    reset: int = 0


READ_ONLY: Final = 0

MSRS: Final = (
    Msr(0x0, "P5_MC_ADDR", writable=READ_ONLY, rule="ignored", feature="MCE"),
    Msr(0x1, "P5_MC_TYPE", writable=READ_ONLY, rule="ignored", feature="MCE"),
    Msr(0x10, "IA32_TIME_STAMP_COUNTER", rule="tsc"),
    Msr(0x17, "IA32_PLATFORM_ID", writable=READ_ONLY, feature="intel"),
    Msr(0x1B, "IA32_APIC_BASE", rule="apic"),
    Msr(0x3A, "IA32_FEATURE_CONTROL", rule="lock", writable=0xFF07, feature="VMX"),
    Msr(0x3B, "IA32_TSC_ADJUST", rule="tsc_adjust", feature="TSC_ADJUST"),
    Msr(0x48, "IA32_SPEC_CTRL", writable=7, feature="SPEC_CTRL"),
    Msr(0x49, "IA32_PRED_CMD", writable=1, rule="command", feature="SPEC_CTRL"),
    Msr(0x79, "IA32_BIOS_UPDT_TRIG", rule="command"),
    Msr(0x8B, "IA32_BIOS_SIGN_ID", rule="ignored"),
    Msr(0xCE, "MSR_PLATFORM_INFO", writable=READ_ONLY, feature="intel"),
    Msr(0xFE, "IA32_MTRRCAP", writable=READ_ONLY, feature="MTRR", reset=0x508),
    Msr(0x10A, "IA32_ARCH_CAPABILITIES", writable=READ_ONLY, feature="ARCH_CAPABILITIES"),
    Msr(0x174, "IA32_SYSENTER_CS", "sysenter_cs", feature="SEP"),
    Msr(0x175, "IA32_SYSENTER_ESP", "sysenter_esp", rule="canonical", feature="SEP"),
    Msr(0x176, "IA32_SYSENTER_EIP", "sysenter_eip", rule="canonical", feature="SEP"),
    Msr(0x179, "IA32_MCG_CAP", writable=READ_ONLY, feature="MCA", reset=0x0A),
    Msr(0x17A, "IA32_MCG_STATUS", writable=7, feature="MCA"),
    Msr(0x1A0, "IA32_MISC_ENABLE", writable=0x4_00C5_1889, feature="intel"),
    Msr(0x1D9, "IA32_DEBUGCTL", writable=3, rule="debugctl"),
    Msr(0x1DB, "LASTBRANCHFROMIP", writable=READ_ONLY),
    Msr(0x1DC, "LASTBRANCHTOIP", writable=READ_ONLY),
    Msr(0x1DD, "LASTINTFROMIP", writable=READ_ONLY),
    Msr(0x1DE, "LASTINTTOIP", writable=READ_ONLY),
    Msr(0x277, "IA32_PAT", rule="pat", feature="PAT", reset=0x0007_0406_0007_0406),
    Msr(0x2FF, "IA32_MTRR_DEF_TYPE", writable=0xCFF, rule="type", feature="MTRR"),
    *(
        Msr(index, f"IA32_MTRR_FIX_{index:x}", rule="types", feature="MTRR")
        for index in (0x250, 0x258, 0x259, *range(0x268, 0x270))
    ),
    *(Msr(0x200 + 2 * n, f"IA32_MTRR_PHYSBASE{n}", rule="base", feature="MTRR") for n in range(8)),
    *(Msr(0x201 + 2 * n, f"IA32_MTRR_PHYSMASK{n}", rule="mask", feature="MTRR") for n in range(8)),
    *(Msr(0x400 + 4 * n, f"IA32_MC{n}_CTL", feature="MCA", rule="bank") for n in range(10)),
    *(Msr(0x401 + 4 * n, f"IA32_MC{n}_STATUS", feature="MCA", rule="zero") for n in range(10)),
    *(Msr(0x402 + 4 * n, f"IA32_MC{n}_ADDR", feature="MCA") for n in range(10)),
    *(Msr(0x403 + 4 * n, f"IA32_MC{n}_MISC", feature="MCA") for n in range(10)),
    Msr(0x6E0, "IA32_TSC_DEADLINE", rule="apic", feature="TSC_DEADLINE"),
    Msr(0x6E1, "IA32_PKRS", "pkrs", MASK32, rule="flush", feature="PKS"),
    Msr(0xDA0, "IA32_XSS", rule="xss", feature="XSAVES"),
    Msr(0xC0000080, "IA32_EFER", "efer", rule="efer"),
    Msr(0xC0000081, "IA32_STAR", "star", feature="SYSCALL"),
    Msr(0xC0000082, "IA32_LSTAR", "lstar", rule="canonical", feature="LM"),
    Msr(0xC0000083, "IA32_CSTAR", "cstar", rule="canonical", feature="LM"),
    Msr(0xC0000084, "IA32_FMASK", "sfmask", MASK32, feature="LM"),
    Msr(0xC0000100, "IA32_FS_BASE", rule="fs", feature="LM"),
    Msr(0xC0000101, "IA32_GS_BASE", rule="gs", feature="LM"),
    Msr(0xC0000102, "IA32_KERNEL_GS_BASE", "kernel_gs_base", rule="canonical", feature="LM"),
    Msr(0xC0000103, "IA32_TSC_AUX", "tsc_aux", MASK32, feature="RDTSCP"),
    Msr(0xC0010010, "SYSCFG", writable=0x7E0000, feature="amd"),
    Msr(0xC0010015, "HWCR", rule="ignored", feature="amd"),
    Msr(0xC001001F, "NB_CFG", rule="ignored", feature="amd"),
    Msr(0xC0010055, "INT_PENDING", rule="ignored", feature="amd"),
    *(Msr(0xC0010000 + n, f"PERF_CTL{n}", feature="amd") for n in range(4)),
    *(Msr(0xC0010004 + n, f"PERF_CTR{n}", feature="amd") for n in range(4)),
    Msr(0xC0010062, "PSTATE_CTL", rule="ignored", feature="amd"),
    Msr(0xC0011022, "DC_CFG", rule="ignored", feature="amd"),
    Msr(0xC0011023, "TW_CFG", rule="ignored", feature="amd"),
    Msr(0xC0011029, "DE_CFG", rule="ignored", feature="amd"),
)
BY_INDEX: Final = {row.address: row for row in MSRS}
check_unique([row.address for row in MSRS], "MSRs")
X2APIC: Final = range(0x800, 0x900)
