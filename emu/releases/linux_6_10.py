"""Linux 6.10: what nested virtualization gained over 6.9."""

from emu.releases.linux_6_9 import LINUX_6_9
from emu.releases.schema import Added, Removed, after

DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"

LINUX_6_10 = after(
    LINUX_6_9,
    "6.10",
    Removed("cpuid_leaves", "guest_size_taken", seen=DO_CPUID_FUNC),
    Removed("cpuid_leaves", "guest_size_needs_tdp", seen=DO_CPUID_FUNC),
    Added("cpuid_leaves", "guest_size_told", seen=DO_CPUID_FUNC),
)
