"""CPU models that KVM can run on, and what the KVM of a release shows of one.

A model is the processor: raw CPUID and MSRs, from a file (`model`).  What user space and L1 get to
see of it is what KVM makes of that: `setup` (what KVM turns on), `capabilities` (feature bits),
`supported_cpuid` and `feature_msrs`, by the facts of the release.
"""

from __future__ import annotations

from types import MappingProxyType

from emu.kvm.cpu_models.capabilities import capabilities
from emu.kvm.cpu_models.feature_msrs import feature_msrs
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

_hosts: dict[tuple[object, ...], Host] = {}


def host_of(name: str, release: Release, parameters: ModuleParameters | None = None) -> Host:
    """The host that the CPU model `name` is to the KVM of `release`, loaded with `parameters`.

    `name` is one of `CPU_MODELS`, or the path of a model file (*.json); raises InputError for
    another.  The host's parameters are off where the processor lacks the feature.
    """
    model = cpu_model(name)
    wanted = parameters or ModuleParameters()
    facts = release.facts
    by_default = release.does("vmx_nested_by_default")
    key = (id(model), wanted, by_default, *(facts[fact] for fact in FACTS))
    host = _hosts.get(key)
    if host is None:
        host = _hosts[key] = _host(Setup(model, release, wanted))
    return host


def _host(setup: Setup) -> Host:
    caps = capabilities(setup)
    return Host(
        setup.model.vendor,
        Cpuid(supported_cpuid(setup, caps)),
        MappingProxyType(feature_msrs(setup, caps)),
        setup.parameters,
    )
