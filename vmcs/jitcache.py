"""Where compiled code is kept between runs, and when it may be used again.

A jitted function freezes what it can see when it compiles: its own code, the constants it reads
and the functions it calls. Numba checks only the file that the function stands in, so each function
gets a directory named by a digest of all that it can see; what has changed has another directory.

Layout: `<base>/jit/<machine>/<module.function>/<fingerprint>/`. The base is `NESTLING_CACHE_DIR` or
`$XDG_CACHE_HOME/nestling`; the machine is a digest of the versions and the processor.
"""

import dis
import enum
import functools
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Protocol

import numpy as np

KEPT = 3
"""How many machine directories, and how many versions of one function, are kept."""

COMPILERS = ("numba", "llvmlite", "numpy")
CPU_VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT", "NUMBA_BOUNDSCHECK")
CPU_LINES = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
FROZEN_MODULES = ("numpy", "math", "operator")


class Fingerprinted(Protocol):
    """What names everything that its compiled form depends on."""

    def fingerprint(self) -> str:
        """Hexadecimal digest; another one whenever the compiled form could differ."""


def base_directory() -> Path:
    """Directory of this project's caches: `NESTLING_CACHE_DIR`, else `nestling` of the XDG one."""
    chosen = os.environ.get("NESTLING_CACHE_DIR")
    if chosen:
        return Path(chosen)
    shared = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(shared) / "nestling"


@functools.cache
def processor() -> str:
    """Family, model and features of the first processor as the operating system states them."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as cpuinfo:
            first = cpuinfo.read(8192).split("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    lines = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return ";".join(f"{name.strip()}={value.strip()}" for name, value in lines
                    if name.strip() in CPU_LINES)  # fmt: skip


@functools.cache
def lacks(feature: str) -> bool:
    """Whether compiled code may not use a processor feature, named as in `/proc/cpuinfo`."""
    if any(os.environ.get(name) for name in CPU_VARIABLES[:2]):
        return True
    return feature not in processor().replace("=", " ").replace(";", " ").split()


@functools.cache
def machine_key() -> str:
    """Digest of the compiler's versions and options, the interpreter and the processor."""
    # It takes longer to load than all of this module, and is not wanted when nothing compiles.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    parts = [sys.implementation.cache_tag or sys.version, sys.platform, processor()]
    for name in COMPILERS:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"no {name}")
    parts.extend(f"{name}={os.environ.get(name, '')}" for name in CPU_VARIABLES)
    return digest(*parts)[:16]


def machine_directory() -> Path | None:
    """The writable directory of this machine's compiled code; None where nothing can be written.

    The first process that needs it removes all but the most recently used ones beside it.
    """
    return _machine_directory(base_directory() / "jit" / machine_key())


@functools.cache
def _machine_directory(directory: Path) -> Path | None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
        os.utime(directory)
    except OSError:
        return None
    prune(directory.parent)
    return directory


def function_directory(name: str, fingerprint: str) -> Path | None:
    """The directory for one function as it is now; None where nothing can be written."""
    machine = machine_directory()
    if machine is None:
        return None
    directory = machine / name / fingerprint[:32]
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            prune(directory.parent)
    except OSError:
        return None
    return directory


def prune(parent: Path, kept: int = KEPT) -> None:
    """Remove all but the `kept` most recently modified directories of `parent`.

    Another process may be doing the same, so what has gone meanwhile is passed over.
    """
    aged = []
    for entry in parent.iterdir():
        try:
            aged.append((entry.stat().st_mtime_ns, entry.name))
        except OSError:
            continue
    for _, name in sorted(aged, reverse=True)[kept:]:
        shutil.rmtree(parent / name, ignore_errors=True)


def digest(*parts: str) -> str:
    """SHA-256 of strings, in hexadecimal; `("ab", "c")` and `("a", "bc")` differ."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode()
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def function_parts(
    function: FunctionType, own: Callable[[Any], Fingerprinted | None]
) -> Iterator[str]:
    """Everything that a compiled form of `function` freezes, as strings.

    `own` gives the fingerprinted form of a global, or None for an ordinary value.
    Raises TypeError for a global whose content cannot be told from its value.
    """
    yield from code_parts(function.__code__)
    yield repr(function.__defaults__)
    for cell_name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        yield f"{cell_name}={value_part(function, cell_name, cell.cell_contents)}"
    for name in sorted(global_names(function.__code__)):
        if name == function.__name__ or name not in function.__globals__:
            continue
        value = function.__globals__[name]
        fingerprinted = own(value)
        if fingerprinted is not None:
            yield f"{name}:{fingerprinted.fingerprint()}"
        else:
            yield f"{name}={value_part(function, name, value)}"


def code_parts(code: CodeType) -> Iterator[str]:
    """What a code object does, without where it stands."""
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
    yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_parts(constant)
        else:
            yield repr(constant)


def global_names(code: CodeType) -> set[str]:
    """Names that `code`, or a code object inside it, reads from its module."""
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_names(constant)
    return names


def value_part(function: FunctionType, name: str, value: object) -> str:
    """A constant as a string that changes when the constant does."""
    match value:
        case None | bool() | int() | float() | str() | bytes() | np.generic() | np.dtype():
            return f"{type(value).__name__} {value!r}"
        case tuple():
            return "(" + ",".join(value_part(function, name, item) for item in value) + ")"
        case np.ndarray():
            content = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
            return f"ndarray {value.dtype.descr} {value.shape} {content}"
        case enum.EnumMeta():
            members: dict[str, Any] = dict(value.__members__)
            return f"enum {value.__qualname__} {[(key, m.value) for key, m in members.items()]}"
        case ModuleType() if value.__name__.partition(".")[0] in FROZEN_MODULES:
            return f"module {value.__name__}"
        case type() | BuiltinFunctionType() | np.ufunc():
            return f"builtin {getattr(value, '__module__', '')} {value.__name__}"
    raise TypeError(
        f"{function.__module__}.{function.__qualname__}: global {name!r} is a "
        f"{type(value).__name__}; a jitted function reads numbers, tuples of them, arrays, enums "
        "and other jitted functions, each imported by its own name"
    )
