"""The host beneath KVM: whose processor, which CPUID and MSRs KVM offers there, its parameters."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from emu.kvm.cpuid import Cpuid

INTEL, AMD = "intel", "amd"


@dataclass(frozen=True)
class ModuleParameters:
    """Parameters of kvm.ko, kvm_intel.ko and kvm_amd.ko, and options of the kernel's build.

    `nested` None is the release's own default.  `hyperv` stands for CONFIG_KVM_HYPERV, which is
    always on before 6.8.
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
    value that KVM_GET_MSRS on the system gives.  `access_rights_kept` are the bits of a segment's
    access rights that the processor's VMREAD gives back: some drop the reserved ones.
    """

    vendor: str
    cpuid: Cpuid
    feature_msrs: Mapping[int, int]
    parameters: ModuleParameters = field(default_factory=ModuleParameters)
    access_rights_kept: int = 0xFFFF_FFFF

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

    def to_json(self) -> dict[str, Any]:
        """The host as a JSON object; `from_json` reads it back."""
        return {
            "vendor": self.vendor,
            "cpuid": [list(row) for row in self.cpuid.rows],
            "feature_msrs": {f"{index:#x}": value for index, value in self.feature_msrs.items()},
            "parameters": asdict(self.parameters),
            "access_rights_kept": self.access_rights_kept,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Host":
        """The host in a JSON object; raises KeyError, TypeError or ValueError for another."""
        parameters = ModuleParameters(**data["parameters"])
        host = cls.from_environment(data["vendor"], data, parameters)
        return replace(host, access_rights_kept=int(data["access_rights_kept"]))
