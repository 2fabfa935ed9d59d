"""Linux 6.0: what nested virtualization gained over 5.19."""

from emu.releases.linux_5_19 import LINUX_5_19
from emu.releases.schema import Added, after

SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"


LINUX_6_0 = after(
    LINUX_5_19,
    "6.0",
    Added("svm_control", "next_rip", seen=SVM_CACHE),
)
