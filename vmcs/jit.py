"""Jitted functions: the one place that knows numba, and loads it only when something must compile.

    @jit("uint64(uint64[::1], uint64)")
    def first_above(words, limit): ...

The signature says the types: scalars (`uint64`, `int64`, `boolean`, ...), arrays (`uint64[::1]`
contiguous, `uint8[:, ::1]` in rows, `uint64[:]` strided, `const uint8[::1]` for one that may be
read-only), tuples (`Tuple((uint64, int64))`, `UniTuple(uint64, 2)`), `void`, and the names of
structured dtypes given by keyword: `@jit("int64(const CHECK[::1])", CHECK=CHECK_DTYPE)`.

A jitted function may call other jitted functions and intrinsics that its module knows by name.
`NESTLING_DISABLE_JIT=1` (or numba's own `NUMBA_DISABLE_JIT=1`) runs everything as Python.
"""

import functools
import importlib
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Final, Generic, Self, TypeVar

import numpy as np

from vmcs import jitcache
from vmcs.signature import (
    JitType,
    Signature,
    accepts,
    as_python,
    as_typed,
    describe,
    parse_signature,
)

OPTIONS: Final = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "no_cfunc_wrapper": True,
}
"""Numba's options for every jitted function; the cache is switched on where it can be written.

No one calls a jitted function from C, and leaving out that entry saves a fifth of the compile time.
"""

_LOCK = threading.RLock()

R = TypeVar("R")


def jit_disabled() -> bool:
    """Whether the environment asks for everything to run as Python."""
    return any(
        os.environ.get(name, "0") not in ("", "0")
        for name in ("NESTLING_DISABLE_JIT", "NUMBA_DISABLE_JIT")
    )


