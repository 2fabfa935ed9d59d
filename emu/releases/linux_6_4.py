"""Linux 6.4: what nested virtualization gained over 6.3."""

from emu.releases.linux_6_3 import LINUX_6_3
from emu.releases.schema import Added, Removed, after

SVM_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_INTERCEPTS = "arch/x86/kvm/svm/nested.c: recalc_intercepts"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
KVM_GET_FILTERED_XCR0 = "arch/x86/kvm/x86.h: kvm_get_filtered_xcr0"
KVM_INIT_MSR_LISTS = "arch/x86/kvm/x86.c: kvm_init_msr_lists"


LINUX_6_4 = after(
    LINUX_6_3,
    "6.4",
    Added("cpuid_svm", "VNMI", seen=SVM_CAPS),
    Added("svm_rules", "v_nmi_needs_nmi_intercept", seen=SVM_CONTROLS),
    Added("behaviours", "svm_vintr_by_rflags_of_l1", seen=SVM_INTERCEPTS),
    Added("cpuid", "FLUSH_L1D", seen=KVM_SET_CPU_CAPS),
    Removed("cpuid_leaves", "tile_config_shown", seen=KVM_GET_FILTERED_XCR0),
    Added("feature_msrs", "VMX_IN_ASCENDING_ORDER", seen=KVM_INIT_MSR_LISTS),
)
