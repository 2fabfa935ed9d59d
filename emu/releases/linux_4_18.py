"""Linux 4.18: the last release without KVM_GET_NESTED_STATE."""

from emu.releases.schema import Added, Changed, first

KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
__SET_SREGS = "arch/x86/kvm/x86.c: __set_sregs"
KVM_ARCH_VCPU_IOCTL_SET_MPSTATE = "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl_set_mpstate"
KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS = "arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_set_vcpu_events"
VMX_SEGMENT_ACCESS_RIGHTS = "arch/x86/kvm/vmx.c: vmx_segment_access_rights"
NESTED_VMX_ENTRY_EXIT_CTLS_UPDATE = "arch/x86/kvm/vmx.c: nested_vmx_entry_exit_ctls_update"
VMX_RESTORE_CONTROL_MSR = "arch/x86/kvm/vmx.c: vmx_restore_control_msr"
DO_CPUID_ENT = "arch/x86/kvm/cpuid.c: __do_cpuid_ent"
VMX_SET_SUPPORTED_CPUID = "arch/x86/kvm/vmx.c: vmx_set_supported_cpuid"
SVM_SET_SUPPORTED_CPUID = "arch/x86/kvm/svm.c: svm_set_supported_cpuid"
SVM_XSAVES_SUPPORTED = "arch/x86/kvm/svm.c: svm_xsaves_supported"
KVM_GET_MSR_FEATURE = "arch/x86/kvm/x86.c: kvm_get_msr_feature"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx.c: nested_vmx_setup_ctls_msrs"

LINUX_4_18 = first(
    "4.18",
    Added("capabilities", "KVM_CAP_X86_SMM", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("capabilities", "KVM_CAP_VCPU_EVENTS", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("capabilities", "KVM_CAP_GET_MSR_FEATURES", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("capabilities", "KVM_CAP_HYPERV_SYNIC2", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("capabilities", "KVM_CAP_DISABLE_QUIRKS", seen=KVM_VM_IOCTL_CHECK_EXTENSION),
    Added("sregs_rules", "sregs_long_mode_pae", seen=__SET_SREGS),
    Added("sregs_rules", "sregs_long_mode_lma", seen=__SET_SREGS),
    Added("sregs_rules", "sregs_lma_outside_long_mode", seen=__SET_SREGS),
    Added("sregs_rules", "sregs_cs_l_outside_long_mode", seen=__SET_SREGS),
    Added("sregs_rules", "sregs_apic_base_reserved", seen=__SET_SREGS),
    Added("sregs_rules", "sregs_x2apic_needs_enable", seen=__SET_SREGS),
    Added("sregs_rules", "sregs_cr4_osxsave", seen=__SET_SREGS),
    Added("behaviours", "sregs_drops_invalid_cr4", seen=__SET_SREGS),
    Added("behaviours", "mp_state_minds_latched_init", seen=KVM_ARCH_VCPU_IOCTL_SET_MPSTATE),
    Added("behaviours", "events_mind_latched_init", seen=KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS),
    Added("behaviours", "unusable_rights_alone", seen=VMX_SEGMENT_ACCESS_RIGHTS),
    Added("behaviours", "bndcfgs_follow_cpuid", seen=NESTED_VMX_ENTRY_EXIT_CTLS_UPDATE),
    Added("behaviours", "capability_msrs_only_narrow", seen=VMX_RESTORE_CONTROL_MSR),
    Added("cpuid", "PKU", seen=DO_CPUID_ENT),
    Added("cpuid", "PERFCTR_CORE", seen=DO_CPUID_ENT),
    Added("cpuid_emulated", "X2APIC", seen=DO_CPUID_ENT),
    Added("cpuid_emulated", "TSC_ADJUST", seen=DO_CPUID_ENT),
    Added("cpuid_emulated", "ARCH_CAPABILITIES", seen=DO_CPUID_ENT),
    Added("cpuid_vmx", "VMX", seen=VMX_SET_SUPPORTED_CPUID),
    Added("cpuid_vmx", "MPX", seen=DO_CPUID_ENT),
    Added("cpuid_vmx", "INVPCID", seen=DO_CPUID_ENT),
    Added("cpuid_svm", "SVM", seen=SVM_SET_SUPPORTED_CPUID),
    Added("cpuid_svm", "NPT", seen=SVM_SET_SUPPORTED_CPUID),
    Added("cpuid_svm", "NRIPS", seen=SVM_SET_SUPPORTED_CPUID),
    Added("cpuid_svm_hidden", "XSAVES", seen=SVM_XSAVES_SUPPORTED),
    Added("cpuid_leaves", "dca_raw", seen=DO_CPUID_ENT),
    Added("cpuid_leaves", "topology_raw", seen=DO_CPUID_ENT),
    Added("cpuid_leaves", "guest_size_taken", seen=DO_CPUID_ENT),
    Added("cpuid_leaves", "svm_leaf_without_nested", seen=SVM_SET_SUPPORTED_CPUID),
    Changed("cpuid_basic_limit", 0xD, seen=DO_CPUID_ENT),
    Changed("cpuid_extended_limit", 0x8000_001F, seen=DO_CPUID_ENT),
    Changed("arch_capabilities_mask", 0xFFFF_FFFF_FFFF_FFFF, seen=KVM_GET_MSR_FEATURE),
    Added("vmx_controls", "LOAD_IA32_BNDCFGS_ENTRY", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("vmx_controls", "CLEAR_IA32_BNDCFGS_EXIT", seen=NESTED_VMX_SETUP_CTLS_MSRS),
)
