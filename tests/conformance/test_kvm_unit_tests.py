"""kvm-unit-tests images end as on hardware, subtest by subtest."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from .kvm_unit_tests.runs import RUNS, Run, perform, verdicts

EXPECTED = json.loads(
    gzip.decompress((Path(__file__).parent / "kvm_unit_tests" / "verdicts.json.gz").read_bytes())
)


def case(run: Run):
    marks = [pytest.mark.conformance] if run.slow else []
    return pytest.param(run, id=run.name, marks=marks)


@pytest.fixture
def folder(kvm_unit_tests: Path | None) -> Path:
    """Where the images are."""
    if kvm_unit_tests is None:
        pytest.skip("neither --kvm-unit-tests nor NESTLING_KVM_UNIT_TESTS names a folder of images")
    return kvm_unit_tests


@pytest.mark.parametrize("run", [case(run) for run in RUNS])
def test_an_image_ends_as_on_hardware(run, folder):
    outcome, text = perform(run, folder)

    assert EXPECTED[run.name] == verdicts(run, text)
    assert run.status == outcome.status
    assert [] == [line for line in run.says if line not in text]


def test_every_run_has_its_verdicts_and_no_run_is_forgotten():
    assert {run.name for run in RUNS} == EXPECTED.keys()


def test_hardware_fails_no_subtest():
    assert {"PASS", "SKIP"} == {word for lines in EXPECTED.values() for word, _ in lines}
