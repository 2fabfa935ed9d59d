"""Linux 6.2: what nested virtualization gained over 6.1."""

from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.schema import Added, after

SVM_INTERCEPTS = "arch/x86/kvm/svm/nested.c: recalc_intercepts"


LINUX_6_2 = after(
    LINUX_6_1,
    "6.2",
    Added("behaviours", "svm_cr8_reads_intercepted", seen=SVM_INTERCEPTS),
)
