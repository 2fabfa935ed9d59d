"""Linux 6.16: what nested virtualization gained over 6.15."""

from emu.releases.linux_6_15 import LINUX_6_15
from emu.releases.schema import Added, after

NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN = (
    "arch/x86/kvm/vmx/nested.c: nested_vmx_check_msr_switch (between 6.14 and 6.17)"
)

LINUX_6_16 = after(
    LINUX_6_15,
    "6.16",
    Added("vmx_rules", "exit_msr_load_count", seen=NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN),
    Added("vmx_rules", "exit_msr_store_count", seen=NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN),
    Added("vmx_rules", "entry_msr_load_count", seen=NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN),
)
