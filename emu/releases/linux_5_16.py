"""Linux 5.16: what nested virtualization gained over 5.15."""

from emu.releases.linux_5_15 import LINUX_5_15
from emu.releases.schema import Added, after

SVM_TLB_CTL = "arch/x86/kvm/svm/nested.c: nested_svm_check_tlb_ctl"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_5_16 = after(
    LINUX_5_15,
    "5.16",
    Added("svm_rules", "tlb_ctl_known", seen=SVM_TLB_CTL),
    Added("behaviours", "svm_tsc_ratio_msr", seen=SVM_MSR),
)
