"""vmx.flat on the bare machine: every subtest as its row says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .vmx_unit_tests.runs import BOOTS, NOT_RUN, ROWS, perform, verdicts

SUBTESTS, EPT_ACCESS = 96, 26


@pytest.fixture
def folder(kvm_unit_tests: Path | None) -> Path:
    """Where the images are."""
    if kvm_unit_tests is None:
        pytest.skip("neither --kvm-unit-tests nor NESTLING_KVM_UNIT_TESTS names a folder of images")
    return kvm_unit_tests


@pytest.mark.conformance
@pytest.mark.parametrize("boot", BOOTS, ids=[boot.name for boot in BOOTS])
def test_subtests_print_what_their_rows_say(boot, folder):
    rows = [row for row in ROWS if row.boot == boot.name]
    outcome, text = perform(boot, [row.name for row in rows], folder)
    found = Counter(verdicts(text))
    expected = Counter()
    for row in rows:
        expected[row.name, "PASS"] = row.passes
        expected[row.name, "SKIP"] = row.skips
        expected[row.name, "XPASS"] = row.expected_failures

    assert +expected == found
    assert boot.status == outcome.status


def test_every_subtest_has_a_row_or_a_reason():
    excused = [name for names in NOT_RUN.values() for name in names]
    count = len(ROWS) + len(excused) - 1 + EPT_ACCESS

    assert SUBTESTS == count
    assert [] == [row.name for row in ROWS if row.name in excused]


def test_what_is_not_green_has_its_reason():
    assert all(bool(row.skips or row.expected_failures) == bool(row.reason) for row in ROWS)
