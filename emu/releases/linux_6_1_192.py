"""Linux 6.1.192, the stable tree that Debian ships: how it differs from mainline 6.1."""

from emu.releases.linux_6_1 import LINUX_6_1
from emu.releases.schema import Added, Changed, Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
SVM_SAVE = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_save"
SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
KVM_POSSIBLE_CR0_GUEST_BITS = "arch/x86/kvm/kvm_cache_regs.h: KVM_POSSIBLE_CR0_GUEST_BITS"
VMX_SEGMENT_ACCESS_RIGHTS = "arch/x86/kvm/vmx/vmx.c: vmx_segment_access_rights"
VMX_IS_VALID_DEBUGCTL = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_debugctl"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
KVM_IS_VALID_CR0 = "arch/x86/kvm/x86.c: kvm_is_valid_cr0"
VMX_IS_VALID_CR0 = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr0"
NESTED_VMX_SETUP_SECONDARY_CTLS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_secondary_ctls"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
SVM_SET_CPU_CAPS = "arch/x86/kvm/svm/svm.c: svm_set_cpu_caps"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"
VMX_GET_PERF_CAPABILITIES = "arch/x86/kvm/vmx/vmx.c: vmx_get_perf_capabilities"

LINUX_6_1_192 = after(
    LINUX_6_1,
    "6.1.192",
    Removed("svm_rules", "tlb_ctl_known", seen=SVM_CONTROLS),
    Added("svm_rules", "ncr3_width", seen=SVM_CONTROLS),
    Added("svm_rules", "cs_l_and_d", seen=SVM_SAVE),
    Added("behaviours", "svm_fs_gs_base_msrs", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_lbr_and_btf", seen=SVM_MSR),
    Added("behaviours", "svm_debugctl_drops_pins", seen=SVM_MSR),
    Added("behaviours", "owns_cr0_wp", seen=KVM_POSSIBLE_CR0_GUEST_BITS),
    Removed("behaviours", "unusable_rights_alone", seen=VMX_SEGMENT_ACCESS_RIGHTS),
    Added("behaviours", "checks_debugctl", seen=VMX_IS_VALID_DEBUGCTL),
    Added("vmx_rules", "guest_debugctl_reserved", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_paging_needs_protection", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ia32e_needs_pae", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ia32e_needs_paging", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("sregs_rules", "sregs_cr0_high_half", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_nw_needs_cd", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_pg_needs_pe", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_vmx_fixed", seen=VMX_IS_VALID_CR0),
    Added("vmx_controls", "ENABLE_USER_WAIT_AND_PAUSE", seen=NESTED_VMX_SETUP_SECONDARY_CTLS),
    Added("cpuid", "INTEL_PSFD", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "IPRED_CTRL", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "RRSBA_CTRL", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "DDPD_U", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "BHI_CTRL", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "MCDT_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "SRSO_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "VERW_CLEAR", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_SQ_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "TSA_L1_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_emulated", "NO_SMM_CTL_MSR", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_leaves", "subleaf_7_2", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "topology_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "node_raw", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "guest_size_taken", seen=DO_CPUID_FUNC),
    Added("cpuid_svm_hidden", "BUS_LOCK_DETECT", seen=SVM_SET_CPU_CAPS),
    Added("arch_capabilities", "GDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "RFDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "ITS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Changed("arch_capabilities_mask", 0x4000_0000_1D1A_E1FF, seen=KVM_SUPPORTED_ARCH_CAP),
    Changed("perf_capabilities_mask", 0xFFF, seen=VMX_GET_PERF_CAPABILITIES),
    stable=True,
)
