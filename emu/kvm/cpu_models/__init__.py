"""CPU models that KVM can run on, and what the KVM of a release shows of one.

A model is the processor: raw CPUID and MSRs, from a file (`model`).  What user space and L1 get to
see of it is what KVM makes of that: `setup` (what KVM turns on), `capabilities` (feature bits),
`supported_cpuid` and `feature_msrs`, by the facts of the release.
"""

from __future__ import annotations

from difflib import get_close_matches
from types import MappingProxyType

from emu.errors import InputError
from emu.kvm.cpu_models.capabilities import SVM_ADDS, VMX_ADDS, capabilities
from emu.kvm.cpu_models.feature_msrs import OFFERED, OTHER_BITS, feature_msrs
from emu.kvm.cpu_models.features import PLACE
from emu.kvm.cpu_models.model import CPU_MODELS, CpuModel, cpu_model
from emu.kvm.cpu_models.setup import Setup
from emu.kvm.cpu_models.supported_cpuid import supported_cpuid
from emu.kvm.cpuid import Cpuid
from emu.kvm.host import Host, ModuleParameters
from emu.releases.schema import Release

__all__ = ["CPU_MODELS", "CpuModel", "cpu_model", "host_of"]

# The facts that decide what a release shows of a processor.
FACTS = (
    "cpuid",
    "cpuid_vmx",
    "cpuid_svm",
    "cpuid_svm_hidden",
    "cpuid_emulated",
    "cpuid_leaves",
    "cpuid_basic_limit",
    "cpuid_extended_limit",
    "feature_msrs",
    "arch_capabilities",
    "arch_capabilities_mask",
    "perf_capabilities_mask",
    "vmx_controls",
)

# Names that a fact can have; others stand in a user's kernel file by mistake.
KNOWN = {
    "cpuid": PLACE.keys(),
    "cpuid_vmx": VMX_ADDS.keys(),
    "cpuid_svm": SVM_ADDS.keys(),
    "cpuid_svm_hidden": PLACE.keys(),
    "cpuid_emulated": PLACE.keys(),
    "vmx_controls": {row.name for row in OFFERED} | OTHER_BITS,
}

_hosts: dict[tuple[object, ...], Host] = {}


def host_of(name: str, release: Release, parameters: ModuleParameters | None = None) -> Host:
    """The host that the CPU model `name` is to the KVM of `release`, loaded with `parameters`.

    `name` is one of `CPU_MODELS`, or the path of a model file (*.json); raises InputError for
    another, and for a release with a feature that KVM has no name for.  The host's parameters are
    off where the processor lacks the feature.
    """
    model = cpu_model(name)
    wanted = parameters or ModuleParameters()
    facts = release.facts
    by_default = release.does("vmx_nested_by_default")
    key = (id(model), wanted, by_default, *(facts[fact] for fact in FACTS))
    host = _hosts.get(key)
    if host is None:
        _check_names(release)
        host = _hosts[key] = _host(Setup(model, release, wanted))
    return host


def _check_names(release: Release) -> None:
    for fact, known in KNOWN.items():
        for name in sorted(release.names(fact) - known):
            near = ", ".join(get_close_matches(name, sorted(known), 3)) or "none like it"
            raise InputError(f"{release.name}: {fact} has no {name!r}; known: {near}")


def _host(setup: Setup) -> Host:
    caps = capabilities(setup)
    return Host(
        setup.model.vendor,
        Cpuid(supported_cpuid(setup, caps)),
        MappingProxyType(feature_msrs(setup, caps)),
        setup.parameters,
    )
