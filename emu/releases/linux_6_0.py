"""Linux 6.0: what nested virtualization gained over 5.19."""

from emu.releases.linux_5_19 import LINUX_5_19
from emu.releases.schema import Added, Removed, after

SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
VMX_RESTORE_CONTROL_MSR = "arch/x86/kvm/vmx/nested.c: vmx_restore_control_msr"
VMX_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/vmx/vmx.c: vmx_vcpu_after_set_cpuid"
SYNC_VMCS02_TO_VMCS12_RARE = "arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12_rare"
PREPARE_VMCS02 = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02"
KVM_ARCH_VCPU_IOCTL_SET_MPSTATE = "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl_set_mpstate"
NESTED_VMX_SETUP_CR_FIXED = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_cr_fixed"
NESTED_CR4_VALID = "arch/x86/kvm/vmx/nested.h: nested_cr4_valid"

LINUX_6_0 = after(
    LINUX_5_19,
    "6.0",
    Added("svm_control", "next_rip", seen=SVM_CACHE),
    Added("capabilities", "KVM_CAP_X86_TRIPLE_FAULT_EVENT", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Removed("behaviours", "capability_msrs_only_narrow", seen=VMX_RESTORE_CONTROL_MSR),
    Removed("behaviours", "bndcfgs_follow_cpuid", seen=VMX_VCPU_AFTER_SET_CPUID),
    Removed("behaviours", "syncs_bndcfgs", seen=SYNC_VMCS02_TO_VMCS12_RARE),
    Removed("vmx_rules", "l2_perf_global_ctrl_exists", seen=PREPARE_VMCS02),
    Added("behaviours", "mp_state_checks_value", seen=KVM_ARCH_VCPU_IOCTL_SET_MPSTATE),
    Added("vmx_controls", "EMULATED_UMIP_IN_CR4", seen=NESTED_VMX_SETUP_CR_FIXED),
    Added("vmx_rules", "host_cr4_reserved", seen=NESTED_CR4_VALID),
    Added("vmx_rules", "guest_cr4_reserved", seen=NESTED_CR4_VALID),
)
