"""Extended page tables and nested paging, beside a walk written down independently."""

from __future__ import annotations

import pytest

from emu.cpu import second_level
from emu.cpu.guest_mode import GuestExit, GuestMode
from emu.cpu.second_level import IN_WALK, LOG, MISCONFIGURATION, NO_LINEAR, RESERVED, VIOLATION

from .machines import CODE, DATA, machine

ROOT = 0xA00000
WRITE, FETCH = 2, 16
EPT, NPT = second_level.EPT, second_level.NPT
RIGHTS = {EPT: 7, NPT: 7}
LEAF = {EPT: 7 | 6 << 3, NPT: 7}


class Guest(GuestMode):
    """Records what the second level refuses, and leaves."""

    fault = None

    def second_level_fault(self, fault):
        self.fault = fault
        raise GuestExit

    def leave(self):
        self.cpu.guest = None
        self.cpu.state.second_level = 0
        self.cpu.flush_tlb()
        self.cpu.halted = True


def entry_place(level):
    """Where the entry for addresses below 2 MByte of DATA stands: level 0 is the root's."""
    return ROOT + 0x1000 * level + 8 * (0, 0, DATA >> 21, 0)[level]


def build(cpu, kind):
    """Four levels that map all memory one to one: 2-MByte pages, and DATA by 4-KByte pages."""

    def put(place, value):
        cpu.memory.load(place, value.to_bytes(8, "little"))

    put(ROOT, ROOT + 0x1000 | RIGHTS[kind])
    put(ROOT + 0x1000, ROOT + 0x2000 | RIGHTS[kind])
    for i in range(8):
        put(ROOT + 0x2000 + 8 * i, i << 21 | LEAF[kind] | 1 << 7)
    put(entry_place(2), ROOT + 0x3000 | RIGHTS[kind])
    for i in range(512):
        put(ROOT + 0x3000 + 8 * i, DATA + (i << 12) | LEAF[kind])


def change(cpu, level, clear=0, put=0):
    place = entry_place(level)
    entry = int.from_bytes(cpu.memory.read(place, 8), "little")
    cpu.memory.load(place, (entry & ~clear | put).to_bytes(8, "little"))


def entry(cpu, level):
    return int.from_bytes(cpu.memory.read(entry_place(level), 8), "little")


@pytest.fixture(params=[EPT, NPT], ids=["ept", "npt"])
def kind(request):
    return request.param


@pytest.fixture
def cpu(kind):
    cpu = machine(64)
    build(cpu, kind)
    cpu.guest = Guest(cpu)
    cpu.state.second_level = kind | ROOT
    cpu.flush_tlb()
    return cpu


def refused(cpu, access, gpa=DATA):
    """The fault of an access, or None."""
    try:
        cpu.physical(gpa, access)
    except GuestExit:
        return cpu.guest.fault
    return None


@pytest.mark.parametrize("access", [0, WRITE, FETCH, IN_WALK])
@pytest.mark.parametrize("gpa", [CODE, DATA + 0x1008, 0x1FFFFF])
def test_what_is_mapped_one_to_one_stays_where_it_is(cpu, gpa, access):
    assert gpa == cpu.physical(gpa, access)


def test_a_page_can_lie_elsewhere(cpu, kind):
    change(cpu, 3, put=0x5000)

    assert DATA + 0x5123 == cpu.physical(DATA + 0x123)


@pytest.mark.parametrize("level", range(4))
def test_an_entry_that_is_not_present_is_a_violation(cpu, level):
    change(cpu, level, clear=7)

    fault = refused(cpu, WRITE | NO_LINEAR)
    assert (VIOLATION, DATA, WRITE | NO_LINEAR, 0) == (
        fault.kind,
        fault.gpa,
        fault.access,
        fault.rights,
    )


@pytest.mark.parametrize("level", range(4))
def test_an_entry_without_write_permission_refuses_writes_alone(cpu, level):
    change(cpu, level, clear=2)

    assert None is refused(cpu, 0)
    assert VIOLATION == refused(cpu, WRITE).kind


@pytest.mark.parametrize("level", range(4))
def test_ept_refuses_fetches_without_the_execute_right(cpu, kind, level):
    if kind is NPT:
        pytest.skip("nested paging has NX instead")
    change(cpu, level, clear=4)

    assert None is refused(cpu, WRITE)
    assert (VIOLATION, 3) == refused(cpu, FETCH)[:1] + refused(cpu, FETCH)[4:]


@pytest.mark.parametrize("level", range(4))
def test_npt_refuses_fetches_with_nx_and_supervisor_pages(cpu, kind, level):
    if kind is EPT:
        pytest.skip("EPT has rights for each kind of access")
    cpu.state.second_level |= second_level.NO_EXECUTE
    change(cpu, level, put=1 << 63)

    assert None is refused(cpu, WRITE)
    assert VIOLATION == refused(cpu, FETCH).kind
    change(cpu, level, clear=4)
    assert VIOLATION == refused(cpu, 0).kind


