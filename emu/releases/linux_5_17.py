"""Linux 5.17: what nested virtualization gained over 5.16."""

from emu.releases.linux_5_16 import LINUX_5_16
from emu.releases.schema import Added, Removed, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS = "arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_set_vcpu_events"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_5_17 = after(
    LINUX_5_16,
    "5.17",
    Added("cpuid_svm", "VMCBCLEAN", seen=SVM_CAPS),
    Removed("svm_rules", "msrpm_page_width", seen=SVM_CACHE),
    Removed("svm_rules", "msrpm_next_page_width", seen=SVM_CACHE),
    Removed("svm_rules", "iopm_page_width", seen=SVM_CACHE),
    Removed("svm_rules", "iopm_next_page_width", seen=SVM_CACHE),
    Added("svm_rules", "msrpm_width", seen=SVM_CACHE),
    Added("svm_rules", "iopm_width", seen=SVM_CACHE),
    Removed("svm_rules", "vcpu_cr3_width", seen=SVM_SET),
    Added("svm_rules", "vcpu_cr3_width_after_entry", seen=SVM_SET),
    Added("capabilities", "KVM_CAP_XSAVE2", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("behaviours", "smm_change_leaves_nested", seen=KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS),
    Added("behaviours", "smm_change_leaves_nested_first", seen=KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS),
    Added("cpuid", "FDP_EXCPTN_ONLY", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "ZERO_FCS_FDS", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AMX_TILE", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AMX_INT8", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AMX_BF16", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "XFD", seen=KVM_SET_CPU_CAPS),
    Removed("cpuid", "PERFCTR_CORE", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_svm", "PERFCTR_CORE", seen=SVM_CAPS),
    Added("cpuid_leaves", "tile_config_shown", seen=DO_CPUID_FUNC),
)
