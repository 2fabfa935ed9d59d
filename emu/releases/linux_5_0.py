"""Linux 5.0: what nested virtualization gained over 4.20."""

from emu.releases.linux_4_20 import LINUX_4_20
from emu.releases.schema import Added, Changed, after

VMX_GET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_get_nested_state"
NESTED_CHECK_VM_EXECUTION_CONTROLS = "arch/x86/kvm/vmx/nested.c: nested_check_vm_execution_controls"
DO_CPUID_ENT = "arch/x86/kvm/cpuid.c: __do_cpuid_ent"

LINUX_5_0 = after(
    LINUX_4_20,
    "5.0",
    Changed("vmcs12_bytes_out", 4096, seen=VMX_GET_NESTED_STATE),
    Added("vmx_rules", "unrestricted_guest_needs_ept", seen=NESTED_CHECK_VM_EXECUTION_CONTROLS),
    Added("vmx_rules", "mode_based_execute_needs_ept", seen=NESTED_CHECK_VM_EXECUTION_CONTROLS),
    Added(
        "vmx_rules", "save_preemption_timer_needs_timer", seen=NESTED_CHECK_VM_EXECUTION_CONTROLS
    ),
    Added("cpuid", "INTEL_STIBP", seen=DO_CPUID_ENT),
    Added("cpuid", "AMD_STIBP", seen=DO_CPUID_ENT),
    Added("cpuid", "WBNOINVD", seen=DO_CPUID_ENT),
)