class Jitted(Generic[R]):
    """A function that compiles on its first call, or runs as the Python source that it is.

    `py_func` is the source, `signatures` the types; `compiled()` is numba's dispatcher, which a
    caller in a hurry keeps; `plain(...)` runs the source with the types of the signature.
    """

    def __new__(cls, *_arguments: Any) -> Self:
        """Give each jitted function a class of its own.

        Its `__call__` becomes the dispatcher once that exists, and the interpreter then goes from
        the call to the dispatcher without running a line of Python.
        """
        return object.__new__(type(cls.__name__, (cls,), {}))

    def __init__(
        self, py_func: FunctionType, texts: Sequence[str], dtypes: dict[str, Any] | None = None
    ) -> None:
        functools.update_wrapper(self, py_func)
        self.py_func = py_func
        self.texts = tuple(texts)
        self.dtypes = dict(dtypes or {})
        self.signatures = tuple(parse_signature(text, self.dtypes) for text in self.texts)
        self._dispatcher: Callable[..., R] | None = None
        self._plain: FunctionType | None = None
        self._over_integers: FunctionType | None = None
        self._fingerprint: str | None = None
        self._needs: set[str] | None = None

    def __repr__(self) -> str:
        state = "not compiled" if self._dispatcher is None else "compiled"
        return f"<Jitted {self.name} {' | '.join(self.texts)}, {state}>"

    def __call__(self, *arguments: Any) -> R:
        """Call the compiled function; the first call compiles it or loads it from the cache."""
        return self.compiled()(*arguments)

    @property
    def name(self) -> str:
        """Module and name, as in `vmcs.batch.kernels.gather`."""
        return f"{self.py_func.__module__}.{self.py_func.__qualname__}"

    @property
    def is_compiled(self) -> bool:
        """Whether this process has the compiled form already."""
        return self._dispatcher is not None

    def compiled(self) -> Callable[..., R]:
        """Numba's dispatcher, compiled for every signature; `plain` where compiling is disabled."""
        if self._dispatcher is None:
            if jit_disabled():
                return self.plain
            if missing := self.missing():
                raise RuntimeError(f"{self.name} needs a processor with {', '.join(missing)}")
            with _LOCK:
                if self._dispatcher is None:
                    self._dispatcher = _compile(self)
                    type(self).__call__ = staticmethod(self._dispatcher)  # type: ignore[method-assign]
        return self._dispatcher

    def missing(self) -> list[str]:
        """Processor features that the compiled form would need and this machine does not have."""
        return [feature for feature in sorted(self.needs()) if jitcache.lacks(feature)]

    def needs(self) -> set[str]:
        """Processor features that the compiled form uses, here and in what it calls."""
        if self._needs is None:
            self._needs = set()
            for operation in self._operations():
                self._needs |= operation.needs()
        return self._needs

    def callees(self) -> set[str]:
        """Names of the jitted functions that this one calls itself."""
        return {value.name for value in self._operations() if isinstance(value, Jitted)}

    def _operations(self) -> Iterator["Jitted[Any] | Intrinsic[Any]"]:
        for name in jitcache.global_names(self.py_func.__code__):
            if isinstance(value := self.py_func.__globals__.get(name), Jitted | Intrinsic):
                yield value

    def plain(self, *arguments: Any) -> R:
        """Run the Python source, and that of all it calls, with words as wide as when compiled."""
        with np.errstate(all="ignore"):
            result: R = as_python(self.call_plain(*arguments))
            return result

    def call_plain(self, *arguments: Any) -> R:
        """As `plain` for a caller that runs as Python itself: the result has the declared type."""
        signature, converted = self._match(arguments)
        if self._plain is None:
            self._plain = _with_globals(self.py_func, _plain_globals(self.py_func))
        result: R = as_typed(signature.returns, self._plain(*converted))
        return result

    def over_integers(self) -> Callable[..., R]:
        """The Python source as a function of Python's integers and lists of them.

        Constants of the module that are numpy's integers become Python's, and so in all it calls.
        It is many times faster than `plain`, and right only for sources that mask what may exceed
        a word: such a source says so.
        """
        if self._over_integers is None:
            names = dict(self.py_func.__globals__)
            for name in jitcache.global_names(self.py_func.__code__):
                value = names.get(name)
                if isinstance(value, Jitted):
                    names[name] = value.over_integers()
                elif isinstance(value, np.integer):
                    names[name] = int(value)
            self._over_integers = _with_globals(self.py_func, names)
        return self._over_integers

    def _match(self, arguments: Sequence[Any]) -> tuple[Signature, list[Any]]:
        for signature in self.signatures:
            if len(signature.arguments) == len(arguments) and all(
                map(accepts, signature.arguments, arguments)
            ):
                return signature, list(map(as_typed, signature.arguments, arguments))
        given = ", ".join(map(describe, arguments))
        raise TypeError(f"{self.name} takes {' or '.join(self.texts)}, not ({given})")

    def fingerprint(self) -> str:
        """Digest of everything that the compiled form depends on: code, constants, callees."""
        if self._fingerprint is None:
            self._fingerprint = jitcache.digest(
                repr(OPTIONS),
                *self.texts,
                *(f"{name}={np.dtype(self.dtypes[name])!r}" for name in sorted(self.dtypes)),
                *jitcache.function_parts(self.py_func, _fingerprinted),
            )
        return self._fingerprint


