"""Linux 5.17: what nested virtualization gained over 5.16."""

from emu.releases.linux_5_16 import LINUX_5_16
from emu.releases.schema import Added, Removed, after

SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"


LINUX_5_17 = after(
    LINUX_5_16,
    "5.17",
    Removed("svm_rules", "msrpm_page_width", seen=SVM_CACHE),
    Removed("svm_rules", "msrpm_next_page_width", seen=SVM_CACHE),
    Removed("svm_rules", "iopm_page_width", seen=SVM_CACHE),
    Removed("svm_rules", "iopm_next_page_width", seen=SVM_CACHE),
    Added("svm_rules", "msrpm_width", seen=SVM_CACHE),
    Added("svm_rules", "iopm_width", seen=SVM_CACHE),
    Removed("svm_rules", "vcpu_cr3_width", seen=SVM_SET),
    Added("svm_rules", "vcpu_cr3_width_after_entry", seen=SVM_SET),
)
