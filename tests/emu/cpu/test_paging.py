"""Page walks: every permission bit against every access, with the error code the manual gives."""

from __future__ import annotations

import itertools

import pytest

from emu.cpu.errors import Fault
from emu.cpu.paging import (
    CR0_WP,
    CR4_PKE,
    CR4_SMAP,
    CR4_SMEP,
    FETCH,
    NX,
    RW,
    US,
    USER_ACCESS,
    WRITE,
    A,
    D,
    P,
    walk,
)

from . import machines

LINEAR = machines.DATA
ENTRY = machines.TABLES + 0x3000 + (LINEAR >> 12) * 8
ACCESSES = [w | u for w in (0, WRITE, FETCH) for u in (0, USER_ACCESS)]
FLAGS = [p | r | u | n for p in (0, P) for r in (0, RW) for u in (0, US) for n in (0, NX)]


@pytest.fixture(scope="module")
def cpu():
    return machines.machine(64)


def set_entry(cpu, flags: int) -> None:
    cpu.memory.load(ENTRY, (LINEAR | flags).to_bytes(8, "little"))


def get_entry(cpu) -> int:
    return int.from_bytes(cpu.memory.read(ENTRY, 8), "little")


def expected_error(entry: int, access: int, wp: int, smep: int, smap: int) -> int | None:
    """The error code by the words of "Determination of Access Rights"; None when permitted."""
    code = access & (WRITE | USER_ACCESS | FETCH)
    if not entry & P:
        return code
    user_page = bool(entry & US)
    if access & USER_ACCESS:
        permitted = user_page and (not access & WRITE or entry & RW)
    elif access & WRITE:
        permitted = (bool(entry & RW) or not wp) and not (user_page and smap)
    elif access & FETCH:
        permitted = not (user_page and smep)
    else:
        permitted = not (user_page and smap)
    if access & FETCH and entry & NX:
        permitted = False
    return None if permitted else code | P


@pytest.mark.parametrize(("wp", "smep", "smap"), list(itertools.product((0, 1), repeat=3)))
def test_access_rights_and_error_codes(cpu, wp, smep, smap):
    state = cpu.state
    saved = state.cr0, state.cr4
    state.cr0 |= CR0_WP if wp else 0
    state.cr4 |= (CR4_SMEP if smep else 0) | (CR4_SMAP if smap else 0)
    wrong = []
    for flags, access in itertools.product(FLAGS, ACCESSES):
        set_entry(cpu, flags)
        try:
            cpu.translate(LINEAR, access)
            error = None
        except Fault as fault:
            error = fault.error
        set_entry(cpu, flags)
        plain = walk(state, LINEAR, access)
        plain_error = state.exit_error if state.exit_code else None
        state.exit_code = 0
        wanted = expected_error(flags, access, wp, smep, smap)
        if not wanted == error == plain_error or (plain == (1 << 64) - 1) != (wanted is not None):
            wrong.append((hex(flags), access, wanted, error, plain_error))
    state.cr0, state.cr4 = saved
    set_entry(cpu, P | RW | US)

    assert [] == wrong


@pytest.mark.parametrize(("access", "flags"), [(0, A), (WRITE, A | D), (FETCH, A)])
def test_a_walk_sets_accessed_and_dirty(cpu, access, flags):
    set_entry(cpu, P | RW | US)
    cpu.translate(LINEAR, access)

    assert LINEAR | P | RW | US | flags == get_entry(cpu)


def test_a_walk_that_faults_sets_nothing(cpu):
    set_entry(cpu, P)
    with pytest.raises(Fault):
        cpu.translate(LINEAR, WRITE | USER_ACCESS)

    assert LINEAR | P == get_entry(cpu)
    set_entry(cpu, P | RW | US)


@pytest.mark.parametrize("bit", range(46, 52))
def test_an_address_beyond_maxphyaddr_is_a_reserved_bit(cpu, bit):
    set_entry(cpu, P | RW | US | 1 << bit)
    with pytest.raises(Fault) as caught:
        cpu.translate(LINEAR, 0)
    set_entry(cpu, P | RW | US)

    assert (14, P | 8) == (caught.value.vector, caught.value.error)


@pytest.mark.parametrize(("rights", "access", "error"), [
    (0, WRITE, None), (1, 0, P | 32 | USER_ACCESS), (2, 0, None),
    (2, WRITE, P | 32 | WRITE | USER_ACCESS), (3, FETCH, None),
])  # fmt: skip
def test_protection_keys_of_user_pages(cpu, rights, access, error):
    state = cpu.state
    state.cr4 |= CR4_PKE
    state.pkru = rights << 10
    set_entry(cpu, P | RW | US | 5 << 59)
    try:
        cpu.translate(LINEAR, access | USER_ACCESS)
        found = None
    except Fault as fault:
        found = fault.error
    state.cr4 &= ~CR4_PKE
    set_entry(cpu, P | RW | US)

    assert error == found
