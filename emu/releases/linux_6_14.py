"""Linux 6.14: what nested virtualization gained over 6.13."""

from emu.releases.linux_6_13 import LINUX_6_13
from emu.releases.schema import Added, after

KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"

LINUX_6_14 = after(
    LINUX_6_13,
    "6.14",
    Added("cpuid", "SRSO_USER_KERNEL_NO", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_emulated", "TSC_DEADLINE_TIMER", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_emulated", "HYPERVISOR", seen=KVM_SET_CPU_CAPS),
)
