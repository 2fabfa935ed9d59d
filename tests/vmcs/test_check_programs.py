import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import naive_checks
from vmcs.check_programs import (
    Vocabulary,
    compile_program,
    every_failure,
    first_stop,
    judge_records,
)
from vmcs.checks import (
    ALL_BITS,
    Kind,
    Predicate,
    Row,
    Shape,
    bits_clear,
    bits_set,
    effect,
    equal,
    has,
    let,
    returns,
)

NAMES = ("A", "B", "C", "D", "X", "Y")
EDGES = (0, 1, 7, 15, 47, 48, 57, 63, 64, 0xFF, 1 << 31, 1 << 47, 1 << 63, ALL_BITS, 0x06, 0x700)
values = st.one_of(st.sampled_from(EDGES), st.integers(0, ALL_BITS))
operands = st.one_of(st.sampled_from(NAMES[:4]), values)
sane = {
    Shape.CANONICAL: st.sampled_from((48, 57)),
    Shape.SHIFTED: values,
    Shape.MSR_AREA: st.integers(0, 2**32 - 1),
}


@st.composite
def predicates(draw):
    shape = draw(st.sampled_from(list(Shape)))
    b = draw(sane.get(shape, operands))
    c = draw(st.integers(0, 63)) if shape is Shape.SHIFTED else draw(operands)
    d = draw(st.integers(0, 63)) if shape in (Shape.MEMBER, Shape.NO_MEMBER) else draw(operands)
    return Predicate(shape, draw(operands), b, c, d)


@st.composite
def programs(draw):
    rows = []
    for i in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(list(Kind)))
        when = tuple(draw(st.lists(predicates(), max_size=2)))
        if kind is Kind.LET:
            target = draw(st.sampled_from(("X", "Y")))
            source = draw(st.sampled_from(NAMES[:4]))
            row = let(target, source, draw(values), draw(st.integers(0, 63)), when)
            rows.append(row._replace(name=f"let {i}"))
        else:
            rows.append(Row(kind, f"row {i}", "section", draw(predicates()), when))
    return rows


words_of = st.fixed_dictionaries(dict.fromkeys(NAMES, values))


def load(vocabulary, words):
    array = vocabulary.words()
    for name, value in words.items():
        array[vocabulary.index(name)] = value
    return array


@given(programs(), words_of)
def test_walk_agrees_with_the_naive_oracle(rows, words):
    vocabulary = Vocabulary(NAMES)
    program = compile_program(rows, vocabulary)
    array = load(vocabulary, words)
    met = np.zeros(1, np.int64)
    stop = program.row_at(first_stop(program.code, array, met))
    name, effects, derived = naive_checks.walk(rows, words)

    assert name == (stop.name if stop else None)
    assert effects == [row.name for bit, row in enumerate(program.effects) if met[0] >> bit & 1]
    assert derived["X"] == int(array[vocabulary.index("X")])


@given(programs(), words_of)
def test_every_failure_agrees_with_the_naive_oracle(rows, words):
    vocabulary = Vocabulary(NAMES)
    program = compile_program(rows, vocabulary)
    failed = np.zeros(len(program.rows), np.uint8)
    array = load(vocabulary, words)
    count = every_failure(program.code, array, failed)
    names = [row.name for row, bad in zip(program.rows, failed, strict=True) if bad]

    assert naive_checks.failures(rows, words) == names
    assert count == len(names)


@given(programs(), words_of)
def test_plain_python_walks_as_the_compiled_code_does(rows, words):
    vocabulary = Vocabulary(NAMES)
    program = compile_program(rows, vocabulary)
    tables = (program.code,)
    outcomes = []
    for walk in (first_stop, first_stop.plain):
        array, met = load(vocabulary, words), np.zeros(1, np.int64)
        stop = walk(*tables, array, met)
        outcomes.append((int(stop), int(met[0]), array.tolist()))
    numbers, met = load(vocabulary, words).tolist(), [0]
    stop = first_stop.over_integers()(*(table.tolist() for table in tables), numbers, met)
    outcomes.append((stop, met[0], numbers))

    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert all(type(number) is int for number in numbers)


def test_records_are_judged_as_single_walks_are():
    vocabulary = Vocabulary(NAMES)
    rows = [
        bits_clear("high", "s", "A", 0xFF00_0000),
        equal("same", "s", "B", "C"),
        effect("met", "s"),
        bits_set("limit", "s", "D", 1, has("A", 2)),
    ]
    program = compile_program(rows, vocabulary)
    random = np.random.default_rng(7)
    records = random.integers(0, 256, (500, 16), np.uint8)
    records[:, 3] &= random.integers(0, 2, 500, np.uint8)
    records[::2, 4:6] = records[::2, 8:10]
    places = ((0, 4, "A"), (4, 2, "B"), (8, 2, "C"), (12, 1, "D"))
    fields = np.array(
        [x for at, width, name in places for x in (at, width, vocabulary.index(name))]
    )
    stops = np.zeros(len(records), np.int64)
    judge_records(records, fields, vocabulary.words(), program.code, stops)
    expected = []
    for record in records:
        raw = record.tobytes()
        words = dict.fromkeys(NAMES, 0)
        for offset, width, name in places:
            words[name] = int.from_bytes(raw[offset : offset + width], "little")
        name = naive_checks.walk(rows, words)[0]
        expected.append([row.name for row in rows].index(name) if name else len(rows))

    assert expected == stops.tolist()
    assert set(expected) == {0, 1, 3, 4}


def test_unknown_words_and_repeated_names_are_refused():
    vocabulary = Vocabulary(NAMES)

    with pytest.raises(ValueError, match="row 'a' names an unknown word 'NOWHERE'"):
        compile_program([bits_clear("a", "s", "NOWHERE", 1)], vocabulary)
    with pytest.raises(ValueError, match="two rows are named 'a'"):
        compile_program([bits_clear("a", "s", "A", 1)] * 2, vocabulary)
    with pytest.raises(ValueError, match="no row is named missing"):
        compile_program([bits_clear("a", "s", "A", 1)], vocabulary).only({"missing"})
    with pytest.raises(ValueError, match="a word is named twice: A"):
        Vocabulary(("A", "A"))


def test_only_enforced_rows_and_derived_words_are_kept():
    rows = [let("X", "A"), bits_clear("a", "s", "X", 1), bits_clear("b", "s", "X", 2)]
    program = compile_program(rows, Vocabulary(NAMES)).only({"b"})

    assert [row.name for row in program.rows] == ["let X", "b"]


def test_a_return_hides_what_stands_behind_it():
    rows = [returns("done", "s", has("A", 1)), bits_clear("late", "s", "A", 1)]
    vocabulary = Vocabulary(NAMES)
    program = compile_program(rows, vocabulary)
    words = load(vocabulary, {"A": 1})
    failed = np.zeros(2, np.uint8)

    assert every_failure(program.code, words, failed) == 0
    assert first_stop(program.code, words, np.zeros(1, np.int64)) == 0
