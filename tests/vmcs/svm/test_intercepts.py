"""Intercepts: places as in the kernel's enumeration, and a vector that reads back what was set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.svm.facts import CONSTANTS
from vmcs.svm.exit_codes import SvmExit, intercept_of
from vmcs.svm.intercepts import INTERCEPTS, WORDS, intercept, names_of, vector_of
from vmcs.svm.vmcb import member

# "Intercept ... of CR0-15" and "DR0-15", the manual's Table B-1: a bit a register, reads first.
REGISTER_ROWS = [
    (f"{kind}{n}_{access}", word, n + 16 * place)
    for word, kind in enumerate(("CR", "DR"))
    for place, access in enumerate(("READ", "WRITE"))
    for n in range(16)
]

KERNEL_NAMES = {name: value for name, value in CONSTANTS.items() if name.startswith("INTERCEPT_")}
KERNEL_NAMES |= {name: value for name, value in CONSTANTS.items() if name.startswith("TRAP_")}

NAMES = [row.name for row in INTERCEPTS]


@pytest.mark.parametrize(("name", "word", "bit"), REGISTER_ROWS)
def test_register_intercepts_are_a_bit_a_register(name, word, bit):
    row = intercept(name)

    assert (word, bit) == (row.word, row.bit)


@pytest.mark.parametrize("macro", [m for m in KERNEL_NAMES if m != "INTERCEPT_EXCEPTION_OFFSET"])
def test_intercept_stands_where_the_kernel_counts_it(macro):
    rows = [row for row in INTERCEPTS if row.macro == macro]

    assert [KERNEL_NAMES[macro]] == [row.position for row in rows]


@pytest.mark.parametrize("row", INTERCEPTS, ids=lambda row: row.name)
def test_macro_of_a_row_is_one_of_the_kernel(row):
    place = CONSTANTS["INTERCEPT_EXCEPTION_OFFSET"] if row.macro.endswith("_VECTOR") else 0

    assert row.macro == "" or row.position == place + CONSTANTS[row.macro]


def test_words_fill_the_member_of_the_vmcb():
    row = member("intercepts")

    assert (row.count, 8 * row.size) == (len(WORDS), sum(table.width for table in WORDS))


def test_reserved_bits_are_the_unused_exception_vectors_and_the_end_of_the_last_word():
    reserved = [
        (n, row.bit) for n, table in enumerate(WORDS) for row in table.table if row.reserved
    ]
    vectors = (2, 9, 15, 20, 22, 23, 24, 25, 26, 27, 31)

    assert [(2, n) for n in vectors] + [(5, n) for n in range(7, 32)] == reserved
    assert 32 * 6 == len(INTERCEPTS) + len(reserved)


@pytest.mark.parametrize("row", INTERCEPTS, ids=lambda row: row.name)
def test_every_row_has_a_phrase_a_citation_and_a_place_of_its_own(row):
    assert row.phrase
    assert row.cite
    assert [row] == [other for other in INTERCEPTS if other.position == row.position]


@given(st.sets(st.sampled_from(NAMES)))
def test_vector_reads_back_the_names_that_it_was_made_of(names):
    assert set(names) == set(names_of(vector_of(names)))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_names_of_any_vector_make_its_defined_bits(words):
    defined = [table.defined_mask() for table in WORDS]

    assert tuple(w & m for w, m in zip(words, defined, strict=True)) == vector_of(names_of(words))


def test_unknown_intercept_raises_key_error():
    with pytest.raises(KeyError):
        intercept("CR16_READ")


@pytest.mark.parametrize("row", INTERCEPTS, ids=lambda row: row.name)
def test_exit_code_of_the_same_number_reports_the_intercept(row):
    assert row == intercept_of(SvmExit(row.position))
