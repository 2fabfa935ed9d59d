"""Recorded streams and kernel blobs that the tests of this package share."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "data"


def recorded(name: str) -> bytes:
    """A stream that a real QEMU wrote; see tests/data/README.md."""
    return gzip.decompress((DATA / name).read_bytes())


@pytest.fixture(scope="session")
def q35() -> bytes:
    """QEMU 7.2: q35, two vCPUs with SVM, zero and whole pages, with a vmdescription."""
    return recorded("qemu-7.2-q35-2-vcpus.stream.gz")


@pytest.fixture(scope="session")
def ignore_shared() -> bytes:
    """QEMU 7.2: pc, one vCPU, x-ignore-shared, without a vmdescription."""
    return recorded("qemu-7.2-pc-ignore-shared.stream.gz")


@pytest.fixture
def tracked_peak():
    """Peak of the bytes that Python allocates while a function runs."""

    def measure(function: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            function()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure
