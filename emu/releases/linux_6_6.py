"""Linux 6.6: what nested virtualization gained over 6.5."""

from emu.releases.linux_6_5 import LINUX_6_5
from emu.releases.schema import Added, Changed, after

SAVE_AREA = "arch/x86/include/asm/svm.h: struct vmcb_save_area"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"
DO_CPUID_FUNC = "arch/x86/kvm/cpuid.c: __do_cpuid_func"


LINUX_6_6 = after(
    LINUX_6_5,
    "6.6",
    Changed("svm_save_bytes", 744, seen=SAVE_AREA),
    Added("cpuid", "AMX_COMPLEX", seen=KVM_SET_CPU_CAPS),
    Added("cpuid_leaves", "l1_caches_raw", seen=DO_CPUID_FUNC),
)
