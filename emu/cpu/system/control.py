"""Control and debug registers. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iced_x86 import OpKind

from emu.cpu import debug
from emu.cpu.decode import MNEMONICS, operand_bits
from emu.cpu.errors import Fault
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.paging import (
    CR0_AM,
    CR0_CD,
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR4_CET,
    CR4_DE,
    CR4_FSGSBASE,
    CR4_LA57,
    CR4_MCE,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_OSXSAVE,
    CR4_PAE,
    CR4_PCE,
    CR4_PCIDE,
    CR4_PGE,
    CR4_PKE,
    CR4_PKS,
    CR4_PSE,
    CR4_PVI,
    CR4_SMAP,
    CR4_SMEP,
    CR4_SMXE,
    CR4_TSD,
    CR4_UMIP,
    CR4_VME,
    CR4_VMXE,
    EFER_LMA,
    EFER_LME,
    PDPTE_RESERVED,
)
from emu.cpu.registers import REGISTERS
from emu.cpu.second_level import NPT
from emu.cpu.segments import L
from emu.cpu.state import CS, NO_ERROR_CODE, Vector
from emu.cpu.system.operands import (
    get,
    get_register,
    put,
    register_number,
    require_privilege,
    set_register,
)
from emu.cpu.system.segments import check_umip, is_segment, mov_from_segment, mov_to_segment

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

CR0_WRITABLE = (
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
)
# which feature brings which bits of CR4. SDM Vol. 3, Control Registers
CR4_FEATURES = (
    ("VME", CR4_VME | CR4_PVI),
    ("TSC", CR4_TSD),
    ("DE", CR4_DE),
    ("PSE", CR4_PSE),
    ("PAE", CR4_PAE),
    ("MCE", CR4_MCE),
    ("PGE", CR4_PGE),
    ("FPU", CR4_PCE),
    ("FXSR", CR4_OSFXSR),
    ("SSE", CR4_OSXMMEXCPT),
    ("UMIP", CR4_UMIP),
    ("LA57", CR4_LA57),
    ("VMX", CR4_VMXE),
    ("SMX", CR4_SMXE),
    ("FSGSBASE", CR4_FSGSBASE),
    ("PCID", CR4_PCIDE),
    ("XSAVE", CR4_OSXSAVE),
    ("SMEP", CR4_SMEP),
    ("SMAP", CR4_SMAP),
    ("PKU", CR4_PKE),
    ("PKS", CR4_PKS),
)
PCID = 0xFFF
CR3_NO_FLUSH = 1 << 63
# a change of these bits invalidates all translations. SDM Vol. 3, Operations that Invalidate TLBs
CR4_FLUSHES = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57
CR4_FLUSHES |= CR4_PKS | CR4_CET
PAE_INPUTS = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP


def cr4_bits(cpu: Cpu) -> int:
    """The bits of CR4 that this processor has."""
    return sum(bits for name, bits in CR4_FEATURES if cpu.model.has(name))


def check_cr4(cpu: Cpu, value: int) -> None:
    """#GP(0) for what CR4 may not become. SDM Vol. 2, MOV—Move to/from Control Registers."""
    state = cpu.state
    changed = value ^ state.cr4
    if value & ~cr4_bits(cpu):
        raise Fault(Vector.GP, 0)
    if cpu.long_mode and (not value & CR4_PAE or changed & CR4_LA57):
        raise Fault(Vector.GP, 0)
    if changed & value & CR4_PCIDE and (not cpu.long_mode or state.cr3 & PCID):
        raise Fault(Vector.GP, 0)
    if value & CR4_CET and not state.cr0 & CR0_WP:
        raise Fault(Vector.GP, 0)


def write_cr0(cpu: Cpu, value: int) -> None:
    """MOV to CR0: legal combinations, entry to and exit from IA-32e mode, PDPTEs."""
    state = cpu.state
    old = int(state.cr0)
    if cpu.extension is not None:
        cpu.extension.check_cr(0, value | CR0_ET)
    if value >> 32 or (value & CR0_NW and not value & CR0_CD):
        raise Fault(Vector.GP, 0)
    if value & CR0_PG and not value & CR0_PE:
        raise Fault(Vector.GP, 0)
    if not value & CR0_PG and (state.cr4 & CR4_PCIDE or cpu.mode.bits == 64):
        raise Fault(Vector.GP, 0)
    if not value & CR0_WP and state.cr4 & CR4_CET:
        raise Fault(Vector.GP, 0)
    new = value & CR0_WRITABLE | CR0_ET
    starts_paging = new & ~old & CR0_PG
    if starts_paging and state.efer & EFER_LME:
        if not state.cr4 & CR4_PAE or state.segment_rights[CS] & L:
            raise Fault(Vector.GP, 0)
        state.efer |= EFER_LMA
    elif new & CR0_PG and state.cr4 & CR4_PAE and not state.efer & EFER_LMA:
        if (new ^ old) & (CR0_PG | CR0_CD | CR0_NW):
            load_pdptes(cpu, int(state.cr3))
    if old & ~new & CR0_PG:
        state.efer &= ~EFER_LMA
    state.cr0 = new
    if (new ^ old) & (CR0_PG | CR0_WP | CR0_PE):
        cpu.flush_tlb(cpu.tlb_context)
    cpu.refresh()


