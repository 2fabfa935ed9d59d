"""RDMSR and WRMSR. SDM Vol. 2, RDMSR; WRMSR; Vol. 4, Model-Specific Registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu import branch_records
from emu.cpu.errors import Fault
from emu.cpu.models.model import AMD, INTEL
from emu.cpu.paging import CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, EFER_SVME
from emu.cpu.state import FS, GS, Vector
from emu.cpu.system.msr_table import BY_INDEX, MASK32, X2APIC, Msr
from emu.cpu.system.operands import WORD, is_base, require_privilege

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

TSC, TSC_ADJUST, XSS = 0x10, 0x3B, 0xDA0
EFER_LMSLE, EFER_FFXSR = 1 << 13, 1 << 14
# memory types that PAT and the MTRRs know. SDM Vol. 3, Memory Cache Control
MTRR_TYPES, PAT_TYPES = frozenset((0, 1, 4, 5, 6)), frozenset((0, 1, 4, 5, 6, 7))


class Refused(Exception):  # noqa: N818 - the access gives #GP(0)
    """An access to an MSR that the processor refuses."""


def row_of(cpu: Cpu, index: int) -> Msr:
    """The row of an MSR that this processor has."""
    row = BY_INDEX.get(index)
    if row is None:
        raise Refused
    if row.feature in ("intel", "amd"):
        if cpu.model.vendor != {"intel": INTEL, "amd": AMD}[row.feature]:
            raise Refused
    elif row.feature and not cpu.model.has(row.feature):
        raise Refused
    return row


def tsc(cpu: Cpu) -> int:
    """The time-stamp counter."""
    return cpu.environment.ticks() + int(cpu.state.tsc_offset) & WORD


def guest_tsc(cpu: Cpu) -> int:
    """The time-stamp counter as software sees it: guest mode may offset and scale it."""
    value = tsc(cpu)
    return value if cpu.guest is None else cpu.guest.tsc(value) & WORD


def read_msr(cpu: Cpu, index: int) -> int:
    """The value of an MSR; raises Refused."""
    if cpu.extension is not None:
        found = cpu.extension.read_msr(index)
        if found is not None:
            return found
    if index in X2APIC:
        value = cpu.environment.read_apic_msr(index)
        if value is None:
            raise Refused
        return value
    try:
        row = row_of(cpu, index)
    except Refused:
        if index in cpu.model.msrs:
            return cpu.model.msrs[index]
        raise
    if row.rule == "apic":
        value = cpu.environment.read_apic_msr(index)
        if value is None:
            raise Refused
        if row.name == "IA32_TSC_DEADLINE" and value:
            value = value + int(cpu.state.tsc_offset) & WORD
        return value
    if row.rule == "tsc":
        return tsc(cpu)
    if row.rule == "command":
        if row.name == "IA32_PRED_CMD":
            raise Refused
        return 0
    if row.rule in ("fs", "gs"):
        return int(cpu.state.segment_base[FS if row.rule == "fs" else GS])
    if row.field:
        return int(getattr(cpu.state, row.field))
    return cpu.msrs.get(index, row.reset)


def write_msr(cpu: Cpu, index: int, value: int) -> None:
    """Write an MSR; raises Refused."""
    if cpu.extension is not None and cpu.extension.write_msr(index, value):
        return
    if index in X2APIC:
        if not cpu.environment.write_apic_msr(index, value):
            raise Refused
        return
    row = row_of(cpu, index)
    if row.rule in ("ignored", "command"):
        if row.rule == "ignored" and index in cpu.model.msrs and row.name != "IA32_BIOS_SIGN_ID":
            cpu.msrs[index] = value
        return
    if not row.writable or value & ~row.writable:
        raise Refused
    if row.name == "IA32_TSC_DEADLINE" and value:
        value = value - int(cpu.state.tsc_offset) & WORD or 1
    if row.rule in RULES:
        RULES[row.rule](cpu, row, value)
    else:
        keep(cpu, row, value)


def keep(cpu: Cpu, row: Msr, value: int) -> None:
    """Store the value of an MSR."""
    if row.field:
        setattr(cpu.state, row.field, value)
    else:
        cpu.msrs[row.address] = value


def canonical(cpu: Cpu, row: Msr, value: int) -> None:
    """A linear address, canonical."""
    if not is_base(cpu, value):
        raise Refused
    keep(cpu, row, value)


def write_tsc(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_TIME_STAMP_COUNTER: IA32_TSC_ADJUST moves along."""
    delta = value - tsc(cpu)
    cpu.state.tsc_offset = int(cpu.state.tsc_offset) + delta & WORD
    if cpu.model.has("TSC_ADJUST"):
        cpu.msrs[TSC_ADJUST] = cpu.msrs.get(TSC_ADJUST, 0) + delta & WORD


