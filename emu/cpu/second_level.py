"""Guest-physical to physical addresses: extended page tables and nested paging.

SDM Vol. 3, The Extended Page Table Mechanism (EPT); APM Vol. 2, Nested Paging. `second_level` of
the state says which is in force and how: the address of its root, and flags in the bits above 51.
When an access is refused, the state tells of it in the fields `second_level_*` and compiled code
leaves with `Exit.SECOND_LEVEL`.
"""

from __future__ import annotations

from typing import Any, Final

from emu.cpu.compiler.words import WORD, outlined, raw_load64, raw_store64, restricted
from emu.cpu.physmap import PAGE, PAGE_OFFSET, host_of, mark_dirty
from emu.cpu.state import Exit

# flags of `second_level`
EPT: Final = 1 << 63
NPT: Final = 1 << 62
FIVE_LEVELS: Final = 1 << 61  # page-walk length 5; host CR4.LA57
LEGACY: Final = 1 << 60  # NPT: the host uses PAE paging
DIRTY_FLAGS: Final = 1 << 59  # EPT: accessed and dirty flags, guest walks count as writes
USER_EXECUTE: Final = 1 << 58  # EPT: mode-based execute control
EXECUTE_ONLY: Final = 1 << 57  # EPT: entries may allow execution alone
GIANT_PAGES: Final = 1 << 56  # pages of 1 GByte
LOG_DIRTY: Final = 1 << 55  # EPT: page-modification logging
NO_EXECUTE: Final = 1 << 54  # NPT: EFER.NXE of the host
GUEST_TRAP: Final = 1 << 53  # NPT: guest mode execute trap

# what is asked beside WRITE, USER_ACCESS and FETCH of `paging`
WRITE, USER_ACCESS, FETCH = 2, 4, 16
IN_WALK: Final = 1 << 9  # of an entry of the guest's own paging structures
NO_LINEAR: Final = 1 << 10  # there is no linear address: PDPTEs
USER_PAGE: Final = 1 << 11  # the guest's entries give the linear address to user mode

# `second_level_kind`
VIOLATION, MISCONFIGURATION, RESERVED, LOG = range(4)

SUPPRESS: Final = 1 << 63  # of an EPT entry and of `second_level_rights`: suppress #VE
READ_RIGHT, WRITE_RIGHT, EXECUTE_RIGHT, USER_EXECUTE_RIGHT = 1, 2, 4, 1 << 10
EPT_ACCESSED, EPT_DIRTY = 1 << 8, 1 << 9
NPT_P, NPT_RW, NPT_US, NPT_ACCESSED, NPT_DIRTY, NPT_NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 63
NPT_GLOBAL = 1 << 8  # MBZ in the upper levels. APM Vol. 2, 4-Kbyte Page Translation
LARGE = 1 << 7
ENTRY_ADDRESS = 0x000F_FFFF_FFFF_F000
MEMORY_TYPES = 0b0111_0011  # bit t: t is a memory type that a leaf may have

NO_PAGE = WORD
WRITE_READY = 2  # in the result: writes need no further walk


@restricted
def refuse(cpu: Any, kind: int, gpa: int, linear: int, access: int, rights: int) -> int:
    """Leave with what the second level refused; the value is that of a failed walk."""
    cpu.exit_code = Exit.SECOND_LEVEL
    cpu.second_level_kind = kind
    cpu.second_level_gpa = gpa
    cpu.second_level_linear = linear
    cpu.second_level_access = access
    cpu.second_level_rights = rights
    return NO_PAGE


@restricted
def keep_entry(cpu: Any, depth: int, place: int, host: int) -> None:
    """Remember an entry whose accessed flag is set once the walk has succeeded."""
    cpu.second_level_entries[depth] = host
    cpu.second_level_entries[depth + 5] = place >> 12


@restricted
def set_flags(cpu: Any, depth: int, accessed: int, dirty: int) -> None:
    """Set the accessed flag in all entries of the walk and `dirty` in the last one."""
    level = 0
    while level <= depth:
        host = cpu.second_level_entries[level]
        entry = raw_load64(host)
        wanted = entry | accessed
        if level == depth:
            wanted |= dirty
        if wanted != entry:
            raw_store64(host, wanted)
            mark_dirty(cpu, cpu.second_level_entries[level + 5])
        level += 1


