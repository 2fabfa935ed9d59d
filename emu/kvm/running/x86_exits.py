"""What KVM does for either vendor's guest: CPUID, MSRs, control registers, ports, hypercalls.

Source: arch/x86/kvm/x86.c, cpuid.c: kvm_cpuid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.cpu.system.msrs import Refused, read_msr, write_msr
from emu.kvm import x86_msrs
from emu.kvm.control_registers import CR0, CR4, EFER
from emu.kvm.cpuid import EAX
from emu.kvm.running.registers import MSRS
from emu.kvm.vendor import MsrRefused

if TYPE_CHECKING:
    from emu.kvm.running.machine import VirtualCore
    from emu.kvm.vcpu import Vcpu

LOW: Final = 0xFFFF_FFFF
APIC_BASE, TSC_DEADLINE = 0x1B, 0x6E0
X2APIC_MSRS: Final = range(0x800, 0x900)
FEATURE_CONTROL, LOCKED = 0x3A, 1
VMX_CAPABILITIES: Final = range(0x480, 0x494)
CANONICAL_MSRS: Final = frozenset({0xC000_0082, 0xC000_0083, 0xC000_0100, 0xC000_0101, 0xC000_0102})
OSXSAVE, APIC = 1 << 27, 1 << 9
KVM_ENOSYS, EPERM = -1000, -1
CR0_RESERVED: Final = 0xFFFF_FFFF_1FFA_FFC0


def cpuid(vcpu: Vcpu) -> None:
    """CPUID, with the bits that follow CR4."""
    function = vcpu.read_register("rax") & LOW
    index = vcpu.read_register("rcx") & LOW
    row = vcpu.cpuid.leaf(function, index) or vcpu.cpuid.leaf(function)
    values = [0, 0, 0, 0]
    if row is not None and (row.subleaf == index or function not in (4, 7, 0xB, 0xD, 0x14)):
        values = [row.register(number) for number in range(4)]
    elif not function >> 31 and function > vcpu.cpuid.register(0, 0, EAX):
        last = vcpu.cpuid.leaf(vcpu.cpuid.register(0, 0, EAX), index)
        values = [last.register(number) for number in range(4)] if last else values
    if function == 1:
        enabled = OSXSAVE if vcpu.read_cr4() & CR4.OSXSAVE else 0
        values[2] = values[2] & ~OSXSAVE | enabled
    for name, value in zip(("rax", "rbx", "rcx", "rdx"), values, strict=True):
        vcpu.write_register(name, value)


def port(vcpu: Vcpu, core: VirtualCore, number: int, size: int, reads: bool) -> None:
    """IN or OUT of `size` bytes: user space's devices answer."""
    rax = vcpu.read_register("rax")
    mask = (1 << 8 * size) - 1
    if not reads:
        core.port_write(number, size, rax & mask)
        return
    value = core.port_read(number, size) & mask
    vcpu.write_register("rax", value if size == 4 else rax & ~mask | value)


def hypercall(vcpu: Vcpu, cpl: int) -> None:
    """A call of KVM's interface; none of them is offered (kvm_emulate_hypercall)."""
    result = EPERM if cpl else KVM_ENOSYS
    mask = 0xFFFF_FFFF_FFFF_FFFF if vcpu.efer & EFER.LMA else LOW
    vcpu.write_register("rax", result & mask)


def xsetbv(vcpu: Vcpu, core: VirtualCore) -> None:
    """XSETBV of XCR0; #GP(0) for what the vCPU's CPUID has not (__kvm_set_xcr)."""
    from emu.errors import KvmError  # noqa: PLC0415 - the ioctl's checks are the instruction's

    value = vcpu.read_register("rax") & LOW | (vcpu.read_register("rdx") & LOW) << 32
    if vcpu.read_register("rcx") & LOW:
        raise Fault(Vector.GP, 0)
    try:
        vcpu.set_xcrs(value)
    except KvmError:
        raise Fault(Vector.GP, 0) from None
    core.cpu.state.xcr0 = value


def rdmsr(vcpu: Vcpu, core: VirtualCore) -> None:
    """RDMSR; #GP(0) for what KVM refuses."""
    index = vcpu.read_register("rcx") & LOW
    value = _read(vcpu, core, index)
    vcpu.write_register("rax", value & LOW)
    vcpu.write_register("rdx", value >> 32)


def _read(vcpu: Vcpu, core: VirtualCore, index: int) -> int:
    if index in MSRS:
        return vcpu.msrs.get(index, 0)
    if index in X2APIC_MSRS or index in (APIC_BASE, TSC_DEADLINE):
        found = core.read_apic_msr(index)
        if found is None:
            raise Fault(Vector.GP, 0)
        return found
    try:
        own = vcpu.operations.get_msr(index)
        return x86_msrs.get_msr(vcpu, index) if own is None else own
    except MsrRefused:
        pass
    try:
        return read_msr(core.cpu, index)
    except Refused:
        raise Fault(Vector.GP, 0) from None


