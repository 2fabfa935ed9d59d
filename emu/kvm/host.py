"""The host beneath KVM: whose processor, which CPUID and MSRs KVM offers there, its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from emu.kvm.cpuid import Cpuid

INTEL, AMD = "intel", "amd"


@dataclass(frozen=True)
class ModuleParameters:
    """Parameters of kvm.ko, kvm_intel.ko and kvm_amd.ko, and options of the kernel's build.

    `nested` None is the release's own default.  `hyperv` stands for CONFIG_KVM_HYPERV, which is
    always on before 6.8; `smm` for CONFIG_KVM_SMM.
    """

    nested: bool | None = None
    ept: bool = True
    unrestricted_guest: bool = True
    npt: bool = True
    vgif: bool = True
    hyperv: bool = True


@dataclass(frozen=True)
class Host:
    """A machine on which a release of KVM runs, as that KVM presents it to user space.

    `cpuid` is KVM_GET_SUPPORTED_CPUID; `feature_msrs` maps the index of each feature MSR to the
    value that KVM_GET_MSRS on the system gives.
    """

    vendor: str
    cpuid: Cpuid
    feature_msrs: Mapping[int, int]
    parameters: ModuleParameters = field(default_factory=ModuleParameters)

    @classmethod
    def from_environment(
        cls,
        vendor: str,
        environment: Mapping[str, Any],
        parameters: ModuleParameters | None = None,
    ) -> "Host":
        """The host that `environment` (of a file of recorded verdicts) describes."""
        msrs = {int(index, 16): int(value) for index, value in environment["feature_msrs"].items()}
        return cls(
            {"vmx": INTEL, "svm": AMD}.get(vendor, vendor),
            Cpuid(environment["cpuid"]),
            MappingProxyType(msrs),
            parameters or ModuleParameters(),
        )
