"""KVM of a release on a processor: which parts of the processor it uses there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from emu.kvm.cpu_models.model import CpuModel
from emu.kvm.host import AMD, INTEL, ModuleParameters
from emu.kvm.nested_vmx.capabilities import (
    MSR_ENTRY,
    MSR_EPT_VPID,
    MSR_EXIT,
    MSR_PIN,
    MSR_PROC,
    MSR_PROC2,
)
from emu.releases.schema import Release
from vmcs.vmx.capability_msrs import EPT_VPID_CAP
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2

EPT_CAP = {row.name: row.mask for row in EPT_VPID_CAP.rows}
EPT_NEEDS = EPT_CAP["WALK_LENGTH_4"] | EPT_CAP["MEMORY_TYPE_WB"] | EPT_CAP["INVEPT_ALL_CONTEXT"]
INVVPID_ANY = EPT_CAP["INVVPID_SINGLE_CONTEXT"] | EPT_CAP["INVVPID_ALL_CONTEXT"]
XCR0_MPX = 0x18
XSS_CET = 0x1800


@dataclass(frozen=True)
class Setup:
    """What kvm_intel or kvm_amd finds and turns on when it is loaded.

    Source: arch/x86/kvm/vmx/vmx.c: hardware_setup, arch/x86/kvm/svm/svm.c: svm_hardware_setup.
    """

    model: CpuModel
    release: Release
    wanted: ModuleParameters

    @cached_property
    def intel(self) -> bool:
        """Whether the processor is Intel's."""
        return self.model.vendor == INTEL

    @cached_property
    def nested(self) -> bool:
        """Parameter `nested`; kvm_intel had it off by default at first."""
        if self.wanted.nested is None:
            return not self.intel or self.release.does("vmx_nested_by_default")
        return self.wanted.nested

    @cached_property
    def ept(self) -> bool:
        """Parameter `ept`, where the processor has what KVM needs of it."""
        has = self.model.allows(MSR_PROC2, ProcBased2.ENABLE_EPT)
        return self.wanted.ept and has and self.ept_cap & EPT_NEEDS == EPT_NEEDS

    @cached_property
    def ept_cap(self) -> int:
        """IA32_VMX_EPT_VPID_CAP of the processor."""
        return self.model.msrs.get(MSR_EPT_VPID, 0)

    @cached_property
    def ept_accessed_dirty(self) -> bool:
        """Whether KVM uses accessed and dirty flags of EPT."""
        return self.ept and bool(self.ept_cap & EPT_CAP["ACCESSED_DIRTY"])

    @cached_property
    def unrestricted_guest(self) -> bool:
        """Parameter `unrestricted_guest`, where the processor has it."""
        has = self.model.allows(MSR_PROC2, ProcBased2.UNRESTRICTED_GUEST)
        return self.wanted.unrestricted_guest and self.ept and has

    @cached_property
    def vpid(self) -> bool:
        """Whether KVM tags its guests with VPIDs."""
        has = self.model.allows(MSR_PROC2, ProcBased2.ENABLE_VPID)
        invvpid = self.ept_cap & EPT_CAP["INVVPID"] and self.ept_cap & INVVPID_ANY
        return has and bool(invvpid)

    @cached_property
    def flexpriority(self) -> bool:
        """Whether KVM virtualizes APIC accesses."""
        return self.model.allows(MSR_PROC, ProcBased.USE_TPR_SHADOW) and self.model.allows(
            MSR_PROC2, ProcBased2.VIRTUALIZE_APIC_ACCESSES
        )

    @cached_property
    def apicv(self) -> bool:
        """Whether KVM has the processor virtualize interrupts."""
        second = ProcBased2.APIC_REGISTER_VIRTUALIZATION | ProcBased2.VIRTUAL_INTERRUPT_DELIVERY
        return self.model.allows(MSR_PROC2, second) and self.model.allows(
            MSR_PIN, PinBased.PROCESS_POSTED_INTERRUPTS
        )

    @cached_property
    def npt(self) -> bool:
        """Parameter `npt`, where the processor has it."""
        return self.wanted.npt and self.model.has("NPT")

    @cached_property
    def tdp(self) -> bool:
        """Whether KVM's guests have EPT or NPT."""
        return self.ept if self.intel else self.npt

    @cached_property
    def vgif(self) -> bool:
        """Parameter `vgif`, where the processor has it."""
        return self.wanted.vgif and self.model.has("VGIF")

    @cached_property
    def pmu(self) -> bool:
        """Whether guests get performance counters; old kernels did not ask whether they work."""
        return self.model.pmu or not self.release.has("cpuid_leaves", "counters_must_work")

    @cached_property
    def mpx(self) -> bool:
        """Whether guests can have MPX: kvm_mpx_supported."""
        return (
            self.model.has("MPX")
            and self.model.leaf(0xD)[0] & XCR0_MPX == XCR0_MPX
            and self.model.allows(MSR_ENTRY, Entry.LOAD_IA32_BNDCFGS)
            and self.model.allows(MSR_EXIT, Exit.CLEAR_IA32_BNDCFGS)
        )

    @cached_property
    def xss_cet(self) -> bool:
        """Whether Linux can save and restore all of CET's state with XSAVES."""
        return self.model.has("XSAVES") and self.model.leaf(0xD, 1)[2] & XSS_CET == XSS_CET

    @cached_property
    def parameters(self) -> ModuleParameters:
        """The module's parameters once it is loaded: off where the processor lacks the feature."""
        if self.model.vendor == AMD:
            return replace(self.wanted, npt=self.npt, vgif=self.vgif)
        return replace(self.wanted, ept=self.ept, unrestricted_guest=self.unrestricted_guest)
