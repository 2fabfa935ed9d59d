"""Linux 6.7: what nested virtualization gained over 6.6."""

from emu.releases.linux_6_6 import LINUX_6_6
from emu.releases.schema import Added, Removed, after

SVM_CONTROLS = "arch/x86/kvm/svm/nested.c: nested_vmcb_check_controls"
KVM_SET_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_set_cpu_caps"


LINUX_6_7 = after(
    LINUX_6_6,
    "6.7",
    Removed("svm_rules", "tlb_ctl_known", seen=SVM_CONTROLS),
    Added("cpuid", "WRMSR_XX_BASE_NS", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "SBPB", seen=KVM_SET_CPU_CAPS),
    Added("cpuid", "IBPB_BRTYPE", seen=KVM_SET_CPU_CAPS),
)
