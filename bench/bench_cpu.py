"""Guest instructions a second: the interpreter, translation, and other emulators on the same code.

Every emulator runs each loop twice, briefly and long; the rate is that of the difference, so that
neither the start of a machine nor translating counts. Seconds are processor time. Ours is the
full-featured processor: segmentation, accessed and dirty flags, dirty tracking, self-modifying code
and an exact instruction budget are on.
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from bench.emulators import Emulator, Interpreter, Translated, emulators, prepared, run_to_halt
from bench.harness import Figure
from bench.loops import CODE, LOOPS, Loop
from emu.cpu.compiler import backend, cache
from emu.cpu.cpu import Cpu
from emu.cpu.flags import AC
from emu.cpu.paging import CR0_AM
from emu.cpu.program import specialisations
from emu.cpu.regions import build
from emu.cpu.regions.emit import region_ir
from emu.cpu.regions.shape import shape
from emu.cpu.state import CS, SS

ROUNDS = 3
BRIEFLY = 20
"""How many times shorter the brief run is."""
BASE = Interpreter.name
TARGET = 0x925000  # of the copy loop


@functools.cache
def retired(loop: Loop, count: int) -> int:
    """Instructions of a run of ours."""
    cpu = prepared(loop, count)
    run_to_halt(cpu)
    return int(cpu.state.retired)


def instructions(loop: Loop, count: int) -> int:
    """Instructions of a run with any count, from three short ones."""
    if loop.name == "fib":
        less, more = retired(loop, 0), retired(loop, 1)
        calls = retired(loop, 2) - more - less
        for _ in range(count):
            less, more = more, less + more + calls
        return less
    return retired(loop, 1) + (count - 1) * (retired(loop, 2) - retired(loop, 1))


def count_for(loop: Loop, size: int) -> int:
    """The largest count that takes `size` instructions at most; a loop runs once at least."""
    if loop.name == "fib":
        return next(n for n in range(64) if instructions(loop, n + 1) > size)
    one = instructions(loop, 1)
    return max(1, 1 + (size - one) // (instructions(loop, 2) - one))


def rate(emulator: Emulator, loop: Loop) -> float:
    """Millions of instructions a second, once."""
    brief, long = (count_for(loop, emulator.size // times) for times in (BRIEFLY, 1))
    spent = emulator.seconds(loop, long) - emulator.seconds(loop, brief)
    return (instructions(loop, long) - instructions(loop, brief)) / max(spent, 1e-3) / 1e6


def compared(loop: Loop, present: list[Emulator]) -> dict[str, list[float]]:
    """The rates of some rounds, the emulators taking turns; one that hangs has fewer."""
    rates: dict[str, list[float]] = {emulator.name: [] for emulator in present}
    for _ in range(ROUNDS):
        for emulator in present:
            with contextlib.suppress(subprocess.TimeoutExpired):
                rates[emulator.name].append(rate(emulator, loop))
    return {name: values for name, values in rates.items() if values}


def speeds() -> Iterator[Figure]:
    """Each loop on each emulator, then the geometric means."""
    everyone = emulators()
    present = [emulator for emulator in everyone if not emulator.missing()]
    medians: dict[str, list[float]] = {emulator.name: [] for emulator in present}
    for loop in LOOPS:
        rates = compared(loop, present)
        base = statistics.median(rates[BASE])
        for name, values in rates.items():
            median = statistics.median(values)
            medians[name].append(median)
            note = f"{min(values):.0f} to {max(values):.0f}"
            yield Figure(
                f"{loop.name}: {loop.what}", name, median, "MIPS", median / base, BASE, note
            )
    complete = {name: values for name, values in medians.items() if len(values) == len(LOOPS)}
    means = {name: math.prod(values) ** (1 / len(LOOPS)) for name, values in complete.items()}
    for name, mean in means.items():
        yield Figure("geometric mean", name, mean, "MIPS", mean / means[BASE], BASE)
    for emulator in everyone:
        if emulator.missing():
            yield Figure("geometric mean", emulator.name, 0, "MIPS", note=emulator.missing())


# what features cost


def as_it_is(cpu: Cpu) -> None:
    """Nothing else."""


def beside_code(cpu: Cpu) -> None:
    """Every page that is written holds decoded code in its last line."""
    for page in range(TARGET >> 12, (TARGET >> 12) + 17):
        cpu.code.mark(page, 0xFC0, 0x1000)


def in_user_mode(cpu: Cpu) -> None:
    """CPL is 3."""
    state = cpu.state
    state.cpl = 3
    state.segment_rights[CS] |= 0x60
    state.segment_rights[SS] |= 0x60
    cpu.refresh()


def aligned(cpu: Cpu) -> None:
    """CPL is 3 and each access is checked for alignment, by the slow path."""
    cpu.state.cr0 |= CR0_AM
    cpu.state.rflags |= AC
    in_user_mode(cpu)


FEATURES: dict[str, Callable[[Cpu], None]] = {
    "as it is": as_it_is,
    "writes to pages with code": beside_code,
    "at CPL 3": in_user_mode,
    "at CPL 3, EFLAGS.AC and CR0.AM set": aligned,
}


def features() -> Iterator[Figure]:
    """The copy loop with features in use that are mostly not."""
    loop = next(loop for loop in LOOPS if loop.name == "copy")
    count = count_for(loop, 10_000_000)
    spent: dict[str, list[float]] = {name: [] for name in FEATURES}
    for _ in range(ROUNDS):
        for name, prepare in FEATURES.items():
            cpu = prepared(loop, count)
            cpu.code.regions = None
            prepare(cpu)
            if cpu.state.cpl == 3:
                cpu.memory.load(CODE - 0x1000, b"\xeb\xfe")  # HLT is for CPL 0
                start = time.process_time()
                cpu.run(instructions(loop, count))
                spent[name].append(time.process_time() - start)
            else:
                spent[name].append(run_to_halt(cpu))
    first = statistics.median(spent["as it is"])
    for name, seconds in spent.items():
        median = statistics.median(seconds)
        speed = instructions(loop, count) / median / 1e6
        yield Figure("copy, interpreted", name, speed, "MIPS", first / median, "as it is")


# what translating costs


def translating() -> Iterator[Figure]:
    """Milliseconds that the region of each loop takes, by step."""
    specialisations()
    for loop in LOOPS:
        cpu = prepared(loop, count_for(loop, 2_000_000))
        cpu.code.regions = None
        run_to_halt(cpu)
        head = max(cpu.code.extents, key=lambda at: cpu.code.extents[at].uops)
        with (
            tempfile.TemporaryDirectory() as directory,
            mock.patch.object(cache, "directory", return_value=Path(directory)),
        ):
            steps: list[tuple[str, Callable[[], object]]] = []
            region = shape(cpu.code, head)
            region_ir(region, specialisations())
            text = region_ir(region, specialisations())
            steps.append(("IR", lambda r=region: region_ir(r, specialisations())))
            steps.append(("LLVM", lambda t=text: backend.assemble(t, build.PASSES)))
            build.object_code(region)
            steps.append(("from the cache", lambda r=region: build.object_code(r)))
            data = build.object_code(region)
            steps.append(("linking", lambda d=data: build.linked(d)))
            size = sum(len(block.uops) for block in region.blocks)
            for name, step in steps:
                start = time.process_time()
                step()
                spent = 1e3 * (time.process_time() - start)
                yield Figure(f"translating {loop.name}", name, spent, "ms", note=f"{size} uops")


def figures() -> Iterator[Figure]:
    assert Translated.size > Interpreter.size
    yield from speeds()
    yield from features()
    yield from translating()
