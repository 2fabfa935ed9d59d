"""What KVM of a release offers a guest of SVM: CPUID Fn8000_000A, or none of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from emu.kvm.cpuid import ECX, EDX, FEATURE, Cpuid
from emu.releases.schema import Release
from vmcs.svm.cpuid import LEAF, SvmFeature

PREFIX: Final = "X86_FEATURE_"
SINCE_4_18: Final = frozenset({"NPT", "NRIPS"})
"""Features that every KVM since 4.18 passes on; the fact `cpuid` of a release names the others."""

SVM_BITS: Final = {
    row.macro.removeprefix(PREFIX): row.mask for row in SvmFeature.table if row.macro
}
"""Features of the leaf by the name that Linux has for them."""


def offered(release: Release) -> int:
    """EDX of the leaf on a processor that has everything (svm_set_cpu_caps)."""
    names = (release.names("cpuid") | SINCE_4_18) & SVM_BITS.keys()
    return sum(SVM_BITS[name] for name in names)


def as_offered(cpuid: Cpuid, seen: Iterable[Cpuid], release: Release, nested: bool) -> Cpuid:
    """`cpuid` with the features of SVM that `release` offers on a processor.

    `seen` are tables that KVM of any release showed of that processor: what it has of the leaf is
    what any of them shows.  Source: arch/x86/kvm/svm/svm.c: svm_set_cpu_caps.
    """
    if not nested:
        svm = FEATURE["SVM"]
        cpuid = cpuid.cleared(svm.function, svm.subleaf, ECX, 1 << svm.bit)
        for register in range(4):
            cpuid = cpuid.cleared(LEAF, 0, register, 0xFFFF_FFFF)
        return cpuid
    has = 0
    for table in seen:
        has |= table.register(LEAF, 0, EDX)
    wanted = has & offered(release)
    return Cpuid(
        row._replace(edx=wanted) if (row.function, row.subleaf) == (LEAF, 0) else row
        for row in cpuid.rows
    )