def write_tsc_adjust(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_TSC_ADJUST: the TSC moves along."""
    delta = value - cpu.msrs.get(row.address, 0)
    cpu.state.tsc_offset = int(cpu.state.tsc_offset) + delta & WORD
    cpu.msrs[row.address] = value


def write_apic(cpu: Cpu, row: Msr, value: int) -> None:
    """An MSR of the local APIC."""
    if not cpu.environment.write_apic_msr(row.address, value):
        raise Refused


def write_locked(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_FEATURE_CONTROL: once locked it stays as it is."""
    if cpu.msrs.get(row.address, row.reset) & 1:
        raise Refused
    cpu.msrs[row.address] = value


def write_types(cpu: Cpu, row: Msr, value: int) -> None:
    """Eight memory types, as PAT or the fixed-range MTRRs have them."""
    known = PAT_TYPES if row.rule == "pat" else MTRR_TYPES
    if any(byte not in known for byte in value.to_bytes(8, "little")):
        raise Refused
    cpu.msrs[row.address] = value


def write_type(cpu: Cpu, row: Msr, value: int) -> None:
    """A memory type in the low byte, an address in whole pages above."""
    if value & 0xFF not in MTRR_TYPES:
        raise Refused
    if row.rule == "base" and value & (~int(cpu.state.physical_mask) | 0xF00):
        raise Refused
    cpu.msrs[row.address] = value


def write_mask(cpu: Cpu, row: Msr, value: int) -> None:
    """A physical mask of an MTRR, with its valid bit."""
    if value & (~int(cpu.state.physical_mask) | 0x7FF):
        raise Refused
    cpu.msrs[row.address] = value


def write_page(cpu: Cpu, row: Msr, value: int) -> None:
    """The physical address of a page."""
    if value & (~int(cpu.state.physical_mask) | 0xFFF):
        raise Refused
    cpu.msrs[row.address] = value


def write_bank(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_MCi_CTL: all ones or zero. SDM Vol. 3, IA32_MCi_CTL MSRs."""
    if value not in (0, WORD):
        raise Refused
    cpu.msrs[row.address] = value


def write_zero(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_MCi_STATUS: only zero can be written. SDM Vol. 3, IA32_MCi_STATUS MSRs."""
    if value:
        raise Refused
    cpu.msrs[row.address] = value


def write_segment_base(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_FS_BASE, IA32_GS_BASE."""
    if not is_base(cpu, value):
        raise Refused
    cpu.state.segment_base[FS if row.rule == "fs" else GS] = value
    cpu.refresh()


EFER_FEATURES = (
    ("SYSCALL", EFER_SCE),
    ("LM", EFER_LME | EFER_LMA),
    ("NX", EFER_NXE),
    ("SVM", EFER_SVME),
    ("FFXSR", EFER_FFXSR),
)


def efer_bits(cpu: Cpu) -> int:
    """The bits of IA32_EFER that this processor has."""
    return sum(bits for name, bits in EFER_FEATURES if cpu.model.has(name))


def write_efer(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_EFER: LME cannot change while paging is on; LMA is the processor's."""
    state = cpu.state
    if value & ~(efer_bits(cpu) | EFER_LMA):
        raise Refused
    if (value ^ state.efer) & EFER_LME and state.cr0 & CR0_PG:
        raise Refused
    old = int(state.efer)
    state.efer = value & ~EFER_LMA | old & EFER_LMA
    if (value ^ old) & EFER_NXE:
        cpu.flush_tlb(cpu.tlb_context)
    cpu.refresh()


def write_debugctl(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_DEBUGCTL: branches are recorded from now on, or no more."""
    cpu.msrs[row.address] = value
    branch_records.follow(cpu)


def write_xss(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_XSS."""
    if value & ~cpu.model.xss:
        raise Refused
    cpu.msrs[row.address] = value


def write_and_flush(cpu: Cpu, row: Msr, value: int) -> None:
    """IA32_PKRS: cached rights of translations are no longer right."""
    keep(cpu, row, value)
    cpu.flush_tlb(cpu.tlb_context)


RULES: dict[str, Callable[[Cpu, Msr, int], None]] = {
    "canonical": canonical,
    "tsc": write_tsc,
    "tsc_adjust": write_tsc_adjust,
    "apic": write_apic,
    "lock": write_locked,
    "pat": write_types,
    "types": write_types,
    "type": write_type,
    "base": write_type,
    "mask": write_mask,
    "page": write_page,
    "bank": write_bank,
    "zero": write_zero,
    "fs": write_segment_base,
    "gs": write_segment_base,
    "efer": write_efer,
    "debugctl": write_debugctl,
    "xss": write_xss,
    "flush": write_and_flush,
}


def rdmsr(cpu: Cpu, insn: Any) -> None:
    """RDMSR: EDX:EAX := MSR[ECX]."""
    require_privilege(cpu)
    state = cpu.state
    index = int(state.rcx) & MASK32
    try:
        value = None if cpu.guest is None else cpu.guest.read_msr(index)
        if value is None:
            value = guest_tsc(cpu) if index == TSC else read_msr(cpu, index)
    except Refused:
        raise Fault(Vector.GP, 0) from None
    state.rax, state.rdx = value & MASK32, value >> 32


def wrmsr(cpu: Cpu, insn: Any) -> None:
    """WRMSR: MSR[ECX] := EDX:EAX."""
    require_privilege(cpu)
    state = cpu.state
    index = int(state.rcx) & MASK32
    value = (int(state.rdx) & MASK32) << 32 | int(state.rax) & MASK32
    try:
        if cpu.guest is None or not cpu.guest.write_msr(index, value):
            write_msr(cpu, index, value)
    except Refused:
        raise Fault(Vector.GP, 0) from None


TABLE: dict[str, Callable[[Cpu, Any], None]] = {"RDMSR": rdmsr, "WRMSR": wrmsr}
