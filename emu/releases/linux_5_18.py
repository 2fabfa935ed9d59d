"""Linux 5.18: what nested virtualization gained over 5.17."""

from emu.releases.linux_5_17 import LINUX_5_17
from emu.releases.schema import Added, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_5_18 = after(
    LINUX_5_17,
    "5.18",
    Added("behaviours", "svm_tsc_ratio_fixed_without_feature", seen=SVM_MSR),
)
