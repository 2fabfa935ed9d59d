"""Linux 5.14: what nested virtualization gained over 5.13."""

from emu.releases.linux_5_13 import LINUX_5_13
from emu.releases.schema import Added, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_5_14 = after(
    LINUX_5_13,
    "5.14",
    Added("behaviours", "svm_hsave_page_aligned", seen=f"{SVM_MSR} (between 5.12 and 5.14)"),
)
