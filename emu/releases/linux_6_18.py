"""Linux 6.18: what nested virtualization gained over 6.17."""

from emu.releases.linux_6_17 import LINUX_6_17
from emu.releases.schema import Added, Removed, after

SVM_VMRUN_STATE = "arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_6_18 = after(
    LINUX_6_17,
    "6.18",
    Added("svm_save", "cet", seen=SVM_VMRUN_STATE),
    Removed("behaviours", "svm_lbr_in_vmcb01", seen=SVM_MSR),
)
