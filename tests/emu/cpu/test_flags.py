"""RFLAGS out of the two words that keep the status flags."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from emu.cpu.flags import set_status_flags, status_flags, status_word

WORDS = st.integers(0, 2**64 - 1)


@given(WORDS, WORDS)
def test_the_word_in_a_hurry_is_the_word_of_the_handlers(result, carries):
    cpu = SimpleNamespace(flag_result=result, flag_carries=carries)

    assert status_flags(cpu) & 0x8D5 == status_word(result, carries)


@given(st.integers(0, 0xFFFF))
def test_what_is_taken_is_told(flags):
    cpu = SimpleNamespace(flag_result=0, flag_carries=0)
    set_status_flags(cpu, flags)

    assert flags & 0x8D5 == status_word(cpu.flag_result, cpu.flag_carries)
