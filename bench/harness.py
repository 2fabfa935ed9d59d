"""How things are timed: what is compared takes turns, and the median of the rounds counts.

A benchmark module is `bench/bench_<name>.py`: its docstring's first line is the question, and
`figures()` yields what was found. Compilation is never inside a timed round, except where it is
what is asked about.
"""

import importlib
import os
import pkgutil
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import bench
from vmcs.jit import Tiered

ROUNDS = 7
LEAST_SECONDS = 0.02
"""How long one candidate runs in a round: shorter than that says little about it."""


@dataclass(frozen=True)
class Figure:
    """One measured number; `ratio` is that to the figure called `against` of the same group."""

    group: str
    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str = ""
    note: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median, the fastest and the slowest of the rounds."""

    median: float
    fastest: float
    slowest: float


def time_of(function: Callable[[], object], calls: int) -> float:
    """Seconds that one call takes, over `calls` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def compared(
    candidates: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, Timing]:
    """Time candidates in turns, round by round, so that a busy machine slows all alike.

    Each is called twice before: once to load and compile what it needs, once to see how often it
    is to be called in a round.
    """
    calls = {}
    for name, function in candidates.items():
        function()
        calls[name] = max(1, int(LEAST_SECONDS / max(time_of(function, 1), 1e-9)))
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            taken[name].append(time_of(function, calls[name]))
    return {
        name: Timing(statistics.median(seconds), min(seconds), max(seconds))
        for name, seconds in taken.items()
    }


def skip_first_tiers(*modules: ModuleType) -> None:
    """Compile what would first run as Python for a while, so that only the compiled is timed."""
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Tiered):
                value.compiled()


def names() -> list[str]:
    """Names of the benchmarks, without `bench_`."""
    modules = pkgutil.iter_modules(bench.__path__)
    return sorted(m.name.removeprefix("bench_") for m in modules if m.name.startswith("bench_"))


def question(name: str) -> str:
    """What a benchmark asks."""
    module = importlib.import_module(f"bench.bench_{name}")
    return (module.__doc__ or name).splitlines()[0]


def run(name: str) -> Iterator[Figure]:
    """The figures of a benchmark, each as soon as it is known."""
    yield from importlib.import_module(f"bench.bench_{name}").figures()


def machine() -> dict[str, str]:
    """What the figures depend on: processor, versions, and how busy the machine is."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="ascii", errors="replace") if cpuinfo.exists() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "processors": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "memory": f"{available_memory() / 2**30:.0f} GiB free",
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
    }


def available_memory() -> int:
    """Bytes of memory that can be used without swapping; 0 where the system does not say."""
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text(encoding="ascii").splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def as_line(figure: Figure) -> str:
    """A figure as a line of text."""
    line = f"  {figure.name:<40} {figure.value:>10.4g} {figure.unit:<10}"
    if figure.ratio is not None:
        line += f" {figure.ratio:>6.2f} x {figure.against}"
    return f"{line}  {figure.note}".rstrip()


def as_json(name: str, figure: Figure) -> dict[str, object]:
    """A figure as an object, with the benchmark that it belongs to."""
    return {"bench": name, **asdict(figure)}