@restricted
def is_misconfigured(cpu: Any, entry: int, shift: int, leaf: int) -> int:
    """Whether an EPT entry that allows an access is invalid. SDM Vol. 3, EPT Misconfigurations."""
    control = cpu.second_level
    execute = EXECUTE_RIGHT
    if control & USER_EXECUTE:
        execute |= USER_EXECUTE_RIGHT
    if entry & (READ_RIGHT | WRITE_RIGHT) == WRITE_RIGHT:
        return 1
    if entry & READ_RIGHT == 0 and entry & execute and control & EXECUTE_ONLY == 0:
        return 1
    if entry & ENTRY_ADDRESS & ~cpu.physical_mask:
        return 1
    if leaf == 0:
        # bits 6:3 are reserved, bit 7 as well where no page can be mapped
        return 1 if entry & 0x78 or (shift > 30 and entry & LARGE) else 0
    if MEMORY_TYPES >> (entry >> 3 & 7) & 1 == 0:
        return 1
    return 1 if entry & ((1 << shift) - 1) & PAGE else 0


@restricted
def walk_ept(cpu: Any, gpa: int, linear: int, access: int) -> int:
    """EPT: the physical page of `gpa`, with WRITE_READY; NO_PAGE when refused."""
    control = cpu.second_level
    table = control & ENTRY_ADDRESS
    shift = 48 if control & FIVE_LEVELS else 39
    some = READ_RIGHT | WRITE_RIGHT | EXECUTE_RIGHT
    if control & USER_EXECUTE:
        some |= USER_EXECUTE_RIGHT
    rights = some
    depth = 0
    while True:
        place = table + (gpa >> shift & 0x1FF) * 8
        host = host_of(cpu, place)
        entry = raw_load64(host) if host else WORD
        rights &= entry
        if entry & some == 0:
            return refuse(cpu, VIOLATION, gpa, linear, access, rights | entry & SUPPRESS)
        leaf = 1
        if shift > 12:
            leaf = entry & LARGE
            if shift > 30 or (shift == 30 and control & GIANT_PAGES == 0):
                leaf = 0
        if shift == 30 and leaf == 0 and entry & LARGE:
            return refuse(cpu, MISCONFIGURATION, gpa, linear, access, rights)
        if is_misconfigured(cpu, entry, shift, leaf):
            return refuse(cpu, MISCONFIGURATION, gpa, linear, access, rights)
        keep_entry(cpu, depth, place, host)
        if leaf:
            break
        table = entry & ENTRY_ADDRESS
        shift -= 9
        depth += 1
    if access & FETCH:
        needed = EXECUTE_RIGHT
        if control & USER_EXECUTE and access & USER_PAGE:
            needed = USER_EXECUTE_RIGHT
    else:
        needed = READ_RIGHT
        if access & WRITE or (access & IN_WALK and control & DIRTY_FLAGS):
            needed = READ_RIGHT | WRITE_RIGHT
    if rights & needed != needed:
        return refuse(cpu, VIOLATION, gpa, linear, access, rights | entry & SUPPRESS)
    writable = rights & WRITE_RIGHT
    if control & DIRTY_FLAGS:
        dirty = EPT_DIRTY if needed & WRITE_RIGHT else 0
        if dirty and control & LOG_DIRTY and entry & EPT_DIRTY == 0:
            return refuse(cpu, LOG, gpa, linear, access, rights)
        set_flags(cpu, depth, EPT_ACCESSED, dirty)
        if (entry | dirty) & EPT_DIRTY == 0:
            writable = 0
    offset = (1 << shift) - 1
    return entry & ENTRY_ADDRESS & ~offset | gpa & offset & PAGE | writable


