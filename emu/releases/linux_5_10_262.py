"""Linux 5.10.262, the stable tree that Debian ships: how it differs from mainline 5.10."""

from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.schema import Added, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_PREPARE = "arch/x86/kvm/svm/nested.c: nested_prepare_vmcb_control"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_5_10_262 = after(
    LINUX_5_10,
    "5.10.262",
    Added("svm_rules", "efer_svme", seen=SVM_SET),
    Added("svm_rules", "leave_guest_mode", seen=SVM_SET),
    Added("behaviours", "svm_int_ctl_by_list", seen=SVM_PREPARE),
    Added("behaviours", "svm_hsave_page_aligned", seen=SVM_MSR),
    stable=True,
)
