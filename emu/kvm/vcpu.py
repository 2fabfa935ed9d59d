"""A vCPU as user space meets it: the ioctls, in KVM's order of checks and effects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from errno import E2BIG, EINVAL, ENOTTY
from typing import TYPE_CHECKING, Final

from emu.errors import KvmError
from emu.kvm import x86_msrs
from emu.kvm.control_registers import CR0, CR4, EFER, cr4_reserved, efer_reserved_for
from emu.kvm.cpuid import EAX, Cpuid
from emu.kvm.events import get_vcpu_events, set_vcpu_events
from emu.kvm.growth import Grown
from emu.kvm.host import AMD
from emu.kvm.rule_program import RuleProgram
from emu.kvm.sregs_rules import SREGS_RULES, WORDS
from emu.kvm.structs import (
    GENERAL_REGISTERS,
    SEGMENTS,
    SREGS2_FLAGS_PDPTRS_VALID,
    DebugRegs,
    Regs,
    Sregs,
    VcpuEvents,
)
from emu.kvm.vendor import MsrRefused, VendorOperations
from vmcs.batch import StateView, nested_state_layout
from vmcs.nested_state import Format

if TYPE_CHECKING:
    from emu.kvm.vm import Vm
    from emu.releases.schema import Release

ALL: Final = 0xFFFF_FFFF_FFFF_FFFF
HEADER_SIZE: Final = 128
FLAG_MASKS: Final = {
    "KVM_STATE_NESTED_GUEST_MODE": 0x1,
    "KVM_STATE_NESTED_RUN_PENDING": 0x2,
    "KVM_STATE_NESTED_EVMCS": 0x4,
    "KVM_STATE_NESTED_MTF_PENDING": 0x8,
    "KVM_STATE_NESTED_GIF_SET": 0x100,
}
KVM_CAP_HYPERV_SYNIC: Final = 123
KVM_CAP_HYPERV_SYNIC2: Final = 148
KVM_CAP_HYPERV_ENLIGHTENED_VMCS: Final = 163
KVM_CAP_ENFORCE_PV_FEATURE_CPUID: Final = 190
KVM_CAP_HYPERV_ENFORCE_CPUID: Final = 199

# Registers that a vendor may leave in its control structure until they are asked for
# (arch/x86/kvm/kvm_cache_regs.h: regs_avail).
IN_CACHE_CR0, IN_CACHE_CR3, IN_CACHE_CR4, IN_CACHE_RSP, IN_CACHE_RIP = (1 << i for i in range(5))
IN_CACHE_PDPTR: Final = 1 << 5
IN_CACHE_RFLAGS: Final = 1 << 6
EVERYTHING: Final = 0x7F

MP_RUNNABLE, MP_UNINITIALIZED, MP_INIT_RECEIVED, MP_HALTED, MP_SIPI_RECEIVED = range(5)
MP_AP_RESET_HOLD: Final = 9

NO_CPUID: Final = Cpuid()

_SREGS_PROGRAMS: dict[int, tuple[Release, RuleProgram]] = {}


def sregs_program(release: Release) -> RuleProgram:
    """The checks of KVM_SET_SREGS that `release` makes."""
    kept = _SREGS_PROGRAMS.get(id(release))
    if kept is None:
        program = RuleProgram("KVM_SET_SREGS", SREGS_RULES, WORDS, release.names("sregs_rules"))
        _SREGS_PROGRAMS[id(release)] = kept = (release, program)
    return kept[1]


class Vcpu:
    """One virtual processor of a `Vm`.

    The attributes are the values that KVM keeps in `struct kvm_vcpu_arch`; what the vendor's
    control structure holds is in `operations`.
    """

    def __init__(self, vm: Vm, number: int = 0) -> None:
        self.vm = vm
        self.number = number
        self.release = vm.kvm.release
        self.host = vm.kvm.host
        self.memory = vm.memory
        self.behaviours = self.release.names("behaviours")
        self.cpuid = NO_CPUID
        self.maxphyaddr = 36
        self.physical_reserved = ALL << 36 & ALL
        self.cr4_reserved = 0
        self.efer_reserved = 0
        self.registers = dict.fromkeys(GENERAL_REGISTERS, 0)
        self.in_cache = EVERYTHING
        self.cr0 = self.cr2 = self.cr3 = self.cr4 = self.cr8 = self.efer = 0
        self.cr0_guest_owned = self.cr4_guest_owned = 0
        self.pdptrs = [0, 0, 0, 0]
        self.pdptrs_from_user_space = False
        self.apic_base = 0xFEE0_0800 | (0x100 if number == 0 else 0)
        self.debug = DebugRegs()
        self.pat = 0x0007_0406_0007_0406
        self.mp_state = MP_RUNNABLE if number == 0 else MP_UNINITIALIZED
        self.smm = False
        self.smm_inside_nmi = False
        self.smi_pending = False
        self.pending_init = self.pending_sipi = False
        self.events = VcpuEvents()
        self.xcr0 = 1
        self.xsave = bytes(4096)
        self.msrs: dict[int, int] = {}
        self.refused_msr: tuple[int, str] | None = None
        self.entry_refusal: tuple[str, str] | None = None
        self.grown = Grown(self.release, "svm" if self.host.vendor == AMD else "vmx")
        self.operations: VendorOperations = vm.kvm.operations(self)
        self.reset(init_event=False)

    # Life ------------------------------------------------------------------------------------
    def reset(self, init_event: bool) -> None:
        """RESET or INIT, as arch/x86/kvm/x86.c: kvm_vcpu_reset."""
        if self.operations.in_guest_mode:
            self.operations.leave_nested()
        for name in GENERAL_REGISTERS:
            self.registers[name] = 0
        self.registers["rip"] = 0xFFF0
        self.registers["rdx"] = self.cpuid.register(1, 0, EAX) or 0x600
        self.smm = False
        self.debug = DebugRegs()
        self.cr2 = self.cr3 = 0
        self.events = VcpuEvents()
        self.operations.reset(init_event)

    # CPUID -----------------------------------------------------------------------------------
    def set_cpuid2(self, cpuid: Cpuid) -> None:
        """KVM_SET_CPUID2.  Source: arch/x86/kvm/cpuid.c: kvm_set_cpuid."""
        ioctl = "KVM_SET_CPUID2"
        if self.operations.in_guest_mode and "cpuid_fixed_in_guest_mode" in self.behaviours:
            if cpuid != self.cpuid:
                raise KvmError(ioctl, EINVAL, "cpuid_unchanged_in_guest_mode")
            return
        sizes = cpuid.leaf(0x8000_0008)
        if sizes is not None and sizes.eax >> 8 & 0xFF not in (0, 48, 57):
            raise KvmError(ioctl, EINVAL, "cpuid_linear_address_width", f"{sizes.eax:#x}")
        self.cpuid = cpuid
        self.maxphyaddr = cpuid.maxphyaddr
        self.physical_reserved = ALL << self.maxphyaddr & ALL
        supported = self.host.cpuid
        self.cr4_reserved = cr4_reserved(cpuid, supported, self.behaviours)
        self.efer_reserved = efer_reserved_for(
            cpuid, EFER.SCE | EFER.LMA | EFER.LME | self.operations.efer_bits
        )
        self.operations.cpuid_changed()

    # Cached registers ------------------------------------------------------------------------
    def read_cr0(self) -> int:
        """CR0, from the control structure where that has it."""
        if not self.in_cache & IN_CACHE_CR0:
            self.operations.cache_register(IN_CACHE_CR0)
        return self.cr0

    def read_cr3(self) -> int:
        """CR3, from the control structure where that has it."""
        if not self.in_cache & IN_CACHE_CR3:
            self.operations.cache_register(IN_CACHE_CR3)
        return self.cr3

    def read_cr4(self) -> int:
        """CR4, from the control structure where that has it."""
        if not self.in_cache & IN_CACHE_CR4:
            self.operations.cache_register(IN_CACHE_CR4)
        return self.cr4

    def read_register(self, name: str) -> int:
        """General register `name`, from the control structure where that has it."""
        if name == "rsp" and not self.in_cache & IN_CACHE_RSP:
            self.operations.cache_register(IN_CACHE_RSP)
        if name == "rip" and not self.in_cache & IN_CACHE_RIP:
            self.operations.cache_register(IN_CACHE_RIP)
        return self.registers[name]

    def write_register(self, name: str, value: int) -> None:
        """Load general register `name`."""
        self.registers[name] = value
        if name == "rsp":
            self.in_cache |= IN_CACHE_RSP
        elif name == "rip":
            self.in_cache |= IN_CACHE_RIP

    @property
    def pae_paging(self) -> bool:
        """Whether the vCPU uses PAE paging (32-bit)."""
        return (
            not self.efer & EFER.LMA
            and bool(self.read_cr4() & CR4.PAE)
            and bool(self.read_cr0() & CR0.PG)
        )

    def load_pdptrs(self, cr3: int) -> bool:
        """Load the PDPTEs from guest memory; False where they cannot be read or are invalid.

        Source: arch/x86/kvm/x86.c: load_pdptrs.
        """
        data = self.memory.read(cr3 & ~0x1F, 32)
        if data is None:
            return False
        entries = [int.from_bytes(data[i : i + 8], "little") for i in range(0, 32, 8)]
        reserved = self.physical_reserved | 0x1E6
        if any(entry & 1 and entry & reserved for entry in entries):
            return False
        self.pdptrs = entries
        self.in_cache |= IN_CACHE_PDPTR
        self.pdptrs_from_user_space = False
        return True

    # Registers -------------------------------------------------------------------------------
    def get_regs(self) -> Regs:
        """KVM_GET_REGS."""
        values = {name: self.read_register(name) for name in GENERAL_REGISTERS}
        return Regs(**values, rflags=self.operations.get_rflags())

    def set_regs(self, regs: Regs) -> None:
        """KVM_SET_REGS."""
        for name in GENERAL_REGISTERS:
            self.write_register(name, getattr(regs, name))
        self.operations.set_rflags(regs.rflags | 2)
        self.events = self.events.replaced(exception_pending=0)

    def get_sregs(self) -> Sregs:
        """KVM_GET_SREGS."""
        ops, events = self.operations, self.events
        pending = events.interrupt_injected and not events.interrupt_soft
        return Sregs(
            cs=ops.get_segment("cs"),
            ds=ops.get_segment("ds"),
            es=ops.get_segment("es"),
            fs=ops.get_segment("fs"),
            gs=ops.get_segment("gs"),
            ss=ops.get_segment("ss"),
            tr=ops.get_segment("tr"),
            ldt=ops.get_segment("ldt"),
            gdt=ops.get_table("gdt"),
            idt=ops.get_table("idt"),
            cr0=self.read_cr0(),
            cr2=self.cr2,
            cr3=self.read_cr3(),
            cr4=self.read_cr4(),
            cr8=self.cr8,
            efer=self.efer,
            apic_base=self.apic_base,
            interrupt=events.interrupt_nr if pending else None,
        )

    def get_control_registers(self) -> tuple[int, int, int, int]:
        """CR0, CR3, CR4 and EFER as KVM_GET_SREGS gives them."""
        return self.read_cr0(), self.read_cr3(), self.read_cr4(), self.efer

    def get_sregs2(self) -> Sregs:
        """KVM_GET_SREGS2."""
        self._needs_sregs2("KVM_GET_SREGS2")
        sregs = self.get_sregs()
        if not self.pae_paging:
            return sregs
        if not self.in_cache & IN_CACHE_PDPTR:
            self.operations.cache_register(IN_CACHE_PDPTR)
        a, b, c, d = self.pdptrs
        return replace(sregs, flags=SREGS2_FLAGS_PDPTRS_VALID, pdptrs=(a, b, c, d))

    def set_sregs(self, sregs: Sregs) -> None:
        """KVM_SET_SREGS."""
        self._set_sregs(sregs, load_pdptrs=True)
        if sregs.interrupt is not None:
            self.events = self.events.replaced(
                interrupt_injected=1, interrupt_nr=sregs.interrupt, interrupt_soft=0
            )

    def set_sregs2(self, sregs: Sregs) -> None:
        """KVM_SET_SREGS2.  Source: arch/x86/kvm/x86.c: __set_sregs2."""
        ioctl = "KVM_SET_SREGS2"
        self._needs_sregs2(ioctl)
        valid = bool(sregs.flags & SREGS2_FLAGS_PDPTRS_VALID)
        pae = sregs.cr0 & CR0.PG and sregs.cr4 & CR4.PAE and not sregs.efer & EFER.LMA
        if sregs.flags & ~SREGS2_FLAGS_PDPTRS_VALID:
            raise KvmError(ioctl, EINVAL, "sregs2_flags_known", f"flags {sregs.flags:#x}")
        if valid and not pae:
            raise KvmError(ioctl, EINVAL, "sregs2_pdptrs_only_with_pae")
        self._set_sregs(sregs, load_pdptrs=not valid)
        if valid:
            self.pdptrs = list(sregs.pdptrs)
            self.in_cache |= IN_CACHE_PDPTR
            self.pdptrs_from_user_space = True

    def _needs_sregs2(self, ioctl: str) -> None:
        if not self.release.has("capabilities", "KVM_CAP_SREGS2"):
            raise KvmError(ioctl, ENOTTY, "sregs2_known")

    def _set_sregs(self, sregs: Sregs, load_pdptrs: bool) -> None:
        """Source: arch/x86/kvm/x86.c: __set_sregs_common."""
        self.check_sregs(sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer, sregs.cs.l, sregs.apic_base)
        ops = self.operations
        self.apic_base = sregs.apic_base
        ops.set_table("idt", sregs.idt)
        ops.set_table("gdt", sregs.gdt)
        self.cr2 = sregs.cr2
        self.load_control_registers(
            sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer, load_pdptrs=load_pdptrs
        )
        for name in SEGMENTS:
            ops.set_segment(name, getattr(sregs, name))
        self.cr8 = sregs.cr8 & 0xF
        at_reset = sregs.cs.selector == 0xF000 and sregs.cs.base == 0xFFFF_0000
        at_reset = at_reset and self.read_register("rip") == 0xFFF0
        if self.number == 0 and at_reset and not self.read_cr0() & CR0.PE:
            self.mp_state = MP_RUNNABLE

    def check_sregs(
        self, cr0: int, cr3: int, cr4: int, efer: int, cs_l: int, apic_base: int
    ) -> None:
        """Refuse control registers as KVM_SET_SREGS does, and change nothing."""
        program = sregs_program(self.release)
        reserved = self.physical_reserved | 0x2FF
        if not self.cpuid.has("X2APIC"):
            reserved |= 1 << 10
        unchanged = apic_base == self.apic_base and "apic_base_unchanged_is_fine" in self.behaviours
        words = program.words(
            {
                "CR0": cr0, "CR3": cr3, "CR4": cr4, "EFER": efer, "CS_L": cs_l,
                "APIC_BASE": apic_base, "ONE": 1,
                "CR3_RESERVED": self.cr3_reserved, "CR4_RESERVED": self.cr4_reserved,
                "EFER_RESERVED": self.efer_reserved, "APIC_BASE_RESERVED": reserved,
                "APIC_BASE_CHANGES": not unchanged, "SMM": self.smm,
                "HAS_XSAVE": self.cpuid.has("XSAVE"),
                **self.operations.sregs_words(),
            }
        )  # fmt: skip
        stop = program.walk(words)
        if stop is not None:
            raise program.refusal(stop, words)

    @property
    def cr3_reserved(self) -> int:
        """Bits that CR3 must have clear in long mode: LAM's two are usable with the feature.

        Source: arch/x86/kvm/cpuid.h: kvm_vcpu_is_legal_cr3.
        """
        if "cr4_lam" in self.behaviours and self.cpuid.has("LAM") and self.host.cpuid.has("LAM"):
            return self.physical_reserved & ~(3 << 61)
        return self.physical_reserved

    def load_control_registers(
        self, cr0: int, cr3: int, cr4: int, efer: int, load_pdptrs: bool = True
    ) -> None:
        """Load what KVM_SET_SREGS has checked, in its order."""
        self.read_cr3()
        self.cr3 = cr3
        self.in_cache |= IN_CACHE_CR3
        ops = self.operations
        ops.set_efer(efer)
        ops.set_cr0(cr0)
        self.cr0 = cr0
        if "sregs_drops_invalid_cr4" not in self.behaviours or ops.may_hold_cr4(cr4):
            ops.set_cr4(cr4)
        if load_pdptrs and self.pae_paging:
            self.load_pdptrs(self.read_cr3())

    # MSRs ------------------------------------------------------------------------------------
    def set_msrs(self, entries: Iterable[tuple[int, int]]) -> int:
        """KVM_SET_MSRS: the number of MSRs written, up to the first that KVM refuses.

        `refused_msr` then holds that one's index and the name of the rule.
        """
        self.refused_msr = None
        done = 0
        for index, value in entries:
            try:
                if not self.operations.set_msr(index, value):
                    x86_msrs.set_msr(self, index, value)
            except MsrRefused as refusal:
                self.refused_msr = (index, refusal.rule)
                break
            done += 1
        return done

    def get_msrs(self, indices: Iterable[int]) -> tuple[int, ...]:
        """KVM_GET_MSRS: values up to the first MSR that KVM refuses (see `refused_msr`)."""
        self.refused_msr = None
        values = []
        for index in indices:
            try:
                value = self.operations.get_msr(index)
                values.append(x86_msrs.get_msr(self, index) if value is None else value)
            except MsrRefused as refusal:
                self.refused_msr = (index, refusal.rule)
                break
        return tuple(values)

    # Events ----------------------------------------------------------------------------------
    def get_vcpu_events(self) -> VcpuEvents:
        """KVM_GET_VCPU_EVENTS."""
        return get_vcpu_events(self)

    def set_vcpu_events(self, events: VcpuEvents) -> None:
        """KVM_SET_VCPU_EVENTS."""
        set_vcpu_events(self, events)

    def drop_injected_events(self) -> None:
        """Forget what was to be injected: exception, NMI and interrupt."""
        now = self.events
        if (
            now.exception_injected
            or now.exception_pending
            or now.nmi_injected
            or now.interrupt_injected
        ):
            self.events = now.replaced(
                nmi_injected=0, exception_injected=0, exception_pending=0, interrupt_injected=0
            )

    @property
    def latches_init(self) -> bool:
        """Whether INIT is latched: in SMM and where the vendor says so."""
        vendor = "vendor_latches_init" in self.behaviours and self.operations.init_blocked
        return self.smm or vendor

    def _accept_apic_events(self) -> None:
        """Source: arch/x86/kvm/lapic.c: kvm_apic_accept_events."""
        if not (self.pending_init or self.pending_sipi) or not self.vm.irqchip_in_kernel:
            return
        if self.operations.in_guest_mode and "accept_checks_nested_events" in self.behaviours:
            self.operations.deliver_init_or_sipi_to_l1()
        if self.latches_init:
            self.pending_sipi = False
            return
        if self.pending_init:
            self.pending_init = False
            self.reset(init_event=True)
            self.mp_state = MP_RUNNABLE if self.number == 0 else MP_INIT_RECEIVED
        if self.pending_sipi:
            self.pending_sipi = False
            if self.mp_state == MP_INIT_RECEIVED:
                self.mp_state = MP_RUNNABLE

    def get_mp_state(self) -> int:
        """KVM_GET_MP_STATE."""
        self._accept_apic_events()
        return self.mp_state

    def set_mp_state(self, state: int) -> None:
        """KVM_SET_MP_STATE.  Source: arch/x86/kvm/x86.c: kvm_arch_vcpu_ioctl_set_mpstate."""
        ioctl = "KVM_SET_MP_STATE"
        if not self.vm.irqchip_in_kernel and state != MP_RUNNABLE:
            raise KvmError(ioctl, EINVAL, "mp_state_needs_irqchip", f"state {state}")
        if "mp_state_checks_value" in self.behaviours and state not in (
            MP_RUNNABLE,
            MP_UNINITIALIZED,
            MP_INIT_RECEIVED,
            MP_HALTED,
            MP_SIPI_RECEIVED,
            MP_AP_RESET_HOLD,
        ):
            raise KvmError(ioctl, EINVAL, "mp_state_known", f"state {state}")
        if "mp_state_minds_latched_init" in self.behaviours:
            waits = state in (MP_INIT_RECEIVED, MP_SIPI_RECEIVED)
            if waits and (self.latches_init or self.smi_pending):
                raise KvmError(ioctl, EINVAL, "mp_state_while_init_latched", f"state {state}")
        if state == MP_SIPI_RECEIVED:
            self.mp_state = MP_INIT_RECEIVED
            self.pending_sipi = True
        else:
            self.mp_state = state

    # Debug registers and extended state ------------------------------------------------------
    def get_debugregs(self) -> DebugRegs:
        """KVM_GET_DEBUGREGS."""
        return self.debug

    def set_debugregs(self, debug: DebugRegs) -> None:
        """KVM_SET_DEBUGREGS."""
        ioctl = "KVM_SET_DEBUGREGS"
        if debug.flags:
            raise KvmError(ioctl, EINVAL, "debugregs_flags_zero", f"flags {debug.flags:#x}")
        if debug.dr6 >> 32:
            raise KvmError(ioctl, EINVAL, "debugregs_dr6_high_half", f"DR6 {debug.dr6:#x}")
        if debug.dr7 >> 32:
            raise KvmError(ioctl, EINVAL, "debugregs_dr7_high_half", f"DR7 {debug.dr7:#x}")
        self.debug = debug
        self.operations.set_dr7(debug.dr7)

    def get_xcrs(self) -> int:
        """KVM_GET_XCRS: XCR0."""
        return self.xcr0

    def set_xcrs(self, xcr0: int) -> None:
        """KVM_SET_XCRS.  Source: arch/x86/kvm/x86.c: __kvm_set_xcr."""
        ioctl = "KVM_SET_XCRS"
        row = self.cpuid.leaf(0xD)
        supported = (row.eax | row.edx << 32 if row else 0) | 1
        if not xcr0 & 1:
            raise KvmError(ioctl, EINVAL, "xcr0_x87", f"XCR0 {xcr0:#x}")
        if xcr0 & 4 and not xcr0 & 2:
            raise KvmError(ioctl, EINVAL, "xcr0_ymm_needs_sse", f"XCR0 {xcr0:#x}")
        if xcr0 & ~supported:
            raise KvmError(ioctl, EINVAL, "xcr0_supported", f"XCR0 {xcr0:#x}, {supported:#x} known")
        if bool(xcr0 & 8) != bool(xcr0 & 16):
            raise KvmError(ioctl, EINVAL, "xcr0_mpx_both", f"XCR0 {xcr0:#x}")
        if xcr0 & 0xE0 and (xcr0 & 0xE0 != 0xE0 or not xcr0 & 4):
            raise KvmError(ioctl, EINVAL, "xcr0_avx512_all", f"XCR0 {xcr0:#x}")
        self.xcr0 = xcr0

    def get_xsave(self) -> bytes:
        """KVM_GET_XSAVE: 4096 bytes."""
        return self.xsave

    def set_xsave(self, data: bytes) -> None:
        """KVM_SET_XSAVE.  Source: arch/x86/kvm/x86.c: kvm_vcpu_ioctl_x86_set_xsave."""
        ioctl = "KVM_SET_XSAVE"
        xstate = int.from_bytes(data[512:520], "little")
        row = self.host.cpuid.leaf(0xD)
        supported = (row.eax | row.edx << 32 if row else 0) | 3
        if xstate & ~supported:
            raise KvmError(ioctl, EINVAL, "xsave_features_supported", f"XSTATE_BV {xstate:#x}")
        if int.from_bytes(data[24:28], "little") & ~0xFFFF:
            raise KvmError(ioctl, EINVAL, "xsave_mxcsr", data[24:28][::-1].hex())
        self.xsave = bytes(data[:4096]).ljust(4096, b"\0")

    # Capabilities ----------------------------------------------------------------------------
    def enable_cap(self, capability: int, _argument: int = 0) -> int:
        """KVM_ENABLE_CAP on the vCPU: the eVMCS version for capability 163, 0 for others.

        Source: arch/x86/kvm/x86.c: kvm_vcpu_ioctl_enable_cap.
        """
        ioctl = "KVM_ENABLE_CAP"
        hyperv = self.host.parameters.hyperv or "config_kvm_hyperv" not in self.behaviours
        if hyperv and capability == KVM_CAP_HYPERV_ENLIGHTENED_VMCS:
            version = self.operations.enable_evmcs()
            if version is None:
                raise KvmError(ioctl, ENOTTY, "evmcs_known_to_vendor")
            return version
        if hyperv and capability in (KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2):
            if not self.vm.irqchip_in_kernel:
                raise KvmError(ioctl, EINVAL, "synic_needs_irqchip")
            return 0
        if capability == KVM_CAP_ENFORCE_PV_FEATURE_CPUID and self.release.has(
            "capabilities", "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"
        ):
            return 0
        if (
            hyperv
            and capability == KVM_CAP_HYPERV_ENFORCE_CPUID
            and self.release.has("capabilities", "KVM_CAP_HYPERV_ENFORCE_CPUID")
        ):
            return 0
        raise KvmError(ioctl, EINVAL, "vcpu_capability_known", str(capability))

    # Nested state ----------------------------------------------------------------------------
    def get_nested_state_into(self, buffer: bytearray) -> None:
        """KVM_GET_NESTED_STATE into the user's `buffer`, whose u32 at offset 4 says its size.

        The buffer must have the size that KVM_CHECK_EXTENSION reports at least, because KVM may
        write beyond what `size` says.  Raises KvmError with E2BIG after writing the size needed.
        """
        ioctl = "KVM_GET_NESTED_STATE"
        if not self.operations.has_nested_state(self.release, self.host):
            raise KvmError(ioctl, EINVAL, "nested_state_offered")
        size = int.from_bytes(buffer[4:8], "little")
        needed = self.operations.get_nested_state(buffer, size)
        if self.grown and needed <= size:
            needed = self.grown.save(buffer, size, needed)
        if needed > size:
            buffer[4:8] = needed.to_bytes(4, "little")
            raise KvmError(ioctl, E2BIG, "nested_state_fits", f"{needed} bytes, {size} given")

    def get_nested_state(self, size: int | None = None) -> bytes:
        """KVM_GET_NESTED_STATE with `size` bytes (default: what KVM_CHECK_EXTENSION reports)."""
        most = max(self.operations.nested_state_size(self.release), HEADER_SIZE)
        asked = most if size is None else size
        buffer = bytearray(max(most, asked))
        buffer[4:8] = asked.to_bytes(4, "little")
        self.get_nested_state_into(buffer)
        return bytes(buffer[: int.from_bytes(buffer[4:8], "little")])

    def nested_state(self) -> StateView:
        """What KVM_GET_NESTED_STATE hands out, by name: `view.flags`, `view.vmcs12.GUEST_RIP`.

        The view is a copy that can be changed and given to `set_nested_state`.
        """
        blob = self.get_nested_state()
        layout = nested_state_layout(Format(int.from_bytes(blob[2:4], "little")))
        return StateView(bytearray(blob[: layout.size].ljust(layout.size, b"\0")), layout)

    def set_nested_state(self, state: bytes | bytearray | memoryview | StateView) -> int:
        """KVM_SET_NESTED_STATE: the ioctl's non-negative return value.

        `state` is the caller's memory from the header on, or a view of it by name; KVM reads what
        it needs of it.
        A positive value says that L2 could not be entered: `entry_refusal` then holds the name of
        the rule and what it asked.
        """
        if isinstance(state, StateView):
            state = state.bytes
        self.entry_refusal = None
        ioctl = "KVM_SET_NESTED_STATE"
        if not self.operations.has_nested_state(self.release, self.host):
            raise KvmError(ioctl, EINVAL, "nested_state_offered")
        if not self.grown:
            return self.operations.set_nested_state(memoryview(state))
        result = self.operations.set_nested_state(memoryview(self.grown.strip(memoryview(state))))
        self.grown.load(memoryview(state))
        return result
