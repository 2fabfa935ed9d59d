"""The compiled processor: every handler of every family, built once and loaded from the cache."""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from emu.cpu.compiler import backend, cache

FAMILIES = (
    "plumbing",
    "arith",
    "moves",
    "shifts",
    "multiply",
    "branches",
    "stack",
    "strings",
    "bits",
    "decimal",
    "pairs",
    "flagops",
    "privileged",
    "control_structure",
    "sse_moves",
    "sse_integer",
    "sse_shuffle",
    "sse_float",
    "sse_convert",
    "sse_fused",
)
"""Modules of `emu.cpu.insns`, each with a table FAMILY."""

SHARDS = 150  # handlers a translation unit has at most: units compile in parallel


class Program(NamedTuple):
    """Compiled code in this process."""

    engine: backend.Engine
    handlers: dict[str, int]  # name to number
    addresses: list[int]  # number to address
    enter: Any
    enter_at: Any
    shared: list[str]  # functions that all handlers share

    def call(self, name: str, words: int) -> Callable[..., int]:
        """A restricted function as machine code, of so many words: the state's address first."""
        kinds = [ctypes.c_uint64] * (words + 1)
        return ctypes.CFUNCTYPE(*kinds)(self.engine.address(f"call_{name}"))


@functools.cache
def rows() -> dict[str, Any]:
    """Every row of every family, by family."""
    return {name: importlib.import_module(f"emu.cpu.insns.{name}").FAMILY for name in FAMILIES}


@functools.cache
def specialisations() -> dict[str, Any]:
    """Every handler by name, for plain execution and for compiling."""
    from emu.cpu.insns.rows import handlers  # noqa: PLC0415 - not needed when loading

    found: dict[str, Any] = {}
    for family in rows().values():
        for row in family:
            for handler in handlers(row):
                if handler.name in found:
                    raise ValueError(f"handler {handler.name} is defined twice")
                found[handler.name] = handler
    return found


def source_digest() -> str:
    """A name for everything that the compiled code is made from."""
    root = Path(__file__).parent
    files = sorted(root.rglob("*.py"))
    texts = [part for f in files for part in (str(f.relative_to(root)), f.read_bytes())]
    return cache.digest([*backend.host(), sys.version, *texts])


def build(progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Compile what is not in the cache; return the manifest: objects and tables."""
    from emu.cpu import derive, transfer  # noqa: PLC0415
    from emu.cpu.compiler.unit import Unit, shared_unit  # noqa: PLC0415
    from emu.cpu.compiler.words import Restricted  # noqa: PLC0415
    from emu.cpu.delivery import deliver, take_fault  # noqa: PLC0415
    from emu.cpu.dispatch import ENTRY_IR, jump  # noqa: PLC0415
    from emu.cpu.insns.rows import handlers  # noqa: PLC0415
    from emu.cpu.state import CPU, UOP  # noqa: PLC0415

    specialisations()
    units: list[Unit] = []
    names: list[str] = []
    jobs: list[Future[str]] = []
    # what Python and the entries call themselves
    seeds: tuple[Any, ...] = (jump, take_fault, deliver, *derive.CALLED, *transfer.CALLED)
    calls: dict[str, Restricted] = {seed.name: seed for seed in seeds}
    done = 0

    def finished(_: Future[str]) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def submit(text: str) -> None:
            jobs.append(pool.submit(compiled, text))
            jobs[-1].add_done_callback(finished)

        everything = [
            (f"{family}{start // SHARDS}", part[start : start + SHARDS])
            for family, table in rows().items()
            for part in [[handler for row in table for handler in handlers(row)]]
            for start in range(0, len(part), SHARDS)
        ]
        total = len(everything) + 1
        for name, part in everything:
            unit = Unit(name, CPU, UOP)
            for handler in part:
                unit.add_handler(handler.name, handler.function, handler.constants)
                names.append(handler.name)
            units.append(unit)
            calls.update(unit.calls)
            submit(unit.text())
        shared = shared_unit(calls.values(), CPU, UOP)
        submit(shared.text(entry_ir(ENTRY_IR, CPU)))
        return {
            "objects": [job.result() for job in jobs],
            "tables": [(f"table_{unit.name}", len(unit.handlers)) for unit in units],
            "names": names,
            "shared": sorted(shared.defined),
        }


def entry_ir(template: str, cpu: Any) -> str:
    """The two functions that Python calls: the registers of the handlers are loaded from state."""
    from emu.cpu.compiler.values import REGISTERS  # noqa: PLC0415

    lines = []
    words = []
    for register in REGISTERS:
        field = "rip" if register == "ea" else register
        offset = cpu.places[field].offset
        lines.append(f"  %p_{register} = getelementptr i8, ptr %cpu, i64 {offset}")
        lines.append(f"  %{register} = load i64, ptr %p_{register}")
        words.append(f"i64 %{register}")
    return template.format(loads="\n".join(lines), words=", ".join(words))


def compiled(text: str) -> str:
    """The cache entry with the object code of a module, made if need be."""
    name = "o-" + cache.digest([text, *backend.key()])
    if cache.read(name) is None:
        run = subprocess.run(
            [sys.executable, "-m", "emu.cpu.compiler.worker"],
            input=text.encode(),
            stdout=subprocess.PIPE,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        cache.write(name, run.stdout)
        MADE[name] = run.stdout
    return name


MADE: dict[str, bytes] = {}
"""Objects made by this process, for when the cache directory cannot be written."""


def load() -> tuple[dict[str, Any], list[bytes]]:
    """The manifest and the objects that the cache has; empty ones when it lacks any."""
    stored = cache.read("m-" + source_digest())
    manifest: dict[str, Any] = json.loads(stored) if stored is not None else {}
    found = [cache.read(name) for name in manifest.get("objects", ())]
    objects = [data for data in found if data is not None]
    return (manifest, objects) if len(objects) == len(found) else ({}, [])


def is_compiled() -> bool:
    """Whether `program` finds everything in the cache, so that a start takes no time."""
    return bool(load()[0])


@functools.cache
def program() -> Program:
    """The compiled code, from the cache when it has it."""
    manifest, objects = load()
    if not manifest:
        manifest = build(show_progress if sys.stderr and sys.stderr.isatty() else None)
        objects = [cache.read(name) or MADE[name] for name in manifest["objects"]]
        cache.write("m-" + source_digest(), json.dumps(manifest).encode())
    engine = backend.Engine(objects)
    addresses = [
        address for table, count in manifest["tables"] for address in engine.words(table, count)
    ]
    word = ctypes.c_uint64
    return Program(
        engine,
        {name: number for number, name in enumerate(manifest["names"])},
        addresses,
        ctypes.CFUNCTYPE(word, word)(engine.address("enter")),
        ctypes.CFUNCTYPE(word, word, word)(engine.address("enter_at")),
        manifest["shared"],
    )


def show_progress(done: int, total: int) -> None:
    """A line on a terminal while the first start compiles."""
    end = "\n" if done == total else ""
    sys.stderr.write(f"\rcompiling the processor: {done}/{total}{end}")
    sys.stderr.flush()


@functools.cache
def handler_names() -> list[str]:
    """Handler names by number."""
    return list(program().handlers)