def load_pdptes(cpu: Cpu, cr3: int) -> None:
    """Load the four PDPTEs of PAE paging; #GP(0) for reserved bits. SDM Vol. 3, PAE Paging."""
    state = cpu.state
    data = cpu.read_guest(cr3 & 0xFFFFFFE0, 32)
    entries = [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(4)]
    reserved = PDPTE_RESERVED | ~int(state.physical_mask)
    # nested paging leaves the check to the walk. APM Vol. 2, Legacy PAE Mode
    if not state.second_level & NPT and any(entry & 1 and entry & reserved for entry in entries):
        raise Fault(Vector.GP, 0)
    for i, entry in enumerate(entries):
        state.pdpte[i] = entry


def write_cr3(cpu: Cpu, value: int, keep: bool) -> None:
    """MOV to CR3; `keep` lets bit 63 keep translations, which this processor drops anyway."""
    state = cpu.state
    if keep and state.cr4 & CR4_PCIDE:
        value &= ~CR3_NO_FLUSH
    if cpu.long_mode and value & ~int(state.physical_mask):
        raise Fault(Vector.GP, 0)
    if state.cr0 & CR0_PG and state.cr4 & CR4_PAE and not cpu.long_mode:
        load_pdptes(cpu, value)
    state.cr3 = value
    cpu.flush_tlb(cpu.tlb_context)


def write_cr4(cpu: Cpu, value: int) -> None:
    """MOV to CR4."""
    state = cpu.state
    check_cr4(cpu, value)
    if cpu.extension is not None:
        cpu.extension.check_cr(4, value)
    changed = value ^ int(state.cr4)
    paging = state.cr0 & CR0_PG and not cpu.long_mode
    if paging and value & CR4_PAE and changed & PAE_INPUTS:
        load_pdptes(cpu, int(state.cr3))
    state.cr4 = value
    if changed & CR4_FLUSHES:
        cpu.flush_tlb(cpu.tlb_context)
    cpu.refresh()


def mov(cpu: Cpu, insn: Any) -> None:
    """MOV of segment, control and debug registers."""
    kinds = [
        REGISTERS[insn.op_register(i)].letter if insn.op_kind(i) == OpKind.REGISTER else ""
        for i in (0, 1)
    ]
    if is_segment(insn, 0):
        mov_to_segment(cpu, insn)
    elif is_segment(insn, 1):
        mov_from_segment(cpu, insn)
    elif "C" in kinds:
        mov_control(cpu, insn, kinds[0] == "C")
    elif "D" in kinds:
        mov_debug(cpu, insn, kinds[0] == "D")
    else:
        raise Fault(Vector.UD)


def mov_control(cpu: Cpu, insn: Any, to: bool) -> None:
    """MOV to and from CR0, CR2, CR3, CR4, CR8."""
    number = register_number(insn, 0 if to else 1)
    general = register_number(insn, 1 if to else 0)
    size = 64 if cpu.mode.bits == 64 else 32
    if number not in (0, 2, 3, 4, 8):
        raise Fault(Vector.UD)
    require_privilege(cpu)
    state = cpu.state
    if not to:
        value = (
            cpu.environment.task_priority() if number == 8 else int(getattr(state, f"cr{number}"))
        )
        if cpu.guest is not None:
            value = cpu.guest.read_cr(number, value, insn)
        set_register(cpu, general, size, value)
        return
    written: int | None = get_register(cpu, general, size)
    if cpu.guest is not None and written is not None:
        written = cpu.guest.write_cr(number, written, insn)
    if written is not None:
        load_control(cpu, number, written)


def load_control(cpu: Cpu, number: int, value: int) -> None:
    """Write CR0, CR2, CR3, CR4 or CR8."""
    if number == 0:
        write_cr0(cpu, value)
    elif number == 2:
        cpu.state.cr2 = value
    elif number == 3:
        write_cr3(cpu, value, keep=True)
    elif number == 4:
        write_cr4(cpu, value)
    else:
        if value & ~15:
            raise Fault(Vector.GP, 0)
        if cpu.guest is None or not cpu.guest.write_task_priority(value):
            cpu.environment.set_task_priority(value)


