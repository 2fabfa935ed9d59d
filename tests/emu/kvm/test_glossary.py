"""Refusals are worded with the names that the tables have for words and bits."""

import pytest

from emu.kvm import glossary
from emu.kvm.nested_svm.rules import SET_RULES
from emu.kvm.nested_svm.words import WORDS as SVM_WORDS
from emu.kvm.nested_vmx.rules import SET_PROGRAM
from emu.kvm.nested_vmx.words import NAMES as VMX_WORDS
from emu.kvm.sregs_rules import SREGS_RULES
from emu.kvm.sregs_rules import WORDS as SREGS_WORDS
from vmcs.checks import Kind
from vmcs.failures import explain_failure

PROGRAMS = (
    (glossary.of_vmx, VMX_WORDS, SET_PROGRAM),
    (glossary.of_svm, SVM_WORDS, SET_RULES),
    (glossary.of_sregs, SREGS_WORDS, SREGS_RULES),
)


@pytest.mark.parametrize(("source", "words", "_rows"), PROGRAMS)
def test_a_glossary_speaks_of_words_of_its_program(source, words, _rows):
    known = source()

    assert set(words) >= {name for name in known.meanings if known.meanings[name]}
    assert all(known.names(name, 0) == () for name in known.tables)


def test_bits_are_named_and_the_rest_follows_as_a_mask():
    known = glossary.of_vmx()

    assert ("MTF_PENDING",) == known.names("FLAGS", 8)
    assert ("RUN_PENDING", "MTF_PENDING", "bits 0x40") == known.names("FLAGS", 0x4A)
    assert ("PE", "PG") == known.names("GUEST_CR0", 0x8000_0001)
    assert () == known.names("FLAGS", 0x40)
    assert () == known.names("HOST_RIP", 1)
    assert "flags that the release's ioctl layer does not know" == known.meaning("UNKNOWN_FLAGS")


@pytest.mark.parametrize(("source", "words", "rows"), PROGRAMS)
def test_every_check_can_be_worded(source, words, rows):
    known = source()
    zero, ones = dict.fromkeys(words, 0), dict.fromkeys(words, (1 << 64) - 1)

    for row in rows:
        if row.kind is Kind.CHECK:
            for values in (zero, ones):
                text = explain_failure(row.predicate, values, known.names, known.meaning)

                assert str(row.predicate.a) in text
                assert "\n" not in text
