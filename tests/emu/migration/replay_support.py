"""Kernels, vCPUs and moves that replays of breaks and incidents share."""

from emu.errors import KvmError
from emu.kvm import Kvm
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.kvm.structs import Sregs
from emu.migration.capture import shipped
from emu.migration.guest import new_vcpu
from emu.migration.migrate import migrate
from emu.migration.policy import policy
from emu.releases import RELEASES
from tests.emu.kvm import svm_support as svm
from tests.emu.kvm.vmx_support import NONE_PA

FLAGS, QEMU = policy("flags"), policy("qemu")
KVM_CAP_NESTED_STATE, KVM_CAP_EVMCS = 157, 163
KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_TRIPLE_FAULT_EVENT = 164, 218
KVM_CAP_DISABLE_QUIRKS2, QUIRK_NESTED_SVM_SHARED_PAT = 213, 1 << 11
VALID_SMM, VALID_PAYLOAD, VALID_TRIPLE_FAULT = 0x08, 0x10, 0x20
MSR_TSC, MSR_FEATURE_CONTROL, MSR_DEBUGCTL, MSR_TRUE_PIN = 0x10, 0x3A, 0x1D9, 0x48D
NO_VMXON = {"VMXON_PA": NONE_PA, "VMCS12_PA": NONE_PA, "FLAGS": 0, "SIZE": 128}


def kvm(release, cpu="skylake-x", **parameters):
    wanted = ModuleParameters(**{"nested": True, **parameters})
    return Kvm(release, host_of(cpu, RELEASES[release], wanted))


def moved(capture, source, destination, how=FLAGS):
    """The verdict of one move of a shipped capture."""
    found = shipped()[capture]
    return migrate(found, kvm(source, found.cpu), kvm(destination, found.cpu), how)


def own_pat(release):
    """A vCPU whose L2 has a PAT of its own where the release can give it one."""
    vcpu = svm.make_vcpu(release)
    if RELEASES[release].does("svm_quirk_shared_pat"):
        vcpu.vm.enable_cap(KVM_CAP_DISABLE_QUIRKS2, QUIRK_NESTED_SVM_SHARED_PAT)
    return vcpu


def sregs_refusal(vcpu, **registers):
    """The rule by which KVM_SET_SREGS refuses, empty where it does not."""
    try:
        vcpu.set_sregs(Sregs(**{**vars(vcpu.get_sregs()), **registers}))
    except KvmError as refusal:
        return refusal.rule
    return ""


def without(kernel, feature):
    """A vCPU of `kernel` whose CPUID lacks a feature of leaf 1, ECX."""
    vcpu = new_vcpu(kernel)
    bit = {"VMX": 5, "PCID": 17}[feature]
    vcpu.set_cpuid2(kernel.get_supported_cpuid().cleared(1, 0, 2, 1 << bit))
    return vcpu
