"""Linux 5.9: what nested virtualization gained over 5.8."""

from emu.releases.linux_5_8 import LINUX_5_8
from emu.releases.schema import Added, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
KVM_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/cpuid.c: kvm_vcpu_after_set_cpuid"

LINUX_5_9 = after(
    LINUX_5_8,
    "5.9",
    Added("svm_rules", "msrpm_in_memory", seen=SVM_SET),
    Added("behaviours", "cr4_vmxe_needs_cpuid", seen=KVM_VCPU_AFTER_SET_CPUID),
)
