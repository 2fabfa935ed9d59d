"""Linux 5.15: what nested virtualization gained over 5.14."""

from emu.releases.linux_5_14 import LINUX_5_14
from emu.releases.schema import Added, Removed, after

INIT_VMCB = "arch/x86/kvm/svm/svm.c: init_vmcb"
RESET = "arch/x86/kvm/x86.c: kvm_vcpu_reset"


LINUX_5_15 = after(
    LINUX_5_14,
    "5.15",
    Removed("behaviours", "svm_reset_loads_dr6", seen=INIT_VMCB),
    Added("behaviours", "init_keeps_cache_bits", seen=f"{RESET} (between 5.14 and 5.15)"),
)
