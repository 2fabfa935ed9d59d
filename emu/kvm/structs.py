"""Structures that KVM's ioctls take and give: named values on top, the ABI's bytes beneath."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Final

SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")

_SEGMENT = struct.Struct("<QIHBBBBBBBBBB")
_TABLE = struct.Struct("<QH6x")
_CONTROL = struct.Struct("<7Q")


@dataclass(frozen=True)
class Segment:
    """`struct kvm_segment`."""

    base: int = 0
    limit: int = 0
    selector: int = 0
    type: int = 0
    present: int = 0
    dpl: int = 0
    db: int = 0
    s: int = 0
    l: int = 0  # noqa: E741 - the ABI's name
    g: int = 0
    avl: int = 0
    unusable: int = 0

    def replaced(self, **members: int) -> Segment:
        """This segment with some members replaced."""
        return replace(self, **members)

    def to_bytes(self) -> bytes:
        """The 24 bytes of the ABI."""
        return _SEGMENT.pack(
            self.base,
            self.limit,
            self.selector,
            self.type,
            self.present,
            self.dpl,
            self.db,
            self.s,
            self.l,
            self.g,
            self.avl,
            self.unusable,
            0,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Segment:
        """The segment that 24 bytes of the ABI describe."""
        return cls(*_SEGMENT.unpack(data)[:12])


@dataclass(frozen=True)
class DescriptorTable:
    """`struct kvm_dtable`."""

    base: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Sregs:
    """`struct kvm_sregs`; `pdptrs` and `pdptrs_valid` are those of `struct kvm_sregs2`."""

    cs: Segment = field(default_factory=Segment)
    ds: Segment = field(default_factory=Segment)
    es: Segment = field(default_factory=Segment)
    fs: Segment = field(default_factory=Segment)
    gs: Segment = field(default_factory=Segment)
    ss: Segment = field(default_factory=Segment)
    tr: Segment = field(default_factory=Segment)
    ldt: Segment = field(default_factory=Segment)
    gdt: DescriptorTable = field(default_factory=DescriptorTable)
    idt: DescriptorTable = field(default_factory=DescriptorTable)
    cr0: int = 0
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    cr8: int = 0
    efer: int = 0
    apic_base: int = 0
    interrupt: int | None = None
    flags: int = 0
    pdptrs: tuple[int, int, int, int] = (0, 0, 0, 0)

    def to_bytes(self) -> bytes:
        """The 312 bytes of `struct kvm_sregs`."""
        segments = b"".join(getattr(self, name).to_bytes() for name in SEGMENTS)
        tables = b"".join(_TABLE.pack(t.base, t.limit) for t in (self.gdt, self.idt))
        control = _CONTROL.pack(
            self.cr0, self.cr2, self.cr3, self.cr4, self.cr8, self.efer, self.apic_base
        )
        bitmap = 0 if self.interrupt is None else 1 << self.interrupt
        return segments + tables + control + bitmap.to_bytes(32, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> Sregs:
        """The registers that the 312 bytes of `struct kvm_sregs` describe."""
        size = _SEGMENT.size
        segments = {
            name: Segment.from_bytes(data[i * size : (i + 1) * size])
            for i, name in enumerate(SEGMENTS)
        }
        at = size * len(SEGMENTS)
        gdt = DescriptorTable(*_TABLE.unpack_from(data, at))
        idt = DescriptorTable(*_TABLE.unpack_from(data, at + _TABLE.size))
        at += 2 * _TABLE.size
        control = _CONTROL.unpack_from(data, at)
        bitmap = int.from_bytes(data[at + _CONTROL.size : at + _CONTROL.size + 32], "little")
        cr0, cr2, cr3, cr4, cr8, efer, apic_base = control
        return cls(
            cs=segments["cs"],
            ds=segments["ds"],
            es=segments["es"],
            fs=segments["fs"],
            gs=segments["gs"],
            ss=segments["ss"],
            tr=segments["tr"],
            ldt=segments["ldt"],
            gdt=gdt,
            idt=idt,
            cr0=cr0,
            cr2=cr2,
            cr3=cr3,
            cr4=cr4,
            cr8=cr8,
            efer=efer,
            apic_base=apic_base,
            interrupt=(bitmap & -bitmap).bit_length() - 1 if bitmap else None,
        )


SREGS2_FLAGS_PDPTRS_VALID: Final = 1


@dataclass(frozen=True)
class Regs:
    """`struct kvm_regs`."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 2


GENERAL_REGISTERS: Final = tuple(name for name in Regs.__dataclass_fields__ if name != "rflags")

VALID_NMI_PENDING: Final = 0x1
VALID_SIPI_VECTOR: Final = 0x2
VALID_SHADOW: Final = 0x4
VALID_SMM: Final = 0x8
VALID_PAYLOAD: Final = 0x10
VALID_TRIPLE_FAULT: Final = 0x20


@dataclass(frozen=True)
class VcpuEvents:
    """`struct kvm_vcpu_events`, its members flat."""

    exception_injected: int = 0
    exception_nr: int = 0
    exception_has_error_code: int = 0
    exception_pending: int = 0
    exception_error_code: int = 0
    interrupt_injected: int = 0
    interrupt_nr: int = 0
    interrupt_soft: int = 0
    interrupt_shadow: int = 0
    nmi_injected: int = 0
    nmi_pending: int = 0
    nmi_masked: int = 0
    sipi_vector: int = 0
    flags: int = 0
    smi_smm: int = 0
    smi_pending: int = 0
    smi_smm_inside_nmi: int = 0
    smi_latched_init: int = 0
    triple_fault_pending: int = 0
    exception_has_payload: int = 0
    exception_payload: int = 0

    def replaced(self, **members: int) -> VcpuEvents:
        """These events with some members replaced."""
        return replace(self, **members)

    def to_bytes(self) -> bytes:
        """The 64 bytes of the ABI."""
        return struct.pack(
            "<4BI4B4BII4BB26xBQ",
            self.exception_injected,
            self.exception_nr,
            self.exception_has_error_code,
            self.exception_pending,
            self.exception_error_code,
            self.interrupt_injected,
            self.interrupt_nr,
            self.interrupt_soft,
            self.interrupt_shadow,
            self.nmi_injected,
            self.nmi_pending,
            self.nmi_masked,
            0,
            self.sipi_vector,
            self.flags,
            self.smi_smm,
            self.smi_pending,
            self.smi_smm_inside_nmi,
            self.smi_latched_init,
            self.triple_fault_pending,
            self.exception_has_payload,
            self.exception_payload,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> VcpuEvents:
        """The events that the 64 bytes of the ABI describe."""
        values = struct.unpack("<4BI4B3BxII4BB26xBQ", data)
        return cls(*values)


@dataclass(frozen=True)
class DebugRegs:
    """`struct kvm_debugregs`."""

    db: tuple[int, int, int, int] = (0, 0, 0, 0)
    dr6: int = 0xFFFF_0FF0
    dr7: int = 0x400
    flags: int = 0

    def with_dr7(self, dr7: int) -> DebugRegs:
        """These registers with another DR7."""
        return self if dr7 == self.dr7 else replace(self, dr7=dr7)
