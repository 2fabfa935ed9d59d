"""System-management mode: entry by SMI, and RSM. SDM Vol. 3, System Management Mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from emu.cpu import debug
from emu.cpu.errors import Fault, TripleFault
from emu.cpu.flags import RESERVED_ONE, VM
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.models.model import AMD, INTEL
from emu.cpu.paging import (
    CR0_CD,
    CR0_EM,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
)
from emu.cpu.segments import DB, PRESENT, UNUSABLE, G, L, S, dpl
from emu.cpu.smm import (
    AMD_64,
    AMD_REVISION,
    ENTRY_POINT,
    INTEL_64,
    INTEL_REVISION,
    IoAccess,
    Slot,
)
from emu.cpu.state import CS, DS, ES, FS, GS, SS, TR, Vector
from emu.cpu.system.control import cr4_bits, load_pdptes
from emu.cpu.system.msrs import efer_bits

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

SEGMENTS = (ES, CS, SS, DS, FS, GS)
FLAT_DATA = G | PRESENT | S | 3
WHOLE = 0xFFFFFFFF
Words = dict[tuple[str, int], int]
# SDM Vol. 3, I/O State Implementation: I/O type by (reads, string, repeats, immediate)
IO_TYPES: Final = {
    (False, False, False, False): 0,
    (True, False, False, False): 1,
    (False, True, False, False): 2,
    (True, True, False, False): 3,
    (False, True, True, False): 6,
    (True, True, True, False): 7,
    (False, False, False, True): 8,
    (True, False, False, True): 9,
}


def save_map(cpu: Cpu) -> tuple[Slot, ...]:
    """The layout of the state-save area of this processor."""
    return AMD_64 if cpu.model.vendor == AMD else INTEL_64


# entry


def saved_words(cpu: Cpu) -> dict[str, int]:
    """The words of the save area that are no field of the processor's state."""
    access = cpu.smm.io
    words = {
        "rflags": cpu.rflags,
        "revision": AMD_REVISION if cpu.model.vendor == AMD else INTEL_REVISION,
        "smbase": cpu.smm.base,
        "halt_restart": int(cpu.halted),
        "io_restart": 0,
    }
    for name in ("io_misc", "io_trap", "io_linear", "io_rip", "io_rcx", "io_rsi", "io_rdi"):
        words[name] = 0
    if access is not None:
        words |= {
            "io_misc": io_misc(access),
            "io_trap": io_trap(access),
            "io_linear": access.linear,
            "io_rip": access.rip,
            "io_rcx": access.rcx,
            "io_rsi": access.rsi,
            "io_rdi": access.rdi,
        }
    return words


def io_misc(access: IoAccess) -> int:
    """The I/O state field of Intel's map. SDM Vol. 3, I/O State Implementation."""
    kind = (access.reads, access.string, access.repeats, access.immediate)
    return access.port << 16 | IO_TYPES[kind] << 4 | access.size << 1 | 1


def io_trap(access: IoAccess) -> int:
    """The I/O trap field of AMD's map. APM Vol. 2, SMM I/O Trap Offset."""
    flags = access.reads | 1 << 1 | access.string << 2 | access.repeats << 3
    return access.port << 16 | access.size << 4 | flags


def enter(cpu: Cpu) -> None:
    """Take an SMI: save the state, begin at SMBASE + 8000H. SDM Vol. 3, Entering SMM."""
    state, smm = cpu.state, cpu.smm
    words = saved_words(cpu)
    smm.pending, smm.active = False, True
    cpu.environment.smm(True)
    for slot in save_map(cpu):
        value = words.get(slot.word)
        if value is None:
            value = field_of(cpu, slot)
        part = value >> slot.shift & (1 << 8 * slot.size) - 1
        cpu.memory.write(smm.base + slot.offset, part.to_bytes(slot.size, "little"))
    smm.io = None
    set_guest_aside(cpu)
    smm.nmi_blocked, cpu.nmi_blocked = cpu.nmi_blocked, True
    cpu.halted = False
    state.cr0 &= ~(CR0_PE | CR0_EM | CR0_TS | CR0_PG)
    state.cr4 = state.efer = 0
    state.dr[7] = debug.DR7_ONES
    state.cpl = 0
    cpu.rflags = RESERVED_ONE
    for seg in SEGMENTS:
        state.selector[seg] = state.segment_base[seg] = 0
        state.segment_limit[seg] = WHOLE
        state.segment_rights[seg] = FLAT_DATA
    state.selector[CS] = smm.base >> 4 & 0xFFFF
    state.segment_base[CS] = smm.base
    state.rip = cpu.next_rip = ENTRY_POINT
    changed_view(cpu)