def mov_debug(cpu: Cpu, insn: Any, to: bool) -> None:
    """MOV to and from DR0 to DR3, DR6 and DR7; DR4 and DR5 stand for DR6 and DR7 without CR4.DE."""
    coded = number = register_number(insn, 0 if to else 1)
    general = register_number(insn, 1 if to else 0)
    size = 64 if cpu.mode.bits == 64 else 32
    state = cpu.state
    if number in (4, 5):
        if state.cr4 & CR4_DE:
            raise Fault(Vector.UD)
        number += 2
    require_privilege(cpu)
    if state.dr[7] & debug.DR7_GD:
        raise Fault(Vector.DB, NO_ERROR_CODE, debug.ACCESS_DETECTED)
    ask(cpu, Intercept.DR_WRITE if to else Intercept.DR_READ, insn, coded)
    if not to:
        set_register(cpu, general, size, int(state.dr[number]))
        return
    value = get_register(cpu, general, size)
    if number in (6, 7):
        if value >> 32:
            raise Fault(Vector.GP, 0)
        if number == 6:
            value = value & debug.DR6_KNOWN | debug.DR6_ONES
        else:
            value = value & debug.DR7_KNOWN | debug.DR7_ONES
    state.dr[number] = value
    if number == 7:
        cpu.refresh()


def clts(cpu: Cpu, insn: Any) -> None:
    """CLTS: CR0.TS := 0."""
    require_privilege(cpu)
    state = cpu.state
    value: int | None = int(state.cr0) & ~CR0_TS
    if cpu.guest is not None and value is not None:
        value = cpu.guest.write_cr(0, value, insn)
    state.cr0 = value
    cpu.refresh()


def smsw(cpu: Cpu, insn: Any) -> None:
    """SMSW: CR0 to a register, its low word to memory."""
    check_umip(cpu)
    value = int(cpu.state.cr0)
    if cpu.guest is not None:
        value = cpu.guest.read_cr(0, value, insn)
    if insn.op_kind(0) == OpKind.REGISTER:
        set_register(cpu, register_number(insn, 0), operand_bits(insn, 0), value)
    else:
        put(cpu, insn, 0, value, 16)


def lmsw(cpu: Cpu, insn: Any) -> None:
    """LMSW: PE, MP, EM and TS; PE can be set but not cleared."""
    require_privilege(cpu)
    state = cpu.state
    value: int | None = int(state.cr0) & ~14 | get(cpu, insn, 0, 16) & 15
    if cpu.guest is not None and value is not None:
        value = cpu.guest.write_cr(0, value, insn)
    if value is not None:
        write_cr0(cpu, value)


def xgetbv(cpu: Cpu, insn: Any) -> None:
    """XGETBV: XCR0, and with ECX 1 the components in use."""
    state = cpu.state
    if not state.cr4 & CR4_OSXSAVE:
        raise Fault(Vector.UD)
    number = state.rcx & 0xFFFFFFFF
    if number == 1 and cpu.model.has("XGETBV1"):
        from emu.cpu.system.xsave import in_use  # noqa: PLC0415

        value = in_use(cpu) & int(state.xcr0)
    elif number == 0:
        value = int(state.xcr0)
    else:
        raise Fault(Vector.GP, 0)
    state.rax, state.rdx = value & 0xFFFFFFFF, value >> 32


def xsetbv(cpu: Cpu, insn: Any) -> None:
    """XSETBV: XCR0; x87 stays on, AVX needs SSE."""
    state = cpu.state
    if not state.cr4 & CR4_OSXSAVE:
        raise Fault(Vector.UD)
    require_privilege(cpu)
    ask(cpu, Intercept.XSETBV, insn)
    value = int(state.rdx & 0xFFFFFFFF) << 32 | int(state.rax & 0xFFFFFFFF)
    if state.rcx & 0xFFFFFFFF or value & ~cpu.model.xcr0 or not value & 1 or value & 6 == 4:
        raise Fault(Vector.GP, 0)
    if value & 0xE0 and value & 0xE6 != 0xE6:
        raise Fault(Vector.GP, 0)
    state.xcr0 = value
    cpu.refresh()


def protection_keys(cpu: Cpu, insn: Any) -> None:
    """RDPKRU, WRPKRU."""
    state = cpu.state
    if not state.cr4 & CR4_PKE:
        raise Fault(Vector.UD)
    if state.rcx & 0xFFFFFFFF:
        raise Fault(Vector.GP, 0)
    if MNEMONICS[insn.mnemonic] == "RDPKRU":
        state.rax, state.rdx = state.pkru, 0
        return
    if state.rdx & 0xFFFFFFFF:
        raise Fault(Vector.GP, 0)
    state.pkru = state.rax & 0xFFFFFFFF
    cpu.flush_tlb(cpu.tlb_context)


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "MOV": mov,
    "CLTS": clts,
    "SMSW": smsw,
    "LMSW": lmsw,
    "XGETBV": xgetbv,
    "XSETBV": xsetbv,
    "RDPKRU": protection_keys,
    "WRPKRU": protection_keys,
}
