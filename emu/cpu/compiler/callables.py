"""Restricted functions that Python calls, compiled and kept like the processor itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable

from emu.cpu.compiler import backend, cache
from emu.cpu.compiler.layout import Layout
from emu.cpu.compiler.words import Restricted

Call = Callable[..., int]


def callables(
    name: str, functions: Iterable[Restricted], cpu: Layout, uop: Layout, key: str
) -> dict[str, Call]:
    """Outlined functions by name, as calls on the address of the state and words.

    `key` names everything that they are made from: the machine code is made anew when it changes.
    """
    functions = tuple(functions)
    entry = f"l-{name}-{key}"
    data = cache.read(entry)
    if data is None:
        from emu.cpu.compiler.unit import shared_unit  # noqa: PLC0415 - not needed when loading

        data = backend.assemble(shared_unit(functions, cpu, uop).text())
        cache.write(entry, data)
    engine = backend.Engine([data])
    ENGINES.append(engine)
    word = ctypes.c_uint64
    return {
        function.name: ctypes.CFUNCTYPE(word, *[word] * len(function.tree.args.args))(
            engine.address(f"call_{function.name}")
        )
        for function in functions
    }


ENGINES: list[backend.Engine] = []
"""What keeps the machine code of this process alive."""