def test_nx_is_reserved_without_nxe_of_the_host(cpu, kind):
    if kind is EPT:
        pytest.skip("bit 63 of an EPT entry is ignored")
    change(cpu, 3, put=1 << 63)

    assert RESERVED == refused(cpu, 0).kind


@pytest.mark.parametrize(
    ("level", "clear", "put"),
    [
        (3, 1, 0),  # writable but not readable
        (3, 3, 0),  # execute-only
        (3, 7 << 3, 2 << 3),  # a memory type that there is not
        (3, 7 << 3, 3 << 3),
        (3, 7 << 3, 7 << 3),
        (2, 0, 1 << 3),  # reserved where no page is mapped
        (0, 0, 1 << 7),
        (1, 0, 1 << 6),
        (1, 0, 1 << 7),  # a page of 1 GByte
        (3, 0, 1 << 46),  # beyond the physical address width
        (0, 0, 1 << 51),
    ],
)
def test_an_ept_entry_that_is_misconfigured(cpu, kind, level, clear, put):
    if kind is NPT:
        pytest.skip("nested paging has reserved bits")
    change(cpu, level, clear, put)

    assert MISCONFIGURATION == refused(cpu, 0).kind


def test_ept_can_allow_execution_alone(cpu, kind):
    if kind is NPT:
        pytest.skip("nested paging knows no such right")
    cpu.state.second_level |= second_level.EXECUTE_ONLY
    change(cpu, 3, clear=3)

    assert None is refused(cpu, FETCH)
    assert VIOLATION == refused(cpu, 0).kind


def test_mode_based_execute_control_tells_pages_of_user_mode_apart(cpu, kind):
    if kind is NPT:
        pytest.skip("nested paging has the guest mode execute trap")
    cpu.state.second_level |= second_level.USER_EXECUTE
    user = FETCH | second_level.USER_PAGE

    assert VIOLATION == refused(cpu, user).kind
    assert None is refused(cpu, FETCH)
    for level in range(4):
        change(cpu, level, clear=4, put=1 << 10)
    assert None is refused(cpu, user)
    assert VIOLATION == refused(cpu, FETCH).kind


def test_ept_sets_accessed_and_dirty_flags_only_when_told_to(cpu, kind):
    if kind is NPT:
        pytest.skip("nested paging always sets them")
    cpu.physical(DATA, WRITE)

    assert 0 == entry(cpu, 3) & 0x300
    cpu.state.second_level |= second_level.DIRTY_FLAGS
    cpu.physical(DATA, 0)
    assert [0x100] * 4 == [entry(cpu, level) & 0x300 for level in range(4)]
    cpu.physical(DATA, WRITE)
    assert [0x100, 0x100, 0x100, 0x300] == [entry(cpu, level) & 0x300 for level in range(4)]


def test_npt_sets_accessed_and_dirty_flags(cpu, kind):
    if kind is EPT:
        pytest.skip("EPT sets them when told to")
    cpu.physical(DATA, 0)

    assert [0x20] * 4 == [entry(cpu, level) & 0x60 for level in range(4)]
    cpu.physical(DATA, IN_WALK)
    assert 0x60 == entry(cpu, 3) & 0x60


def test_logging_leaves_before_the_dirty_flag_is_set(cpu, kind):
    if kind is NPT:
        pytest.skip("page-modification logging is EPT's")
    cpu.state.second_level |= second_level.DIRTY_FLAGS | second_level.LOG_DIRTY

    assert LOG == refused(cpu, WRITE).kind
    assert 0 == entry(cpu, 3) & 0x200
    change(cpu, 3, put=0x200)
    assert None is refused(cpu, WRITE)


def test_compiled_code_leaves_with_what_was_refused(cpu):
    change(cpu, 3, clear=2)
    cpu.memory.load(CODE, bytes.fromhex("48 8b 03  48 89 03  f4"))  # mov rax,[rbx]; mov [rbx],rax
    cpu.state.rbx, cpu.state.rip = DATA + 0x10, CODE
    guest = cpu.guest

    cpu.run(100)
    assert CODE + 3 == cpu.state.rip
    assert (VIOLATION, DATA + 0x10, DATA + 0x10) == guest.fault[:3]
    assert guest.fault.access & WRITE


def test_the_walk_of_the_guest_goes_through_the_second_level(cpu):
    change(cpu, 3, clear=7)  # the tables move to where nothing is mapped
    for page in range(0x10000 >> 12):
        cpu.memory.load(DATA + (page << 12), cpu.memory.read(0x1000 + (page << 12), 4096))
    cpu.state.cr3 = DATA
    cpu.flush_tlb()
    guest = cpu.guest

    with pytest.raises(GuestExit):
        cpu.read(CODE, 8)
    assert (VIOLATION, DATA, CODE) == guest.fault[:3]
    assert guest.fault.access & IN_WALK
