"""Linux 5.2: what nested virtualization gained over 5.1."""

from emu.releases.linux_5_1 import LINUX_5_1
from emu.releases.schema import Added, Changed, Removed, after

VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
NESTED_VMX_CHECK_HOST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_host_state"
NESTED_VMX_CHECK_GUEST_STATE = "arch/x86/kvm/vmx/nested.c: nested_vmx_check_guest_state"
DO_CPUID_ENT = "arch/x86/kvm/cpuid.c: __do_cpuid_ent"

LINUX_5_2 = after(
    LINUX_5_1,
    "5.2",
    Changed("shadow_minimum_size", 5222, seen=VMX_SET_NESTED_STATE),
    Changed("entry_failure_status", 1, seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "enable_evmcs", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "nothing_without_guest_vmx", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "leave_nested_at_once", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "left_vmx_operation_at_once", seen=VMX_SET_NESTED_STATE),
    Removed("vmx_rules", "no_flags_in_smm", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "flags_without_vmxon", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "no_guest_mode_in_smm", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "evmcs_needs_guest_vmx", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "evmcs_needs_capability", seen=VMX_SET_NESTED_STATE),
    Added("vmx_rules", "left_vmx_operation", seen=VMX_SET_NESTED_STATE),
    Removed("behaviours", "evmcs_flag_means_enabled", seen=VMX_GET_NESTED_STATE),
    Added("vmx_rules", "host_sysenter_esp_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_sysenter_eip_canonical", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "host_pat_memory_types", seen=NESTED_VMX_CHECK_HOST_STATE),
    Added("vmx_rules", "guest_pat_memory_types", seen=NESTED_VMX_CHECK_GUEST_STATE),
    Added("cpuid", "MD_CLEAR", seen=DO_CPUID_ENT),
    Added("cpuid_leaves", "cache_subleaves", seen=DO_CPUID_ENT),
    Added("cpuid_leaves", "node_raw", seen=DO_CPUID_ENT),
)