def set_guest_aside(cpu: Cpu) -> None:
    """Guest mode goes on after RSM. SDM Vol. 3, Default Treatment of SMIs and SMM with VMX."""
    if cpu.guest is not None:
        state = cpu.state
        cpu.smm.interrupted = cpu.guest, cpu.space, cpu.tlb_context, int(state.second_level)
        cpu.guest, cpu.space, cpu.tlb_context, state.second_level = None, 0, 0, 0


def field_of(cpu: Cpu, slot: Slot) -> int:
    """What goes into the save area for a field of the processor's state."""
    if slot.word == "attributes":
        rights = cpu.state.segment_rights[slot.element]
        return 0 if rights & UNUSABLE else int(rights & 0xFF | rights >> 4 & 0xF00)
    value = getattr(cpu.state, slot.word)
    return int(value if slot.element < 0 else value[slot.element])


def changed_view(cpu: Cpu) -> None:
    """Another address space: no translation holds any more."""
    cpu.flush_tlb(cpu.tlb_context)
    cpu.flush_jumps()
    cpu.refresh()
    cpu.update_pending()


# RSM


class RsmCheck(NamedTuple):
    """What RSM refuses to restore: `broken` tells of the saved words; the result is shutdown."""

    name: str
    vendors: tuple[str, ...]
    broken: Callable[[Cpu, Words], int]


BOTH, SDM_RSM, APM_RSM = (INTEL, AMD), "SDM Vol. 2, RSM", "APM Vol. 2, Leaving SMM"


def paged_long_mode(words: Words) -> bool:
    """Whether the saved state is that of IA-32e mode."""
    return bool(words["cr0", -1] & CR0_PG and words["efer", -1] & EFER_LME)


def code_attributes(words: Words, bits: int) -> bool:
    """Whether all of `bits` of the rights are set in the saved CS of AMD's map."""
    return words["segment_rights", CS] & bits == bits


RSM_CHECKS: Final = (
    # the first four: SDM Vol. 2, RSM, Description; all: APM Vol. 2, Leaving SMM
    RsmCheck("cr0_pg_without_pe", BOTH, lambda _, w: w["cr0", -1] & (CR0_PG | CR0_PE) == CR0_PG),
    RsmCheck("cr0_nw_without_cd", BOTH, lambda _, w: w["cr0", -1] & (CR0_NW | CR0_CD) == CR0_NW),
    RsmCheck("cr4_reserved", BOTH, lambda cpu, w: w["cr4", -1] & ~cr4_bits(cpu)),
    RsmCheck(
        "long_mode_without_pae",
        BOTH,
        lambda _, w: paged_long_mode(w) and not w["cr4", -1] & CR4_PAE,
    ),
    RsmCheck("cr0_reserved", (AMD,), lambda _, w: w["cr0", -1] >> 32),
    RsmCheck("cr3_reserved", (AMD,), lambda cpu, w: w["cr3", -1] & ~int(cpu.state.physical_mask)),
    RsmCheck("dr6_reserved", (AMD,), lambda _, w: w["dr", 6] >> 32),
    RsmCheck("dr7_reserved", (AMD,), lambda _, w: w["dr", 7] >> 32),
    RsmCheck("efer_reserved", (AMD,), lambda cpu, w: w["efer", -1] & ~(efer_bits(cpu))),
    RsmCheck(
        "cs_l_and_d_in_long_mode",
        (AMD,),
        lambda _, w: paged_long_mode(w) and code_attributes(w, L | DB),
    ),
)


