"""Linux 6.0: what nested virtualization gained over 5.19."""

from emu.releases.linux_5_19 import LINUX_5_19
from emu.releases.schema import Added, Changed, Removed, after

SVM_CACHE = "arch/x86/kvm/svm/nested.c: __nested_copy_vmcb_control_to_cache"
KVM_VM_IOCTL_CHECK_EXTENSION = "arch/x86/kvm/x86.c: kvm_vm_ioctl_check_extension"
VMX_RESTORE_CONTROL_MSR = "arch/x86/kvm/vmx/nested.c: vmx_restore_control_msr"
VMX_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/vmx/vmx.c: vmx_vcpu_after_set_cpuid"
SYNC_VMCS02_TO_VMCS12_RARE = "arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12_rare"
PREPARE_VMCS02 = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02"
KVM_ARCH_VCPU_IOCTL_SET_MPSTATE = "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl_set_mpstate"
NESTED_VMX_SETUP_CR_FIXED = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_cr_fixed"
NESTED_CR4_VALID = "arch/x86/kvm/vmx/nested.h: nested_cr4_valid"
VMX_SET_CPU_CAPS = "arch/x86/kvm/vmx/vmx.c: vmx_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
KVM_INIT_PMU_CAPABILITY = "arch/x86/kvm/pmu.h: kvm_init_pmu_capability"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"
VMX_GET_PERF_CAPABILITIES = "arch/x86/kvm/vmx/capabilities.h: vmx_get_perf_capabilities"
NESTED_VMX_PMU_REFRESH = "arch/x86/kvm/vmx/nested.c: nested_vmx_pmu_refresh"

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
    Added("cpuid_vmx", "DS", seen=VMX_SET_CPU_CAPS),
    Added("cpuid_vmx", "DTES64", seen=VMX_SET_CPU_CAPS),
    Removed("cpuid_leaves", "dca_raw", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "counters_must_work", seen=KVM_INIT_PMU_CAPABILITY),
    Changed("arch_capabilities_mask", 0x010A_E1FF, seen=KVM_SUPPORTED_ARCH_CAP),
    Changed("perf_capabilities_mask", 0x4FFF, seen=VMX_GET_PERF_CAPABILITIES),
    Removed("behaviours", "perf_global_ctrl_follows_pmu", seen=NESTED_VMX_PMU_REFRESH),
)
