"""Linear to guest-physical addresses: the four paging modes. SDM Vol. 3, Paging."""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import (
    WORD,
    outlined,
    raw_load32,
    raw_load64,
    raw_store32,
    raw_store64,
    restricted,
)
from emu.cpu.flags import AC
from emu.cpu.physmap import PAGE, host_of, mark_dirty
from emu.cpu.second_level import IN_WALK, guest_page, physical_of
from emu.cpu.state import NO_ERROR_CODE, Exit, Vector

# CR0, CR4 and EFER bits. SDM Vol. 3, Control Registers
CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET, CR0_NE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
CR0_WP, CR0_AM, CR0_NW, CR0_CD, CR0_PG = 1 << 16, 1 << 18, 1 << 29, 1 << 30, 1 << 31
CR4_VME, CR4_PVI, CR4_TSD, CR4_DE, CR4_PSE, CR4_PAE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
CR4_MCE, CR4_PGE, CR4_PCE, CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10
CR4_UMIP, CR4_LA57, CR4_VMXE, CR4_SMXE = 1 << 11, 1 << 12, 1 << 13, 1 << 14
CR4_FSGSBASE, CR4_PCIDE, CR4_OSXSAVE, CR4_SMEP = 1 << 16, 1 << 17, 1 << 18, 1 << 20
CR4_SMAP, CR4_PKE, CR4_CET, CR4_PKS = 1 << 21, 1 << 22, 1 << 23, 1 << 24
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE, EFER_SVME = 1, 1 << 8, 1 << 10, 1 << 11, 1 << 12

# paging-structure entries
P, RW, US, A, D, PS = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7
NX = 1 << 63
PDPTE_RESERVED = 0x1E6  # and the bits above MAXPHYADDR

# what is asked of a translation, and the page-fault error code: the same bits
WRITE, USER_ACCESS, FETCH = 2, 4, 16
IMPLICIT = 1 << 8  # a supervisor access whatever CPL is: descriptor tables, the stack of an event
PROTECTION, RESERVED, PROTECTION_KEY = 1, 8, 32

NO_PAGE = WORD  # what walk returns when it faulted
WRITE_READY = 2  # in walk's result: writes need no further walk

ENTRY_ADDRESS = 0x000F_FFFF_FFFF_F000


@restricted
def page_fault(cpu: Any, linear: int, error: int) -> int:
    """Leave a page fault to be delivered; the value is that of a failed walk."""
    cpu.exit_code = Exit.EXCEPTION
    cpu.exit_vector = Vector.PF
    cpu.exit_error = error
    cpu.exit_address = linear
    return NO_PAGE


@restricted
def error_code(cpu: Any, access: int, cause: int) -> int:
    """The page-fault error code for an access. SDM Vol. 3, Page-Fault Exceptions."""
    error = cause | access & (WRITE | USER_ACCESS)
    if access & FETCH:
        no_execute = cpu.cr4 & CR4_PAE and cpu.efer & EFER_NXE
        if no_execute or cpu.cr4 & CR4_SMEP:
            error |= FETCH
    return error


@restricted
def key_rights(cpu: Any, entry: int, user_page: int) -> int:
    """AD and WD of the page's protection key (bits 0 and 1). SDM Vol. 3, Protection Keys."""
    if cpu.efer & EFER_LMA == 0:
        return 0
    key = entry >> 59 & 15
    if user_page:
        return cpu.pkru >> (key * 2) & 3 if cpu.cr4 & CR4_PKE else 0
    return cpu.pkrs >> (key * 2) & 3 if cpu.cr4 & CR4_PKS else 0


@restricted
def write_permitted(cpu: Any, access: int, rights: int, keys: int) -> int:
    """Whether the combined entries let this kind of access write."""
    if rights & RW and keys & 2 == 0:
        return 1
    if access & USER_ACCESS or cpu.cr0 & CR0_WP:
        return 0
    return 1


