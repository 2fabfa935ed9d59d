"""Linux 5.18: what nested virtualization gained over 5.17."""

from emu.releases.linux_5_17 import LINUX_5_17
from emu.releases.schema import Added, Changed, after

SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_5_18 = after(
    LINUX_5_17,
    "5.18",
    Added("svm_control", "enlightenments", seen=SVM_CACHE),
    Added("behaviours", "svm_tsc_ratio_fixed_without_feature", seen=SVM_MSR),
    Added("capabilities", "KVM_CAP_DISABLE_QUIRKS2", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("cpuid", "NO_NESTED_DATA_BP", seen=DO_CPUID_FUNC),
    Added("cpuid", "LFENCE_RDTSC", seen=DO_CPUID_FUNC),
    Added("cpuid", "NULL_SEL_CLR_BASE", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "synthesizes_80000021", seen=DO_CPUID_FUNC),
    Changed("cpuid_extended_limit", 0x8000_0021, seen=DO_CPUID_FUNC),
)
