"""CPU models that KVM can run on, and what the KVM of a release shows of one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from emu.errors import InputError
from emu.kvm.cpuid import Cpuid
from emu.kvm.host import AMD, Host, ModuleParameters
from emu.kvm.nested_vmx.capabilities import FIRST, LAST
from emu.kvm.nested_vmx.offered import offered_msrs
from emu.kvm.svm_cpuid import as_offered
from emu.releases import RELEASES
from emu.releases.schema import Release

CPU_MODELS = ("epyc-milan", "skylake-x")


@dataclass(frozen=True)
class CpuModel:
    """A processor by name, with what KVM of each recorded kernel shows of it."""

    name: str
    vendor: str
    recorded: MappingProxyType[str, Any]


@cache
def cpu_model(name: str) -> CpuModel:
    """The CPU model `name`; raises InputError for one that is not known."""
    if name not in CPU_MODELS:
        raise InputError(f"no CPU model is named {name!r}; known: {', '.join(CPU_MODELS)}")
    data = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return CpuModel(data["name"], data["vendor"], MappingProxyType(data["recorded"]))


def host_of(name: str, release: Release, parameters: ModuleParameters | None = None) -> Host:
    """The host that the CPU model `name` is to the KVM of `release`.

    CPUID and the feature MSRs are those of the newest recorded kernel that is not newer than
    `release`; what that release does not offer of SVM or VMX is taken out by its rows.
    """
    model = cpu_model(name)
    order = list(RELEASES)
    at = max(order.index(known.name) for known in release.history if known.name in RELEASES)
    recorded = [known for known in model.recorded if order.index(known) <= at]
    chosen = recorded[-1] if recorded else next(iter(model.recorded))
    host = _host(name, chosen, parameters or ModuleParameters())
    if host.vendor != AMD:
        newest = _host(name, next(reversed(model.recorded)), host.parameters)
        offered = offered_msrs(newest.feature_msrs, release)
        vmx = {index: value for index, value in offered.items() if FIRST <= index <= LAST}
        return replace(host, feature_msrs=MappingProxyType({**host.feature_msrs, **vmx}))
    nested = host.parameters.nested is not False
    return replace(host, cpuid=as_offered(host.cpuid, _tables(name), release, nested))


@cache
def _tables(name: str) -> tuple[Cpuid, ...]:
    return tuple(Cpuid(shown["cpuid"]) for shown in cpu_model(name).recorded.values())


@cache
def _host(name: str, chosen: str, parameters: ModuleParameters) -> Host:
    model = cpu_model(name)
    return Host.from_environment(model.vendor, model.recorded[chosen], parameters)
