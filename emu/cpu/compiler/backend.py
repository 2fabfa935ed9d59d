"""LLVM IR text to machine code in memory, by llvmlite."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


@functools.cache
def binding() -> Any:
    """Llvmlite's binding with the native target ready; imported when first needed."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - costs 50 ms, and tables need none of it

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def host() -> tuple[str, str, str]:
    """What machine code depends on: llvmlite's version, the CPU's name and features."""
    import llvmlite  # noqa: PLC0415

    llvm = binding()
    return llvmlite.__version__, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def key() -> tuple[str, ...]:
    """What object code depends on besides the IR: the host, and how this module compiles."""
    return (*host(), Path(__file__).read_text())


def target_machine() -> Any:
    """A target machine for this host; an engine takes it over, so each use makes one."""
    llvm = binding()
    _, cpu, features = host()
    # Each object's code and constants are mapped where the kernel finds room, which can be more
    # than 2 GByte from another object's: guest memory lies between. The small model refers to
    # symbols by 32 bits, and MCJIT's linker cuts what does not fit without a word. The large one
    # leaves 64-bit absolute relocations only.
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=cpu, features=features, opt=2, jit=True, reloc="static", codemodel="large"
    )


# a full O1 pipeline costs four times as much and makes the handlers no faster
HANDLER_PASSES = ("simplify_cfg", "instruction_combine", "simplify_cfg", "sinking")


def assemble(ir: str, passes: Sequence[str] = HANDLER_PASSES) -> bytes:
    """The object code of a module given as text, each function put through `passes`."""
    llvm = binding()
    module = llvm.parse_assembly(ir)
    module.verify()
    machine = target_machine()
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    builder = llvm.create_pass_builder(machine, options)
    for function in module.functions:
        if not function.is_declaration:
            manager = llvm.create_new_function_pass_manager()
            for name in passes:
                getattr(manager, f"add_{name}_pass")()
            manager.run(function, builder)
    return bytes(machine.emit_object(module))


class Engine:
    """Object files linked into this process."""

    def __init__(self, objects: Iterable[bytes]) -> None:
        llvm = binding()
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        for data in objects:
            self.engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(data))
        self.engine.finalize_object()

    def address(self, symbol: str) -> int:
        """Where a symbol lies."""
        found = int(self.engine.get_function_address(symbol))
        if not found:
            raise LookupError(f"no symbol {symbol} in the compiled code")
        return found

    def words(self, symbol: str, count: int) -> list[int]:
        """The 64-bit words of a constant table."""
        where = int(self.engine.get_global_value_address(symbol))
        return list((ctypes.c_uint64 * count).from_address(where))
