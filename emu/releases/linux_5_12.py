"""Linux 5.12: what nested virtualization gained over 5.11."""

from emu.releases.linux_5_11 import LINUX_5_11
from emu.releases.schema import Added, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"


LINUX_5_12 = after(
    LINUX_5_11,
    "5.12",
    Added("cpuid", "SVME_ADDR_CHK", seen=SVM_CAPS),
    Added("svm_rules", "efer_svme", seen=f"{SVM_SET} (and 5.11.14, a stable tree)"),
)
