"""What the vendor module (kvm_intel, kvm_amd) does for a vCPU, beneath the code common to x86."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from emu.kvm.rule_program import Findings, PreparedWalk
from emu.kvm.structs import DescriptorTable, Segment

if TYPE_CHECKING:
    from emu.kvm.host import Host
    from emu.kvm.vcpu import Vcpu
    from emu.releases.schema import Release


class MsrRefused(Exception):  # noqa: N818 - not an error of Nestling: KVM stops counting here
    """KVM refuses user space's access to an MSR, by the rule named `rule`."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class VendorOperations(ABC):
    """`struct kvm_x86_ops` and `struct kvm_x86_nested_ops` for one vCPU, as far as state needs it.

    An operation that KVM can refuse raises `KvmError`; a refused access to an MSR raises
    `MsrRefused`, because KVM_SET_MSRS and KVM_GET_MSRS report how many succeeded.
    """

    vendor: ClassVar[str]

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu

    # The system ------------------------------------------------------------------------------
    @staticmethod
    @abstractmethod
    def nested_state_size(release: Release) -> int:
        """What KVM_CHECK_EXTENSION(KVM_CAP_NESTED_STATE) gives where nested is enabled."""

    @staticmethod
    @abstractmethod
    def has_nested_state(release: Release, host: Host) -> bool:
        """Whether the release has the two ioctls on this host (`nested` included)."""

    @staticmethod
    def has_evmcs(_release: Release, _host: Host) -> bool:
        """Whether KVM_CAP_HYPERV_ENLIGHTENED_VMCS is reported."""
        return False

    # Life ------------------------------------------------------------------------------------
    @abstractmethod
    def reset(self, init_event: bool) -> None:
        """Put the vendor's state to what RESET (or INIT) leaves."""

    @abstractmethod
    def cpuid_changed(self) -> None:
        """Adapt to the guest CPUID that KVM_SET_CPUID2 has put in place."""

    # Control registers -----------------------------------------------------------------------
    @abstractmethod
    def cache_register(self, register: int) -> None:
        """Read back `register`, an `IN_CACHE_` bit of `emu.kvm.vcpu`."""

    @property
    @abstractmethod
    def efer_bits(self) -> int:
        """Bits of EFER that this vendor's module enables on the host."""

    def sregs_words(self) -> Mapping[str, int]:
        """The vendor's words of the program of KVM_SET_SREGS (`sregs_rules.WORDS`)."""
        return {}

    def may_hold_cr4(self, _cr4: int) -> bool:
        """Whether the vendor takes this CR4 where KVM_SET_SREGS itself does not ask."""
        return True

    @abstractmethod
    def set_cr0(self, cr0: int) -> None:
        """Load CR0."""

    @abstractmethod
    def set_cr4(self, cr4: int) -> None:
        """Load CR4."""

    @abstractmethod
    def set_efer(self, efer: int) -> None:
        """Load EFER."""

    def set_dr7(self, dr7: int) -> None:  # noqa: B027 - not every vendor shows it in nested state
        """Load DR7."""

    # Segments and flags ----------------------------------------------------------------------
    @abstractmethod
    def get_segment(self, name: str) -> Segment:
        """Segment register `name` (of `structs.SEGMENTS`)."""

    @abstractmethod
    def set_segment(self, name: str, segment: Segment) -> None:
        """Load segment register `name`."""

    @abstractmethod
    def get_table(self, name: str) -> DescriptorTable:
        """The descriptor-table register ``gdt`` or ``idt``."""

    @abstractmethod
    def set_table(self, name: str, table: DescriptorTable) -> None:
        """Load the descriptor-table register ``gdt`` or ``idt``."""

    @abstractmethod
    def get_rflags(self) -> int:
        """RFLAGS."""

    @abstractmethod
    def set_rflags(self, rflags: int) -> None:
        """Load RFLAGS."""

    # Events ----------------------------------------------------------------------------------
    @abstractmethod
    def get_interrupt_shadow(self) -> int:
        """Blocking by STI (2) and MOV SS (1)."""

    @abstractmethod
    def set_interrupt_shadow(self, shadow: int) -> None:
        """Set blocking by STI (2) and MOV SS (1)."""

    @abstractmethod
    def get_nmi_mask(self) -> bool:
        """Whether NMIs are blocked."""

    @abstractmethod
    def set_nmi_mask(self, masked: bool) -> None:
        """Block or unblock NMIs."""

    @property
    @abstractmethod
    def init_blocked(self) -> bool:
        """Whether the vCPU is in a state, other than SMM, in which INIT is latched."""

    @abstractmethod
    def deliver_init_or_sipi_to_l1(self) -> None:
        """Make a pending INIT or SIPI exit from L2, as check_nested_events does."""

    # MSRs ------------------------------------------------------------------------------------
    @abstractmethod
    def get_msr(self, index: int) -> int | None:
        """Value of an MSR that the vendor's module answers for; None for any other."""

    @abstractmethod
    def set_msr(self, index: int, value: int) -> bool:
        """Write an MSR that the vendor's module answers for, from user space; False for others."""

    # Nested virtualization -------------------------------------------------------------------
    @property
    @abstractmethod
    def in_guest_mode(self) -> bool:
        """Whether L2 is the one that would run."""

    @abstractmethod
    def leave_nested(self) -> None:
        """Leave L2, if in it, without telling L1, and give up nested state."""

    @abstractmethod
    def enable_evmcs(self) -> int | None:
        """Enable enlightened VMCS for the vCPU: its version; None where the vendor has none."""

    @abstractmethod
    def get_nested_state(self, buffer: bytearray, size: int) -> int:
        """KVM_GET_NESTED_STATE below the ioctl layer, into the user's `buffer`: the size needed."""

    @abstractmethod
    def set_nested_state(self, state: memoryview) -> int:
        """KVM_SET_NESTED_STATE below the ioctl layer: the non-negative return value."""

    @abstractmethod
    def prepared_walk(self, state: memoryview) -> PreparedWalk:
        """What KVM_SET_NESTED_STATE would walk for `state`, as the vCPU is now; changes nothing."""

    def nested_state_findings(self, state: memoryview) -> Findings:
        """Every check of KVM_SET_NESTED_STATE that `state` breaks; changes nothing."""
        walk = self.prepared_walk(state)
        return walk.program.findings(walk.record, walk.words)
