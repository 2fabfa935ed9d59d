"""Linux 5.14: what nested virtualization gained over 5.13."""

from emu.releases.linux_5_13 import LINUX_5_13
from emu.releases.schema import Added, Removed, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
STRUCT_VMCS12 = "arch/x86/kvm/vmx/vmcs12.h: struct vmcs12"
CHECK_EXTENSION_BETWEEN = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension (between 5.12 and 5.14)"
VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
NESTED_VMX_LOAD_CR3 = "arch/x86/kvm/vmx/nested.c: nested_vmx_load_cr3"
KVM_APIC_ACCEPT_EVENTS_BETWEEN = (
    "arch/x86/kvm/lapic.c: kvm_apic_accept_events (between 5.12 and 5.14)"
)
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_5_14 = after(
    LINUX_5_13,
    "5.14",
    Added("behaviours", "svm_hsave_page_aligned", seen=f"{SVM_MSR} (between 5.12 and 5.14)"),
    Added("vmcs12_fields", "tsc_multiplier", seen=STRUCT_VMCS12),
    Added("capabilities", "KVM_CAP_SREGS2", seen=CHECK_EXTENSION_BETWEEN),
    Added("vmx_rules", "mark_evmcs_map_pending", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "l2_pdptes_backed", seen=NESTED_VMX_LOAD_CR3),
    Removed("vmx_rules", "l2_pdpte0_reserved", seen=NESTED_VMX_LOAD_CR3),
    Removed("vmx_rules", "l2_pdpte1_reserved", seen=NESTED_VMX_LOAD_CR3),
    Removed("vmx_rules", "l2_pdpte2_reserved", seen=NESTED_VMX_LOAD_CR3),
    Removed("vmx_rules", "l2_pdpte3_reserved", seen=NESTED_VMX_LOAD_CR3),
    Removed("vmx_rules", "load_l2_pdptrs", seen=NESTED_VMX_LOAD_CR3),
    Added("behaviours", "accept_checks_nested_events", seen=KVM_APIC_ACCEPT_EVENTS_BETWEEN),
    Added("vmx_controls", "USE_TSC_SCALING", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "COMPUTED_VMCS_ENUM", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("capabilities", "KVM_CAP_HYPERV_ENFORCE_CPUID", seen=CHECK_EXTENSION_BETWEEN),
    Added("cpuid_leaves", "guest_size_needs_tdp", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "anythread_without_counters", seen=DO_CPUID_FUNC),
)
