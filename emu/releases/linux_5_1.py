"""Linux 5.1: what nested virtualization gained over 5.0."""

from emu.releases.linux_5_0 import LINUX_5_0
from emu.releases.schema import Added, Changed, Removed, after

VMX_SET_NESTED_STATE = "arch/x86/kvm/vmx/nested.c: vmx_set_nested_state"
SYNC_VMCS12 = "arch/x86/kvm/vmx/nested.c: sync_vmcs12"
DO_CPUID_ENT = "arch/x86/kvm/cpuid.c: __do_cpuid_ent"

LINUX_5_1 = after(
    LINUX_5_0,
    "5.1",
    Changed("vmcs12_minimum_size", 1126, seen=VMX_SET_NESTED_STATE),
    Changed("shadow_minimum_size", 2124, seen=VMX_SET_NESTED_STATE),
    Removed("behaviours", "get_cancels_timer", seen=SYNC_VMCS12),
    Added("cpuid", "MOVDIRI", seen=DO_CPUID_ENT),
    Added("cpuid", "MOVDIR64B", seen=DO_CPUID_ENT),
)
