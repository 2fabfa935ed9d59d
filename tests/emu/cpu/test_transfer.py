"""Copies by rows, compiled and as plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from emu.cpu import transfer

from .machines import machine

ROWS = ((0, "cr3", 0), (2, "selector", 3), (3, "segment_limit", 1), (4, "segment_base", 5))
VALUES = (0x1234_5678_9ABC_DEF0, 7, 0x1_FFFF, 0x2_1234_5678, 0xFFFF_8000_0000_0000)


def outcome(state):
    return state.cr3, state.selector[3], state.segment_limit[1], state.segment_base[5]


@pytest.mark.parametrize("plain", [False, True])
def test_registers_take_as_much_of_a_word_as_they_are_wide(plain):
    cpu, rows = machine(64), transfer.compiled_rows(ROWS)
    words = np.array(VALUES, np.uint64)
    load = transfer.load_registers if plain else cpu.load_registers
    load(cpu.state if plain else cpu.state.address, rows.ctypes.data, 4, words.ctypes.data)

    assert (VALUES[0], 0xFFFF, 0x1234_5678, VALUES[4]) == outcome(cpu.state)


@pytest.mark.parametrize("plain", [False, True])
def test_words_take_registers_zero_extended(plain):
    cpu, rows = machine(64), transfer.compiled_rows(ROWS)
    state, words = cpu.state, np.full(5, 9, np.uint64)
    state.cr3, state.selector[3] = VALUES[0], 0xFFFE
    state.segment_limit[1], state.segment_base[5] = 0xFFFF_FFFF, VALUES[4]
    save = transfer.save_registers if plain else cpu.save_registers
    save(state if plain else state.address, rows.ctypes.data, 4, words.ctypes.data)

    assert [VALUES[0], 9, 0xFFFE, 0xFFFF_FFFF, VALUES[4]] == words.tolist()
