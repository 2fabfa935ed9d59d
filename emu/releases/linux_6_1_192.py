"""Linux 6.1.192, the stable tree that Debian ships: how it differs from mainline 6.1."""

from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.schema import Added, Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_SAVE = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_save"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"


LINUX_6_1_192 = after(
    LINUX_6_1,
    "6.1.192",
    Removed("svm_rules", "tlb_ctl_known", seen=SVM_CONTROLS),
    Added("svm_rules", "nested_cr3_width", seen=SVM_CONTROLS),
    Added("svm_rules", "cs_l_without_db", seen=SVM_SAVE),
    Added("behaviours", "svm_fs_gs_base_msrs", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_lbr_and_btf", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_drops_pins", seen=SVM_MSR),
    stable=True,
)
