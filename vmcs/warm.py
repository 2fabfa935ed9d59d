"""Compiling everything ahead: what an installation does once, and a command line asks for first.

The jitted functions are those of the modules that use the decorator; they are found by looking
into the sources of the given packages. Several processes compile side by side, since numba compiles
one function at a time in each.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vmcs import jitcache
from vmcs.jit import Jitted, jit_disabled

Progress = Callable[[int, int, str], None]

PACKAGES = ("vmcs",)
DECORATOR = "\n@jit("
WORKERS = 4
"""Most processes that compile side by side; fewer where the machine has fewer processors."""


DONE = "done"


class WarmError(RuntimeError):
    """A function did not compile; the message is the compiler's."""


def jitted_sources(packages: Sequence[str] = PACKAGES) -> dict[str, Path]:
    """Source files of the modules of `packages` that use the decorator, by module name."""
    sources: dict[str, Path] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        for root in () if spec is None else spec.submodule_search_locations or ():
            for path in sorted(Path(root).rglob("*.py")):
                if DECORATOR in path.read_text(encoding="utf-8"):
                    inside = path.relative_to(root).with_suffix("").parts
                    parts = inside[:-1] if inside[-1] == "__init__" else inside
                    sources[".".join((package, *parts))] = path
    return sources


def jitted_functions(packages: Sequence[str] = PACKAGES) -> Iterator[Jitted[object]]:
    """Every jitted function of `packages` that this machine can run, module by module."""
    for module in jitted_sources(packages):
        for value in vars(importlib.import_module(module)).values():
            if (
                isinstance(value, Jitted)
                and value.py_func.__module__ == module
                and not value.missing()
            ):
                yield value


def is_warm(packages: Sequence[str] = PACKAGES) -> bool:
    """Whether `warm` has been through these sources on this machine; does not load the compiler."""
    if jit_disabled():
        return True
    directory = jitcache.machine_directory()
    return directory is not None and (directory / _marker(packages)).exists()


def warm(progress: Progress | None = None, packages: Sequence[str] = PACKAGES) -> int:
    """Compile every jitted function of `packages` that the cache does not have; returns how many.

    `progress` is called with the number done, the number to do and the function just done, one call
    at a time but from other threads. Without a cache that can be written, the functions are
    compiled into this process. Raises WarmError.
    """
    if jit_disabled():
        return 0
    directory = jitcache.machine_directory()
    if directory is None:
        return _compile_here(list(jitted_functions(packages)), progress)
    missing = [function for function in jitted_functions(packages) if not _is_kept(function)]
    if missing:
        _compile_in_processes(missing, progress)
    (directory / _marker(packages)).touch()
    _forget_old_markers(directory)
    return len(missing)


def _marker(packages: Sequence[str]) -> str:
    sources = jitted_sources(packages)
    contents = (path.read_text(encoding="utf-8") for path in sources.values())
    return f"warm-{jitcache.digest(*sources, *contents)[:32]}"


def _forget_old_markers(directory: Path) -> None:
    aged = []
    for path in directory.glob("warm-*"):
        with contextlib.suppress(OSError):
            aged.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(aged)[: -jitcache.KEPT]:
        path.unlink(missing_ok=True)


def _is_kept(function: Jitted[object]) -> bool:
    directory = jitcache.function_directory(function.name, function.fingerprint())
    return directory is not None and any(directory.rglob("*.nbc"))


def _compile_here(functions: Sequence[Jitted[object]], progress: Progress | None) -> int:
    for done, function in enumerate(functions, 1):
        function.compiled()
        if progress is not None:
            progress(done, len(functions), function.name)
    return len(functions)


class _Queue:
    """Functions that wait to be compiled; one is handed out when all that it calls are done.

    A function that calls another one contains it, so compiling both at a time does the work twice.
    """

    def __init__(self, functions: Sequence[Jitted[object]], progress: Progress | None) -> None:
        self.changed = threading.Condition()
        self.waiting = {function.name: function.callees() for function in functions}
        self.total = len(self.waiting)
        self.compiling: set[str] = set()
        self.failure = ""
        self.progress = progress

    def take(self) -> str | None:
        """The next function that is ready; None when there is nothing more to do."""
        with self.changed:
            while self.waiting and not self.failure:
                unfinished = self.waiting.keys() | self.compiling
                for name, callees in self.waiting.items():
                    if not unfinished & callees - {name}:
                        del self.waiting[name]
                        self.compiling.add(name)
                        return name
                self.changed.wait()
            return None

    def finish(self, name: str, answer: str) -> None:
        """Record what the compiling process answered."""
        with self.changed:
            self.compiling.remove(name)
            self.changed.notify_all()
            if answer != DONE:
                self.failure = f"{name}: {answer or 'the compiling process ended'}"
            elif self.progress is not None:
                done = self.total - len(self.waiting) - len(self.compiling)
                self.progress(done, self.total, name)


def _compile_in_processes(functions: Sequence[Jitted[object]], progress: Progress | None) -> None:
    queue = _Queue(functions, progress)
    count = min(WORKERS, queue.total, len(os.sched_getaffinity(0)))
    threads = [threading.Thread(target=_feed, args=(queue,), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if queue.failure:
        raise WarmError(queue.failure)


def _feed(queue: _Queue) -> None:
    """Give one process functions to compile until there are none left."""
    with _worker() as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        while (name := queue.take()) is not None:
            try:
                worker.stdin.write(f"{name}\n")
                worker.stdin.flush()
                answer = worker.stdout.readline().strip()
            except OSError as error:
                answer = str(error)
            queue.finish(name, answer)
        with contextlib.suppress(OSError):
            worker.stdin.close()


def _worker() -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", "vmcs.warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _serve() -> None:
    """Compile the functions that standard input names; answer each with a line."""
    for line in sys.stdin:
        module, _, name = line.strip().rpartition(".")
        try:
            getattr(importlib.import_module(module), name).compiled()
        except Exception as error:  # whatever it is, the other process reports it
            answer = " ".join(str(error).split()) or type(error).__name__
        else:
            answer = DONE
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
