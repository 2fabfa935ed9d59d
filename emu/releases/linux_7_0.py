"""Linux 7.0: what nested virtualization gained over 6.19."""

from emu.releases.linux_6_19 import LINUX_6_19
from emu.releases.schema import Added, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
SVM_LEAVE = "arch/x86/kvm/svm/nested.c: svm_leave_nested"
SVM_EFER = "arch/x86/kvm/svm/svm.c: svm_set_efer"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
KVM_SET_CPUID = "arch/x86/kvm/cpuid.c: kvm_set_cpuid"
DO_SET_MSR = "arch/x86/kvm/x86.c: do_set_msr"
KVM_INITIALIZE_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_initialize_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
SYNTHESIZED_F = "arch/x86/kvm/cpuid.c: SYNTHESIZED_F"
CPU_HAS_VMCS12_FIELD = "arch/x86/kvm/vmx/vmcs12.c: cpu_has_vmcs12_field"

LINUX_7_0 = after(
    LINUX_6_19,
    "7.0",
    Added("svm_legalized", "intercept_xsetbv_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "intercept_invpcid_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "intercept_rdtscp_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "intercept_skinit_7_2", seen=SVM_CACHE),
    Added("svm_legalized", "intercept_rdpru_7_2", seen=SVM_CACHE),
    Removed("svm_rules", "without_svme_only_gif", seen=SVM_SET),
    Added("svm_rules", "without_svme_no_guest", seen=SVM_SET),
    Added("svm_control", "erap_ctl", seen=SVM_CACHE),
    Added("behaviours", "svm_leave_nested_sets_gif", seen=SVM_LEAVE),
    Removed("behaviours", "svm_clearing_svme_sets_gif", seen=SVM_EFER),
    Added("behaviours", "debugctl_freeze_in_smm_quirk", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("behaviours", "cpuid_fixed_in_guest_mode", seen=KVM_SET_CPUID),
    Added("behaviours", "feature_msrs_fixed_in_guest_mode", seen=DO_SET_MSR),
    Added("cpuid", "MOVRS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "ERAPS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AVX10_VNNI_INT", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_INT8_ALIAS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_BF16_ALIAS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_COMPLEX_ALIAS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_FP16_ALIAS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_FP8", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_TF32", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_AVX512", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid", "AMX_MOVRS", seen=KVM_INITIALIZE_CPU_CAPS),
    Added("cpuid_leaves", "subleaf_1e_1", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "subleaf_24_1", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "tsa_bits_unasked", seen=SYNTHESIZED_F),
    Added("vmx_controls", "FIELDS_BY_HARDWARE", seen=CPU_HAS_VMCS12_FIELD),
)
