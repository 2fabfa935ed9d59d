"""Linux 6.12.115, the stable tree that Debian ships: how it differs from mainline 6.12."""

from emu.releases.linux_6_12 import LINUX_6_12
from emu.releases.schema import Added, Changed, Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_SAVE = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_save"
SVM_VMRUN_STATE = "arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
SVM_INTERCEPTS = "arch/x86/kvm/svm/nested.c: recalc_intercepts"
KVM_VM_IOCTL_ENABLE_CAP = "arch/x86/kvm/x86.c: kvm_vm_ioctl_enable_cap"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
VMX_IS_VALID_DEBUGCTL = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_debugctl"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
KVM_IS_VALID_SREGS = "arch/x86/kvm/x86.c: kvm_is_valid_sregs"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"

LINUX_6_12_115 = after(
    LINUX_6_12,
    "6.12.115",
    Added("svm_legalized", "dbgctl_7_2", seen=f"{SVM_VMRUN_STATE} (6.12.117)"),
    Added("svm_rules", "ncr3_width", seen=SVM_CONTROLS),
    Added("svm_rules", "cs_l_and_d", seen=SVM_SAVE),
    Added("svm_save", "lbr", seen=f"{SVM_VMRUN_STATE} (6.12.117)"),
    Added("behaviours", "svm_debugctl_lbr_only", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_debugctl_drops_pins", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_debugctl_drops_btf", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_lbr_msrs_settable", seen=f"{SVM_MSR} (6.12.117)"),
    Removed("behaviours", "svm_lbr_in_vmcb01", seen=f"{SVM_MSR} (6.12.117)"),
    Added("behaviours", "svm_keeps_vmmcall_intercept", seen=f"{SVM_INTERCEPTS} (6.12.117)"),
    Added("behaviours", "quirks_accumulate", seen=KVM_VM_IOCTL_ENABLE_CAP),
    Added("behaviours", "canonical_by_host_width", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("behaviours", "checks_debugctl", seen=VMX_IS_VALID_DEBUGCTL),
    Added("behaviours", "debugctl_freeze_in_smm_quirk", seen=VMX_IS_VALID_DEBUGCTL),
    Added("vmx_rules", "guest_debugctl_reserved", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_cet_needs_wp", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "host_cet_needs_wp", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("sregs_rules", "sregs_efer_reserved", seen=KVM_IS_VALID_SREGS),
    Added("cpuid", "SRSO_USER_KERNEL_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "VERW_CLEAR", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_SQ_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_L1_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_FILL_NO", seen=KVM_SET_CPU_CAPS),
    Added("arch_capabilities", "ITS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Changed("arch_capabilities_mask", 0x4000_0000_1D1A_E1FF, seen=KVM_SUPPORTED_ARCH_CAP),
    stable=True,
)
