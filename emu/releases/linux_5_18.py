"""Linux 5.18: what nested virtualization gained over 5.17."""

from emu.releases.linux_5_17 import LINUX_5_17
from emu.releases.schema import Added, after

SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"

LINUX_5_18 = after(
    LINUX_5_17,
    "5.18",
    Added("svm_control", "enlightenments", seen=SVM_CACHE),
    Added("behaviours", "svm_tsc_ratio_fixed_without_feature", seen=SVM_MSR),
    Added("capabilities", "KVM_CAP_DISABLE_QUIRKS2", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
)
