"""Linux 5.16: what nested virtualization gained over 5.15."""

from emu.releases.linux_5_15 import LINUX_5_15
from emu.releases.schema import Added, Removed, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_TLB_CTL = "arch/x86/kvm/svm/nested.c: nested_svm_check_tlb_ctl"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_5_16 = after(
    LINUX_5_15,
    "5.16",
    Added("cpuid_svm", "TSCRATEMSR", seen=SVM_CAPS),
    Added("svm_rules", "tlb_ctl_known", seen=SVM_TLB_CTL),
    Added("behaviours", "svm_tsc_ratio_msr", seen=SVM_MSR),
    Removed("vmx_rules", "legacy_mode_excludes_64_bit_host", seen=NESTED_VMX_CHECK_HOST_STATE),
    Removed("vmx_rules", "long_mode_needs_64_bit_host", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("cpuid", "AMD_PSFD", seen=KVM_SET_CPU_CAPS),
)
