"""Linux 6.2: what nested virtualization gained over 6.1."""

from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.schema import Added, Removed, after

SVM_INTERCEPTS = "arch/x86/kvm/svm/nested.c: recalc_intercepts"
IS_VMX_FEATURE_CONTROL_MSR_VALID = "arch/x86/kvm/vmx/vmx.c: is_vmx_feature_control_msr_valid"
VMX_SEGMENT_ACCESS_RIGHTS = "arch/x86/kvm/vmx/vmx.c: vmx_segment_access_rights"
NESTED_VMX_SETUP_SECONDARY_CTLS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_secondary_ctls"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_6_2 = after(
    LINUX_6_1,
    "6.2",
    Added("behaviours", "svm_cr8_reads_intercepted", seen=SVM_INTERCEPTS),
    Added("behaviours", "feature_control_ignores_cpuid", seen=IS_VMX_FEATURE_CONTROL_MSR_VALID),
    Removed("behaviours", "unusable_rights_alone", seen=VMX_SEGMENT_ACCESS_RIGHTS),
    Added("vmx_controls", "ENABLE_USER_WAIT_AND_PAUSE", seen=NESTED_VMX_SETUP_SECONDARY_CTLS),
    Added("cpuid", "CMPCCXADD", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AMX_FP16", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX_IFMA", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX_VNNI_INT8", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX_NE_CONVERT", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "PREFETCHITI", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "SGX_EDECCSSA", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_emulated", "NO_SMM_CTL_MSR", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "topology_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "node_raw", seen=DO_CPUID_FUNC),
)