def wrmsr(vcpu: Vcpu, core: VirtualCore) -> None:
    """WRMSR; #GP(0) for what KVM refuses."""
    index = vcpu.read_register("rcx") & LOW
    value = vcpu.read_register("rax") & LOW | (vcpu.read_register("rdx") & LOW) << 32
    high = value >> 47
    if index in CANONICAL_MSRS and high not in (0, 0x1_FFFF):
        raise Fault(Vector.GP, 0)
    if index in X2APIC_MSRS or index in (APIC_BASE, TSC_DEADLINE):
        if not core.write_apic_msr(index, value):
            raise Fault(Vector.GP, 0)
        if index == APIC_BASE:
            vcpu.apic_base = value
    elif index == x86_msrs.MSR_EFER:
        _write_efer(vcpu, value)
    elif index == x86_msrs.MSR_IA32_TSC:
        core.write_tsc(value)
    else:
        _write(vcpu, core, index, value)


def _write(vcpu: Vcpu, core: VirtualCore, index: int, value: int) -> None:
    locked = (index == FEATURE_CONTROL and vcpu.operations.get_msr(index)) or 0
    if locked & LOCKED or index in VMX_CAPABILITIES:
        raise Fault(Vector.GP, 0)
    try:
        if not vcpu.operations.set_msr(index, value):
            x86_msrs.set_msr(vcpu, index, value)
    except MsrRefused as refusal:
        if refusal.rule != "msr_known":
            raise Fault(Vector.GP, 0) from None
        try:
            write_msr(core.cpu, index, value)
        except Refused:
            raise Fault(Vector.GP, 0) from None
    if index in MSRS:
        vcpu.msrs[index] = value


def _write_efer(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/x86.c: set_efer."""
    changes = value ^ vcpu.efer
    if value & vcpu.efer_reserved or (changes & EFER.LME and vcpu.read_cr0() & CR0.PG):
        raise Fault(Vector.GP, 0)
    vcpu.operations.set_efer(value & ~EFER.LMA | vcpu.efer & EFER.LMA)


def set_cr0(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/x86.c: kvm_set_cr0."""
    value |= CR0.ET
    if value >> 32 or (value & CR0.NW and not value & CR0.CD):
        raise Fault(Vector.GP, 0)
    value &= ~CR0_RESERVED
    paging = value & CR0.PG
    if paging and not value & CR0.PE:
        raise Fault(Vector.GP, 0)
    starts = paging and not vcpu.read_cr0() & CR0.PG
    if starts and vcpu.efer & EFER.LME:
        if not vcpu.read_cr4() & CR4.PAE or vcpu.operations.get_segment("cs").l:
            raise Fault(Vector.GP, 0)
    elif paging and vcpu.read_cr4() & CR4.PAE and not vcpu.efer & EFER.LME:
        _load_pdptrs(vcpu, vcpu.read_cr3())
    if not paging and (vcpu.read_cr4() & CR4.PCIDE):
        raise Fault(Vector.GP, 0)
    vcpu.operations.set_cr0(value)


def set_cr3(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/x86.c: kvm_set_cr3."""
    if vcpu.read_cr4() & CR4.PCIDE:
        value &= ~(1 << 63)
    if vcpu.efer & EFER.LMA and value & vcpu.cr3_reserved:
        raise Fault(Vector.GP, 0)
    if vcpu.pae_paging:
        _load_pdptrs(vcpu, value)
    vcpu.cr3 = value
    vcpu.in_cache |= 1 << 1


def set_cr4(vcpu: Vcpu, value: int) -> None:
    """Source: arch/x86/kvm/x86.c: kvm_set_cr4."""
    changes = value ^ vcpu.read_cr4()
    if value & vcpu.cr4_reserved:
        raise Fault(Vector.GP, 0)
    if vcpu.efer & EFER.LMA:
        if not value & CR4.PAE or changes & CR4.LA57:
            raise Fault(Vector.GP, 0)
    elif vcpu.read_cr0() & CR0.PG and value & CR4.PAE:
        _load_pdptrs(vcpu, vcpu.read_cr3())
    wants_pcid = value & CR4.PCIDE and changes & CR4.PCIDE
    if wants_pcid and (not vcpu.efer & EFER.LMA or vcpu.read_cr3() & 0xFFF):
        raise Fault(Vector.GP, 0)
    vcpu.operations.set_cr4(value)


def _load_pdptrs(vcpu: Vcpu, cr3: int) -> None:
    if not vcpu.load_pdptrs(cr3):
        raise Fault(Vector.GP, 0)
