"""Linux 6.17: what nested virtualization gained over 6.16."""

from emu.releases.linux_6_16 import LINUX_6_16
from emu.releases.schema import Removed, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_6_17 = after(
    LINUX_6_16,
    "6.17",
    Removed("behaviours", "svm_debugctl_drops_pins", seen=f"{SVM_MSR} (between 6.14 and 6.17)"),
)
