"""Jitted functions: the same results compiled and as Python, and numba only when it is needed."""

import os
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs import jitcache
from vmcs.intrinsics import load_u32
from vmcs.jit import Intrinsic, Jitted, intrinsic, jit, jit_disabled, tiered

ROOT = Path(__file__).parents[2]

ONE = np.uint64(1)
SEVEN = np.uint64(7)
TABLE = np.array([3, 1, 2], np.uint64)
PAIRS = np.dtype([("key", "<u8"), ("value", "<u8")])

words = st.integers(0, 2**64 - 1)

compiles = pytest.mark.skipif(jit_disabled(), reason="the environment disables compiling")


class Step(IntEnum):
    """What `step` does."""

    UP = 1
    DOWN = 2


@jit("uint64(uint64, uint64)")
def scrambled(a, b):
    return (a * SEVEN + b) ^ (a >> ONE) ^ (b << SEVEN)


@jit("uint64(const uint64[::1], uint64)")
def folded(values, start):
    for i in range(values.size):
        start = scrambled(start, values[i])
    return start


@jit("uint64(uint64, uint64)")
def product_of_results(a, b):
    return scrambled(a, b) * scrambled(b, a)


@jit("uint64(uint64)")
def factorial(n):
    if n <= ONE:
        return ONE
    return n * factorial(n - ONE)


@jit("UniTuple(uint64, 2)(uint64, int64)")
def step(word, kind):
    if kind == Step.UP:
        return word + ONE, TABLE[0]
    if kind == Step.DOWN:
        return word - ONE, TABLE[1]
    return word, TABLE[2]


@jit("int64(const PAIR[::1], uint64)", PAIR=PAIRS)
def position(pairs, key):
    for i in range(pairs.size):
        if pairs[i]["key"] == key:
            return i
    return -1


@jit(["uint64(const uint32[::1])", "uint64(const uint64[::1])"])
def total(values):
    result = ONE - ONE
    for i in range(values.size):
        result += np.uint64(values[i])
    return result


@jit("uint64(const uint8[::1], int64)")
def word_at(data, at):
    return load_u32(data, at)


@jit("void(uint64[::1], uint64)")
def fill(values, word):
    values[:] = word


