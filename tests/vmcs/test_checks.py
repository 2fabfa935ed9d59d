import pytest

from vmcs import checks
from vmcs.checks import Kind, Predicate, Shape, bits_clear, describe, equal, has, under


@pytest.mark.parametrize("shape", list(Shape), ids=lambda shape: shape.name)
def test_every_shape_can_be_described(shape):
    text = describe(Predicate(shape, "A", "B", "C", "D"), {"A": 0x123})

    assert "A (0x123)" in text


def test_describe_names_constants_in_hexadecimal():
    assert describe(Predicate(Shape.BITS_CLEAR, "A", 0xF0)) == "A has no bit of 0xf0"
    assert describe(checks.has_any("A")) == "A is not zero"


def test_a_group_says_its_section_once():
    rows = under("Group", bits_clear("a", "", "A", 1), bits_clear("b", "Own", "A", 1))

    assert ["Group", "Own"] == [row.section for row in rows]


def test_a_row_knows_the_words_that_it_reads():
    row = equal("a", "s", "A", "B", 0xFF, has("C", 1), 22)

    assert (Kind.CHECK, ("A", "B"), 22) == (row.kind, row.words, row.result)
    assert (has("C", 1),) == row.when
