"""A translation unit: the IR text of a family of handlers, or of the functions that all share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emu.cpu.compiler.emit import Emitter, handler_ir, outline_ir
from emu.cpu.compiler.layout import Layout
from emu.cpu.compiler.values import HANDLER_PARAMETERS, CompileError
from emu.cpu.compiler.words import Restricted

ATTRIBUTES = """\
attributes #0 = { nounwind }
attributes #1 = { nounwind noinline }
!0 = !{!"branch_weights", i32 1, i32 4000}
"""


class Unit:
    """IR of one module, and the shared functions that it calls."""

    def __init__(self, name: str, cpu: Layout, uop: Layout) -> None:
        self.name = name
        self.cpu = cpu
        self.uop = uop
        self.bodies: list[str] = []
        self.handlers: list[str] = []
        self.calls: dict[str, Restricted] = {}
        self.declarations: set[str] = set()
        self.defined: set[str] = set()

    def add_handler(self, name: str, function: Restricted, constants: dict[str, Any]) -> None:
        """Compile one specialisation."""
        symbol = f"{self.name}.{len(self.handlers)}"
        try:
            text, emitter = handler_ir(f'"{symbol}"', function, constants, self.cpu, self.uop)
        except CompileError as error:
            raise CompileError(f"{name}: {error}") from error
        self.bodies.append(
            text.replace("define preserve_nonecc", "define internal preserve_nonecc", 1)
        )
        self.handlers.append(symbol)
        self.collect(emitter)

    def add_shared(self, function: Restricted) -> None:
        """Compile a function that several units call."""
        if function.kind == "tail":
            text, emitter = handler_ir(function.name, function, {}, self.cpu, self.uop)
        else:
            text, emitter = outline_ir(function, self.cpu)
        self.bodies.append(text)
        self.defined.add(function.name)
        self.collect(emitter)

    def collect(self, emitter: Emitter) -> None:
        """Note what a function calls."""
        self.calls.update(emitter.outlines)
        self.declarations.update(emitter.declarations)

    def text(self, extra: str = "") -> str:
        """The whole module."""
        declared = [
            declaration(function)
            for name, function in sorted(self.calls.items())
            if name not in self.defined
        ]
        table = ""
        if self.handlers:
            entries = ", ".join(f'ptr @"{symbol}"' for symbol in self.handlers)
            count = len(self.handlers)
            table = f"@table_{self.name} = constant [{count} x ptr] [{entries}]\n"
        return "\n".join(
            (*sorted(self.declarations), *declared, table, *self.bodies, extra, ATTRIBUTES)
        )


def declaration(function: Restricted) -> str:
    """The declaration of a shared function that another unit defines."""
    if function.kind == "tail":
        return f"declare preserve_nonecc void @{function.name}({HANDLER_PARAMETERS})"
    words = "".join(", i64" for _ in function.tree.args.args[1:])
    return f"declare preserve_mostcc i64 @{function.name}(ptr{words})"


def shared_unit(roots: Iterable[Restricted], cpu: Layout, uop: Layout) -> Unit:
    """The unit of every function that `roots` reach."""
    unit = Unit("shared", cpu, uop)
    waiting = {function.name: function for function in roots}
    while True:
        todo = sorted(name for name in waiting if name not in unit.defined)
        if not todo:
            return unit
        for name in todo:
            unit.add_shared(waiting[name])
        waiting.update(unit.calls)
