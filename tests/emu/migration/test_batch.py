import numpy as np
import pytest

from emu.errors import KvmError
from emu.migration.batch import BatchJudge
from emu.migration.capture import shipped_capture
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.matrix import kernel_of
from emu.releases import release

STATES = ("vmx-l2-running", "svm-l2-running")
KERNELS = ("4.20", "5.2", "5.9", "5.10.262", "6.12.115", "7.2.13")


def mutated(capture, width, count):
    random = np.random.default_rng(11)
    blobs = np.zeros((count, width), np.uint8)
    blobs[:, : len(capture.blob)] = np.frombuffer(capture.blob, np.uint8)
    for row in blobs:
        for _ in range(random.integers(0, 4)):
            row[random.integers(0, 40 if random.random() < 0.3 else width)] ^= random.integers(256)
    blobs[0:count:7, 128 + 176 : 128 + 184] = 0  # a link pointer that reads guest memory
    return blobs


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("state", STATES)
def test_a_batch_stops_where_the_ioctl_of_each_state_does(state, kernel):
    capture = shipped_capture(state)
    kvm = kernel_of(release(kernel), capture)
    if not kvm.check_extension(157):
        pytest.skip(f"Linux {kernel} has no nested state for {state}")
    judge = BatchJudge(kvm, capture)
    blobs = mutated(capture, judge.width, 120)
    rules = []
    for blob in blobs:
        vcpu = new_vcpu(kvm)
        load_registers(vcpu, capture)
        try:
            result = load_state(vcpu, blob.tobytes())
        except KvmError as error:
            rules.append(error.rule)
        else:
            rules.append(vcpu.entry_refusal[0] if result else "")
    found = [judge.rule(stop) for stop in judge.stops(blobs).tolist()]

    assert rules == [row.name if row and row.kind.name == "CHECK" else "" for row in found]
    assert len(set(rules)) > 3


def test_blobs_of_another_width_are_refused():
    capture = shipped_capture("vmx-l2-running")
    judge = BatchJudge(kernel_of(release("6.12"), capture), capture)

    with pytest.raises(ValueError, match="must be"):
        judge.stops(np.zeros((2, 100), np.uint8))
