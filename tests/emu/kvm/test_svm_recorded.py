"""A share of the recorded verdicts of real kernels on AMD; `make conformance` replays them all."""

import pytest

from emu.conform.recorded import read_recording
from emu.conform.run import replay
from tests.emu.kvm.svm_support import DATA

RELEASES = ("5.10", "6.1", "6.12", "6.18", "7.2")
ONE_IN = 20


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", ["svm", "seq-svm"])
def test_the_emulated_kernel_answers_as_the_recorded_one(kind, release):
    recording = read_recording(DATA / f"{kind}-{release}.json.gz")
    made = replay(recording, only=lambda case: case["id"] % ONE_IN == 0)

    assert [] == made.disagreements
    assert made.cases > len(recording.cases) // (2 * ONE_IN)
