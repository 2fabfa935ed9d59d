"""Linux 5.10.262, the stable tree that Debian ships: how it differs from mainline 5.10."""

from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.schema import Added, Changed, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
SVM_PREPARE = "arch/x86/kvm/svm/nested.c: nested_prepare_vmcb_control"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
VMX_IS_VALID_CR4 = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr4"
KVM_VALID_SREGS = "arch/x86/kvm/x86.c: kvm_valid_sregs"
KVM_VALID_CR4 = "arch/x86/kvm/x86.c: kvm_valid_cr4"
KVM_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/cpuid.c: kvm_vcpu_after_set_cpuid"
KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS = "arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_set_vcpu_events"
VMX_RESTORE_CONTROL_MSR = "arch/x86/kvm/vmx/nested.c: vmx_restore_control_msr"
VMX_SEGMENT_ACCESS_RIGHTS = "arch/x86/kvm/vmx/vmx.c: vmx_segment_access_rights"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"

LINUX_5_10_262 = after(
    LINUX_5_10,
    "5.10.262",
    Added("svm_rules", "efer_svme", seen=SVM_SET),
    Added("svm_rules", "leave_guest_mode", seen=SVM_SET),
    Added("behaviours", "svm_int_ctl_by_list", seen=SVM_PREPARE),
    Added("behaviours", "svm_hsave_page_aligned", seen=SVM_MSR),
    Added("sregs_rules", "sregs_cr4_vmxe_in_smm", seen=VMX_IS_VALID_CR4),
    Added("sregs_rules", "sregs_cr4_vmx_fixed", seen=VMX_IS_VALID_CR4),
    Added("sregs_rules", "sregs_long_mode_cr3_width", seen=KVM_VALID_SREGS),
    Removed("behaviours", "sregs_drops_invalid_cr4", seen=KVM_VALID_CR4),
    Added("behaviours", "cr4_pcide_needs_cpuid", seen=KVM_VCPU_AFTER_SET_CPUID),
    Added("behaviours", "smm_change_leaves_nested", seen=KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS),
    Removed("behaviours", "capability_msrs_only_narrow", seen=VMX_RESTORE_CONTROL_MSR),
    Removed("behaviours", "unusable_rights_alone", seen=VMX_SEGMENT_ACCESS_RIGHTS),
    Added("behaviours", "flushes_rare_on_get", seen=VMX_GET_NESTED_STATE),
    Removed("vmx_rules", "legacy_mode_excludes_64_bit_host", seen=NESTED_VMX_CHECK_HOST_STATE),
    Removed("vmx_rules", "long_mode_needs_64_bit_host", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "guest_paging_needs_protection", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ia32e_needs_pae", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ia32e_needs_paging", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("cpuid", "SRSO_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "VERW_CLEAR", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_SQ_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_L1_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "NO_NESTED_DATA_BP", seen=DO_CPUID_FUNC),
    Added("cpuid", "LFENCE_RDTSC", seen=DO_CPUID_FUNC),
    Added("cpuid", "NULL_SEL_CLR_BASE", seen=DO_CPUID_FUNC),
    Changed("cpuid_extended_limit", 0x8000_0021, seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "dca_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "topology_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "node_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "anythread_without_counters", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "reserved_bits_dropped", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "guest_size_needs_tdp", seen=DO_CPUID_FUNC),
    Removed("arch_capabilities", "TSX_CTRL_HIDDEN_WITHOUT_RTM", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "GDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "RFDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "ITS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Changed("arch_capabilities_mask", 0x4000_0000_1D0A_E1FF, seen=KVM_SUPPORTED_ARCH_CAP),
    stable=True,
)
