"""Linux 6.8: what nested virtualization gained over 6.7."""

from emu.releases.linux_6_7 import LINUX_6_7
from emu.releases.schema import Added, Changed, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"

__CR4_RESERVED_BITS = "arch/x86/kvm/x86.h: __cr4_reserved_bits"
KVM_HYPERV = "arch/x86/kvm/Kconfig: KVM_HYPERV"
VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"

LINUX_6_8 = after(
    LINUX_6_7,
    "6.8",
    Added("cpuid_svm", "FLUSHBYASID", seen=SVM_CAPS),
    Added("behaviours", "cr4_lam", seen=__CR4_RESERVED_BITS),
    Added("behaviours", "config_kvm_hyperv", seen=KVM_HYPERV),
    Added("vmx_rules", "evmcs_needs_hyperv", seen=VMX_SET_NESTED_STATE),
    Added("cpuid", "LAM", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "INTEL_PSFD", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "IPRED_CTRL", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "RRSBA_CTRL", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "DDPD_U", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "BHI_CTRL", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "MCDT_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_leaves", "subleaf_7_2", seen=DO_CPUID_FUNC),
    Added("arch_capabilities", "RFDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Changed("arch_capabilities_mask", 0x1D1A_E1FF, seen=KVM_SUPPORTED_ARCH_CAP),
)
