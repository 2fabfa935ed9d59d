"""Restricted functions give the same words compiled and as plain Python."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpu.compiler import backend
from emu.cpu.compiler.emit import outline_ir
from emu.cpu.compiler.layout import Field, Layout
from emu.cpu.compiler.unit import shared_unit
from emu.cpu.compiler.values import REGISTERS, CompileError
from emu.cpu.compiler.words import (
    extend8,
    extend16,
    extend32,
    leading_zeros,
    less_signed,
    multiply_high,
    multiply_high_signed,
    outlined,
    parity_even,
    population,
    restricted,
    shift_arithmetic,
    swap_bytes,
    trailing_zeros,
)

STATE = Layout(
    "State",
    (Field("total"), Field("cells", "u64", 4), Field("byte", "u8"), *map(Field, REGISTERS)),
)
RECORD = Layout("Record", (Field("handler"), Field("imm")))
WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1), st.sampled_from((0, 1, 63, 64, 1 << 63, (1 << 64) - 1))
)


@outlined
def operators(state, a, b):
    state.cells[0] = a + b
    state.cells[1] = a - b
    state.cells[2] = a * b ^ ~a
    state.cells[3] = (a << (b & 63)) | (a >> (b & 63))
    state.byte = a
    quotient = a // b if b != 0 else a % 7
    return -quotient + state.byte


@restricted
def classify(a, kind):
    if kind == "doubled":
        return a * 2
    if a > 10 and (a & 1 or a == 12):
        return a // 3
    return a + 100


@outlined
def control(state, a, b):
    total = 0
    i = 0
    while i < 20 and total != 77:
        i += 1
        if i == a & 7:
            continue
        if total > 1 << 40:
            break
        total += classify(i ^ b & 15, "plain") + classify(total, "doubled")
        state.cells[i & 3] = total
    for step in (1, 2, 3):
        total ^= step << i
    high, low = pair(total, b)
    state.total = min(high, low)
    return total if less_signed(a, b) else max(high, low)


@restricted
def pair(a, b):
    if a < b:
        return a, b
    return b - 1, a + 1


@outlined
def intrinsics(state, a, b):
    state.cells[0] = multiply_high(a, b) ^ multiply_high_signed(a, b)
    state.cells[1] = extend8(a) + extend16(b) ^ extend32(a)
    state.cells[2] = trailing_zeros(a) << 32 | leading_zeros(b) << 8 | population(a)
    state.cells[3] = swap_bytes(a) ^ shift_arithmetic(b, a & 63)
    return parity_even(a)


FUNCTIONS = (operators, control, intrinsics)


@functools.cache
def engine():
    return backend.Engine([backend.assemble(shared_unit(FUNCTIONS, STATE, RECORD).text())])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
@given(a=WORDS, b=WORDS)
@settings(max_examples=200)
def test_compiled_and_plain_leave_the_same_words(function, a, b):
    prototype = ctypes.CFUNCTYPE(*[ctypes.c_uint64] * 4)
    compiled = prototype(engine().address(f"call_{function.name}"))
    first, second = np.zeros(1, STATE.dtype), np.zeros(1, STATE.dtype)

    result = compiled(first.ctypes.data, a, b)

    assert function(STATE(second.ctypes.data), a, b) == result
    assert second.tobytes() == first.tobytes()


@outlined
def chained(state, a):
    return 0 < a < 5


@outlined
def undefined_on_one_way(state, a):
    if a:
        b = 1
    return b


@outlined
def not_restricted(state, a):
    return sorted(a)


@pytest.mark.parametrize("function", [chained, undefined_on_one_way, not_restricted])
def test_what_is_not_restricted_python_is_refused_by_name(function):
    with pytest.raises(CompileError, match=function.name):
        outline_ir(function, STATE)


@restricted
def shifted(a, count):
    return a << count


def test_plain_execution_refuses_a_shift_that_compiled_code_leaves_undefined():
    with pytest.raises(ZeroDivisionError):
        shifted(1, 64)


def test_aliases_share_their_place():
    layout = Layout("L", (Field("words", "u64", 2), Field("second", alias="words+8")))
    block = np.zeros(1, layout.dtype)
    layout(block.ctypes.data).second = 7

    assert [0, 7] == block["words"][0].tolist()
