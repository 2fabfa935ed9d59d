"""Linux 5.6: what nested virtualization gained over 5.5."""

from emu.releases.linux_5_5 import LINUX_5_5
from emu.releases.schema import Added, Removed, after

VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
NESTED_EVMCS_CHECK_CONTROLS = "arch/x86/kvm/vmx/evmcs.c: nested_evmcs_check_controls"
NESTED_ENABLE_EVMCS = "arch/x86/kvm/vmx/evmcs.c: nested_enable_evmcs"
CR4_RESERVED_BITS = "arch/x86/kvm/x86.c: cr4_reserved_bits"
DO_CPUID_7_MASK = "arch/x86/kvm/cpuid.c: do_cpuid_7_mask"
VMX_PKU_SUPPORTED = "arch/x86/kvm/vmx/vmx.c: vmx_pku_supported"

LINUX_5_6 = after(
    LINUX_5_5,
    "5.6",
    Added("vmx_rules", "set_mtf_pending", seen=VMX_SET_NESTED_STATE),
    Added("behaviours", "gives_mtf_pending", seen=VMX_GET_NESTED_STATE),
    Added("vmx_rules", "guest_dr7_upper_half", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("vmx_rules", "evmcs_pin_controls", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_proc2_controls", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_exit_controls", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_entry_controls", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Added("vmx_rules", "evmcs_vm_functions", seen=NESTED_EVMCS_CHECK_CONTROLS),
    Removed("behaviours", "evmcs_narrows_msrs", seen=NESTED_ENABLE_EVMCS),
    Added("behaviours", "cr4_needs_host_feature", seen=CR4_RESERVED_BITS),
    Removed("cpuid", "PKU", seen=DO_CPUID_7_MASK),
    Added("cpuid_vmx", "PKU", seen=VMX_PKU_SUPPORTED),
)
