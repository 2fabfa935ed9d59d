"""What compiling costs the first time, and what a start costs after that."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness import Figure

ROOT = Path(__file__).parents[1]
ROUNDS = 3

WARM = "from vmcs.warm import warm; warm(packages=('vmcs', 'emu'))"
FIRST_REMAP = """
from vmcs.batch import VMCS, VMCS12, VmcsBatch
from vmcs.batch.kernels import copy_anew
copy_anew.compiled()
"""
PLAIN_REMAP = """
from vmcs.batch import VMCS, VMCS12, VmcsBatch
VmcsBatch(VMCS12, 1).remapped(VMCS)
"""
GUEST_INSTRUCTION = """
from emu.cpu.cpu import Cpu
from emu.memory import PhysicalMemory
memory = PhysicalMemory()
memory.add_rom(0xFFFFF000, 0x1000)
memory.load(0xFFFFFFF0, b"\\xf4")
Cpu(memory).run(1)
"""
STARTS = {
    "python": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import numba": ["-c", "import numba"],
    "import vmcs.batch": ["-c", "import vmcs.batch"],
    "remap one vCPU, as Python": ["-c", PLAIN_REMAP],
    "load one kernel from the cache": ["-c", FIRST_REMAP],
    "nestling --version": ["-m", "emu", "--version"],
    "run one guest instruction": ["-c", GUEST_INSTRUCTION],
}


def seconds(arguments: list[str], cache: Path) -> float:
    """Wall time of a fresh interpreter."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, "NESTLING_CACHE_DIR": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory)
        one = seconds(["-c", FIRST_REMAP], cache / "one")
        everything = seconds(["-c", WARM], cache / "all")
        again = seconds(["-c", WARM], cache / "all")
        processor = seconds(["-c", GUEST_INSTRUCTION], cache / "all")
        group = "compiling"
        yield Figure(group, "one kernel, nothing cached", one, "s")
        yield Figure(group, "everything, nothing cached", everything, "s")
        yield Figure(group, "the processor, nothing cached", processor, "s")
        yield Figure(group, "everything, all cached", again, "s", again / everything, "the first")
        available = {
            name: arguments
            for name, arguments in STARTS.items()
            if arguments[0] != "-m" or (ROOT / arguments[1] / "__main__.py").exists()
        }
        taken: dict[str, list[float]] = {name: [] for name in available}
        for _ in range(ROUNDS):
            for name, arguments in available.items():
                taken[name].append(seconds(arguments, cache / "all"))
        bare = statistics.median(taken["python"])
        for name, rounds in taken.items():
            median = statistics.median(rounds)
            yield Figure("starts", name, median, "s", median / bare, "python")
