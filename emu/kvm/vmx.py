"""What kvm_intel does for a vCPU: vmcs01, the register caches, Intel's MSRs, and nested VMX on top.

EPT, unrestricted guest, VPID and VMCS shadowing are on, as they are on every host that has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from emu.kvm import x86_msrs
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.nested_vmx.capabilities import (
    EVMCS_UNSUPPORTED,
    EVMCS_UNSUPPORTED_VMFUNC,
    FIRST,
    LAST,
    MSR_CR0_FIXED0,
    MSR_CR0_FIXED1,
    MSR_CR4_FIXED0,
    MSR_CR4_FIXED1,
    MSR_PROC2,
    MSR_TRUE_ENTRY,
    MSR_TRUE_EXIT,
    MSR_TRUE_PIN,
    MSR_VMFUNC,
    CapabilityMsrs,
)
from emu.kvm.nested_vmx.enter import ENTRY, PIN, PROC, PROC2, secondary_controls
from emu.kvm.nested_vmx.get import get_nested_state
from emu.kvm.nested_vmx.masks import Entry, Exit, PinBased, ProcBased, ProcBased2
from emu.kvm.nested_vmx.set import (
    PE_PG,
    capability_words,
    known_flags,
    prepared,
    set_nested_state,
    set_program,
)
from emu.kvm.nested_vmx.state import NestedVmx
from emu.kvm.nested_vmx.sync import exit_to_l1, leave_nested
from emu.kvm.nested_vmx.vmcs_row import SEGMENT_NAMES, HardwareVmcs, hardware_vmcs
from emu.kvm.rule_program import PreparedWalk
from emu.kvm.structs import DescriptorTable, Segment
from emu.kvm.vendor import MsrRefused, VendorOperations
from vmcs.check_programs import Words

if TYPE_CHECKING:
    from emu.kvm.host import Host
    from emu.kvm.vcpu import Vcpu
    from emu.releases.schema import Release

ALL: Final = 0xFFFF_FFFF_FFFF_FFFF
MSR_FEAT_CTL: Final = 0x3A
MSR_SYSENTER: Final = {0x174: "CS", 0x175: "ESP", 0x176: "EIP"}
MSR_DEBUGCTL, MSR_BNDCFGS, MSR_FS_BASE, MSR_GS_BASE = 0x1D9, 0xD90, 0xC000_0100, 0xC000_0101
MSR_UCODE_REV: Final = 0x8B
MSR_SMM_MONITOR_CTL: Final = 0x9B

# SDM, "Feature Control MSR".
FEAT_LOCKED, FEAT_VMX = 1 << 0, 3 << 1
FEAT_SGX_LC, FEAT_SGX, FEAT_LMCE = 1 << 17, 1 << 18, 1 << 20

# vmcs01's controls (arch/x86/kvm/vmx/vmx.c: vmx_pin_based_exec_ctrl and its like).
PIN_OF_L0: Final = int(
    PinBased.EXTERNAL_INTERRUPT_EXITING | PinBased.NMI_EXITING | PinBased.VIRTUAL_NMIS | 0x16
)
PROC_OF_L0: Final = int(
    ProcBased.HLT_EXITING
    | ProcBased.USE_TSC_OFFSETTING
    | ProcBased.MWAIT_EXITING
    | ProcBased.MONITOR_EXITING
    | ProcBased.RDPMC_EXITING
    | ProcBased.UNCONDITIONAL_IO_EXITING
    | ProcBased.MOV_DR_EXITING
    | ProcBased.USE_TPR_SHADOW
    | ProcBased.USE_MSR_BITMAPS
    | ProcBased.ACTIVATE_SECONDARY_CONTROLS
    | 0x0400_6172
)
PROC2_OF_L0: Final = int(
    ProcBased2.ENABLE_EPT
    | ProcBased2.ENABLE_VPID
    | ProcBased2.UNRESTRICTED_GUEST
    | ProcBased2.WBINVD_EXITING
)
ENTRY_OF_L0: Final = int(Entry.LOAD_DEBUG_CONTROLS | Entry.LOAD_IA32_PAT) | 0x11FB
EXIT_OF_L0: Final = (
    int(
        Exit.SAVE_DEBUG_CONTROLS
        | Exit.HOST_ADDRESS_SPACE_SIZE
        | Exit.LOAD_IA32_PAT
        | Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT
    )
    | 0x36DFB
)
EXCEPTIONS_OF_L0: Final = 1 << 1 | 1 << 6 | 1 << 17 | 1 << 18  # #DB, #UD, #AC, #MC
HOST_EFER: Final = EFER.SCE | EFER.LME | EFER.LMA | EFER.NX

# arch/x86/kvm/kvm_cache_regs.h: KVM_POSSIBLE_CR4_GUEST_BITS
CR4_OWNED_BY_GUEST: Final = (
    CR4.PVI | CR4.DE | CR4.PCE | CR4.OSFXSR | CR4.OSXMMEXCPT | CR4.PGE | CR4.TSD | CR4.FSGSBASE
)

SEGMENT_FIELDS: Final = {
    of: tuple(f"GUEST_{of}_{part}" for part in ("SELECTOR", "BASE", "LIMIT", "AR_BYTES"))
    for of in SEGMENT_NAMES
}
VMCS_NAME: Final = {"ldt": "LDTR", "gdt": "GDTR", "idt": "IDTR"}
UNUSABLE: Final = 1 << 16
RESET_DATA: Final = 0x93
RESET_CODE: Final = 0x9B
STI, MOV_SS, NMI_BLOCKED = 1, 2, 8
LAZY_REGISTERS: Final = 0x7F


class Vmx(VendorOperations):
    """kvm_intel for one vCPU."""

    vendor: ClassVar[str] = "intel"

    def __init__(self, vcpu: Vcpu) -> None:
        super().__init__(vcpu)
        self.release = vcpu.release
        self.behaviours = vcpu.behaviours
        host = vcpu.host
        self.msrs = CapabilityMsrs(host.feature_msrs)
        self.nested = NestedVmx(host.access_rights_kept)
        self.vmcs01 = hardware_vmcs(host.access_rights_kept)
        self.loaded = self.vmcs01
        self.feature_control = 0
        self.guest_has_vmx = False
        self.mpx = host.cpuid.has("MPX")
        self.cet = self.does("loads_cet") and (host.cpuid.has("SHSTK") or host.cpuid.has("IBT"))
        self.apicv = bool(self.msrs.may_be_1(MSR_TRUE_PIN) & PinBased.PROCESS_POSTED_INTERRUPTS)
        self.shadows_vmcs = True
        self.host_efer = HOST_EFER
        self.exception_bitmap = EXCEPTIONS_OF_L0
        self.cr0_owned_by_l1 = CR0.TS | (CR0.WP if self.does("owns_cr0_wp") else 0)
        self._template: Words | None = None

    def does(self, behaviour: str) -> bool:
        """Whether this release acts in the way named `behaviour`."""
        return behaviour in self.behaviours

    # The system ------------------------------------------------------------------------------
    @staticmethod
    def nested_state_size(release: Release) -> int:
        """Header, vmcs12 and shadow vmcs12; 0 before 4.19."""
        return release.number("vmx_maximum_size")

    @staticmethod
    def has_nested_state(release: Release, host: Host) -> bool:
        """Whether the release has the ioctls here: some have them even with nested=0."""
        if not release.number("vmx_maximum_size"):
            return False
        return nested_enabled(release, host) or release.does("vmx_ioctls_without_nested")

    @staticmethod
    def has_evmcs(release: Release, host: Host) -> bool:
        """With nested on, and without it where the ioctls are there all the same."""
        return nested_enabled(release, host) or release.does("vmx_ioctls_without_nested")

    # Life ------------------------------------------------------------------------------------
    def reset(self, init_event: bool) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_vcpu_reset, init_vmcs."""
        vcpu, vmcs01 = self.vcpu, self.vmcs01
        if not init_event:
            self.feature_control = 0
            vmcs01[PIN], vmcs01[PROC], vmcs01[PROC2] = PIN_OF_L0, PROC_OF_L0, PROC2_OF_L0
            vmcs01[ENTRY], vmcs01["VM_EXIT_CONTROLS"] = ENTRY_OF_L0, EXIT_OF_L0
            vmcs01["VMCS_LINK_POINTER"] = ALL
            vmcs01["EXCEPTION_BITMAP"] = EXCEPTIONS_OF_L0
            vmcs01["GUEST_IA32_PAT"] = vcpu.pat
            vcpu.cr0_guest_owned = self.cr0_owned_by_l1
            vmcs01["CR0_GUEST_HOST_MASK"] = ~vcpu.cr0_guest_owned & ALL
            self.update_cr4_mask()
        loaded = self.loaded
        self.load_segment("CS", 0xF000, 0xFFFF_0000, 0xFFFF, RESET_CODE)
        for name in ("DS", "ES", "FS", "GS", "SS"):
            self.load_segment(name, 0, 0, 0xFFFF, RESET_DATA)
        self.load_segment("TR", 0, 0, 0xFFFF, 0x8B)
        self.load_segment("LDTR", 0, 0, 0xFFFF, 0x82)
        for name in ("GDTR", "IDTR"):
            loaded[f"GUEST_{name}_BASE"], loaded[f"GUEST_{name}_LIMIT"] = 0, 0xFFFF
        loaded["GUEST_INTERRUPTIBILITY_INFO"] = 0
        loaded["GUEST_PENDING_DBG_EXCEPTIONS"] = 0
        self.set_rflags(2)
        self.set_cr0(CR0.NW | CR0.CD | CR0.ET)
        self.set_cr4(0)
        self.set_efer(0)

    def cpuid_changed(self) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_vcpu_after_set_cpuid."""
        cpuid = self.vcpu.cpuid
        self.guest_has_vmx = nested_enabled(self.release, self.vcpu.host) and cpuid.has("VMX")
        if self.guest_has_vmx:
            self.msrs.follow_cpuid(cpuid)
            if self.mpx and self.does("bndcfgs_follow_cpuid"):
                change = self.msrs.widen if cpuid.has("MPX") else self.msrs.narrow
                change(MSR_TRUE_ENTRY, int(Entry.LOAD_IA32_BNDCFGS))
                change(MSR_TRUE_EXIT, int(Exit.CLEAR_IA32_BNDCFGS))
            self._controls_follow_cpuid()
        self.update_cr4_mask()
        self._template = None

    def _controls_follow_cpuid(self) -> None:
        """Offer L1 a control where its CPUID has the feature, on a host that has it.

        Source: arch/x86/kvm/vmx/vmx.c: vmx_secondary_exec_control, vmx/pmu_intel.c:
        intel_pmu_refresh (until the controls of IA32_PERF_GLOBAL_CTRL no longer followed the PMU).
        """
        cpuid, host = self.vcpu.cpuid, self.vcpu.host.cpuid
        for feature, control, other, behaviour in CONTROL_OF_FEATURE:
            if not host.has(feature):
                continue
            alone = not other or bool(behaviour and not self.does(behaviour))
            offered = cpuid.has(feature) and (alone or cpuid.has(other))
            change = self.msrs.widen if offered else self.msrs.narrow
            change(MSR_PROC2, int(control))
        version = cpuid.register(0xA, 0, 0) & 0xFF
        if version and self.does("perf_global_ctrl_follows_pmu"):
            change = self.msrs.widen if version > 1 else self.msrs.narrow
            change(MSR_TRUE_ENTRY, int(Entry.LOAD_IA32_PERF_GLOBAL_CTRL))
            if version > 1 or not self.does("pmu_never_narrows_exit"):
                change(MSR_TRUE_EXIT, int(Exit.LOAD_IA32_PERF_GLOBAL_CTRL))

    def switch_to(self, vmcs: HardwareVmcs) -> None:
        """Load another VMCS and forget what was cached (nested.c: vmx_switch_vmcs)."""
        self.loaded = vmcs
        keeps = self.does("vmcs_switch_keeps_registers")
        self.vcpu.in_cache &= ~(CACHED_CR0 | CACHED_CR4 if keeps else LAZY_REGISTERS)

    # Control registers -----------------------------------------------------------------------
    def cache_register(self, register: int) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_cache_reg."""
        vcpu, loaded = self.vcpu, self.loaded
        vcpu.in_cache |= register
        if register == CACHED_CR0:
            owned = vcpu.cr0_guest_owned
            vcpu.cr0 = vcpu.cr0 & ~owned | loaded["GUEST_CR0"] & owned
        elif register == CACHED_CR3:
            if not loaded[PROC] & ProcBased.CR3_LOAD_EXITING:
                vcpu.cr3 = loaded["GUEST_CR3"]
        elif register == CACHED_CR4:
            owned = vcpu.cr4_guest_owned
            vcpu.cr4 = vcpu.cr4 & ~owned | loaded["GUEST_CR4"] & owned
        elif register == CACHED_RSP:
            vcpu.registers["rsp"] = loaded["GUEST_RSP"]
        elif register == CACHED_RIP:
            vcpu.registers["rip"] = loaded["GUEST_RIP"]
        elif register == CACHED_PDPTR and vcpu.pae_paging:
            vcpu.pdptrs = [loaded[f"GUEST_PDPTR{i}"] for i in range(4)]

    @property
    def efer_bits(self) -> int:
        """NX where the host has it; Intel has none of the others."""
        return EFER.NX if self.vcpu.host.cpuid.has("NX") else 0

    def sregs_words(self) -> Mapping[str, int]:
        """VMX operation and SMM, and what CR0 and CR4 may hold there."""
        nested, values = self.nested, self.msrs.values
        fixed0 = values.get(MSR_CR0_FIXED0, 0)
        if nested.guest_mode and secondary_controls(nested.vmcs12) & ProcBased2.UNRESTRICTED_GUEST:
            fixed0 &= ~PE_PG
        return {
            "VMX_SMM": self.vcpu.smm,
            "VMX_OPERATION": nested.vmxon,
            "CR0_FIXED0": fixed0,
            "CR0_FIXED1": values.get(MSR_CR0_FIXED1, 0),
            "CR4_FIXED0": values.get(MSR_CR4_FIXED0, 0),
            "CR4_FIXED1": values.get(MSR_CR4_FIXED1, 0),
        }

    def may_hold_cr4(self, cr4: int) -> bool:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_cr4, where it still refused by itself."""
        if cr4 & CR4.VMXE and (self.vcpu.smm or not self.guest_has_vmx):
            return False
        fixed0, fixed1 = self.msrs.values[MSR_CR4_FIXED0], self.msrs.values[MSR_CR4_FIXED1]
        return not self.nested.vmxon or (cr4 & fixed1 | fixed0) == cr4

    def set_cr0(self, cr0: int) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_cr0."""
        vcpu, loaded = self.vcpu, self.loaded
        was_paging = vcpu.cr0 & CR0.PG
        loaded["CR0_READ_SHADOW"] = cr0
        loaded["GUEST_CR0"] = cr0 & ~(CR0.NW | CR0.CD) | CR0.NE
        vcpu.cr0 = cr0
        vcpu.in_cache |= CACHED_CR0
        if vcpu.efer & EFER.LME:
            if not was_paging and cr0 & CR0.PG:
                rights = loaded["GUEST_TR_AR_BYTES"]
                if rights & 0xF != 0xB:
                    loaded["GUEST_TR_AR_BYTES"] = rights & ~0xF | 0xB
                self.set_efer(vcpu.efer | EFER.LMA)
            elif was_paging and not cr0 & CR0.PG:
                self.set_efer(vcpu.efer & ~EFER.LMA)

    def set_cr4(self, cr4: int) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_cr4; the host keeps CR4.MCE on."""
        self.vcpu.cr4 = cr4
        self.vcpu.in_cache |= CACHED_CR4
        self.loaded["CR4_READ_SHADOW"] = cr4
        self.loaded["GUEST_CR4"] = cr4 | CR4.MCE | CR4.VMXE

    def set_efer(self, efer: int) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_efer."""
        self.vcpu.efer = efer
        loaded, ia32e = self.loaded, int(Entry.IA32E_MODE_GUEST)
        loaded[ENTRY] = loaded[ENTRY] & ~ia32e | (ia32e if efer & EFER.LMA else 0)

    def load_cr3(self, cr3: int) -> None:
        """Make `cr3` the vCPU's CR3; the VMCS gets it when the vCPU runs."""
        self.vcpu.cr3 = cr3
        self.vcpu.in_cache |= CACHED_CR3

    def update_cr4_mask(self) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: set_cr4_guest_host_mask."""
        vcpu = self.vcpu
        owned = CR4_OWNED_BY_GUEST | (CR4.CET if self.does("cr4_cet") else 0)
        owned &= ~vcpu.cr4_reserved
        if self.nested.guest_mode:
            owned &= ~self.nested.vmcs12["CR4_GUEST_HOST_MASK"]
        vcpu.cr4_guest_owned = owned
        self.loaded["CR4_GUEST_HOST_MASK"] = ~owned & ALL

    # Segments and flags ----------------------------------------------------------------------
    def get_segment(self, name: str) -> Segment:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_get_segment."""
        loaded = self.loaded
        selector, base, limit, access = SEGMENT_FIELDS[VMCS_NAME.get(name) or name.upper()]
        rights = loaded[access]
        unusable = rights >> 16 & 1
        return Segment(
            base=loaded[base],
            limit=loaded[limit],
            selector=loaded[selector],
            type=rights & 0xF,
            present=unusable ^ 1,
            dpl=rights >> 5 & 3,
            db=rights >> 14 & 1,
            s=rights >> 4 & 1,
            l=rights >> 13 & 1,
            g=rights >> 15 & 1,
            avl=rights >> 12 & 1,
            unusable=unusable,
        )

    def set_segment(self, name: str, segment: Segment) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_segment, vmx_segment_access_rights."""
        kind = segment.type & 0xF
        if name != "ldt" and self.is_unrestricted:
            kind |= 1
        rights = UNUSABLE if segment.unusable or not segment.present else 0
        if not (rights and self.does("unusable_rights_alone")):
            rights |= (
                kind
                | (segment.s & 1) << 4
                | (segment.dpl & 3) << 5
                | (segment.present & 1) << 7
                | (segment.avl & 1) << 12
                | (segment.l & 1) << 13
                | (segment.db & 1) << 14
                | (segment.g & 1) << 15
            )
        of = VMCS_NAME.get(name) or name.upper()
        self.load_segment(of, segment.selector, segment.base, segment.limit, rights)

    def load_segment(self, of: str, selector: int, base: int, limit: int, rights: int) -> None:
        """VMWRITE the four fields of the segment register that the VMCS names `of`."""
        loaded, names = self.loaded, SEGMENT_FIELDS[of]
        loaded[names[0]], loaded[names[1]] = selector, base
        loaded[names[2]], loaded[names[3]] = limit, rights

    @property
    def is_unrestricted(self) -> bool:
        """Whether what runs is an unrestricted guest (vmx.h: is_unrestricted_guest)."""
        if not self.nested.guest_mode:
            return True
        return bool(self.loaded[PROC2] & ProcBased2.UNRESTRICTED_GUEST)

    def get_table(self, name: str) -> DescriptorTable:
        """GDTR or IDTR; the ABI has 16 bits for the limit."""
        of = VMCS_NAME[name]
        limit = self.loaded[f"GUEST_{of}_LIMIT"] & 0xFFFF
        return DescriptorTable(self.loaded[f"GUEST_{of}_BASE"], limit)

    def set_table(self, name: str, table: DescriptorTable) -> None:
        """Load GDTR or IDTR."""
        of = VMCS_NAME[name]
        self.loaded[f"GUEST_{of}_BASE"] = table.base
        self.loaded[f"GUEST_{of}_LIMIT"] = table.limit

    def get_rflags(self) -> int:
        """RFLAGS of the loaded VMCS."""
        return self.loaded["GUEST_RFLAGS"]

    def set_rflags(self, rflags: int) -> None:
        """Load RFLAGS into the loaded VMCS."""
        self.loaded["GUEST_RFLAGS"] = rflags

    # Events ----------------------------------------------------------------------------------
    def get_interrupt_shadow(self) -> int:
        """Blocking by STI and by MOV SS, in KVM's numbering (MOV SS 1, STI 2)."""
        info = self.loaded["GUEST_INTERRUPTIBILITY_INFO"]
        return (2 if info & STI else 0) | (1 if info & MOV_SS else 0)

    def set_interrupt_shadow(self, shadow: int) -> None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_interrupt_shadow."""
        info = self.loaded["GUEST_INTERRUPTIBILITY_INFO"] & ~(STI | MOV_SS)
        if shadow & 1:
            info |= MOV_SS
        elif shadow & 2:
            info |= STI
        self.loaded["GUEST_INTERRUPTIBILITY_INFO"] = info

    def get_nmi_mask(self) -> bool:
        """Whether NMIs are blocked."""
        return bool(self.loaded["GUEST_INTERRUPTIBILITY_INFO"] & NMI_BLOCKED)

    def set_nmi_mask(self, masked: bool) -> None:
        """Block or unblock NMIs."""
        info = self.loaded["GUEST_INTERRUPTIBILITY_INFO"] & ~NMI_BLOCKED
        self.loaded["GUEST_INTERRUPTIBILITY_INFO"] = info | (NMI_BLOCKED if masked else 0)

    @property
    def init_blocked(self) -> bool:
        """VMX root operation latches INIT (vmx.c: vmx_apic_init_signal_blocked)."""
        if self.does("init_blocked_in_root_only"):
            return self.nested.vmxon and not self.nested.guest_mode
        return self.nested.vmxon

    def deliver_init_or_sipi_to_l1(self) -> None:
        """Source: arch/x86/kvm/vmx/nested.c: vmx_check_nested_events."""
        vcpu, nested = self.vcpu, self.nested
        if nested.run_pending:
            return
        if vcpu.pending_init:
            vcpu.pending_init = False
            if vcpu.mp_state != MP_INIT_RECEIVED:
                exit_to_l1(self, EXIT_INIT_SIGNAL, 0)
        elif vcpu.pending_sipi and vcpu.mp_state == MP_INIT_RECEIVED:
            vcpu.pending_sipi = False
            exit_to_l1(self, EXIT_SIPI, vcpu.events.sipi_vector & 0xFF)

    def abort(self) -> None:
        """A VMX abort of L1: KVM makes it a triple fault (nested.c: nested_vmx_abort)."""
        self.vcpu.events = self.vcpu.events.replaced(triple_fault_pending=1)

    # MSRs ------------------------------------------------------------------------------------
    @property
    def feature_control_valid(self) -> int:
        """Bits that user space may set in IA32_FEATURE_CONTROL."""
        if self.does("feature_control_ignores_cpuid"):
            return FEAT_LOCKED | FEAT_VMX | FEAT_SGX_LC | FEAT_SGX | FEAT_LMCE
        valid = FEAT_LOCKED
        if self.guest_has_vmx:
            valid |= FEAT_VMX
        if self.does("feature_control_sgx"):
            cpuid = self.vcpu.cpuid
            valid |= FEAT_SGX if cpuid.has("SGX") else 0
            valid |= FEAT_SGX_LC if cpuid.has("SGX_LC") else 0
        return valid

    def get_msr(self, index: int) -> int | None:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_get_msr."""
        if index == MSR_FEAT_CTL:
            return self.feature_control
        if FIRST <= index <= LAST:
            if not self.guest_has_vmx:
                raise MsrRefused("vmx_msr_needs_guest_vmx")
            return self.msrs[index]
        loaded = self.loaded
        if index in MSR_SYSENTER:
            return loaded[f"GUEST_SYSENTER_{MSR_SYSENTER[index]}"]
        if index == MSR_FS_BASE:
            return loaded["GUEST_FS_BASE"]
        if index == MSR_GS_BASE:
            return loaded["GUEST_GS_BASE"]
        if index == MSR_DEBUGCTL:
            return loaded["GUEST_IA32_DEBUGCTL"]
        if index == MSR_BNDCFGS:
            if not self.mpx:
                raise MsrRefused("msr_bndcfgs_supported")
            return loaded["GUEST_BNDCFGS"]
        return None

    def set_msr(self, index: int, value: int) -> bool:
        """Source: arch/x86/kvm/vmx/vmx.c: vmx_set_msr."""
        if FIRST <= index <= LAST:
            self._set_capability(index, value)
        elif index == MSR_FEAT_CTL:
            if value & ~self.feature_control_valid:
                raise MsrRefused("feature_control_bits")
            self.feature_control = value
            if value == 0:
                self.leave_nested()
        elif index in MSR_SYSENTER:
            self._set_guest_field(f"GUEST_SYSENTER_{MSR_SYSENTER[index]}", value, always=True)
        elif index == MSR_FS_BASE:
            self.loaded["GUEST_FS_BASE"] = value
        elif index == MSR_GS_BASE:
            self.loaded["GUEST_GS_BASE"] = value
        elif index == MSR_DEBUGCTL:
            if value & self.debugctl_reserved:
                raise MsrRefused("msr_debugctl_reserved")
            value &= self.debugctl_loaded
            saves = Exit.SAVE_DEBUG_CONTROLS
            self._set_guest_field("GUEST_IA32_DEBUGCTL", value, saves=saves)
        elif index == MSR_BNDCFGS:
            if not self.mpx or value & 0xFFC:
                raise MsrRefused("msr_bndcfgs_supported")
            self._set_guest_field("GUEST_BNDCFGS", value, always=True)
        elif index == x86_msrs.MSR_IA32_CR_PAT:
            x86_msrs.set_msr(self.vcpu, index, value)
            self._set_guest_field("GUEST_IA32_PAT", value, saves=Exit.SAVE_IA32_PAT)
        else:
            return False
        return True

    def _set_guest_field(
        self, field: str, value: int, saves: int = 0, always: bool = False
    ) -> None:
        """VMWRITE to the loaded VMCS, and to vmcs12 where L1 would find it there."""
        nested = self.nested
        if nested.guest_mode and (always or nested.vmcs12["VM_EXIT_CONTROLS"] & saves):
            nested.vmcs12[field] = value & FIELD_MASK.get(field, ALL)
        self.loaded[field] = value

    def _set_capability(self, index: int, value: int) -> None:
        if not self.guest_has_vmx:
            raise MsrRefused("vmx_msr_needs_guest_vmx")
        frozen = self.nested.guest_mode and self.does("feature_msrs_fixed_in_guest_mode")
        if frozen and value != self.msrs[index]:
            raise MsrRefused("feature_msr_unchanged_in_guest_mode")
        if index == MSR_VMFUNC and not self.does("vmfunc_msr_writable"):
            raise MsrRefused("vmx_msr_known")
        current = self.does("capability_msrs_only_narrow")
        self.msrs.set(index, value, self.nested.vmxon, current)
        self._template = None

    def load_msr_list(self, gpa: int, count: int) -> int:
        """Load MSRs from a list of L1's: the number, from 1, of an entry that cannot be; else 0.

        Source: arch/x86/kvm/vmx/nested.c: nested_vmx_load_msr.
        """
        for i in range(count):
            entry = self.vcpu.memory.read(gpa + 16 * i, 16)
            if entry is None:
                return i + 1
            index = int.from_bytes(entry[:4], "little")
            reserved = int.from_bytes(entry[4:8], "little")
            never = (MSR_FS_BASE, MSR_GS_BASE, MSR_SMM_MONITOR_CTL, MSR_UCODE_REV, MSR_FEAT_CTL)
            if reserved or index in never or 0x800 <= index < 0x900 or FIRST <= index <= LAST:
                return i + 1
            if self.vcpu.set_msrs([(index, int.from_bytes(entry[8:], "little"))]) != 1:
                return i + 1
        return 0

    @property
    def debugctl_reserved(self) -> int:
        """Bits that a guest may not set in IA32_DEBUGCTL (vmx.c: vmx_is_valid_debugctl)."""
        if not self.does("checks_debugctl"):
            return 0
        # BTF and LBR are not supported but writes of them are ignored.
        allowed = self.debugctl_loaded | 0x3
        quirk = not self.vcpu.vm.disabled_quirks & QUIRK_FREEZE_IN_SMM
        if quirk and self.does("debugctl_freeze_in_smm_quirk"):
            allowed |= 1 << 14
        return ~allowed & ALL

    @property
    def debugctl_loaded(self) -> int:
        """Bits of IA32_DEBUGCTL that reach the processor (vmx.c: vmx_get_supported_debugctl)."""
        if not self.does("checks_debugctl"):
            return ALL
        cpuid, host = self.vcpu.cpuid, self.vcpu.host.cpuid
        bits = 0
        if cpuid.has("BUS_LOCK_DETECT") and host.has("BUS_LOCK_DETECT"):
            bits |= 1 << 2
        if cpuid.has("RTM") and host.has("RTM"):
            bits |= 1 << 15
        return bits

    # Nested virtualization -------------------------------------------------------------------
    @property
    def in_guest_mode(self) -> bool:
        """Whether L2 is the one that would run."""
        return self.nested.guest_mode

    def leave_nested(self) -> None:
        """Source: arch/x86/kvm/vmx/nested.c: vmx_leave_nested."""
        leave_nested(self)

    def enable_evmcs(self) -> int | None:
        """Source: arch/x86/kvm/vmx/evmcs.c: nested_enable_evmcs: versions 1 to 1."""
        if not self.has_evmcs(self.release, self.vcpu.host):
            return None
        if self.does("evmcs_narrows_msrs") and not self.nested.evmcs_enabled:
            for index, gone in EVMCS_UNSUPPORTED.items():
                self.msrs.narrow(index, gone)
            self.msrs.values[MSR_VMFUNC] &= ~EVMCS_UNSUPPORTED_VMFUNC
            self._template = None
        self.nested.evmcs_enabled = True
        return 0x101 if nested_enabled(self.release, self.vcpu.host) else 0

    def get_nested_state(self, buffer: bytearray, size: int) -> int:
        """KVM_GET_NESTED_STATE."""
        return get_nested_state(self, buffer, size)

    def set_nested_state(self, state: memoryview) -> int:
        """KVM_SET_NESTED_STATE."""
        return set_nested_state(self, state)

    def prepared_walk(self, state: memoryview) -> PreparedWalk:
        """What KVM_SET_NESTED_STATE would walk for `state`, as the vCPU is now."""
        return prepared(self, state)

    def timer_now(self) -> int:
        """L1's TSC in units of the VMX-preemption timer, in virtual time."""
        return self.vcpu.msrs.get(x86_msrs.MSR_IA32_TSC, 0) >> 5

    def l2_tsc_offset(self) -> int:
        """The TSC offset that L1 gives L2."""
        vmcs12 = self.nested.vmcs12
        return vmcs12["TSC_OFFSET"] if vmcs12[PROC] & ProcBased.USE_TSC_OFFSETTING else 0

    def fixed_words(self) -> Words:
        """Words of the SET program that change with CPUID and the capability MSRs only."""
        if self._template is None:
            self._template = set_program(self.release).words(self._fixed_words())
        words: Words = self._template.copy()
        return words

    @property
    def host_address_width(self) -> int:
        """Linear-address bits of the host."""
        return 57 if self.vcpu.host.cpuid.has("LA57") else 48

    @property
    def sees_hyperv(self) -> bool:
        """Whether the guest's CPUID is Hyper-V's (hyperv.c: kvm_hv_set_cpuid)."""
        return self.vcpu.cpuid.register(0x4000_0001, 0, 0) == HYPERV_SIGNATURE

    def _fixed_words(self) -> dict[str, int]:
        """Words that change with CPUID and the capability MSRs only."""
        vcpu, release = self.vcpu, self.release
        reserved = vcpu.physical_reserved
        words = {
            "ONE": 1,
            "UNKNOWN_FLAGS": ~known_flags(release) & 0xFFFF,
            "GUEST_HAS_VMX": self.guest_has_vmx,
            "HAS_HYPERV": vcpu.host.parameters.hyperv or not self.does("config_kvm_hyperv"),
            # a release without nested state has no such size
            "VMCS12_SHORT_SIZE": max(release.number("vmcs12_minimum_size"), 1) - 1,
            "SHADOW_SHORT_SIZE": release.number("shadow_minimum_size"),
            "ENTRY_STATUS": release.number("entry_failure_status") & ALL,
            "CR4_RESERVED": vcpu.cr4_reserved,
            "PHYSICAL_RESERVED": reserved,
            "PAGE_RESERVED": reserved | 0xFFF,
            "CR3_RESERVED": vcpu.cr3_reserved,
            "EFER_RESERVED": vcpu.efer_reserved,
            "DEBUGCTL_RESERVED": self.debugctl_reserved,
            "PERF_GLOBAL_RESERVED": self._perf_global_reserved(),
            "PMU_HAS_GLOBAL_CTRL": vcpu.cpuid.register(0xA, 0, 0) & 0xFF > 1,
            "S_CET_RESERVED": self._s_cet_reserved(),
            "PDPTE_RESERVED": reserved | 0x1E6,
        }
        if self.msrs.values:
            words.update(capability_words(self.msrs, reserved))
            if not self.does("eptp_walk_of_5"):
                words["EPTP_WALK_LENGTHS"] &= 1 << 3
        return words

    def _perf_global_reserved(self) -> int:
        """Bits of IA32_PERF_GLOBAL_CTRL without a counter (pmu_intel.c: intel_pmu_refresh)."""
        cpuid = self.vcpu.cpuid
        version = cpuid.register(0xA, 0, 0)
        if version & 0xFF < 2:
            return ALL
        fixed = cpuid.register(0xA, 0, 3) & 0x1F
        return ~((1 << (version >> 8 & 0xFF)) - 1 | ((1 << fixed) - 1) << 32) & ALL

    def _s_cet_reserved(self) -> int:
        """Bits of IA32_S_CET that KVM refuses (x86.h: kvm_is_valid_u_s_cet)."""
        cpuid = self.vcpu.cpuid
        reserved = 0x3C0
        if not cpuid.has("SHSTK"):
            reserved |= 0x3
        if not cpuid.has("IBT"):
            reserved |= ALL & ~0x3
        return reserved