class Intrinsic(Generic[R]):
    """An operation that a jitted function does in one machine instruction or so.

    Its body is the Python that runs in the plain tier; `emit(context, builder, signature,
    arguments)` writes LLVM instructions with llvmlite and returns the value.
    """

    def __init__(
        self, py_func: Callable[..., R], text: str, emit: FunctionType, needs: str
    ) -> None:
        functools.update_wrapper(self, py_func)
        self.py_func = py_func
        self.signature = parse_signature(text)
        self.text = text
        self.emit = emit
        self.feature = needs
        self._numba: Any = None

    def __call__(self, *arguments: Any) -> R:
        """Run the Python body with the types of the signature."""
        with np.errstate(all="ignore"):
            result: R = as_python(self.call_plain(*arguments))
            return result

    def call_plain(self, *arguments: Any) -> R:
        """As a call from Python that stands for compiled code: the result has the declared type."""
        converted = map(as_typed, self.signature.arguments, arguments)
        result: R = as_typed(self.signature.returns, self.py_func(*converted))
        return result

    def compiled(self) -> Any:
        """The intrinsic as numba wants it in a function's globals."""
        if self._numba is None:
            self._numba = _numba_intrinsic(self)
        return self._numba

    def needs(self) -> set[str]:
        """The processor feature that the instructions use, if any."""
        return {self.feature} if self.feature else set()

    def fingerprint(self) -> str:
        """Digest of the file that the instructions are written in."""
        source = _source_digest(self.emit.__code__.co_filename)
        return jitcache.digest(self.text, self.py_func.__qualname__, source)


def jit(signature: str | Sequence[str], **dtypes: Any) -> Callable[[Callable[..., R]], Jitted[R]]:
    """Decorate a function to be compiled for the given signature, or for each of several."""
    texts = (signature,) if isinstance(signature, str) else tuple(signature)

    def decorate(function: Callable[..., R]) -> Jitted[R]:
        if not isinstance(function, FunctionType):
            raise TypeError(f"only a function can be jitted, not a {type(function).__name__}")
        return Jitted(function, texts, dtypes)

    return decorate


def intrinsic(
    signature: str, emit: Callable[[Any, Any, Any, Any], Any], *, needs: str = ""
) -> Callable[[Callable[..., R]], Intrinsic[R]]:
    """Decorate the Python meaning of an operation that `emit` writes as LLVM instructions.

    `needs` is the processor feature that the instructions use, named as in `/proc/cpuinfo`.
    """
    if not isinstance(emit, FunctionType):
        raise TypeError(f"`emit` is a function, not a {type(emit).__name__}")
    instructions = emit

    def decorate(function: Callable[..., R]) -> Intrinsic[R]:
        return Intrinsic(function, signature, instructions, needs)

    return decorate


@functools.cache
def _source_digest(path: str) -> str:
    return jitcache.digest(Path(path).read_text(encoding="utf-8"))


class Tiered(Generic[R]):
    """A jitted function whose first calls in a process run as Python, so that numba is not loaded.

    Both tiers give the same results; what is called seldom never pays for the compiler.
    """

    def __init__(
        self,
        jitted: Jitted[R],
        plain_calls: int,
        cost: Callable[..., int] | None,
        plain: Callable[..., Any] | None,
    ) -> None:
        functools.update_wrapper(self, jitted.py_func)
        self.jitted = jitted
        self.plain: Callable[..., Any] = plain or jitted.plain
        self.left = plain_calls
        self.cost = cost
        self._entry: Callable[..., R] = self._first_tier

    def __call__(self, *arguments: Any) -> R:
        """Call the source while calls are few and the compiled function from then on."""
        return self._entry(*arguments)

    def compiled(self) -> Callable[..., R]:
        """End the first tier: the compiled function, which is also what calls run from now on."""
        if jit_disabled():
            return self.plain
        self._entry = self.jitted.compiled()
        return self._entry

    def _first_tier(self, *arguments: Any) -> R:
        if jit_disabled():
            return self._run_plain(*arguments)
        cost = 1 if self.cost is None else self.cost(*arguments)
        if cost <= self.left and not self.jitted.is_compiled:
            self.left -= cost
            return self._run_plain(*arguments)
        return self.compiled()(*arguments)

    def _run_plain(self, *arguments: Any) -> R:
        result: R = self.plain(*arguments)
        return result


def tiered(
    jitted: Jitted[R],
    plain_calls: int,
    *,
    cost: Callable[..., int] | None = None,
    plain: Callable[..., Any] | None = None,
) -> Tiered[R]:
    """Run the first `plain_calls` calls of a process as Python, the later ones compiled.

    Where calls differ in size, `cost` says from the arguments how many calls one counts for.
    `plain` is what runs in the first tier where the jitted source would be needlessly slow.
    """
    return Tiered(jitted, plain_calls, cost, plain)