@restricted
def walk_npt(cpu: Any, gpa: int, linear: int, access: int) -> int:
    """Nested paging: the physical page of `gpa`, with WRITE_READY; NO_PAGE when refused.

    Guest accesses are user accesses, and those to the guest's page tables are writes.
    """
    control = cpu.second_level
    reserved_in_all = ENTRY_ADDRESS & ~cpu.physical_mask
    if control & NO_EXECUTE == 0:
        reserved_in_all |= NPT_NX
    table = control & ENTRY_ADDRESS
    shift = 48 if control & FIVE_LEVELS else 39
    if control & LEGACY:
        reserved_in_all |= 0x7FF0_0000_0000_0000
        host = host_of(cpu, (control & 0xFFFF_FFE0) + (gpa >> 30 & 3) * 8)
        entry = raw_load64(host) if host else WORD
        if entry & NPT_P == 0 or gpa >> 32:
            return refuse(cpu, VIOLATION, gpa, linear, access, 0)
        table = entry & ENTRY_ADDRESS
        shift = 21
    rights = NPT_RW | NPT_US
    depth = 0
    while True:
        place = table + (gpa >> shift & 0x1FF) * 8
        host = host_of(cpu, place)
        entry = raw_load64(host) if host else WORD
        if entry & NPT_P == 0:
            return refuse(cpu, VIOLATION, gpa, linear, access, 0)
        reserved = reserved_in_all
        leaf = 1
        if shift > 12:
            leaf = entry & LARGE
            if shift > 30:
                reserved |= NPT_GLOBAL
            if leaf:
                reserved |= (1 << shift) - 1 & 0xFFFF_E000
                if shift > 30 or (shift == 30 and control & GIANT_PAGES == 0):
                    reserved |= LARGE
        if entry & reserved:
            return refuse(cpu, RESERVED, gpa, linear, access, NPT_P)
        rights = rights & entry & (NPT_RW | NPT_US) | (rights | entry) & NPT_NX
        keep_entry(cpu, depth, place, host)
        if leaf:
            break
        table = entry & ENTRY_ADDRESS
        shift -= 9
        depth += 1
    writes = access & (WRITE | IN_WALK)
    denied = 0
    if rights & NPT_US == 0 and control & GUEST_TRAP == 0:
        denied = 1
    if writes and rights & NPT_RW == 0:
        denied = 1
    if access & FETCH and access & IN_WALK == 0:
        if rights & NPT_NX:
            denied = 1
        if control & GUEST_TRAP and rights & NPT_US and cpu.cpl != 3:
            denied = 1
    if denied:
        return refuse(cpu, VIOLATION, gpa, linear, access, NPT_P | rights)
    set_flags(cpu, depth, NPT_ACCESSED, NPT_DIRTY if writes else 0)
    writable = rights & NPT_RW
    if writes == 0 and entry & NPT_DIRTY == 0:
        writable = 0
    offset = (1 << shift) - 1
    return entry & ENTRY_ADDRESS & ~offset | gpa & offset & PAGE | writable


@outlined
def walk_second_level(cpu: Any, gpa: int, linear: int, access: int) -> int:
    """The physical page of `gpa`, with WRITE_READY; NO_PAGE when the second level refuses it.

    `access` has WRITE, USER_ACCESS, FETCH, IN_WALK, NO_LINEAR, USER_PAGE.
    """
    if cpu.second_level & EPT:
        return walk_ept(cpu, gpa, linear, access)
    return walk_npt(cpu, gpa, linear, access)


@restricted
def physical_of(cpu: Any, gpa: int, linear: int, access: int) -> int:
    """The physical address of the guest-physical `gpa`; NO_PAGE when the second level refuses."""
    if cpu.second_level == 0:
        return gpa
    page = walk_second_level(cpu, gpa, linear, access)
    if page == NO_PAGE:
        return NO_PAGE
    return page & PAGE | gpa & PAGE_OFFSET


@outlined
def guest_page(cpu: Any, page: int, linear: int, access: int) -> int:
    """What `paging.walk` found, taken through the second level: the same form of result."""
    if page == NO_PAGE or cpu.second_level == 0:
        return page
    if page & USER_ACCESS:
        access |= USER_PAGE
    final = walk_second_level(cpu, page & PAGE | linear & PAGE_OFFSET, linear, access)
    if final == NO_PAGE:
        return NO_PAGE
    return final & PAGE | page & final & WRITE_READY
