"""Linux 5.9: what nested virtualization gained over 5.8."""

from emu.releases.linux_5_8 import LINUX_5_8
from emu.releases.schema import Added, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
KVM_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/cpuid.c: kvm_vcpu_after_set_cpuid"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
SVM_GET_MSR_FEATURE = "arch/x86/kvm/svm/svm.c: svm_get_msr_feature"
NESTED_VMX_PMU_ENTRY_EXIT_CTLS_UPDATE = (
    "arch/x86/kvm/vmx/nested.c: nested_vmx_pmu_entry_exit_ctls_update"
)

LINUX_5_9 = after(
    LINUX_5_8,
    "5.9",
    Added("svm_rules", "msrpm_in_memory", seen=SVM_SET),
    Added("behaviours", "cr4_vmxe_needs_cpuid", seen=KVM_VCPU_AFTER_SET_CPUID),
    Added("cpuid", "SERIALIZE", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_leaves", "fixed_counters_limited", seen=DO_CPUID_FUNC),
    Added("feature_msrs", "AMD_PERF_CAPABILITIES", seen=SVM_GET_MSR_FEATURE),
    Removed("behaviours", "pmu_never_narrows_exit", seen=NESTED_VMX_PMU_ENTRY_EXIT_CTLS_UPDATE),
)
