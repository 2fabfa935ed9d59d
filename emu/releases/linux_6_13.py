"""Linux 6.13: what nested virtualization gained over 6.12."""

from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.schema import Added, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_6_13 = after(
    LINUX_6_12,
    "6.13",
    Added("behaviours", "svm_debugctl_lbr_only", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_drops_pins", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_drops_btf", seen=SVM_MSR),
)
