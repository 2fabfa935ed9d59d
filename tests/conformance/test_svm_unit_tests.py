"""svm.flat and svm_npt.flat on the bare machine: every subtest as its row says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .svm_unit_tests.runs import BOOTS, ROWS, Boot, perform, verdicts

SUBTESTS = {"svm": 64, "svm_npt": 11}


def rows_of(boot: Boot):
    return [row for row in ROWS if row.boot == boot.name]


@pytest.fixture
def folder(kvm_unit_tests: Path | None) -> Path:
    """Where the images are."""
    if kvm_unit_tests is None:
        pytest.skip("neither --kvm-unit-tests nor NESTLING_KVM_UNIT_TESTS names a folder of images")
    return kvm_unit_tests


@pytest.mark.conformance
@pytest.mark.parametrize("boot", BOOTS, ids=[boot.name for boot in BOOTS])
def test_subtests_print_what_their_rows_say(boot, folder):
    rows = rows_of(boot)
    outcome, text = perform(boot, [row.name for row in rows], folder)
    found = Counter((subtest, verdict) for subtest, verdict, _ in verdicts(text))
    expected = Counter()
    for row in rows:
        expected[row.name, "PASS"] = row.passes
        expected[row.name, "FAIL"] = row.fails
        expected[row.name, "SKIP"] = row.skips

    assert +expected == found
    assert outcome.status == (3 if any(row.fails for row in rows) else 1)


@pytest.mark.parametrize("image", SUBTESTS)
def test_every_subtest_has_a_row(image):
    boots = {boot.name for boot in BOOTS if boot.image == image}

    assert SUBTESTS[image] == len({row.name for row in ROWS if row.boot in boots})


def test_what_is_not_green_has_its_reason():
    green = [row for row in ROWS if row.passes and not row.fails and not row.skips]
    silent = [row for row in ROWS if "lbrv" in row.name]

    assert all(row.reason for row in ROWS if row not in green and row not in silent)
    assert not any(row.reason for row in (*green, *silent))
