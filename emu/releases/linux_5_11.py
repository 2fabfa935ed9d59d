"""Linux 5.11: what nested virtualization gained over 5.10."""

from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.schema import Added, Changed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
CONTROL_AREA = "arch/x86/include/asm/svm.h: struct vmcb_control_area"


LINUX_5_11 = after(
    LINUX_5_10,
    "5.11",
    Added("svm_rules", "set_run_pending", seen=SVM_SET),
    Changed("svm_control_bytes", 272, seen=CONTROL_AREA),
)
