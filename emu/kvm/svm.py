"""What kvm_amd does for a vCPU: control blocks, registers, MSRs and nested state of AMD-V."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from emu.kvm import svm_msrs
from emu.kvm.control_registers import CR0, EFER
from emu.kvm.host import AMD
from emu.kvm.nested_svm.enter import (
    V_GIF,
    V_GIF_ENABLE,
    V_INTR_MASKING,
    V_NMI_BLOCKING,
    V_NMI_ENABLE,
    leave_guest_mode,
)
from emu.kvm.nested_svm.forms import ALL64, forms_of, slices_of
from emu.kvm.nested_svm.get import get_nested_state
from emu.kvm.nested_svm.rules import ioctl_flags
from emu.kvm.nested_svm.set import (
    CP_VECTOR,
    EXCEPTION_VECTORS,
    VC_VECTOR,
    prepared,
    set_nested_state,
)
from emu.kvm.nested_svm.state import ControlBlock, NestedState
from emu.kvm.rule_program import PreparedWalk
from emu.kvm.structs import DescriptorTable, Segment
from emu.kvm.svm_init import INITIAL_INTERCEPTS, INITIAL_MEMBERS
from emu.kvm.vendor import VendorOperations
from vmcs.nested_state import INVALID_GPA
from vmcs.svm.control_bits import IntState, MiscControl
from vmcs.svm.intercepts import intercept

if TYPE_CHECKING:
    from emu.kvm.host import Host
    from emu.kvm.vcpu import Vcpu
    from emu.releases.schema import Release

INITIAL_VECTOR: Final = sum(1 << intercept(name).position for name in INITIAL_INTERCEPTS)
NP_ENABLE: Final = int(MiscControl.NP_ENABLE)
INTERRUPT_SHADOW: Final = int(IntState.INTERRUPT_SHADOW)
INITIAL: Final = ControlBlock()
for _name, _value in INITIAL_MEMBERS:
    INITIAL[_name] = _value
INITIAL_PARTS: Final = slices_of(name for name, _ in INITIAL_MEMBERS)
INIT: Final = intercept("INIT").position
DR6_RESET: Final = 0xFFFF_0FF0
IN_CACHE_PDPTR: Final = 1 << 5
SHADOW_STI_AND_MOV_SS: Final = 3
QUIRK_CD_NW_CLEARED: Final = 1 << 1
QUIRK_NESTED_SVM_SHARED_PAT: Final = 1 << 11

# Attributes of a segment as the VMCB packs them (arch/x86/include/asm/svm.h: SVM_SELECTOR_).
_S, _DPL, _P, _AVL, _L, _DB, _G = 4, 5, 7, 8, 9, 10, 11
_NAMES: Final = {"ldt": "ldtr", "gdt": "gdtr", "idt": "idtr"}
_BYTE_GRANULAR_LIMIT: Final = 0xFFFFF


class Svm(VendorOperations):
    """kvm_amd.

    `vmcb` is the control block that would run now.  From 5.13 on that is `vmcb01` or, in guest
    mode, `vmcb02`; before, it is always `vmcb01`, and `vmcb02` is the host save area of L1.
    """

    vendor: ClassVar[str] = AMD

    def __init__(self, vcpu: Vcpu) -> None:
        super().__init__(vcpu)
        release, host = vcpu.release, vcpu.host
        self.release = release
        self.behaviours = vcpu.behaviours
        self.two_blocks = self.does("svm_two_blocks")
        self.vmcb01, self.vmcb02 = ControlBlock(), ControlBlock()
        self.vmcb = self.vmcb01
        self.nested = NestedState()
        self.guest_gif = True
        self.nmi_masked = False
        self.l1_tsc_offset = 0
        self.tsc_ratio = svm_msrs.DEFAULT_TSC_RATIO
        self.virt_spec_ctrl = self.de_cfg = 0
        supported = self.supported = host.cpuid.features()
        knows_vgif = not self.does("svm_offers_vgif") or "VGIF" in supported
        self.vgif = host.parameters.vgif and knows_vgif
        self.vnmi = "VNMI" in supported
        self.lbrv = "LBRV" in supported
        self.forms = forms_of(release, supported)
        self.needs_msrpm = release.has("svm_rules", "msrpm_in_memory")
        self.unknown_flags = 0xFFFF & ~ioctl_flags(release)
        self.cpuid_changed()

    def does(self, behaviour: str) -> bool:
        """Whether the release acts in the way named `behaviour`."""
        return behaviour in self.behaviours

    def guest_has(self, feature: str) -> bool:
        """Whether the guest has a feature that KVM offers (guest_cpu_cap_has)."""
        return feature in self.guest_features

    # The system ------------------------------------------------------------------------------
    @staticmethod
    def nested_state_size(release: Release) -> int:
        """KVM_CHECK_EXTENSION(KVM_CAP_NESTED_STATE): the fact `svm_maximum_size`."""
        return release.number("svm_maximum_size")

    @staticmethod
    def has_nested_state(release: Release, host: Host) -> bool:
        """Whether the release has the ioctls here: some have them even with nested=0."""
        if not release.number("svm_maximum_size"):
            return False
        nested = host.parameters.nested is not False
        return nested or release.does("svm_ioctls_without_nested")

    # Life ------------------------------------------------------------------------------------
    def reset(self, init_event: bool) -> None:
        """Source: arch/x86/kvm/svm/svm.c: init_vmcb."""
        vcpu, nested = self.vcpu, self.nested
        nested.in_guest_mode = False
        vmcb = self.vmcb = self.vmcb01
        vmcb.set_intercept_vector(INITIAL_VECTOR)
        vmcb.take(INITIAL.view, INITIAL_PARTS)
        if self.does("svm_reset_loads_dr6"):
            vmcb["dr6"] = DR6_RESET
        vmcb["g_pat"] = vcpu.pat
        vmcb["misc_ctl"] = NP_ENABLE if vcpu.host.parameters.npt else 0
        vmcb["int_ctl"] = V_INTR_MASKING
        if self.vnmi:
            vmcb["int_ctl"] |= V_NMI_ENABLE
        if self.vgif:
            vmcb["int_ctl"] |= V_GIF_ENABLE
            self._intercept("STGI", False)
            self._intercept("CLGI", False)
        self.set_cr4(0)
        self.set_efer(0)
        kept = vcpu.cr0 & (CR0.CD | CR0.NW) if init_event else CR0.CD | CR0.NW
        self.set_cr0(CR0.ET | (kept if self.does("init_keeps_cache_bits") else CR0.CD | CR0.NW))
        nested.vmcb12_gpa = INVALID_GPA if self.two_blocks else 0
        nested.last_vmcb12_gpa = INVALID_GPA
        self.virt_spec_ctrl = 0
        if not init_event:
            self.nmi_masked = False
            self.tsc_ratio = svm_msrs.DEFAULT_TSC_RATIO
        self.set_gif(True)

    def cpuid_changed(self) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_vcpu_after_set_cpuid."""
        self.guest_features = self.vcpu.cpuid.features() & self.vcpu.host.cpuid.features()
        vectors = EXCEPTION_VECTORS
        if self.guest_has("SHSTK"):
            vectors |= 1 << CP_VECTOR
        if self.guest_has("SEV_ES"):
            vectors |= 1 << VC_VECTOR
        self.exception_vectors = vectors
        self.guest_forms = self.forms.for_guest(self.guest_features)

    # Control registers -----------------------------------------------------------------------
    def cache_register(self, register: int) -> None:
        """Nothing but the PDPTEs waits in a control block.  Source: svm.c: svm_cache_reg."""
        vcpu = self.vcpu
        vcpu.in_cache |= register
        if register == IN_CACHE_PDPTR and vcpu.host.parameters.npt:
            vcpu.load_pdptrs(vcpu.cr3)

    @property
    def efer_bits(self) -> int:
        """Source: arch/x86/kvm/svm/svm.c: svm_hardware_setup; arch/x86/kvm/x86.c."""
        host = self.vcpu.host
        found = 0
        if host.parameters.nested is not False:
            found |= EFER.SVME
            if not (self.does("svm_lmsle_by_cpuid") and host.cpuid.has("EFER_LMSLE_MBZ")):
                found |= EFER.LMSLE
        for name, bit in (("NX", EFER.NX), ("FXSR_OPT", EFER.FFXSR)):
            if host.cpuid.has(name):
                found |= bit
        if self.does("efer_autoibrs") and host.cpuid.has("AUTOIBRS"):
            found |= EFER.AUTOIBRS
        return found

    @property
    def svme(self) -> bool:
        """Whether the current EFER has SVME."""
        return bool(self.vcpu.efer & EFER.SVME)

    def set_cr0(self, cr0: int) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_set_cr0."""
        vcpu, vmcb = self.vcpu, self.vmcb
        if vcpu.efer & EFER.LME:
            if cr0 & CR0.PG and not vcpu.cr0 & CR0.PG:
                vcpu.efer |= EFER.LMA
                vmcb["efer"] |= EFER.LMA | EFER.LME
            elif vcpu.cr0 & CR0.PG and not cr0 & CR0.PG:
                vcpu.efer &= ~EFER.LMA
                vmcb["efer"] &= ~(EFER.LMA | EFER.LME)
        vcpu.cr0 = cr0
        in_use = cr0
        if not vcpu.host.parameters.npt:
            in_use |= CR0.PG | CR0.WP
        if not vcpu.vm.disabled_quirks & QUIRK_CD_NW_CLEARED:
            in_use &= ~(CR0.CD | CR0.NW)
        vmcb["cr0"] = in_use

    def set_cr4(self, cr4: int) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_set_cr4."""
        self.vcpu.cr4 = cr4
        self.vmcb["cr4"] = cr4

    def set_efer(self, efer: int) -> None:
        """Load EFER; without SVME there is no L2.  Source: arch/x86/kvm/svm/svm.c: svm_set_efer."""
        vcpu = self.vcpu
        changes = vcpu.efer ^ efer
        vcpu.efer = efer
        if changes & EFER.SVME:
            if efer & EFER.SVME:
                self._allocate_nested()
            else:
                leave_guest_mode(self)
                if self.does("svm_clearing_svme_sets_gif"):
                    self.set_gif(True)
                if not vcpu.smm:
                    self.nested.initialized = False
                    self.nested.last_vmcb12_gpa = INVALID_GPA
        self.vmcb["efer"] = efer | EFER.SVME

    def _allocate_nested(self) -> None:
        if not self.nested.initialized:
            self.vmcb02.clear()
            self.nested.initialized = True

    def set_dr7(self, dr7: int) -> None:
        """Load DR7 of the current control block.  Source: arch/x86/kvm/svm/svm.c: svm_set_dr7."""
        self.vmcb["dr7"] = dr7

    # Segments and flags ----------------------------------------------------------------------
    def get_segment(self, name: str) -> Segment:
        """Source: arch/x86/kvm/svm/svm.c: svm_get_segment."""
        vmcb, register = self.vmcb, _NAMES.get(name, name)
        attributes = vmcb[f"{register}.attrib"]
        limit = vmcb[f"{register}.limit"]
        kind, present = attributes & 0xF, attributes >> _P & 1
        dpl, db = attributes >> _DPL & 3, attributes >> _DB & 1
        if name == "tr":
            kind |= 2
        elif name in ("ds", "es", "fs", "gs"):
            kind |= present
        elif name == "ss":
            db &= present
            dpl = vmcb["cpl"]
        return Segment(
            base=vmcb[f"{register}.base"],
            limit=limit,
            selector=vmcb[f"{register}.selector"],
            type=kind,
            present=present,
            dpl=dpl,
            db=db,
            s=attributes >> _S & 1,
            l=attributes >> _L & 1,
            g=int(limit > _BYTE_GRANULAR_LIMIT),
            avl=attributes >> _AVL & 1,
            unusable=1 - present,
        )

    def set_segment(self, name: str, segment: Segment) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_set_segment."""
        vmcb, register = self.vmcb, _NAMES.get(name, name)
        present = segment.present & 1 and not segment.unusable
        vmcb[f"{register}.base"] = segment.base
        vmcb[f"{register}.limit"] = segment.limit
        vmcb[f"{register}.selector"] = segment.selector
        vmcb[f"{register}.attrib"] = (
            segment.type & 0xF
            | (segment.s & 1) << _S
            | (segment.dpl & 3) << _DPL
            | present << _P
            | (segment.avl & 1) << _AVL
            | (segment.l & 1) << _L
            | (segment.db & 1) << _DB
            | (segment.g & 1) << _G
        )
        if name == "ss":
            vmcb["cpl"] = segment.dpl & 3

    def get_table(self, name: str) -> DescriptorTable:
        """Source: arch/x86/kvm/svm/svm.c: svm_get_gdt, svm_get_idt."""
        register = _NAMES[name]
        return DescriptorTable(
            self.vmcb[f"{register}.base"], self.vmcb[f"{register}.limit"] & 0xFFFF
        )

    def set_table(self, name: str, table: DescriptorTable) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_set_gdt, svm_set_idt."""
        register = _NAMES[name]
        self.vmcb[f"{register}.base"] = table.base
        self.vmcb[f"{register}.limit"] = table.limit

    def get_rflags(self) -> int:
        """RFLAGS of the current control block."""
        return self.vmcb["rflags"]

    def set_rflags(self, rflags: int) -> None:
        """Load RFLAGS of the current control block."""
        self.vmcb["rflags"] = rflags

    # Events ----------------------------------------------------------------------------------
    def get_interrupt_shadow(self) -> int:
        """Source: arch/x86/kvm/svm/svm.c: svm_get_interrupt_shadow."""
        shadow = self.vmcb["int_state"] & INTERRUPT_SHADOW
        return SHADOW_STI_AND_MOV_SS if shadow else 0

    def set_interrupt_shadow(self, shadow: int) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_set_interrupt_shadow."""
        rest = self.vmcb["int_state"] & ~INTERRUPT_SHADOW
        self.vmcb["int_state"] = rest | (INTERRUPT_SHADOW if shadow else 0)

    @property
    def _vnmi_in_use(self) -> bool:
        # arch/x86/kvm/svm/svm.h: is_vnmi_enabled
        if not self.vnmi:
            return False
        return self.nested_vnmi if self.nested.in_guest_mode else True

    def get_nmi_mask(self) -> bool:
        """Source: arch/x86/kvm/svm/svm.c: svm_get_nmi_mask."""
        if self._vnmi_in_use:
            return bool(self.vmcb["int_ctl"] & V_NMI_BLOCKING)
        return self.nmi_masked

    def set_nmi_mask(self, masked: bool) -> None:
        """Source: arch/x86/kvm/svm/svm.c: svm_set_nmi_mask."""
        if self._vnmi_in_use:
            rest = self.vmcb["int_ctl"] & ~V_NMI_BLOCKING
            self.vmcb["int_ctl"] = rest | (V_NMI_BLOCKING if masked else 0)
            return
        self.nmi_masked = masked
        self._intercept("IRET", masked)

    def _intercept(self, name: str, wanted: bool) -> None:
        bit = 1 << intercept(name).position
        self.vmcb01.set_intercept_vector(
            self.vmcb01.intercept_vector() & ~bit | (bit if wanted else 0)
        )

    @property
    def init_blocked(self) -> bool:
        """Source: arch/x86/kvm/svm/svm.c: svm_apic_init_signal_blocked."""
        if not self.gif:
            return True
        intercepted = bool(self.vmcb.intercept_vector() >> INIT & 1)
        return intercepted and self.does("svm_init_intercept_blocks_init")

    def deliver_init_or_sipi_to_l1(self) -> None:
        """L1 takes an INIT that it intercepts as a #VMEXIT: the vCPU is out of L2 then.

        Source: arch/x86/kvm/svm/nested.c: svm_check_nested_events.
        """
        intercepted = self.nested.vmcb12.intercept_vector() >> INIT & 1
        if self.vcpu.pending_init and intercepted and not self.nested.run_pending:
            leave_guest_mode(self)
            self.set_gif(False)

    # MSRs ------------------------------------------------------------------------------------
    def get_msr(self, index: int) -> int | None:
        """Value of an MSR that kvm_amd handles; None for others."""
        return svm_msrs.get_msr(self, index)

    def set_msr(self, index: int, value: int) -> bool:
        """Write an MSR that kvm_amd handles; False for others."""
        return svm_msrs.set_msr(self, index, value)

    # Nested virtualization -------------------------------------------------------------------
    @property
    def in_guest_mode(self) -> bool:
        """Whether L2 is the one that would run."""
        return self.nested.in_guest_mode

    @property
    def l1_block(self) -> ControlBlock:
        """The block whose save area holds L1's registers while L2 runs."""
        return self.vmcb01 if self.two_blocks else self.vmcb02

    @property
    def nested_npt(self) -> bool:
        """Whether L1 uses nested paging for L2."""
        return bool(self.nested.vmcb12["misc_ctl"] & NP_ENABLE)

    @property
    def nested_vgif(self) -> bool:
        """Whether L1 lets L2 have a GIF of its own."""
        return (
            self.does("svm_gif_of_vgif_block")
            and self.guest_has("VGIF")
            and bool(self.nested.vmcb12["int_ctl"] & V_GIF_ENABLE)
        )

    @property
    def nested_vnmi(self) -> bool:
        """Whether L1 lets L2 have virtual NMIs."""
        return self.guest_has("VNMI") and bool(self.nested.vmcb12["int_ctl"] & V_NMI_ENABLE)

    @property
    def shared_pat(self) -> bool:
        """Whether L2 uses the PAT of L1: always, until a quirk that user space can disable."""
        if not self.does("svm_quirk_shared_pat"):
            return True
        return not self.vcpu.vm.disabled_quirks & QUIRK_NESTED_SVM_SHARED_PAT

    @property
    def l2_has_own_pat(self) -> bool:
        """Source: arch/x86/kvm/svm/svm.h: l2_has_separate_pat."""
        return not self.shared_pat and self.nested_npt

    def _gif_block(self) -> ControlBlock:
        # arch/x86/kvm/svm/svm.h: get_vgif_vmcb
        if not self.does("svm_gif_of_vgif_block"):
            return self.vmcb
        return self.vmcb02 if self.nested.in_guest_mode and not self.nested_vgif else self.vmcb01

    @property
    def gif(self) -> bool:
        """The global interrupt flag."""
        if not self.vgif:
            return self.guest_gif
        return bool(self._gif_block()["int_ctl"] & V_GIF)

    def set_gif(self, value: bool) -> None:
        """Set the global interrupt flag.  Source: arch/x86/kvm/svm/svm.c: svm_set_gif."""
        if not self.vgif:
            self.guest_gif = value
            return
        block = self._gif_block()
        block["int_ctl"] = block["int_ctl"] & ~V_GIF | (V_GIF if value else 0)

    def l2_tsc_offset(self, of_vmcb12: int) -> int:
        """Source: arch/x86/kvm/x86.c: kvm_calc_nested_tsc_offset."""
        if self.tsc_ratio == svm_msrs.DEFAULT_TSC_RATIO:
            return (self.l1_tsc_offset + of_vmcb12) & ALL64
        offset = self.l1_tsc_offset - (1 << 64 if self.l1_tsc_offset >> 63 else 0)
        return ((offset * self.tsc_ratio >> 32) + of_vmcb12) & ALL64

    def leave_nested(self) -> None:
        """Leave L2, if in it, without telling L1."""
        leave_guest_mode(self)

    def enable_evmcs(self) -> int | None:
        """There is no enlightened VMCS on AMD."""
        return None

    def get_nested_state(self, buffer: bytearray, size: int) -> int:
        """KVM_GET_NESTED_STATE below the ioctl layer."""
        return get_nested_state(self, buffer, size)

    def set_nested_state(self, state: memoryview) -> int:
        """KVM_SET_NESTED_STATE below the ioctl layer, with that layer's checks of the header."""
        return set_nested_state(self, state)

    def prepared_walk(self, state: memoryview) -> PreparedWalk:
        """What KVM_SET_NESTED_STATE would walk for `state`, as the vCPU is now."""
        return prepared(self, state)
