"""Ten million mutated states: the batched judge, the naive oracle and the ioctls agree.

`MUTATIONS` in the environment says how many in all; they are drawn from a fixed seed.
"""

import os
import sys
import time

import numpy as np
import pytest

from emu.errors import KvmError
from emu.migration.batch import BatchJudge
from emu.migration.capture import shipped
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.judge import judge
from emu.migration.matrix import kernel_of
from emu.migration.rulebook import rule_named
from emu.releases import RELEASES, release
from tests.emu.migration.fuzzing import FIELDS, HEADER, expected_walk, fresh_vcpu
from vmcs.checks import Kind

pytestmark = pytest.mark.conformance

MUTATIONS = int(os.environ.get("MUTATIONS", "10000000"))
BATCH = 16_384
# Of each batch: states that go through the naive walk, and through the ioctls of a vCPU.
NAIVE, IOCTLS = 8, 96
STATES = ("vmx-l2-running", "vmx-l2-entry-pending", "svm-l2-running", "svm-l2-entry-pending")
SEED = 20181108
EDGES = np.array([0, 1, 0x7F, 0x80, 0xFF], np.uint8)


def releases_of(capture):
    fact = "svm_rules" if capture.vendor == "amd" else "vmx_rules"
    return [name for name, kernel in RELEASES.items() if kernel.names(fact)]


def takes(capture, name):
    return kernel_of(release(name), capture).check_extension(157) > 0


CASES = [
    (state, name)
    for state in STATES
    for name in releases_of(shipped()[state])
    if takes(shipped()[state], name)
]
SHARE = -(-MUTATIONS // len(CASES))


class Mutator:
    """Mutated copies of a state: up to five words of it flipped, filled or replaced.

    Half of the words are members that a rule reads, a quarter stand in the header, a quarter
    anywhere.
    """

    def __init__(self, capture, width, seed):
        self.random = np.random.default_rng(seed)
        self.width = width
        self.base = np.zeros(width, np.uint8)
        self.base[: len(capture.blob)] = np.frombuffer(capture.blob, np.uint8)
        fields = sorted(set(FIELDS[capture.format.name.lower()].values()))
        self.fields = np.array([place for place in fields if sum(place) <= width])
        self.header = np.array(HEADER)

    def batch(self, count):
        random = self.random
        blobs = np.tile(self.base, (count, 1))
        rows = np.repeat(np.arange(count), random.integers(1, 6, count))
        total = len(rows)
        kind = random.integers(0, 4, total)
        member = self.fields[random.integers(0, len(self.fields), total)]
        header = self.header[random.integers(0, len(self.header), total)]
        offset = np.where(kind < 2, member[:, 0], header[:, 0])
        width = np.where(kind < 2, member[:, 1], header[:, 1])
        at = np.where(kind == 3, random.integers(0, self.width, total), 0)
        offset = np.where(kind == 3, at, offset + random.integers(0, 64, total) % width)
        how = random.integers(0, 3, total)
        flipped = blobs[rows, offset] ^ (1 << random.integers(0, 8, total)).astype(np.uint8)
        filled = EDGES[random.integers(0, len(EDGES), total)]
        drawn = random.integers(0, 256, total, np.uint8)
        blobs[rows, offset] = np.choose(how, [flipped, filled, drawn])
        return blobs


def asked(kvm, capture, blob):
    """Name of the rule that a vCPU's ioctl refuses `blob` by; "" where it takes it."""
    vcpu = new_vcpu(kvm)
    load_registers(vcpu, capture)
    try:
        result = load_state(vcpu, blob)
    except KvmError as error:
        return error.rule
    handed_out = vcpu.get_nested_state()
    if not result and vcpu.operations.in_guest_mode:
        again = new_vcpu(kvm)
        load_registers(again, capture)
        assert load_state(again, handed_out) == 0
        assert handed_out == again.get_nested_state()
    return vcpu.entry_refusal[0] if result else ""


@pytest.fixture(scope="module")
def progress():
    """A line on stderr every few seconds: done, of how many, a second."""
    start, shown, done = time.monotonic(), [time.monotonic()], [0]

    def advance(count):
        done[0] += count
        now = time.monotonic()
        if now - shown[0] > 10 or done[0] >= SHARE * len(CASES):
            shown[0] = now
            rate = done[0] / max(now - start, 0.001)
            text = f"{done[0]:,} of {SHARE * len(CASES):,} mutations, {rate:,.0f} a second\n"
            sys.stderr.write(text)

    return advance


@pytest.mark.parametrize(("state", "kernel"), CASES)
def test_mutations_are_refused_by_one_name_whoever_is_asked(state, kernel, progress):
    capture, number = shipped()[state], CASES.index((state, kernel))
    kvm = kernel_of(release(kernel), capture)
    batched = BatchJudge(kvm, capture)
    mutator = Mutator(capture, batched.width, (SEED, number))
    vcpu = fresh_vcpu(kernel, state)
    names = np.array(
        [row.name if row.kind is Kind.CHECK else "" for row in batched.rows] + [""], dtype=object
    )
    refused, left = set(), SHARE
    while left:
        count = min(BATCH, left)
        blobs = mutator.batch(count)
        stops = batched.stops(blobs)
        rules = names[stops]
        refused |= set(rules)
        for i in range(min(NAIVE, count)):
            assert (
                rules[i] == expected_walk(vcpu, capture.format.name.lower(), blobs[i].tobytes())[0]
            )
        for i in range(min(IOCTLS, count)):
            assert rules[i] == asked(kvm, capture, blobs[i].tobytes())
        verdict = judge(capture.with_blob(blobs[0].tobytes()), kvm)
        assert rules[0] == (verdict.rule or (verdict.findings[0].rule if verdict.result else ""))
        left -= count
        progress(count)

    assert all(rule_named(name) is not None for name in refused if name)
    assert len(refused) > min(10, SHARE // 2000)
