"""Linux 6.12: what nested virtualization gained over 6.11."""

from emu.releases.linux_6_11 import LINUX_6_11
from emu.releases.schema import Added, Changed, after

KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_6_12 = after(
    LINUX_6_11,
    "6.12",
    Added("cpuid", "AVX10", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX10_128", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX10_256", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "AVX10_512", seen=KVM_SET_CPU_CAPS),
    Changed("cpuid_basic_limit", 0x24, seen=DO_CPUID_FUNC),
)
