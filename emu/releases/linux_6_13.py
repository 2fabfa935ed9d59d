"""Linux 6.13: what nested virtualization gained over 6.12."""

from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.schema import Added, Removed, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
KVM_APIC_SET_BASE = "arch/x86/kvm/lapic.c: kvm_apic_set_base"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
MSR_BASED_FEATURES_ALL_EXCEPT_VMX = "arch/x86/kvm/x86.c: msr_based_features_all_except_vmx"

LINUX_6_13 = after(
    LINUX_6_12,
    "6.13",
    Added("behaviours", "svm_debugctl_lbr_only", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_drops_pins", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_drops_btf", seen=SVM_MSR),
    Added("behaviours", "apic_base_unchanged_is_fine", seen=KVM_APIC_SET_BASE),
    Added("behaviours", "canonical_by_host_width", seen=NESTED_VMX_CHECK_HOST_STATE),
    Removed("vmx_rules", "host_rip_canonical_for_vcpu", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_rip_canonical_48", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_rip_canonical_57", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("cpuid", "SHA512", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "SM3", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "SM4", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX_VNNI_INT16", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AMD_IBPB_RET", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_leaves", "ibpb_return_bit", seen=KVM_SET_CPU_CAPS),
    Added("feature_msrs", "MSR_PLATFORM_INFO", seen=MSR_BASED_FEATURES_ALL_EXCEPT_VMX),
)
