"""Feature bits that KVM of a release has for its guests: kvm_cpu_caps, word by word.

Source: arch/x86/kvm/cpuid.c: kvm_set_cpu_caps (do_cpuid_7_mask and __do_cpuid_func before 5.7),
arch/x86/kvm/vmx/vmx.c: vmx_set_cpu_caps, arch/x86/kvm/svm/svm.c: svm_set_cpu_caps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from emu.kvm.cpu_models.features import ALWAYS, PLACE, masks
from emu.kvm.cpu_models.setup import Setup
from emu.kvm.nested_vmx.capabilities import MSR_BASIC, MSR_ENTRY, MSR_EXIT, MSR_PROC2
from vmcs.vmx.capability_msrs import BASIC
from vmcs.vmx.controls import Entry, Exit, ProcBased2

Capabilities = dict[str, int]
"""Bits that KVM has, by the names of `features.WORDS`."""

ERROR_CODE_FREE: Final = next(row.mask for row in BASIC.rows if row.name == "ERROR_CODE_FREE")


def _anywhere(_setup: Setup) -> bool:
    return True


# What kvm_intel adds, and where (vmx_set_cpu_caps).
VMX_ADDS: Final[dict[str, Callable[[Setup], bool]]] = {
    "VMX": lambda setup: setup.nested,
    "MPX": lambda setup: setup.mpx,
    "INVPCID": _anywhere,
    "PKU": lambda setup: setup.tdp,
    "WAITPKG": _anywhere,
    "DS": lambda setup: setup.pmu and setup.model.pebs,
    "DTES64": lambda setup: setup.pmu and setup.model.pebs,
}
# Features that a guest needs a VMX control for (vmx_set_cpu_caps).
VMX_NEEDS: Final = {
    "INVPCID": ProcBased2.ENABLE_INVPCID,
    "RDTSCP": ProcBased2.ENABLE_RDTSCP,
    "RDPID": ProcBased2.ENABLE_RDTSCP,
    "XSAVES": ProcBased2.ENABLE_XSAVES_XRSTORS,
    "WAITPKG": ProcBased2.ENABLE_USER_WAIT_AND_PAUSE,
    "SGX": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX_LC": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX1": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX2": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX_EDECCSSA": ProcBased2.ENABLE_ENCLS_EXITING,
}
# What kvm_amd adds, and where (svm_set_cpu_caps, svm_hardware_setup).
SVM_ADDS: Final[dict[str, Callable[[Setup], bool]]] = {
    "SVM": lambda setup: setup.nested,
    "NPT": lambda setup: setup.nested and setup.npt,
    "NRIPS": lambda setup: setup.nested,
    "TSCRATEMSR": lambda setup: setup.nested,
    "V_VMSAVE_VMLOAD": lambda setup: setup.nested and setup.npt,
    "LBRV": lambda setup: setup.nested,
    "PAUSEFILTER": lambda setup: setup.nested,
    "PFTHRESHOLD": lambda setup: setup.nested,
    "VGIF": lambda setup: setup.nested and setup.vgif,
    "VNMI": lambda setup: setup.nested and setup.vgif,
    "GMET": lambda setup: setup.nested and setup.npt,
    "VMCBCLEAN": lambda setup: setup.nested,
    "FLUSHBYASID": lambda setup: setup.nested,
    "SVME_ADDR_CHK": lambda setup: setup.nested,
    "PERFCTR_CORE": lambda setup: setup.pmu,
    "INVPCID": _anywhere,
}
# Of these, what KVM does itself, whatever the processor has.
DONE_BY_KVM: Final = frozenset({"VMX", "SVM", "VMCBCLEAN", "FLUSHBYASID", "SVME_ADDR_CHK"})

CET: Final = ("SHSTK", "IBT")


@cache
def _masks(names: frozenset[str]) -> dict[str, int]:
    return masks(names)


def capabilities(setup: Setup) -> Capabilities:
    """The feature bits of every word, as KVM has them when it is loaded."""
    release, model = setup.release, setup.model
    passed = _masks(release.names("cpuid"))
    caps = {
        name: model.word(name) & (always | passed.get(name, 0)) for name, always in ALWAYS.items()
    }
    for name, bits in _masks(release.names("cpuid_emulated")).items():
        caps[name] |= bits
    caps["kvm.eax"] |= ALWAYS["kvm.eax"]
    _share_speculation_bits(setup, caps)
    _limit(setup, caps)
    if setup.intel:
        _vmx(setup, caps)
    else:
        _svm(setup, caps)
    return caps


def has(caps: Capabilities, feature: str) -> bool:
    """kvm_cpu_cap_has."""
    word, bit = PLACE[feature]
    return bool(caps[word] & bit)


def _add(caps: Capabilities, feature: str) -> None:
    word, bit = PLACE[feature]
    caps[word] |= bit


def _drop(caps: Capabilities, *features: str) -> None:
    for feature in features:
        word, bit = PLACE[feature]
        caps[word] &= ~bit


def _share_speculation_bits(setup: Setup, caps: Capabilities) -> None:
    """Give each vendor's bits of speculation control where Linux has the feature by any of them.

    Linux gathers them in arch/x86/kernel/cpu/common.c: init_speculation_control.
    """
    release, model = setup.release, setup.model
    if not release.has("cpuid_leaves", "speculation_bits_shared"):
        return
    both = model.has("SPEC_CTRL")
    ibpb, ibrs = both or model.has("AMD_IBPB"), both or model.has("AMD_IBRS")
    stibp = model.has("INTEL_STIBP") or model.has("AMD_STIBP")
    flushes_returns = release.has("cpuid_leaves", "ibpb_return_bit")
    by_amd_bits = model.has("AMD_IBPB") and model.has("AMD_IBRS")
    if by_amd_bits and (model.has("AMD_IBPB_RET") or not flushes_returns):
        _add(caps, "SPEC_CTRL")
    if stibp:
        _add(caps, "INTEL_STIBP")
        _add(caps, "AMD_STIBP")
    if model.has("AMD_SSBD"):
        _add(caps, "SPEC_CTRL_SSBD")
    if ibpb:
        _add(caps, "AMD_IBPB")
        if flushes_returns and both and "EIBRS_PBRSB" not in model.bugs:
            _add(caps, "AMD_IBPB_RET")
    if ibrs:
        _add(caps, "AMD_IBRS")
    if model.has("SPEC_CTRL_SSBD"):
        _add(caps, "AMD_SSBD")
    if "SPEC_STORE_BYPASS" not in model.bugs:
        _add(caps, "AMD_SSB_NO")
    if not setup.intel and model.has("AMD_SSBD"):
        _add(caps, "VIRT_SSBD")


def _limit(setup: Setup, caps: Capabilities) -> None:
    release = setup.release
    ways = release.names("cpuid_leaves")
    if not setup.tdp:
        _drop(caps, "PKU")
        if "gbpages_without_tdp" in ways:
            _add(caps, "GBPAGES")
    if "counters_must_work" in ways and not setup.pmu:
        _drop(caps, "PDCM")
    if not (has(caps, "PERFCTR_CORE") or setup.model.has("PERFCTR_CORE")) or not setup.pmu:
        _drop(caps, "PERFMON_V2")
    if "synthesizes_80000021" in ways:
        if setup.model.lfence_serializes:
            _add(caps, "LFENCE_RDTSC")
        if "NULL_SEG" not in setup.model.bugs:
            _add(caps, "NULL_SEL_CLR_BASE")
    if "tsa_bits_unasked" in ways:
        _add(caps, "TSA_SQ_NO")
        _add(caps, "TSA_L1_NO")
    if not setup.tdp or not setup.xss_cet:
        _drop(caps, "SHSTK")
    if not setup.xss_cet:
        _drop(caps, "IBT")
    if not has(caps, "SGX_LC"):
        _drop(caps, "SGX", "SGX1", "SGX2", "SGX_EDECCSSA")


def _vmx(setup: Setup, caps: Capabilities) -> None:
    model = setup.model
    for feature in setup.release.names("cpuid_vmx"):
        if VMX_ADDS[feature](setup) and (feature in DONE_BY_KVM or model.has(feature)):
            _add(caps, feature)
    if model.allows(MSR_PROC2, ProcBased2.DESCRIPTOR_TABLE_EXITING):
        _add(caps, "UMIP")
    for feature, control in VMX_NEEDS.items():
        if not model.allows(MSR_PROC2, control):
            _drop(caps, feature)
    if (
        not model.allows(MSR_ENTRY, Entry.LOAD_CET_STATE)
        or not model.allows(MSR_EXIT, Exit.LOAD_CET_STATE)
        or not setup.unrestricted_guest
        or not model.msrs.get(MSR_BASIC, 0) & ERROR_CODE_FREE
    ):
        _drop(caps, *CET)


def _svm(setup: Setup, caps: Capabilities) -> None:
    model = setup.model
    for feature in setup.release.names("cpuid_svm"):
        if SVM_ADDS[feature](setup) and (feature in DONE_BY_KVM or model.has(feature)):
            _add(caps, feature)
    _drop(caps, *setup.release.names("cpuid_svm_hidden"))
