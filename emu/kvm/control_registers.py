"""Bits of CR0, CR4, EFER and RFLAGS, and which CPUID features make bits of CR4 and EFER usable."""

from typing import Final, NamedTuple

from emu.kvm.cpuid import Cpuid


class CR0:
    """Bits of CR0 (SDM Vol. 3A, Control Registers)."""

    PE: Final = 1 << 0
    MP: Final = 1 << 1
    EM: Final = 1 << 2
    TS: Final = 1 << 3
    ET: Final = 1 << 4
    NE: Final = 1 << 5
    WP: Final = 1 << 16
    AM: Final = 1 << 18
    NW: Final = 1 << 29
    CD: Final = 1 << 30
    PG: Final = 1 << 31


class CR4:
    """Bits of CR4 (SDM Vol. 3A, Control Registers)."""

    VME: Final = 1 << 0
    PVI: Final = 1 << 1
    TSD: Final = 1 << 2
    DE: Final = 1 << 3
    PSE: Final = 1 << 4
    PAE: Final = 1 << 5
    MCE: Final = 1 << 6
    PGE: Final = 1 << 7
    PCE: Final = 1 << 8
    OSFXSR: Final = 1 << 9
    OSXMMEXCPT: Final = 1 << 10
    UMIP: Final = 1 << 11
    LA57: Final = 1 << 12
    VMXE: Final = 1 << 13
    SMXE: Final = 1 << 14
    FSGSBASE: Final = 1 << 16
    PCIDE: Final = 1 << 17
    OSXSAVE: Final = 1 << 18
    SMEP: Final = 1 << 20
    SMAP: Final = 1 << 21
    PKE: Final = 1 << 22
    CET: Final = 1 << 23
    LAM_SUP: Final = 1 << 28


class EFER:
    """Bits of IA32_EFER (SDM Vol. 3A, Extended Feature Enable Register; APM Vol. 2, EFER)."""

    SCE: Final = 1 << 0
    LME: Final = 1 << 8
    LMA: Final = 1 << 10
    NX: Final = 1 << 11
    SVME: Final = 1 << 12
    LMSLE: Final = 1 << 13
    FFXSR: Final = 1 << 14
    AUTOIBRS: Final = 1 << 21


class RFLAGS:
    """Bits of RFLAGS (SDM Vol. 1, EFLAGS Register)."""

    FIXED: Final = 1 << 1
    IOPL: Final = 3 << 12
    VM: Final = 1 << 17


# CR4 bits that KVM accepts whatever CPUID says (arch/x86/include/asm/kvm_host.h: CR4_RESERVED_BITS
# without the bits of CR4_BY_FEATURE).
CR4_ALWAYS: Final = (
    CR4.VME
    | CR4.PVI
    | CR4.TSD
    | CR4.DE
    | CR4.PSE
    | CR4.PAE
    | CR4.MCE
    | CR4.PGE
    | CR4.PCE
    | CR4.OSFXSR
    | CR4.OSXMMEXCPT
)


class ByFeature(NamedTuple):
    """Bits of a register that are usable where CPUID has one of `features`.

    Releases that lack `behaviour` do not know the bits; those that lack `ignored_before` accept
    them whatever CPUID says.
    """

    bits: int
    features: tuple[str, ...]
    behaviour: str = ""
    ignored_before: str = ""


# arch/x86/kvm/x86.h: __cr4_reserved_bits
CR4_BY_FEATURE: Final = (
    ByFeature(CR4.OSXSAVE, ("XSAVE",)),
    ByFeature(CR4.SMEP, ("SMEP",)),
    ByFeature(CR4.SMAP, ("SMAP",)),
    ByFeature(CR4.FSGSBASE, ("FSGSBASE",)),
    ByFeature(CR4.PKE, ("PKU",)),
    ByFeature(CR4.LA57, ("LA57",)),
    ByFeature(CR4.UMIP, ("UMIP",)),
    ByFeature(CR4.VMXE, ("VMX",), ignored_before="cr4_vmxe_needs_cpuid"),
    ByFeature(CR4.PCIDE, ("PCID",), ignored_before="cr4_pcide_needs_cpuid"),
    ByFeature(CR4.LAM_SUP, ("LAM",), "cr4_lam"),
    ByFeature(CR4.CET, ("SHSTK", "IBT"), "cr4_cet"),
)

# arch/x86/kvm/x86.c: __kvm_valid_efer
EFER_BY_FEATURE: Final = (
    ByFeature(EFER.LME | EFER.LMA, ("LM",)),
    ByFeature(EFER.NX, ("NX",)),
    ByFeature(EFER.SVME, ("SVM",)),
    ByFeature(EFER.FFXSR, ("FXSR_OPT",)),
    ByFeature(EFER.AUTOIBRS, ("AUTOIBRS",), "efer_autoibrs"),
)


def cr4_reserved(guest: Cpuid, supported: Cpuid, behaviours: frozenset[str]) -> int:
    """Bits that CR4 must have clear with guest CPUID `guest`, where KVM offers `supported`.

    Source: arch/x86/kvm/cpuid.c: kvm_vcpu_after_set_cpuid (cr4_guest_rsvd_bits).
    """
    usable = CR4_ALWAYS
    for row in CR4_BY_FEATURE:
        if row.behaviour and row.behaviour not in behaviours:
            continue
        if row.ignored_before and row.ignored_before not in behaviours:
            usable |= row.bits
            continue
        of_host = "cr4_needs_host_feature" not in behaviours or any(
            map(supported.has, row.features)
        )
        if of_host and any(map(guest.has, row.features)):
            usable |= row.bits
    return ~usable & 0xFFFF_FFFF_FFFF_FFFF


def efer_reserved_for(guest: Cpuid, host_bits: int) -> int:
    """Bits that EFER must have clear: beyond the host's, or of features that the guest lacks.

    Source: arch/x86/kvm/x86.c: kvm_valid_efer.
    """
    reserved = ~host_bits
    for row in EFER_BY_FEATURE:
        if not any(guest.has(name) for name in row.features):
            reserved |= row.bits
    return reserved & 0xFFFF_FFFF_FFFF_FFFF
