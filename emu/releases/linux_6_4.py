"""Linux 6.4: what nested virtualization gained over 6.3."""

from emu.releases.linux_6_3 import LINUX_6_3
from emu.releases.schema import Added, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_INTERCEPTS = "arch/x86/kvm/svm/nested.c: recalc_intercepts"


LINUX_6_4 = after(
    LINUX_6_3,
    "6.4",
    Added("cpuid", "VNMI", seen=SVM_CAPS),
    Added("svm_rules", "v_nmi_needs_nmi_intercept", seen=SVM_CONTROLS),
    Added("behaviours", "svm_vintr_by_rflags_of_l1", seen=SVM_INTERCEPTS),
)
