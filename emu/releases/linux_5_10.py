"""Linux 5.10: what nested virtualization gained over 5.9."""

from emu.releases.linux_5_9 import LINUX_5_9
from emu.releases.schema import Added, Changed, Removed, after

SVM_COPY = "arch/x86/kvm/svm/nested.c: copy_vmcb_control_area"
SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SAVE_AREA = "arch/x86/include/asm/svm.h: struct vmcb_save_area"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
SVM_SET_CPU_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"

LINUX_5_10 = after(
    LINUX_5_9,
    "5.10",
    Added("svm_control", "intercept_word_5", seen=SVM_COPY),
    Removed("svm_rules", "msrpm_in_memory", seen=SVM_SET),
    Removed("svm_rules", "set_gif_after_entry", seen=SVM_SET),
    Added("svm_rules", "request_pages", seen=SVM_SET),
    Changed("svm_save_bytes", 1032, seen=SAVE_AREA),
    Added("capabilities", "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("cpuid", "TSXLDTRK", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_svm", "INVPCID", seen=SVM_SET_CPU_CAPS),
    Added("cpuid_leaves", "anythread_deprecated", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "anythread_without_counters", seen=DO_CPUID_FUNC),
    Added("vmx_controls", "LOAD_IA32_PERF_GLOBAL_CTRL_ENTRY", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "LOAD_IA32_PERF_GLOBAL_CTRL_EXIT", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "LOAD_IA32_BNDCFGS_ENTRY", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "CLEAR_IA32_BNDCFGS_EXIT", seen=NESTED_VMX_SETUP_CTLS_MSRS),
)