# A feature, its control, another feature that it needs, and the behaviour that asks for that one.
CONTROL_OF_FEATURE: Final = (
    ("RDTSCP", ProcBased2.ENABLE_RDTSCP, "", ""),
    ("INVPCID", ProcBased2.ENABLE_INVPCID, "PCID", "invpcid_needs_pcid"),
    ("RDRAND", ProcBased2.RDRAND_EXITING, "", ""),
    ("RDSEED", ProcBased2.RDSEED_EXITING, "", ""),
    ("XSAVES", ProcBased2.ENABLE_XSAVES_XRSTORS, "XSAVE", ""),
    ("WAITPKG", ProcBased2.ENABLE_USER_WAIT_AND_PAUSE, "", ""),
)
QUIRK_FREEZE_IN_SMM: Final = 1 << 10
HYPERV_SIGNATURE: Final = int.from_bytes(b"Hv#1", "little")
EXIT_INIT_SIGNAL, EXIT_SIPI = 3, 4
MP_INIT_RECEIVED: Final = 2
FIELD_MASK: Final = {"GUEST_SYSENTER_CS": 0xFFFF_FFFF}
CACHED_CR0, CACHED_CR3, CACHED_CR4, CACHED_RSP, CACHED_RIP, CACHED_PDPTR = (
    1 << bit for bit in range(6)
)


def nested_enabled(release: Release, host: Host) -> bool:
    """Whether kvm_intel's parameter `nested` is on: as given, else by the release's default."""
    wanted = host.parameters.nested
    return release.does("vmx_nested_by_default") if wanted is None else wanted