def python(code, **environment):
    """Output of a fresh interpreter that runs `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={
            **os.environ,
            "NESTLING_DISABLE_JIT": "0",
            "NUMBA_DISABLE_JIT": "0",
            **environment,
        },
    )
    return done.stdout.split()


@given(words, words)
def test_words_wrap_the_same_in_both_forms(a, b):
    expected = ((a * 7 + b) ^ (a >> 1) ^ (b << 7)) % 2**64

    assert expected == scrambled(a, b)
    assert expected == scrambled.plain(a, b)


@given(words, words)
def test_results_of_calls_wrap_too(a, b):
    expected = scrambled(a, b) * scrambled(b, a) % 2**64

    assert expected == product_of_results(a, b)
    assert expected == product_of_results.plain(a, b)


@given(st.lists(words, max_size=6), words)
def test_a_jitted_function_calls_another(values, start):
    array = np.array(values, np.uint64)

    assert folded(array, start) == folded.plain(array, start)


def test_a_jitted_function_calls_itself():
    assert 6227020800 == factorial(13) == factorial.plain(13)


@pytest.mark.parametrize(
    ("kind", "expected"), [(1, (0, 3)), (2, (2**64 - 2, 1)), (0, (2**64 - 1, 2))]
)
def test_enums_and_tables_are_constants(kind, expected):
    assert expected == step(2**64 - 1, kind)
    assert expected == step.plain(2**64 - 1, kind)


def test_structured_arrays_are_taken_by_dtype():
    pairs = np.array([(5, 50), (9, 90)], PAIRS)

    assert (1, -1) == (position(pairs, 9), position(pairs, 8))
    assert (1, -1) == (position.plain(pairs, 9), position.plain(pairs, 8))


def test_each_signature_is_compiled():
    narrow, wide = np.full(3, 2**32 - 1, np.uint32), np.full(3, 2**63, np.uint64)

    assert 3 * (2**32 - 1) == total(narrow) == total.plain(narrow)
    assert 2**63 == total(wide) == total.plain(wide)


def test_intrinsics_run_in_both_forms():
    data = np.arange(8, dtype=np.uint8)

    assert 0x06050403 == word_at(data, 3) == word_at.plain(data, 3)


@pytest.mark.parametrize("form", [fill, fill.plain], ids=["compiled", "plain"])
def test_a_read_only_array_is_refused_where_it_would_be_written(form):
    values = np.zeros(2, np.uint64)
    form(values, 5)
    read_only = values.copy()
    read_only.setflags(write=False)

    assert [5, 5] == values.tolist()
    with pytest.raises(TypeError):
        form(read_only, 6)


def test_results_are_python_integers_in_both_forms():
    assert [int, int] == [type(scrambled(1, 2)), type(scrambled.plain(1, 2))]


def test_the_source_and_the_signature_can_be_seen():
    assert "scrambled" == scrambled.__name__ == scrambled.py_func.__name__
    assert "tests.vmcs.test_jit.scrambled" == scrambled.name
    assert "uint64(uint64, uint64)" in repr(scrambled)
    assert {scrambled.name} == folded.callees()


def test_only_functions_are_jitted():
    with pytest.raises(TypeError, match="only a function"):
        jit("void()")(print)
    with pytest.raises(TypeError, match="emit"):
        intrinsic("void()", print)


@compiles
def test_a_global_that_cannot_be_told_by_its_value_is_named():
    changing = {"a": 1}

    def reads():
        return changing["a"]

    with pytest.raises(TypeError, match="'changing' is a dict"):
        jit("int64()")(reads).compiled()


def test_what_was_typed_at_a_prompt_compiles():
    names = {"jit": jit}
    exec("def twice(word):\n    return word << 1\n", names)

    assert 10 == jit("uint64(uint64)")(names["twice"])(5)


@jit("uint64(uint64)")
def needs_what_no_processor_has(word):
    return unheard_of(word)


@intrinsic("uint64(uint64)", lambda *_: None, needs="unheard_of")
def unheard_of(word):
    return word


@compiles
def test_a_function_that_the_processor_cannot_run_says_what_it_needs():
    assert ["unheard_of"] == needs_what_no_processor_has.missing()
    assert 5 == needs_what_no_processor_has.plain(5)
    with pytest.raises(RuntimeError, match="needs a processor with unheard_of"):
        needs_what_no_processor_has(5)


def test_an_intrinsic_can_be_called_from_python():
    assert isinstance(load_u32, Intrinsic)
    assert 0x04030201 == load_u32(np.arange(8, dtype=np.uint8), 1)


def test_features_of_a_chosen_processor_are_not_taken_for_granted(monkeypatch):
    jitcache.lacks.cache_clear()
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    lacking = jitcache.lacks("sse2")
    jitcache.lacks.cache_clear()

    assert lacking


# Tiers --------------------------------------------------------------------------------------------


@compiles
def test_the_first_calls_run_as_python():
    plain = []
    add = Jitted(scrambled.py_func, scrambled.texts)
    both = tiered(add, 2, plain=lambda a, b: plain.append(a) or scrambled.plain(a, b))
    results = [both(n, 1) for n in range(4)]

    assert [0, 1] == plain
    assert [scrambled(n, 1) for n in range(4)] == results
    assert add.is_compiled


@compiles
def test_a_large_call_compiles_at_once():
    sizes = []
    fold = Jitted(folded.py_func, folded.texts)
    both = tiered(
        fold,
        5,
        cost=lambda values, _start: values.size,
        plain=lambda values, start: sizes.append(values.size) or folded.plain(values, start),
    )
    for size in (3, 1):
        both(np.ones(size, np.uint64), 0)

    assert not fold.is_compiled
    assert folded(np.ones(2, np.uint64), 0) == both(np.ones(2, np.uint64), 0)
    assert [3, 1] == sizes
    assert fold.is_compiled


def test_numba_is_loaded_when_the_first_tier_is_over():
    code = """
import sys
import numpy as np
from tests.vmcs.test_jit import folded
from vmcs.jit import tiered
import vmcs.batch
both = tiered(folded, 2)
values = np.arange(3, dtype=np.uint64)
for _ in range(3):
    print(both(values, 1), "numba" in sys.modules)
"""
    first, loaded_1, second, loaded_2, third, loaded_3 = python(code)

    assert first == second == third
    assert ["False", "False", "True"] == [loaded_1, loaded_2, loaded_3]


@pytest.mark.parametrize("variable", ["NESTLING_DISABLE_JIT", "NUMBA_DISABLE_JIT"])
def test_everything_runs_as_python_when_compiling_is_disabled(variable):
    code = """
import sys
import numpy as np
from tests.vmcs.test_jit import factorial, folded, step
print(folded(np.arange(5, dtype=np.uint64), 2**64 - 1), factorial(13), *step(2**64 - 1, 1))
print("numba" in sys.modules)
"""
    *results, loaded = python(code, **{variable: "1"})

    assert python(code, **{variable: "0"}) == [*results, "True"]
    assert "False" == loaded


def test_disabling_is_read_from_the_environment(monkeypatch):
    for value, expected in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("NESTLING_DISABLE_JIT", value)
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")

        assert expected is jit_disabled()
