"""Linux 7.1: what nested virtualization gained over 7.0."""

from emu.releases.linux_7_0 import LINUX_7_0
from emu.releases.schema import Added, Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_EVENT = "arch/x86/kvm/svm/nested.c: nested_svm_check_event_inj"
SVM_SAVE = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_save"
SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_VMRUN_STATE = "arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
SVM_RECALC = "arch/x86/kvm/svm/nested.c: nested_vmcb02_recalc_intercepts"
KVM_INITIALIZE_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_initialize_cpu_caps"


LINUX_7_1 = after(
    LINUX_7_0,
    "7.1",
    Added("svm_legalized", "misc_ctl_np_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "tlb_ctl_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "int_vector_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "int_state_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "event_inj_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "dbgctl_7_2", seen=SVM_VMRUN_STATE),
    Removed("svm_rules", "nested_paging_on_host", seen=SVM_CONTROLS),
    Added("svm_rules", "ncr3_width", seen=SVM_CONTROLS),
    Added("svm_rules", "event_inj_type", seen=SVM_EVENT),
    Added("svm_rules", "event_inj_vector", seen=SVM_EVENT),
    Added("svm_rules", "cs_l_and_d", seen=SVM_SAVE),
    Added("svm_control", "clean", seen=SVM_CACHE),
    Added("svm_save", "lbr", seen=SVM_VMRUN_STATE),
    Added("behaviours", "svm_lbr_msrs_settable", seen=SVM_MSR),
    Added("behaviours", "svm_keeps_vmmcall_intercept", seen=SVM_RECALC),
    Added("cpuid", "AVX512_BMM", seen=KVM_INITIALIZE_CPU_CAPS),
)
