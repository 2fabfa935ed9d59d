"""Linux 6.18: what nested virtualization gained over 6.17."""

from emu.releases.linux_6_17 import LINUX_6_17
from emu.releases.schema import Added, Removed, after

SVM_VMRUN_STATE = "arch/x86/kvm/svm/nested.c: svm_copy_vmrun_state"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
__CR4_RESERVED_BITS = "arch/x86/kvm/x86.h: __cr4_reserved_bits"
PREPARE_VMCS02_RARE = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02_rare"
STRUCT_VMCS12 = "arch/x86/kvm/vmx/vmcs12.h: struct vmcs12"
NESTED_CHECK_VM_ENTRY_CONTROLS = "arch/x86/kvm/vmx/nested.c: nested_check_vm_entry_controls"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
NESTED_VMX_SETUP_BASIC = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_basic"
NESTED_VMX_SETUP_ENTRY_CTLS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_entry_ctls"
NESTED_VMX_SETUP_EXIT_CTLS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_exit_ctls"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
SVM_SET_CPU_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"

LINUX_6_18 = after(
    LINUX_6_17,
    "6.18",
    Added("svm_save", "cet", seen=SVM_VMRUN_STATE),
    Removed("behaviours", "svm_lbr_in_vmcb01", seen=SVM_MSR),
    Added("behaviours", "cr4_cet", seen=__CR4_RESERVED_BITS),
    Added("behaviours", "loads_cet", seen=PREPARE_VMCS02_RARE),
    Added("vmcs12_fields", "host_s_cet", seen=STRUCT_VMCS12),
    Added("vmcs12_fields", "host_ssp", seen=STRUCT_VMCS12),
    Added("vmcs12_fields", "host_ssp_tbl", seen=STRUCT_VMCS12),
    Added("vmcs12_fields", "guest_s_cet", seen=STRUCT_VMCS12),
    Added("vmcs12_fields", "guest_ssp", seen=STRUCT_VMCS12),
    Added("vmcs12_fields", "guest_ssp_tbl", seen=STRUCT_VMCS12),
    Removed("vmx_rules", "error_code_wanted", seen=NESTED_CHECK_VM_ENTRY_CONTROLS),
    Removed("vmx_rules", "error_code_unwanted", seen=NESTED_CHECK_VM_ENTRY_CONTROLS),
    Added("vmx_rules", "error_code_wanted_with_cet", seen=NESTED_CHECK_VM_ENTRY_CONTROLS),
    Added("vmx_rules", "error_code_unwanted_with_cet", seen=NESTED_CHECK_VM_ENTRY_CONTROLS),
    Added("vmx_rules", "host_cet_needs_wp", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_s_cet_reserved", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_s_cet_suppress_and_wait", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_ssp_aligned", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_interrupt_ssp_table_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_s_cet_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_ssp_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_32_s_cet_upper_half", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_32_ssp_upper_half", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "guest_cet_needs_wp", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_s_cet_reserved", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_s_cet_suppress_and_wait", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ssp_aligned", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_interrupt_ssp_table_canonical", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ssp_upper_bits", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ssp_upper_bits_la57", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_controls", "NO_HW_ERROR_CODE_CC", seen=NESTED_VMX_SETUP_BASIC),
    Added("vmx_controls", "LOAD_CET_STATE_ENTRY", seen=NESTED_VMX_SETUP_ENTRY_CTLS),
    Added("vmx_controls", "LOAD_CET_STATE_EXIT", seen=NESTED_VMX_SETUP_EXIT_CTLS),
    Added("cpuid", "SHSTK", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "IBT", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "MSR_IMM", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_svm_hidden", "IBT", seen=SVM_SET_CPU_CAPS),
    Added("cpuid_svm_hidden", "MSR_IMM", seen=SVM_SET_CPU_CAPS),
)
