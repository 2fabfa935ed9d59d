"""Linux 6.17: what nested virtualization gained over 6.16."""

from emu.releases.linux_6_16 import LINUX_6_16
from emu.releases.schema import Added, Removed, after

SVM_MSR = "arch/x86/kvm/svm/svm.c: svm_set_msr"
KVM_VM_IOCTL_ENABLE_CAP_BETWEEN = (
    "arch/x86/kvm/x86.c: kvm_vm_ioctl_enable_cap (between 6.14 and 6.17)"
)
KVM_ARCH_VCPU_IOCTL_SET_MPSTATE_BETWEEN = (
    "arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl_set_mpstate (between 6.14 and 6.17)"
)
KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS_BETWEEN = (
    "arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_set_vcpu_events (between 6.14 and 6.17)"
)
VMX_IS_VALID_DEBUGCTL_BETWEEN = (
    "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_debugctl (between 6.14 and 6.17)"
)
NESTED_VMX_CHECK_GUEST_STATE_BETWEEN = (
    "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state (between 6.14 and 6.17)"
)
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_6_17 = after(
    LINUX_6_16,
    "6.17",
    Removed("behaviours", "svm_debugctl_drops_pins", seen=f"{SVM_MSR} (between 6.14 and 6.17)"),
    Added("behaviours", "quirks_accumulate", seen=KVM_VM_IOCTL_ENABLE_CAP_BETWEEN),
    Removed(
        "behaviours", "mp_state_minds_latched_init", seen=KVM_ARCH_VCPU_IOCTL_SET_MPSTATE_BETWEEN
    ),
    Removed(
        "behaviours", "events_mind_latched_init", seen=KVM_VCPU_IOCTL_X86_SET_VCPU_EVENTS_BETWEEN
    ),
    Added("behaviours", "checks_debugctl", seen=VMX_IS_VALID_DEBUGCTL_BETWEEN),
    Added("vmx_rules", "guest_debugctl_reserved", seen=NESTED_VMX_CHECK_GUEST_STATE_BETWEEN),
    Added("cpuid", "WRMSRNS", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
    Added("cpuid", "LKGS", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
    Added("cpuid", "AMD_IBRS_SAME_MODE", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
    Added("cpuid", "PREFETCHI", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
)
