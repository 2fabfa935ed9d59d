"""Linux 6.7: what nested virtualization gained over 6.6."""

from emu.releases.linux_6_6 import LINUX_6_6
from emu.releases.schema import Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"


LINUX_6_7 = after(
    LINUX_6_6,
    "6.7",
    Removed("svm_rules", "tlb_ctl_known", seen=SVM_CONTROLS),
)
