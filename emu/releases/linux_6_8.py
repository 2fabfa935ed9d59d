"""Linux 6.8: what nested virtualization gained over 6.7."""

from emu.releases.linux_6_7 import LINUX_6_7
from emu.releases.schema import Added, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"

__CR4_RESERVED_BITS = "arch/x86/kvm/x86.h: __cr4_reserved_bits"
KVM_HYPERV = "arch/x86/kvm/Kconfig: KVM_HYPERV"
VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"

LINUX_6_8 = after(
    LINUX_6_7,
    "6.8",
    Added("cpuid", "FLUSHBYASID", seen=SVM_CAPS),
    Added("behaviours", "cr4_lam", seen=__CR4_RESERVED_BITS),
    Added("behaviours", "config_kvm_hyperv", seen=KVM_HYPERV),
    Added("vmx_rules", "evmcs_needs_hyperv", seen=VMX_SET_NESTED_STATE),
)
