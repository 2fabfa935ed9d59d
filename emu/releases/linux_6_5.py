"""Linux 6.5: what nested virtualization gained over 6.4."""

from emu.releases.linux_6_4 import LINUX_6_4
from emu.releases.schema import Added, Changed, after

KVM_IS_VALID_CR0 = "arch/x86/kvm/x86.c: kvm_is_valid_cr0"
VMX_IS_VALID_CR0 = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr0"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"
KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"

LINUX_6_5 = after(
    LINUX_6_4,
    "6.5",
    Added("sregs_rules", "sregs_cr0_high_half", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_nw_needs_cd", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_pg_needs_pe", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_vmx_fixed", seen=VMX_IS_VALID_CR0),
    Added("cpuid", "SRSO_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "PERFMON_V2", seen=KVM_SET_CPU_CAPS),
    Changed("cpuid_extended_limit", 0x8000_0022, seen=DO_CPUID_FUNC),
    Added("arch_capabilities", "GDS_NO", seen=KVM_GET_ARCH_CAPABILITIES),
    Changed("arch_capabilities_mask", 0x050A_E1FF, seen=KVM_SUPPORTED_ARCH_CAP),
)
