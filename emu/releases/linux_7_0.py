"""Linux 7.0: what nested virtualization gained over 6.19."""

from emu.releases.linux_6_19 import LINUX_6_19
from emu.releases.schema import Added, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_LEAVE = "arch/x86/kvm/svm/nested.c: svm_leave_nested"
SVM_EFER = "arch/x86/kvm/svm/svm.c: svm_set_efer"


LINUX_7_0 = after(
    LINUX_6_19,
    "7.0",
    Removed("svm_rules", "without_svme_only_gif", seen=SVM_SET),
    Added("svm_rules", "without_svme_no_guest", seen=SVM_SET),
    Added("svm_control", "erap_ctl", seen=SVM_CACHE),
    Added("behaviours", "svm_drops_intercepts_without_feature", seen=SVM_CACHE),
    Added("behaviours", "svm_leave_nested_sets_gif", seen=SVM_LEAVE),
    Removed("behaviours", "svm_clearing_svme_sets_gif", seen=SVM_EFER),
)
