"""Linux 5.10: what nested virtualization gained over 5.9."""

from emu.releases.linux_5_9 import LINUX_5_9
from emu.releases.schema import Added, Changed, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SAVE_AREA = "arch/x86/include/asm/svm.h: struct vmcb_save_area"


LINUX_5_10 = after(
    LINUX_5_9,
    "5.10",
    Removed("svm_rules", "msrpm_in_memory", seen=SVM_SET),
    Removed("svm_rules", "set_gif_after_entry", seen=SVM_SET),
    Added("svm_rules", "request_pages", seen=SVM_SET),
    Changed("svm_save_bytes", 1032, seen=SAVE_AREA),
)