def restored_words(cpu: Cpu) -> Words:
    """The words of the save area, AMD's attributes as access rights."""
    words: Words = {}
    for slot in save_map(cpu):
        data = cpu.memory.read(cpu.smm.base + slot.offset, slot.size)
        value = int.from_bytes(data, "little") << slot.shift
        key = slot.word, slot.element
        if slot.word == "attributes":
            key = "segment_rights", slot.element
            value = value & 0xFF | (value & 0xF00) << 4
            if not value & PRESENT and slot.element not in (CS, TR):
                value |= UNUSABLE
        words[key] = words.get(key, 0) | value
    return words


def rsm(cpu: Cpu, insn: Any) -> None:
    """RSM: back to the interrupted program; #UD outside SMM, shutdown for an invalid state.

    A guest's intercept comes before #UD. APM Vol. 2, Miscellaneous Intercepts.
    """
    ask(cpu, Intercept.RSM, insn)
    if not cpu.smm.active:
        raise Fault(Vector.UD)
    words = restored_words(cpu)
    vendor = cpu.model.vendor
    if any(row.broken(cpu, words) for row in RSM_CHECKS if vendor in row.vendors):
        raise TripleFault
    restore(cpu, words)
    smm = cpu.smm
    smm.base = words["smbase", -1]
    smm.active = False
    cpu.nmi_blocked = smm.nmi_blocked
    cpu.environment.smm(False)
    if smm.interrupted is not None:
        cpu.guest, cpu.space, cpu.tlb_context, cpu.state.second_level = smm.interrupted
        smm.interrupted = None
    changed_view(cpu)
    cpu.untraced = True
    cpu.halted = bool(words["halt_restart", -1] & 1)
    if words["io_restart", -1] & 0xFF == 0xFF and words["io_rip", -1]:
        restart_io(cpu, words)


def restore(cpu: Cpu, words: Words) -> None:
    """Load the processor's state from the save area; LMA follows from LME and PG."""
    state = cpu.state
    for (name, index), value in words.items():
        if name in ("rflags", "efer", "rip") or not hasattr(state, name):
            continue
        if index < 0:
            setattr(state, name, value)
        else:
            getattr(state, name)[index] = value & 0xFFFF if name == "selector" else value
    efer = words["efer", -1] & efer_bits(cpu) & ~EFER_LMA
    state.efer = efer | (EFER_LMA if paged_long_mode(words) else 0)
    state.dr[6] = state.dr[6] & debug.DR6_KNOWN | debug.DR6_ONES
    state.dr[7] = state.dr[7] & debug.DR7_KNOWN | debug.DR7_ONES
    cpu.rflags = words["rflags", -1]
    cpu.next_rip = words["rip", -1]
    protected = state.cr0 & CR0_PE
    state.cpl = 3 if state.rflags & VM else dpl(state.segment_rights[SS]) if protected else 0
    if protected and state.cr0 & CR0_PG and state.cr4 & CR4_PAE and not state.efer & EFER_LMA:
        try:
            load_pdptes(cpu, int(state.cr3))
        except Fault:
            raise TripleFault from None


def restart_io(cpu: Cpu, words: Words) -> None:
    """I/O instruction restart: the I/O instruction runs again. SDM Vol. 3, I/O Instruction Restart.

    RCX, RSI and RDI of a string instruction are those before the interrupted iteration.
    """
    cpu.next_rip = words["io_rip", -1]
    string = words.get(("io_trap", -1), 0) & 1 << 2 or words.get(("io_misc", -1), 0) & 1 << 5
    if string:
        for name in ("rcx", "rsi", "rdi"):
            setattr(cpu.state, name, words[f"io_{name}", -1])


TABLE: dict[str, Callable[[Cpu, Any], None]] = {"RSM": rsm}
