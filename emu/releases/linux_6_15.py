"""Linux 6.15: what nested virtualization gained over 6.14."""

from emu.releases.linux_6_14 import LINUX_6_14
from emu.releases.schema import Added, Changed, after

KVM_GET_ARCH_CAPABILITIES = "arch/x86/kvm/x86.c: kvm_get_arch_capabilities"
KVM_SUPPORTED_ARCH_CAP = "arch/x86/kvm/x86.c: KVM_SUPPORTED_ARCH_CAP"

LINUX_6_15 = after(
    LINUX_6_14,
    "6.15",
    Added(
        "arch_capabilities", "ITS_NO", seen=f"{KVM_GET_ARCH_CAPABILITIES} (between 6.14 and 6.17)"
    ),
    Changed(
        "arch_capabilities_mask",
        0x4000_0000_1D1A_E1FF,
        seen=f"{KVM_SUPPORTED_ARCH_CAP} (between 6.14 and 6.17)",
    ),
)
