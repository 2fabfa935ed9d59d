"""The machine code of the transfers against the same functions as plain Python."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from emu.cpu.state import CPU, TR
from emu.svm import transfer
from emu.svm.compiled import ROOTS, transfers
from emu.svm.vmcb import ControlBlock

REGISTERS = CPU.places["dtlb_area"].offset  # what lies before the translation caches


def random_state(seed):
    """A processor's state and a VMCB of random bytes; the VMCB's copy."""
    generator = np.random.default_rng(seed)
    store = np.zeros(CPU.size + 64, np.uint8)
    start = -store.ctypes.data % 64
    block = store[start : start + CPU.size]
    block[:REGISTERS] = generator.integers(0, 256, REGISTERS, np.uint8)
    vmcb = ControlBlock.blank()
    vmcb.data[:] = generator.integers(0, 256, 4096, np.uint8).tobytes()
    return block, vmcb


@pytest.mark.parametrize("name", ROOTS)
def test_compiled_transfer_does_what_the_source_says(name):
    for seed in range(20):
        compiled, block = random_state(seed)
        plain, copy = random_state(seed)
        words = range(7) if name == "save_exit" else ()
        transfers()[name](compiled.ctypes.data, block.host, *words)
        getattr(transfer, name)(CPU(plain.ctypes.data), copy.host, *words)

        assert bytes(plain) == bytes(compiled)
        assert bytes(copy.data) == bytes(block.data)


def test_what_is_saved_is_what_was_loaded():
    state, vmcb = random_state(1)
    call = transfers()
    call["load_guest"](state.ctypes.data, vmcb.host)
    first, second = ControlBlock.blank(), ControlBlock.blank()
    call["save_guest"](state.ctypes.data, first.host)
    call["load_guest"](state.ctypes.data, first.host)
    call["save_guest"](state.ctypes.data, second.host)

    assert bytes(first.data) == bytes(second.data)


def test_bases_are_sign_extended():
    state, vmcb = random_state(2)
    vmcb["tr.base"] = 0x1234_8000_0000_0000
    transfers()["vmload"](state.ctypes.data, vmcb.host)

    assert 0xFFFF_8000_0000_0000 == CPU(state.ctypes.data).segment_base[TR]


def test_a_segment_that_is_not_present_is_unusable_and_saved_not_present():
    state, vmcb = random_state(3)
    vmcb["es.attrib"] = 0x13
    call = transfers()
    call["load_guest"](state.ctypes.data, vmcb.host)
    call["save_guest"](state.ctypes.data, vmcb.host)

    assert 0x13 == vmcb["es.attrib"]
    assert CPU(state.ctypes.data).segment_rights[0] & transfer.UNUSABLE


def test_the_host_comes_back_protected_at_level_zero_without_breakpoints():
    state, area = random_state(4)
    area["cr0"], area["rflags"] = 0, 1 << 17 | 2
    transfers()["load_host"](state.ctypes.data, area.host)
    view = CPU(state.ctypes.data)

    assert (1, 0, 0, 0x400) == (view.cr0 & 1, view.rflags & 1 << 17, view.cpl, view.dr[7])


def test_transfers_are_found_by_their_names():
    assert set(ROOTS) == set(transfers())
    assert all(isinstance(call, ctypes._CFuncPtr) for call in transfers().values())
