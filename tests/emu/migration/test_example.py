"""Every example of a broken rule is one: the changed word makes the check fail."""

import pytest

from emu.kvm.nested_svm.rules import SET_RULES
from emu.kvm.nested_vmx.rules import SET_PROGRAM
from emu.migration.example import breaking, example
from emu.migration.rulebook import explained, rule_named, rules_named
from tests.reference.naive_checks import true_of
from vmcs.checks import Kind, Predicate, Shape
from vmcs.vmx.entry_checks import CONTROL_CHECKS, GUEST_STATE_CHECKS, HOST_STATE_CHECKS

CHECKS = [
    row
    for table in (SET_PROGRAM, SET_RULES, CONTROL_CHECKS, HOST_STATE_CHECKS, GUEST_STATE_CHECKS)
    for row in table
    if row.kind is Kind.CHECK
]


@pytest.mark.parametrize("start", [0, 0x5A5A_5A5A, (1 << 64) - 1])
def test_the_changed_word_breaks_the_check(start):
    """Limits are given values that can be broken: an address width, sets and masks with both."""
    broken = 0
    for row in CHECKS:
        values = dict.fromkeys(row.words, 0xFFF0)
        values |= {name: 48 for name in row.words if name.endswith("_WIDTH")}
        if isinstance(row.predicate.a, str):
            values[row.predicate.a] = start
        found = breaking(row.predicate, values)
        if found is not None:
            broken += 1

            assert not true_of(row.predicate, found), row

    assert broken > 0.95 * len(CHECKS)


def test_a_check_that_nothing_breaks_has_no_example():
    assert breaking(Predicate(Shape.BITS_CLEAR, "A", 0), {"A": 1}) is None
    assert breaking(Predicate(Shape.AT_LEAST, "A", 0), {"A": 1}) is None
    assert breaking(Predicate(Shape.EQUAL, 1, 1, 1), {}) is None


def test_an_example_names_the_wrong_bits_and_the_limit():
    row = next(row for row in SET_PROGRAM if row.name == "flags_known")

    assert "FLAGS is 0x9: bit 0x8 must be 0" not in example(row, "intel", ("6.12",))
    assert example(row, "intel", ("5.6",)).startswith("FLAGS is 0x9: MTF_PENDING (0x8) must be 0")


def test_an_explained_rule_has_words_names_and_an_example():
    rule = explained(rule_named("run_pending_needs_guest_mode"))

    assert "FLAGS has every bit of GUEST_MODE (0x1)" == rule.asks
    assert "FLAGS is 0x0: GUEST_MODE (0x1) must be 1" == rule.example


def test_a_fact_and_a_member_of_a_fact_are_explained_as_well():
    [fact] = rules_named("svm_maximum_size")
    [member] = rules_named("KVM_STATE_NESTED_MTF_PENDING")

    assert {"5.8": "4224"} == fact.words
    assert ("nested_flags", "5.7") == (member.table, member.kernels[0])
    assert "kvm.h" in member.section or "kvm_arch_vcpu_ioctl" in member.section
