"""What compiled code reads of the mode, derived from control registers, segments and RFLAGS."""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import WORD, outlined, restricted
from emu.cpu.flags import AC, VM
from emu.cpu.paging import (
    CR0_AM,
    CR0_EM,
    CR0_NE,
    CR0_PE,
    CR0_TS,
    CR4_OSFXSR,
    CR4_OSXSAVE,
    EFER_LMA,
)
from emu.cpu.segments import (
    CODE_SEGMENT,
    DB,
    EXPAND_DOWN,
    PRESENT,
    READABLE,
    UNUSABLE,
    WRITABLE,
    L,
)
from emu.cpu.state import (
    CPU,
    CS,
    DTLB_SIZE,
    FETCH_ENTRY,
    FS,
    GS,
    ITLB_SIZE,
    JUMP_ENTRIES,
    JUMP_ENTRY,
    SS,
    STRICT,
    SUPERVISOR,
    SUPERVISOR_AC,
    TLB_ENTRY,
    USER,
)

DTLB_AREA, ITLB_AREA = CPU.places["dtlb_area"].offset, CPU.places["itlb_area"].offset
FSW_ES = 1 << 7
XCR0_VECTORS = 0xE4  # YMM, opmask, ZMM
# the mode as one word: the code size, whether CPL is 3, virtual-8086 mode, `enabled_vectors`
MODE_BITS, MODE_USER, MODE_VM86, MODE_VECTORS = 0x7F, 1 << 7, 1 << 8, 16


@restricted
def derive_flat(cpu: Any, seg: int) -> None:
    """A segment in 64-bit mode: nothing is checked, and only FS and GS have a base."""
    cpu.linear_base[seg] = cpu.segment_base[seg] if seg in (FS, GS) else 0
    cpu.segment_low[seg] = 0
    cpu.read_end[seg] = WORD
    cpu.write_end[seg] = WORD


@restricted
def derive_segment(cpu: Any, seg: int, protected: int) -> None:
    """Base, bounds and access of a segment elsewhere. SDM Vol. 3, Limit Checking; Type Checking."""
    rights = cpu.segment_rights[seg]
    low = 0
    end = cpu.segment_limit[seg] + 1
    code = rights & CODE_SEGMENT
    if code == 0 and rights & EXPAND_DOWN:
        low = end
        end = 1 << 16
        if rights & DB:
            end = 1 << 32
    read_end = end
    write_end = end
    if protected and code and rights & READABLE == 0:
        read_end = 0
    if protected and (code or rights & WRITABLE == 0):
        write_end = 0
    if rights & UNUSABLE or rights & PRESENT == 0:
        low = 0
        read_end = 0
        write_end = 0
    cpu.linear_base[seg] = cpu.segment_base[seg]
    cpu.segment_low[seg] = low
    cpu.read_end[seg] = read_end
    cpu.write_end[seg] = write_end


@restricted
def derive_segments(cpu: Any, bits: int) -> None:
    """All six segments."""
    if bits == 64:
        for seg in range(6):
            derive_flat(cpu, seg)
    else:
        protected = 0
        if cpu.cr0 & CR0_PE and cpu.rflags & VM == 0:
            protected = 1
        for seg in range(6):
            derive_segment(cpu, seg, protected)


@restricted
def derive_masks(cpu: Any, bits: int) -> None:
    """How wide RIP, linear addresses and the stack pointer are."""
    cpu.ip_mask = WORD
    cpu.linear_mask = WORD
    cpu.stack_mask = WORD
    if bits != 64:
        cpu.ip_mask = 0xFFFFFFFF
        cpu.linear_mask = 0xFFFFFFFF
        cpu.stack_mask = 0xFFFFFFFF
        if cpu.segment_rights[SS] & DB == 0:
            cpu.stack_mask = 0xFFFF
    # with a limit above that of real mode EIP counts in full
    if bits == 16 and cpu.segment_limit[CS] <= 0xFFFF:
        cpu.ip_mask = 0xFFFF


@restricted
def enabled_vectors(cpu: Any) -> int:
    """Bits for what CR0, CR4 and XCR0 let run: x87, SSE, AVX, AVX-512; see `vectors`."""
    enabled = 1
    if cpu.cr0 & (CR0_EM | CR0_TS):
        enabled = 0
    elif cpu.cr4 & CR4_OSFXSR:
        enabled = 3
    if cpu.cr4 & CR4_OSXSAVE and cpu.cr0 & CR0_TS == 0:
        if cpu.cr0 & CR0_PE and cpu.rflags & VM == 0:
            enabled |= cpu.xcr0 & XCR0_VECTORS
    # an MMX instruction reports the pending exception
    if cpu.fsw & FSW_ES and cpu.cr0 & CR0_NE:
        enabled &= WORD ^ 1
    return enabled


@restricted
def select_tlb(cpu: Any, context: int) -> None:
    """Point to the translations of a context and of this kind of access."""
    base = cpu.address + DTLB_AREA + context * (4 * DTLB_SIZE)
    for number in range(4):
        cpu.dtlb_kinds[number] = base + number * DTLB_SIZE
    fetch = cpu.address + ITLB_AREA + context * (2 * ITLB_SIZE)
    kind = SUPERVISOR
    if cpu.rflags & AC:
        kind = SUPERVISOR_AC
    if cpu.cpl == 3:
        kind = USER
        fetch += ITLB_SIZE
        if cpu.cr0 & CR0_AM and cpu.rflags & AC:
            kind = STRICT
    if cpu.dr[7] & 0xFF:
        kind = STRICT
    cpu.dtlb = base + kind * DTLB_SIZE
    cpu.itlb = fetch


@outlined
def derive(cpu: Any, context: int) -> int:
    """Derive it all for a context of the translation caches; the mode as one word."""
    rights = cpu.segment_rights[CS]
    bits = 16
    if rights & DB:
        bits = 32
    if cpu.efer & EFER_LMA and rights & L:
        bits = 64
    derive_masks(cpu, bits)
    derive_segments(cpu, bits)
    select_tlb(cpu, context)
    mode = bits | enabled_vectors(cpu) << MODE_VECTORS
    if cpu.cpl == 3:
        mode |= MODE_USER
    if cpu.rflags & VM:
        mode |= MODE_VM86
    return mode


@outlined
def forget_translations(cpu: Any, context: int) -> int:
    """Forget the translations of a context: odd tags match no address."""
    at = cpu.address + DTLB_AREA + context * (4 * DTLB_SIZE)
    end = at + 4 * DTLB_SIZE
    while at < end:
        entry = TLB_ENTRY(at)
        entry.read_tag = 1
        entry.write_tag = 1
        at += 32
    at = cpu.address + ITLB_AREA + context * (2 * ITLB_SIZE)
    end = at + 2 * ITLB_SIZE
    while at < end:
        fetch = FETCH_ENTRY(at)
        fetch.tag = 1
        at += 16
    return 0


@outlined
def forget_jumps(cpu: Any) -> int:
    """Forget which RIPs lead to which blocks."""
    at = cpu.jump_cache
    end = at + JUMP_ENTRIES * 32
    while at < end:
        entry = JUMP_ENTRY(at)
        entry.key = WORD
        at += 32
    return 0


CALLED: tuple[Any, ...] = (derive, forget_translations, forget_jumps)
"""What only plain Python calls."""