class _CompilerGlobals(dict[str, Any]):
    """A module's names as the compiler reads them: jitted functions become dispatchers.

    The conversion waits until a name is read, so a function that comes from the cache does not
    load the functions that were compiled into it.
    """

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value.compiled() if isinstance(value, Jitted | Intrinsic) else value


def _plain_globals(function: FunctionType) -> dict[str, Any]:
    return {
        name: value.call_plain if isinstance(value, Jitted | Intrinsic) else value
        for name, value in function.__globals__.items()
    }


def _with_globals(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    return copy


def _fingerprinted(value: object) -> Jitted[Any] | Intrinsic[Any] | None:
    return value if isinstance(value, Jitted | Intrinsic) else None


def _numba() -> Any:
    """Numba, which takes about half a second to load."""
    numba = importlib.import_module("numba")
    importlib.import_module("numba.extending")
    return numba


def _compile(jitted: Jitted[R]) -> Callable[..., R]:
    """Compile, or load from the cache, every signature of a jitted function."""
    numba = _numba()
    function = for_compiler(jitted)
    signatures = [numba_signature(each, jitted.dtypes) for each in jitted.signatures]
    directory = None
    # What was typed at a prompt has no file, and numba keeps nothing for it.
    if Path(jitted.py_func.__code__.co_filename).is_file():
        directory = jitcache.function_directory(jitted.name, jitted.fingerprint())
    if directory is not None:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(directory)
        try:
            cached: Callable[..., R] = numba.njit(signatures, cache=True, **OPTIONS)(function)
            return cached
        except (OSError, EOFError, pickle.UnpicklingError):
            # A full disk or a damaged file must not stop a program that can do without.
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            numba.config.CACHE_DIR = before
    uncached: Callable[..., R] = numba.njit(signatures, **OPTIONS)(function)
    return uncached


def for_compiler(jitted: Jitted[Any]) -> FunctionType:
    """The source of a jitted function with what it calls as numba knows it."""
    names = _CompilerGlobals(jitted.py_func.__globals__)
    # Without its own name a function that calls itself is found by numba's own bookkeeping.
    names.pop(jitted.py_func.__name__, None)
    # Numba learns of intrinsics before it types a function, not while it does.
    for name in jitcache.global_names(jitted.py_func.__code__):
        if isinstance(value := dict.get(names, name), Intrinsic):
            names[name] = value.compiled()
    return _with_globals(jitted.py_func, names)


def numba_signature(signature: Signature, dtypes: dict[str, Any]) -> Any:
    """A signature as numba has it."""
    arguments = (_numba_type(each, dtypes) for each in signature.arguments)
    return _numba_type(signature.returns, dtypes)(*arguments)


def _numba_type(kind: JitType, dtypes: dict[str, Any]) -> Any:
    numba = _numba()
    if kind.name == "tuple":
        return numba.types.Tuple([_numba_type(item, dtypes) for item in kind.items])
    if kind.name in dtypes:
        item = numba.from_dtype(np.dtype(dtypes[kind.name]))
    else:
        item = getattr(numba.types, kind.name)
    if kind.dims:
        return numba.types.Array(item, kind.dims, kind.layout, readonly=kind.readonly)
    return item


def _numba_intrinsic(operation: Intrinsic[Any]) -> Any:
    signature = numba_signature(operation.signature, {})
    count = len(operation.signature.arguments)
    names = ", ".join(f"a{i}" for i in range(count))
    # Numba counts the parameters of the typing function, so it is given exactly as many.
    scope = {"signature": signature, "emit": operation.emit}
    exec(f"def typed(context, {names}):\n    return signature, emit\n", scope)  # noqa: S102
    return _numba().extending.intrinsic(scope["typed"])
