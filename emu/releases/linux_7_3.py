"""Linux 7.3: what nested virtualization gained over 7.2."""

from emu.releases.linux_7_2 import LINUX_7_2
from emu.releases.schema import Added, after

SVM_SET = "arch/x86/kvm/svm/nested.c: svm_set_nested_state"
KVM_INITIALIZE_CPU_CAPS = "arch/x86/kvm/cpuid.c: kvm_initialize_cpu_caps"


LINUX_7_3 = after(
    LINUX_7_2,
    "7.3",
    Added("svm_rules", "efer_lma_with_lme", seen=SVM_SET),
    Added("cpuid", "TSA_FILL_NO", seen=KVM_INITIALIZE_CPU_CAPS),
)
