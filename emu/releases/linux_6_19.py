"""Linux 6.19: what nested virtualization gained over 6.18."""

from emu.releases.linux_6_18 import LINUX_6_18
from emu.releases.schema import Added, after

SVM_SETUP = "arch/x86/kvm/svm/svm.c: svm_hardware_setup"


LINUX_6_19 = after(
    LINUX_6_18,
    "6.19",
    Added("behaviours", "svm_lmsle_by_cpuid", seen=SVM_SETUP),
)
