"""/dev/kvm of one release on one host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from emu.kvm.cpuid import Cpuid
from emu.kvm.host import AMD, Host
from emu.kvm.vendor import VendorOperations
from emu.kvm.vm import Vm
from emu.releases import release as release_named
from emu.releases.schema import Release

KVM_CAP_NESTED_STATE = 157
XSAVE_BYTES: Final = 4096

# include/uapi/linux/kvm.h, as far as a move of nested state asks for them.
CAPABILITIES: Final = {
    41: "KVM_CAP_VCPU_EVENTS",
    116: "KVM_CAP_DISABLE_QUIRKS",
    117: "KVM_CAP_X86_SMM",
    148: "KVM_CAP_HYPERV_SYNIC2",
    153: "KVM_CAP_GET_MSR_FEATURES",
    163: "KVM_CAP_HYPERV_ENLIGHTENED_VMCS",
    164: "KVM_CAP_EXCEPTION_PAYLOAD",
    190: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID",
    199: "KVM_CAP_HYPERV_ENFORCE_CPUID",
    200: "KVM_CAP_SREGS2",
    208: "KVM_CAP_XSAVE2",
    218: "KVM_CAP_X86_TRIPLE_FAULT_EVENT",
}


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
        name = CAPABILITIES.get(capability)
        if name is None or not self.release.has("capabilities", name):
            return 0
        hyperv = self.host.parameters.hyperv or not self.release.does("config_kvm_hyperv")
        if name.startswith("KVM_CAP_HYPERV") and not hyperv:
            return 0
        if name == "KVM_CAP_HYPERV_ENLIGHTENED_VMCS":
            return int(self.operations.has_evmcs(self.release, self.host))
        return XSAVE_BYTES if name == "KVM_CAP_XSAVE2" else 1

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
