"""Linux 6.5: what nested virtualization gained over 6.4."""

from emu.releases.linux_6_4 import LINUX_6_4
from emu.releases.schema import Added, after

KVM_IS_VALID_CR0 = "arch/x86/kvm/x86.c: kvm_is_valid_cr0"
VMX_IS_VALID_CR0 = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr0"

LINUX_6_5 = after(
    LINUX_6_4,
    "6.5",
    Added("sregs_rules", "sregs_cr0_high_half", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_nw_needs_cd", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_pg_needs_pe", seen=KVM_IS_VALID_CR0),
    Added("sregs_rules", "sregs_cr0_vmx_fixed", seen=VMX_IS_VALID_CR0),
)
