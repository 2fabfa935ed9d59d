"""Linux 6.3: what nested virtualization gained over 6.2."""

from emu.releases.linux_6_2 import LINUX_6_2
from emu.releases.schema import Added, Removed, after

KVM_POSSIBLE_CR0_GUEST_BITS = "arch/x86/kvm/kvm_cache_regs.h: KVM_POSSIBLE_CR0_GUEST_BITS"
__KVM_VALID_EFER = "arch/x86/kvm/x86.c: __kvm_valid_efer"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
NESTED_EVMCS_CHECK_CONTROLS = "arch/x86/kvm/vmx/hyperv.c: nested_evmcs_check_controls"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_6_3 = after(
    LINUX_6_2,
    "6.3",
    Added("behaviours", "owns_cr0_wp", seen=KVM_POSSIBLE_CR0_GUEST_BITS),
    Added("behaviours", "efer_autoibrs", seen=__KVM_VALID_EFER),
    Added("vmx_rules", "guest_paging_needs_protection", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ia32e_needs_pae", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "guest_ia32e_needs_paging", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Removed("vmx_rules", "evmcs_pin_controls", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Removed("vmx_rules", "evmcs_proc2_controls", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Removed("vmx_rules", "evmcs_exit_timer", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_pin_supported", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_proc_supported", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_proc2_supported", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_exit_supported", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_entry_supported", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("cpuid", "FZRM", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "FSRS", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "FSRC", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AUTOIBRS", seen=KVM_SET_CPU_CAPS),
)
