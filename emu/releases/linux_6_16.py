"""Linux 6.16: what nested virtualization gained over 6.15."""

from emu.releases.linux_6_15 import LINUX_6_15
from emu.releases.schema import Added, after

NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN = (
    "arch/x86/kvm/vmx/nested.c: nested_vmx_check_msr_switch (between 6.14 and 6.17)"
)
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_6_16 = after(
    LINUX_6_15,
    "6.16",
    Added("vmx_rules", "exit_msr_load_count", seen=NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN),
    Added("vmx_rules", "exit_msr_store_count", seen=NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN),
    Added("vmx_rules", "entry_msr_load_count", seen=NESTED_VMX_CHECK_MSR_SWITCH_BETWEEN),
    Added("cpuid", "VERW_CLEAR", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
    Added("cpuid", "TSA_SQ_NO", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
    Added("cpuid", "TSA_L1_NO", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
    Added("cpuid_leaves", "tsa_bits_unasked", seen=f"{KVM_SET_CPU_CAPS} (between 6.14 and 6.17)"),
)
