"""Linux 6.11: what nested virtualization gained over 6.10."""

from emu.releases.linux_6_10 import LINUX_6_10
from emu.releases.schema import Added, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
SVM_SET_CPU_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"


LINUX_6_11 = after(
    LINUX_6_10,
    "6.11",
    Added("behaviours", "svm_fs_gs_base_msrs", seen=SVM_MSR),
    Added("cpuid_svm_hidden", "BUS_LOCK_DETECT", seen=SVM_SET_CPU_CAPS),
)
