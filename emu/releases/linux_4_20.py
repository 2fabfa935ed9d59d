"""Linux 4.20: what nested virtualization gained over 4.19."""

from emu.releases.linux_4_19 import LINUX_4_19
from emu.releases.schema import Added, Removed, after

KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
STRUCT_KVM_NESTED_STATE = "arch/x86/include/uapi/asm/kvm.h: struct kvm_nested_state"
VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx.c: vmx_set_nested_state"
CHECK_VMENTRY_PREREQS = "arch/x86/kvm/vmx.c: check_vmentry_prereqs"
PREPARE_VMCS02 = "arch/x86/kvm/vmx.c: prepare_vmcs02"
NESTED = "arch/x86/kvm/vmx.c: nested"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx.c: vmx_get_nested_state"
NESTED_ENABLE_EVMCS = "arch/x86/kvm/vmx.c: nested_enable_evmcs"

LINUX_4_20 = after(
    LINUX_4_19,
    "4.20",
    Added("capabilities", "KVM_CAP_HYPERV_ENLIGHTENED_VMCS", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("capabilities", "KVM_CAP_EXCEPTION_PAYLOAD", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("nested_flags", "KVM_STATE_NESTED_EVMCS", seen=STRUCT_KVM_NESTED_STATE),
    Removed("vmx_rules", "size_covers_vmcs12", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "vmcs12_pa_not_vmxon_pa_first", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "vmcs12_pa_page_address_first", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "posted_descriptor_page_aligned", seen=CHECK_VMENTRY_PREREQS),
    Added("vmx_rules", "enable_evmcs", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "vmxon_without_vmcs12", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "vmcs12_pa_not_vmxon_pa", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "vmcs12_pa_page_address", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "vmcs12_pa_or_evmcs", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "owe_vmcs12_to_evmcs", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "eptp_memory_type_on_entry", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "eptp_walk_length_on_entry", seen=PREPARE_VMCS02),
    Removed("vmx_rules", "eptp_reserved_on_entry", seen=PREPARE_VMCS02),
    Added("vmx_rules", "eptp_memory_type", seen=CHECK_VMENTRY_PREREQS),
    Added("vmx_rules", "eptp_walk_length", seen=CHECK_VMENTRY_PREREQS),
    Added("vmx_rules", "eptp_reserved", seen=CHECK_VMENTRY_PREREQS),
    Added("behaviours", "vmx_nested_by_default", seen=NESTED),
    Added("behaviours", "evmcs_has_vmcs12", seen=VMX_GET_NESTED_STATE),
    Added("behaviours", "evmcs_flag_means_enabled", seen=VMX_GET_NESTED_STATE),
    Added("behaviours", "evmcs_narrows_msrs", seen=NESTED_ENABLE_EVMCS),
    Added("behaviours", "evmcs_without_hyperv_cpuid", seen=NESTED_ENABLE_EVMCS),
)
