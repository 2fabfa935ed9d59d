"""Linux 5.11: what nested virtualization gained over 5.10."""

from emu.releases.linux_5_10 import LINUX_5_10
from emu.releases.schema import Added, Changed, Removed, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
CONTROL_AREA = "arch/x86/include/asm/svm.h: struct vmcb_control_area"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
SYNC_VMCS02_TO_VMCS12 = "arch/x86/kvm/vmx/nested.c: sync_vmcs02_to_vmcs12"
NESTED_CHECK_GUEST_NON_REG_STATE = "arch/x86/kvm/vmx/nested.c: nested_check_guest_non_reg_state"
VMX_IS_VALID_CR4 = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr4"
KVM_IS_VALID_SREGS = "arch/x86/kvm/x86.c: kvm_is_valid_sregs"
__SET_SREGS = "arch/x86/kvm/x86.c: __set_sregs"
KVM_VCPU_AFTER_SET_CPUID = "arch/x86/kvm/cpuid.c: kvm_vcpu_after_set_cpuid"
VMX_APIC_INIT_SIGNAL_BLOCKED = "arch/x86/kvm/vmx/vmx.c: vmx_apic_init_signal_blocked"
NESTED_VMX_SETUP_CTLS_MSRS = "arch/x86/kvm/vmx/nested.c: nested_vmx_setup_ctls_msrs"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"

LINUX_5_11 = after(
    LINUX_5_10,
    "5.11",
    Added("svm_rules", "set_run_pending", seen=SVM_SET),
    Changed("svm_control_bytes", 272, seen=CONTROL_AREA),
    Added("behaviours", "flushes_rare_on_get", seen=VMX_GET_NESTED_STATE),
    Added("behaviours", "syncs_wait_for_sipi", seen=SYNC_VMCS02_TO_VMCS12),
    Removed("vmx_rules", "guest_activity_active_or_hlt", seen=NESTED_CHECK_GUEST_NON_REG_STATE),
    Added("vmx_rules", "guest_activity_known", seen=NESTED_CHECK_GUEST_NON_REG_STATE),
    Added("sregs_rules", "sregs_cr4_vmxe_in_smm", seen=VMX_IS_VALID_CR4),
    Added("sregs_rules", "sregs_cr4_vmx_fixed", seen=VMX_IS_VALID_CR4),
    Added("sregs_rules", "sregs_long_mode_cr3_width", seen=KVM_IS_VALID_SREGS),
    Removed("behaviours", "sregs_drops_invalid_cr4", seen=__SET_SREGS),
    Added("behaviours", "cr4_pcide_needs_cpuid", seen=KVM_VCPU_AFTER_SET_CPUID),
    Added("behaviours", "init_blocked_in_root_only", seen=VMX_APIC_INIT_SIGNAL_BLOCKED),
    Added("vmx_controls", "ACTIVITY_WAIT_SIPI", seen=NESTED_VMX_SETUP_CTLS_MSRS),
    Added("cpuid", "AVX512_FP16", seen=KVM_SET_CPU_CAPS),
    Removed(
        "arch_capabilities",
        "TSX_CTRL_HIDDEN_WITHOUT_RTM",
        seen=f"{KVM_GET_ARCH_CAPABILITIES} (between 5.10.7 and 5.11.14)",
    ),
)
