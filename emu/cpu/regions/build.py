"""Object code of a region: made once, kept by content; and its place in this process."""

from __future__ import annotations

import functools

from emu.cpu.compiler import backend, cache
from emu.cpu.compiler.values import CompileError
from emu.cpu.program import program, source_digest, specialisations
from emu.cpu.regions.emit import region_ir
from emu.cpu.regions.shape import Region

PASSES = ("sroa", "instruction_combine", "simplify_cfg", "sinking", "simplify_cfg")


@functools.cache
def sources() -> str:
    """What the object code of a region depends on besides the region."""
    return source_digest()


def object_code(region: Region) -> bytes:
    """The object code of a region; empty for what cannot be folded."""
    name = "r-" + cache.digest([sources(), repr(region)])
    found = cache.read(name)
    if found is None:
        try:
            found = backend.assemble(region_ir(region, specialisations()), PASSES)
        except CompileError:
            found = b""
        cache.write(name, found)
    return found


@functools.cache
def export() -> None:
    """Let regions find the functions that all handlers share."""
    engine, llvm = program().engine, backend.binding()
    for name in program().shared:
        llvm.add_symbol(name, engine.address(name))


def linked(data: bytes) -> backend.Engine:
    """The code of a region in this process, for as long as the engine lives."""
    export()
    return backend.Engine([data])
