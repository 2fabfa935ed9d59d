"""Linux 6.12.115, the stable tree that Debian ships: how it differs from mainline 6.12."""

from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.schema import Added, Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_SAVE = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_save"
SVM_VMRUN_STATE = "arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
SVM_INTERCEPTS = "arch/x86/kvm/svm/nested.c: recalc_intercepts"


LINUX_6_12_115 = after(
    LINUX_6_12,
    "6.12.115",
    Added("svm_rules", "nested_cr3_width", seen=SVM_CONTROLS),
    Added("svm_rules", "cs_l_without_db", seen=SVM_SAVE),
    Added("svm_save", "lbr", seen=f"{SVM_VMRUN_STATE} (6.12.117)"),
    Added("behaviours", "svm_debugctl_lbr_only", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_debugctl_drops_pins", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_debugctl_drops_btf", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_lbr_msrs_settable", seen=f"{SVM_MSR} (6.12.117)"),
    Removed("behaviours", "svm_lbr_in_vmcb01", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_keeps_vmmcall_intercept", seen=f"{SVM_INTERCEPTS} (6.12.117)"),
    stable=True,
)