@restricted
def check_access(cpu: Any, access: int, rights: int, leaf: int) -> int:
    """0 when the access is permitted, else the P and PK bits of its error code.

    `rights` is RW, US and NX over all levels. SDM Vol. 3, Determination of Access Rights.
    """
    keys = 0
    if access & FETCH == 0:
        keys = key_rights(cpu, leaf, rights & US)
    denied = 0
    if keys & 1 or (keys & 2 and access & WRITE and (access & USER_ACCESS or cpu.cr0 & CR0_WP)):
        denied = PROTECTION | PROTECTION_KEY
    if access & USER_ACCESS:
        if rights & US == 0:
            denied |= PROTECTION
    elif rights & US:
        if access & FETCH:
            if cpu.cr4 & CR4_SMEP:
                denied |= PROTECTION
        elif cpu.cr4 & CR4_SMAP and (access & IMPLICIT or cpu.rflags & AC == 0):
            denied |= PROTECTION
    if access & FETCH and rights & NX:
        denied |= PROTECTION
    if access & WRITE and rights & RW == 0 and (access & USER_ACCESS or cpu.cr0 & CR0_WP):
        denied |= PROTECTION
    return denied


@restricted
def note_entry(cpu: Any, depth: int, gpa: int, place: int, host: int) -> None:
    """Remember an entry whose accessed flag is set once the walk has succeeded."""
    cpu.scratch[depth] = host
    cpu.scratch[depth + 8] = place >> 12
    cpu.scratch[depth + 16] = gpa


@restricted
def may_update(cpu: Any, depth: int, linear: int) -> int:
    """Whether the second level lets the processor write the noted entry."""
    if cpu.second_level == 0:
        return 1
    gpa = cpu.scratch[depth + 16]
    return physical_of(cpu, gpa, linear, WRITE | IN_WALK) != NO_PAGE


@restricted
def walk_wide(cpu: Any, linear: int, access: int) -> int:
    """PAE, 4-level and 5-level paging: entries of eight bytes."""
    long = cpu.efer & EFER_LMA
    reserved_in_all = ENTRY_ADDRESS & ~cpu.physical_mask
    if cpu.efer & EFER_NXE == 0:
        reserved_in_all |= NX
    rights = RW | US
    if long:
        table = cpu.cr3 & cpu.physical_mask & PAGE
        shift = 48 if cpu.cr4 & CR4_LA57 else 39
    else:
        reserved_in_all |= 0x7FF0_0000_0000_0000
        entry = cpu.pdpte[linear >> 30 & 3]
        if entry & P == 0:
            return page_fault(cpu, linear, error_code(cpu, access, 0))
        # nested paging lets MOV to CR3 and VMRUN load what a walk refuses
        if entry & (reserved_in_all | NX | PDPTE_RESERVED):
            return page_fault(cpu, linear, error_code(cpu, access, PROTECTION | RESERVED))
        table = entry & ENTRY_ADDRESS
        shift = 21
    depth = 0
    while True:
        gpa = table + (linear >> shift & 0x1FF) * 8
        place = physical_of(cpu, gpa, linear, IN_WALK)
        if place == NO_PAGE:
            return NO_PAGE
        host = host_of(cpu, place)
        entry = raw_load64(host) if host else WORD
        if entry & P == 0:
            return page_fault(cpu, linear, error_code(cpu, access, 0))
        reserved = reserved_in_all
        leaf = 1
        if shift > 12:
            leaf = entry & PS
            if leaf:
                if shift > 30:
                    reserved |= PS
                reserved |= (1 << shift) - 1 & 0xFFFF_E000
        if entry & reserved:
            return page_fault(cpu, linear, error_code(cpu, access, PROTECTION | RESERVED))
        rights = rights & entry & (RW | US) | (rights | entry) & NX
        note_entry(cpu, depth, gpa, place, host)
        if leaf:
            break
        table = entry & ENTRY_ADDRESS
        shift -= 9
        depth += 1
    denied = check_access(cpu, access, rights, entry)
    if denied:
        return page_fault(cpu, linear, error_code(cpu, access, denied))
    level = 0
    while level < depth:
        upper = cpu.scratch[level]
        value = raw_load64(upper)
        if value & A == 0:
            if may_update(cpu, level, linear) == 0:
                return NO_PAGE
            raw_store64(upper, value | A)
            mark_dirty(cpu, cpu.scratch[level + 8])
        level += 1
    wanted = entry | A | (D if access & WRITE else 0)
    if wanted != entry:
        if may_update(cpu, depth, linear) == 0:
            return NO_PAGE
        raw_store64(cpu.scratch[depth], wanted)
        mark_dirty(cpu, cpu.scratch[depth + 8])
    offset = (1 << shift) - 1
    frame = entry & ENTRY_ADDRESS & ~offset | linear & offset & PAGE
    keys = key_rights(cpu, entry, rights & US)
    frame |= rights & US
    if wanted & D and write_permitted(cpu, access, rights, keys):
        return frame | WRITE_READY
    return frame


