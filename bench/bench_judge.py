"""Verdicts a second: the batched judge, the object interface, and one rule book in plain Python."""

from collections.abc import Iterator

import numpy as np

from bench.harness import Figure, compared
from emu.kvm.rule_program import Patience
from emu.migration.batch import BatchJudge
from emu.migration.capture import shipped_capture
from emu.migration.guest import load_registers, new_vcpu
from emu.migration.matrix import kernel_of
from emu.releases import release
from tests.reference import naive_checks

COUNT = 65_536
SERIAL = 200
STATES = ("vmx-l2-running", "svm-l2-running")
KERNELS = ("5.10.262", "6.12.115", "7.2.13")


def judged(state: str, kernel: str) -> Iterator[Figure]:
    """Rates of one state on one kernel; every check of the program is walked, for it is taken."""
    capture = shipped_capture(state)
    kvm = kernel_of(release(kernel), capture)
    judge = BatchJudge(kvm, capture)
    blob = bytearray(capture.blob).ljust(judge.width, b"\0")
    blobs = np.tile(np.frombuffer(blob, np.uint8), (COUNT, 1))
    assert judge.stops(blobs[:8]).tolist() == [len(judge.rows)] * 8
    vcpu = new_vcpu(kvm)
    load_registers(vcpu, capture)
    Patience.left = 0
    prepared = vcpu.operations.prepared_walk(memoryview(blob))
    vocabulary = prepared.program.vocabulary
    prepared.program.walk_record(prepared.record, prepared.words)
    words = {name: int(prepared.words[vocabulary.index(name)]) for name in vocabulary.names}

    def set_and_get() -> None:
        for _ in range(SERIAL):
            vcpu.set_nested_state(blob)
            vcpu.get_nested_state()

    def naive() -> None:
        for _ in range(SERIAL):
            naive_checks.walk(judge.rows, words)

    timings = compared(
        {
            "batched judge": lambda: judge.stops(blobs),
            "SET and GET of one vCPU": set_and_get,
            "checks alone, naive Python": naive,
        }
    )
    each = {name: t.median / (COUNT if name == "batched judge" else SERIAL)
            for name, t in timings.items()}  # fmt: skip
    against = "checks alone, naive Python"
    group = f"{state} on Linux {kernel}, {len(judge.rows)} rows"
    for name, seconds in each.items():
        yield Figure(group, name, 1 / seconds, "/s", each[against] / seconds, against)


def figures() -> Iterator[Figure]:
    for state in STATES:
        for kernel in KERNELS:
            yield from judged(state, kernel)
