"""What KVM keeps of a vCPU's nested VMX: `struct nested_vmx`."""

from __future__ import annotations

from emu.kvm.nested_vmx.vmcs_row import HardwareVmcs, VmcsRow, hardware_vmcs

INVALID_GPA = 0xFFFF_FFFF_FFFF_FFFF
EVMCS_NONE, EVMCS_MAP_PENDING = -1, -2


# What stands for the regions outside VMX operation: never written, all zero.
NO_REGION = VmcsRow()
NO_VMCS = HardwareVmcs()


class NestedVmx:
    """Nested VMX of one vCPU, outside VMX operation when made.

    `vmcs12`, `shadow_vmcs12` and `vmcs02` exist in VMX operation only.  `evmcs` is the
    guest-physical address of the enlightened VMCS, EVMCS_NONE or EVMCS_MAP_PENDING.
    """

    def __init__(self, rights_kept: int) -> None:
        self.rights_kept = rights_kept
        self.vmxon = False
        self.smm_vmxon = False
        self.smm_guest_mode = False
        self.guest_mode = False
        self.vmxon_pa = INVALID_GPA
        self.vmcs12_pa = INVALID_GPA
        self.vmcs12 = self.shadow_vmcs12 = NO_REGION
        self.vmcs02 = self.shadow_vmcs = NO_VMCS
        self.evmcs = EVMCS_NONE
        self.evmcs_enabled = False
        self.run_pending = False
        self.mtf_pending = False
        self.dirty_vmcs12 = False
        self.owes_vmcs12_to_shadow = False
        self.owes_rare_from_vmcs02 = False
        self.pages_requested = False
        self.has_deadline = False
        self.deadline = 0
        self.pre_entry_debugctl = 0
        self.pre_entry_bndcfgs = 0
        self.pre_entry_cet = (0, 0, 0)

    def make_regions(self) -> None:
        """Zeroed vmcs12, shadow vmcs12, vmcs02 and shadow VMCS, as VMX operation begins."""
        self.vmcs12, self.shadow_vmcs12 = VmcsRow(), VmcsRow()
        self.vmcs02 = hardware_vmcs(self.rights_kept)
        self.shadow_vmcs = hardware_vmcs(self.rights_kept)

    def drop_regions(self) -> None:
        """Give up the regions, as VMX operation ends."""
        self.vmcs12 = self.shadow_vmcs12 = NO_REGION
        self.vmcs02 = self.shadow_vmcs = NO_VMCS

    @property
    def in_vmx_operation(self) -> bool:
        """Whether VMXON was executed, SMM aside."""
        return self.vmxon or self.smm_vmxon