@restricted
def walk_narrow(cpu: Any, linear: int, access: int) -> int:
    """32-bit paging: two levels, entries of four bytes, 4-MByte pages with CR4.PSE."""
    gpa = (cpu.cr3 & 0xFFFFF000) + (linear >> 22 & 0x3FF) * 4
    place = physical_of(cpu, gpa, linear, IN_WALK)
    if place == NO_PAGE:
        return NO_PAGE
    host = host_of(cpu, place)
    directory = raw_load32(host) if host else 0xFFFFFFFF
    if directory & P == 0:
        return page_fault(cpu, linear, error_code(cpu, access, 0))
    note_entry(cpu, 0, gpa, place, host)
    depth = 0
    rights = directory & (RW | US)
    entry = directory
    if directory & PS and cpu.cr4 & CR4_PSE:
        high = (directory >> 13 & 0xFF) << 32
        # PSE-36: bit 21 is reserved, and address bits 39:32 no wider than MAXPHYADDR
        if directory & 1 << 21 or high & ~cpu.physical_mask:
            return page_fault(cpu, linear, error_code(cpu, access, PROTECTION | RESERVED))
        frame = high | directory & 0xFFC00000 | linear & 0x003FF000
    else:
        gpa = (directory & 0xFFFFF000) + (linear >> 12 & 0x3FF) * 4
        place = physical_of(cpu, gpa, linear, IN_WALK)
        if place == NO_PAGE:
            return NO_PAGE
        host = host_of(cpu, place)
        entry = raw_load32(host) if host else 0xFFFFFFFF
        if entry & P == 0:
            return page_fault(cpu, linear, error_code(cpu, access, 0))
        rights &= entry
        depth = 1
        note_entry(cpu, 1, gpa, place, host)
        frame = entry & 0xFFFFF000
    denied = check_access(cpu, access, rights, 0)
    if denied:
        return page_fault(cpu, linear, error_code(cpu, access, denied))
    if depth and directory & A == 0:
        if may_update(cpu, 0, linear) == 0:
            return NO_PAGE
        raw_store32(cpu.scratch[0], directory | A)
        mark_dirty(cpu, cpu.scratch[8])
    wanted = entry | A | (D if access & WRITE else 0)
    if wanted != entry:
        if may_update(cpu, depth, linear) == 0:
            return NO_PAGE
        raw_store32(cpu.scratch[depth], wanted)
        mark_dirty(cpu, cpu.scratch[depth + 8])
    frame |= rights & US
    if wanted & D and write_permitted(cpu, access, rights, 0):
        return frame | WRITE_READY
    return frame


@outlined
def walk_guest(cpu: Any, linear: int, access: int) -> int:
    """The guest-physical page of `linear`, with WRITE_READY and US; NO_PAGE after a fault."""
    if cpu.cr0 & CR0_PG == 0:
        return linear & PAGE | WRITE_READY | US
    if cpu.cr4 & CR4_PAE:
        return walk_wide(cpu, linear, access)
    return walk_narrow(cpu, linear, access)


@outlined
def walk(cpu: Any, linear: int, access: int) -> int:
    """The physical page of `linear`, with WRITE_READY; NO_PAGE after a fault.

    `access` has the bits WRITE, USER_ACCESS, FETCH and IMPLICIT. Sets accessed and dirty flags.
    """
    page = walk_guest(cpu, linear, access)
    if cpu.second_level == 0:
        return page
    return guest_page(cpu, page, linear, access)


@outlined
def is_canonical(cpu: Any, linear: int) -> int:
    """Whether the upper bits copy bit 47 (56 with CR4.LA57). SDM Vol. 1, Canonical Addressing."""
    high = linear >> 47
    if cpu.cr4 & CR4_LA57:
        high = linear >> 56
        return high == 0 or high == 0xFF
    return high == 0 or high == 0x1FFFF


@restricted
def exception(cpu: Any, vector: int, error: int = NO_ERROR_CODE) -> None:
    """Leave an exception to be delivered when the instruction is given up."""
    cpu.exit_code = Exit.EXCEPTION
    cpu.exit_vector = vector
    cpu.exit_error = error
