"""/dev/kvm of one release on one host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emu.kvm.cpuid import Cpuid
from emu.kvm.host import AMD, Host
from emu.kvm.vendor import VendorOperations
from emu.kvm.vm import Vm
from emu.releases import release as release_named
from emu.releases.schema import Release

KVM_CAP_NESTED_STATE = 157


def vendor_module(vendor: str) -> type[VendorOperations]:
    """The class that stands for kvm_intel or kvm_amd."""
    if vendor == AMD:
        from emu.kvm.svm import Svm  # noqa: PLC0415 - the other vendor's tables are not loaded

        return Svm
    from emu.kvm.vmx import Vmx  # noqa: PLC0415

    return Vmx


class Kvm:
    """KVM of a release: `Kvm("6.12", host)`; `parameters` replace the host's module parameters."""

    def __init__(self, release: Release | str, host: Host, **parameters: Any) -> None:
        self.release = release_named(release) if isinstance(release, str) else release
        self.host = host
        if parameters:
            self.host = replace(host, parameters=replace(host.parameters, **parameters))
        self.operations = vendor_module(host.vendor)

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION for the capabilities that bear on nested state; 0 for any other."""
        if capability == KVM_CAP_NESTED_STATE:
            if not self.operations.has_nested_state(self.release, self.host):
                return 0
            return self.operations.nested_state_size(self.release)
        return 0

    def get_supported_cpuid(self) -> Cpuid:
        """KVM_GET_SUPPORTED_CPUID."""
        return self.host.cpuid

    def get_msr_feature_index_list(self) -> tuple[int, ...]:
        """KVM_GET_MSR_FEATURE_INDEX_LIST."""
        return tuple(self.host.feature_msrs)

    def get_feature_msrs(self, *indices: int) -> tuple[int, ...]:
        """KVM_GET_MSRS on the system: values of feature MSRs up to the first that is none."""
        values = []
        for index in indices:
            if index not in self.host.feature_msrs:
                break
            values.append(self.host.feature_msrs[index])
        return tuple(values)

    def create_vm(self) -> Vm:
        """KVM_CREATE_VM."""
        return Vm(self)
