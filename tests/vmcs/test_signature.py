"""Signature strings name types, and Python gives arguments and results those types."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.signature import (
    INTEGERS,
    JitType,
    accepts,
    as_python,
    as_typed,
    describe,
    parse_signature,
)

TYPES = {
    "uint64": JitType("uint64"),
    "boolean": JitType("boolean"),
    "uint64[::1]": JitType("uint64", 1, "C"),
    "const uint8[:, ::1]": JitType("uint8", 2, "C", readonly=True),
    "int64[:]": JitType("int64", 1, "A"),
    "uint32[:,:]": JitType("uint32", 2, "A"),
    "void": JitType("void"),
    "UniTuple(uint64, 2)": JitType("tuple", items=(JitType("uint64"),) * 2),
    "Tuple((int64, uint8[::1]))": JitType(
        "tuple", items=(JitType("int64"), JitType("uint8", 1, "C"))
    ),
}


@pytest.mark.parametrize("text", TYPES)
def test_a_result_and_an_argument_have_the_type_that_is_written(text):
    signature = parse_signature(f"{text}({text}, int64, {text})")

    assert TYPES[text] == signature.returns
    assert (TYPES[text], JitType("int64"), TYPES[text]) == signature.arguments


def test_a_signature_without_arguments_has_none():
    assert () == parse_signature("void()").arguments


def test_a_structured_dtype_is_named_by_keyword():
    signature = parse_signature("int64(const CHECK[::1])", {"CHECK": np.dtype("u8,u4")})

    assert (JitType("CHECK", 1, "C", readonly=True),) == signature.arguments


@pytest.mark.parametrize(
    "text",
    [
        "uint64",
        "uint64(uint)",
        "uint64(uint64[::2])",
        "uint64(uint64[::1, :])",
        "uint64(const uint64)",
        "CHECK(int64)",
        "uint64)int64(",
        "",
    ],
)
def test_what_names_no_type_is_refused(text):
    with pytest.raises(TypeError):
        parse_signature(text, {"CHECK": np.dtype("u8,u4")})


@given(st.sampled_from(INTEGERS), st.integers(-(2**70), 2**70))
def test_integers_wrap_to_their_width(name, value):
    info = np.iinfo(name)
    expected = (value - int(info.min)) % 2**info.bits + int(info.min)

    typed = as_typed(JitType(name), value)

    assert expected == int(typed)
    assert np.dtype(name) == typed.dtype
    assert expected == as_python(typed)
    assert type(as_python(typed)) is int


def test_results_become_python_values():
    pair = TYPES["UniTuple(uint64, 2)"]

    assert (1, 2**64 - 1) == as_python(as_typed(pair, (np.uint64(1), -1)))
    assert as_python(as_typed(JitType("boolean"), 1)) is True
    assert as_python(as_typed(JitType("void"), 5)) is None
    assert 0.5 == as_python(as_typed(JitType("float64"), np.float32(0.5)))


READ_ONLY = np.zeros(4, np.uint64)
READ_ONLY.setflags(write=False)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("uint64[::1]", np.zeros(4, np.uint64), True),
        ("uint64[::1]", np.zeros(8, np.uint64)[::2], False),
        ("uint64[:]", np.zeros(8, np.uint64)[::2], True),
        ("uint64[::1]", np.zeros(4, np.int64), False),
        ("uint64[::1]", np.zeros((2, 2), np.uint64), False),
        ("uint64[::1]", READ_ONLY, False),
        ("const uint64[::1]", READ_ONLY, True),
        ("const uint64[::1]", np.zeros(4, np.uint64), True),
        ("uint64", np.uint8(3), True),
        ("uint64", "3", False),
        ("UniTuple(uint64, 2)", (1, 2), True),
        ("UniTuple(uint64, 2)", (1, 2, 3), False),
    ],
)
def test_arguments_are_accepted_as_the_compiled_function_would(text, value, expected):
    [kind] = parse_signature(f"void({text})").arguments

    assert expected is accepts(kind, value)


def test_an_argument_is_described_by_type_and_shape():
    assert "uint64[4]" == describe(READ_ONLY)
    assert "uint64[2] strided" == describe(READ_ONLY[::2])
    assert "str" == describe("3")
