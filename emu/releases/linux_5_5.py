"""Linux 5.5: what nested virtualization gained over 5.4."""

from emu.releases.linux_5_4 import LINUX_5_4
from emu.releases.schema import Added, Removed, after

NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
PREPARE_VMCS02 = "arch/x86/kvm/vmx/nested.c: prepare_vmcs02"
KVM_VCPU_LATCH_INIT = "arch/x86/kvm/x86.c: kvm_vcpu_latch_init"
NESTED_VMX_PMU_ENTRY_EXIT_CTLS_UPDATE = (
    "arch/x86/kvm/vmx/nested.c: nested_vmx_pmu_entry_exit_ctls_update"
)
SVM_XSAVES_SUPPORTED = "arch/x86/kvm/svm.c: svm_xsaves_supported"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"

LINUX_5_5 = after(
    LINUX_5_4,
    "5.5",
    Added("vmx_rules", "host_perf_global_ctrl_reserved", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "guest_perf_global_ctrl_reserved", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "l2_perf_global_ctrl_exists", seen=PREPARE_VMCS02),
    Added("behaviours", "vendor_latches_init", seen=KVM_VCPU_LATCH_INIT),
    Removed("cpuid_svm_hidden", "XSAVES", seen=SVM_XSAVES_SUPPORTED),
    Removed("arch_capabilities", "TSX_CTRL_HIDDEN", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("arch_capabilities", "TSX_CTRL_HIDDEN_WITHOUT_RTM", seen=KVM_GET_ARCH_CAPABILITIES),
    Added("behaviours", "perf_global_ctrl_follows_pmu", seen=NESTED_VMX_PMU_ENTRY_EXIT_CTLS_UPDATE),
    Added("behaviours", "pmu_never_narrows_exit", seen=NESTED_VMX_PMU_ENTRY_EXIT_CTLS_UPDATE),
)
