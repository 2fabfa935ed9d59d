"""Linux 6.19: what nested virtualization gained over 6.18."""

from emu.releases.linux_6_18 import LINUX_6_18
from emu.releases.schema import Added, after

SVM_SETUP = "arch/x86/kvm/svm/svm.c: svm_hardware_setup"
NESTED_VMX_CHECK_TPR_SHADOW_CONTROLS = (
    "arch/x86/kvm/vmx/nested.c: nested_vmx_check_tpr_shadow_controls"
)
NESTED_CHECK_VM_EXECUTION_CONTROLS = "arch/x86/kvm/vmx/nested.c: nested_check_vm_execution_controls"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_6_19 = after(
    LINUX_6_18,
    "6.19",
    Added("behaviours", "svm_lmsle_by_cpuid", seen=SVM_SETUP),
    Added("vmx_rules", "tpr_threshold_reserved", seen=NESTED_VMX_CHECK_TPR_SHADOW_CONTROLS),
    Added("vmx_rules", "tsc_multiplier_not_zero", seen=NESTED_CHECK_VM_EXECUTION_CONTROLS),
    Added("cpuid", "EFER_LMSLE_MBZ", seen=KVM_SET_CPU_CAPS),
)
