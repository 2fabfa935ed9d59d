"""LLVM IR of a region: its handlers one after the other, operands folded in, branches as branches.

The general registers, and the fields that the handlers of the interpreter hand on in registers,
are variables of the function; LLVM turns these into values. They are loaded on entry and stored on
every way out.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Mapping
from typing import Any, cast

from emu.cpu.compiler.emit import outline_ir
from emu.cpu.compiler.layout import Layout, Place
from emu.cpu.compiler.unit import ATTRIBUTES, declaration
from emu.cpu.compiler.values import (
    HANDLER_PARAMETERS,
    REGISTERS,
    Array,
    CompileError,
    Frame,
    Struct,
    Word,
    _Dead,
)
from emu.cpu.compiler.words import Restricted
from emu.cpu.insns.rows import Handler
from emu.cpu.regions import streams
from emu.cpu.regions.deferred import FLAGS, FlagEmitter, flags_ir
from emu.cpu.regions.shape import TRANSLATED, Micro, Region, Target
from emu.cpu.state import ADDRESS_REGISTER, CPU, PAGE_BASE_REGISTER, UOP, ZERO_REGISTER

GPR = CPU.places["gpr"]
CACHED = ("dtlb",)
"""Fields that hardly ever change: read once on entry, written through."""
CACHED_AT = {CPU.places[name].offset: name for name in CACHED}
KEPT = {
    **{GPR.offset + 8 * n: f"%g{n}" for n in range(GPR.length) if n != PAGE_BASE_REGISTER},
    **{offset: f"%c_{name}" for offset, name in CACHED_AT.items()},
}
"""Variables by the offsets of the fields that they stand for."""
MEMORY = {
    name: cast("Restricted", function)
    for name, function in (
        ("load", streams.load),
        ("store", streams.store),
        ("modify", streams.modify),
    )
}
"""Functions of `access.py` that look into the data TLB."""
OPERANDS = ("read", "write", "fetch", "modify")
"""Their callers when it is for the memory operand; else it is for the stack or a string."""
STACK = ("push_value", "pop", "ret", "leave_frame", "popf", "push_segment")
RSP = 4
MOST_STREAMS = 6
INLINED = ("restart", "resume_after", "out_of_budget")
"""Ends of handlers that are part of the region; the others are called."""

SAMPLED = ("out_of_budget", "pause_here")
"""Ends of handlers that say in `exit_data` where the budget ran out."""


class RegionEmitter(FlagEmitter):
    """The body of a region; `asked` are the blocks that begin with a look at the flags."""

    def __init__(
        self, region: Region, handlers: Mapping[str, Handler], asked: frozenset[int]
    ) -> None:
        super().__init__()
        self.with_flags = asked
        self.region = region
        self.table = handlers
        self.labels = {block.delta: f"%k{i}" for i, block in enumerate(region.blocks)}
        self.returns = [block.delta for block in region.blocks if block.returns]
        self.written: set[int] = set()
        self.halves: dict[str, int] = {}  # registers by pointers into them
        self.flushes: list[int] = []
        self.forgets: list[int] = []
        self.streams: dict[object, Struct] = {}
        self.uop = region.blocks[0].uops[0]
        self.address: tuple[int, int] = (0, 0)  # registers of the last address micro-operation

    # variables

    def pointer(self, struct: Struct, place: Place) -> tuple[str, int]:
        """The pointer of a field; registers and cached fields are variables."""
        if struct.layout is streams.STREAM:
            field = next(n for n, p in streams.STREAM.places.items() if p == place)
            return f"{struct.text}.{field}", place.width
        if struct.text == "%cpu":
            number, byte = divmod(place.offset - GPR.offset, 8)
            if 0 <= number < GPR.length:
                if byte:
                    name = self.fresh("h")
                    self.line(f"{name} = getelementptr i8, ptr %g{number}, i64 {byte}")
                    self.halves[name] = number
                    return name, place.width
                if number != PAGE_BASE_REGISTER:
                    return f"%g{number}", place.width
            if place.offset in CACHED_AT:
                return f"%c_{CACHED_AT[place.offset]}", place.width
        return super().pointer(struct, place)

    def element(self, array: Array, index: Any) -> tuple[str, int]:
        """The pointer of an element; of a register only when its number is known."""
        inside = GPR.offset <= array.place.offset < GPR.offset + 8 * GPR.length
        if array.struct.text == "%cpu" and inside and not isinstance(index, int):
            raise CompileError("a general register that is not known when compiling")
        return super().element(array, index)

    def load(self, pointer: tuple[str, int]) -> Any:
        """Read a field."""
        return 0 if pointer[0] == f"%g{ZERO_REGISTER}" else super().load(pointer)

    def store(self, pointer: tuple[str, int], value: Any) -> None:
        """Write a field."""
        name = pointer[0]
        if name.startswith("%g"):
            self.written.add(int(name[2:]))
        elif name in self.halves:
            self.written.add(self.halves[name])
        super().store(pointer, value)
        if name.startswith("%c_"):
            self.store(super().pointer(self.cpu, CPU.places[name[3:]]), value)
            self.forget()

    # memory

    def inline(self, function: Restricted, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Compile a call here; where it looks into the data TLB, with what is remembered of it."""
        replaced = MEMORY.get(function.name)
        if replaced is not None and function is not replaced:
            stream = self.stream()
            if stream is not None:
                return super().inline(replaced, [*arguments, stream], named)
        return super().inline(function, arguments, named)

    def stream(self) -> Struct | None:
        """The variables that remember the page of the operand at hand."""
        caller = self.frames[-1].function.name
        key: object = caller
        if caller in OPERANDS:
            key = self.uop.base, self.uop.index
            if self.uop.base == ADDRESS_REGISTER:
                key = self.address
        elif caller in STACK:
            key = RSP, ZERO_REGISTER
        if key not in self.streams:
            if len(self.streams) == MOST_STREAMS:
                return None
            self.streams[key] = Struct(streams.STREAM, f"%s{len(self.streams)}")
        return self.streams[key]

    def call_outline(self, function: Restricted, arguments: list[Any]) -> Word:
        """Call a function that is compiled on its own; it may change the TLB.

        What it touches of the variables, it touches in the processor's state.
        """
        shares = bool(touched(function) & KEPT.keys())
        if shares:
            self.flush()
        result = super().call_outline(function, arguments)
        if shares:
            for offset, name in KEPT.items():
                self.lines += load_ir(name, offset, str(len(self.lines)))
        self.forget()
        return result

    def forget(self) -> None:
        """Forget the pages of all operands."""
        self.forgets.append(len(self.lines))
        self.lines.append("")

    # what is known of records

    def attribute(self, value: Any, name: str) -> Any:
        """A field of a known record; a link that was still open is read when it is needed."""
        if isinstance(value, Micro):
            if name == "address":
                return self.tagged(value)
            if name == "link" and value.link is None:
                return self.load(super().pointer(self.struct(value), UOP.places["link"]))
        return getattr(value, name)

    def structure(self, layout: Layout, address: Any) -> Any:
        """The structure at an address; a link is its target already."""
        return address if isinstance(address, Target) else super().structure(layout, address)

    def record(self, delta: int) -> str:
        """The pointer of a record."""
        name = self.fresh("p")
        self.line(f"{name} = getelementptr i8, ptr %uop, i64 {delta}")
        return name

    def struct(self, known: Micro | Target) -> Struct:
        """A known record as a structure in memory."""
        return Struct(UOP, self.record(known.delta))

    def tagged(self, value: Micro) -> Word:
        """The address of a record; where the budget runs out, marked as that of a translation."""
        address = self.operation(f"ptrtoint ptr {self.record(value.delta)} to i64")
        if self.frames[-1].function.name not in SAMPLED:
            return address
        return self.operation(f"or i64 {address.text}, {TRANSLATED}")

    # ways out

    def flush(self) -> None:
        """Store the general registers, once it is known which are ever written."""
        self.flushes.append(len(self.lines))
        self.lines.append("")

    def leave(self) -> None:
        """Store what is held in variables and return."""
        self.flush()
        self.leaving = True
        super().leave()
        self.leaving = False

    def tail_call(self, function: str, uop: str) -> None:
        """Leave for a handler outside."""
        self.leaving = True
        super().tail_call(function, uop)
        self.leaving = False

    def call_tail(self, function: Restricted, arguments: list[Any]) -> None:
        """End in a function that handlers end in."""
        if function.name in INLINED:
            self.inline(function, arguments, {})
            return
        self.flush()
        if isinstance(arguments[1], Micro):
            arguments[1] = self.struct(arguments[1])
        super().call_tail(function, arguments)

    def dispatch(self, target: Any) -> None:
        """Go on with a record: inside the region by a branch."""
        if isinstance(target, Target):
            if target.delta in self.labels:
                self.branch_to(target.delta)
                return
            target = self.struct(target)
        elif self.returning:
            self.dispatch_return(target)
        self.flush()
        super().dispatch(target)

    def branch_to(self, delta: int) -> None:
        """Go on with a block of the region."""
        self.line(f"store i64 {self.word(self.registers['budget'])}, ptr %r_budget")
        self.hand_on(delta in self.with_flags)
        self.line(f"br label {self.labels[delta]}")
        self.live = False

    def dispatch_return(self, target: Struct) -> None:
        """Look whether a return leads to after a call of the region."""
        head = self.operation("ptrtoint ptr %uop to i64")
        place = self.operation(f"ptrtoint ptr {target.text} to i64")
        delta = self.operation(f"sub i64 {place.text}, {head.text}")
        elsewhere = self.fresh("b")
        ways = [(known, self.fresh("b")) for known in self.returns]
        arms = " ".join(f"i64 {known}, label {label}" for known, label in ways)
        self.line(f"switch i64 {delta.text}, label {elsewhere} [{arms}]")
        for known, label in ways:
            self.start(label)
            self.branch_to(known)
        self.start(elsewhere)

    # the whole

    def block(self, delta: int, uops: tuple[Micro, ...]) -> None:
        """Compile the micro-operations of one block."""
        self.start(self.labels[delta])
        self.registers = {"budget": self.operation("load i64, ptr %r_budget"), "ea": 0}
        self.take_up(delta, delta in self.with_flags)
        for uop in uops:
            self.uop = uop
            if uop.name.startswith("address_"):
                self.address = uop.base, uop.index
            self.returning = bool(self.returns) and uop.name.startswith("RET_")
            handler = self.table[uop.name]
            self.frames = [Frame(handler.function, {})]
            with contextlib.suppress(_Dead):
                self.inline(handler.function, [self.cpu, uop], handler.constants)
            if not self.live:
                return
        raise CompileError("a block does not end")

    def body(self) -> str:
        """The body of the function, variables first."""
        for block in self.region.blocks:
            self.block(block.delta, block.uops)
        flush = [
            line
            for n in sorted(self.written)
            for line in (
                f"  %f$.{n} = load i64, ptr %g{n}",
                f"  %fp$.{n} = getelementptr i8, ptr %cpu, i64 {GPR.offset + 8 * n}",
                f"  store i64 %f$.{n}, ptr %fp$.{n}",
            )
        ]
        for serial, at in enumerate(self.flushes):
            self.lines[at] = "\n".join(flush).replace("$", str(serial))
        forget = "\n".join(self.forgetting())
        for at in self.forgets:
            self.lines[at] = forget
        return "\n".join([*self.prologue(), *self.lines])

    def forgetting(self) -> list[str]:
        """Lines that make what is remembered of the TLB invalid."""
        tags = (
            f"{s.text}.{tag}" for s in self.streams.values() for tag in ("read_tag", "write_tag")
        )
        return [f"  store i64 {streams.NO_TAG}, ptr {tag}" for tag in tags]

    def prologue(self) -> list[str]:
        """Variables with their first values, and the choice of the entry."""
        lines = []
        for offset, name in KEPT.items():
            lines += [f"  {name} = alloca i64", *load_ir(name, offset, "0")]
        for name in ("budget", *FLAGS):
            lines += [f"  %r_{name} = alloca i64", f"  store i64 %{name}, ptr %r_{name}"]
        lines += self.flag_variables()
        for stream in self.streams.values():
            lines += [f"  {stream.text}.{name} = alloca i64" for name in streams.STREAM.places]
        lines += self.forgetting()
        entries = self.region.entries
        if len(entries) == 1:
            return [*lines, f"  br label {self.labels[entries[0]]}"]
        arms = " ".join(f"i64 {i}, label {self.labels[at]}" for i, at in enumerate(entries))
        return [*lines, f"  switch i64 %ea, label {self.labels[entries[0]]} [{arms}]"]


def load_ir(variable: str, offset: int, serial: str) -> list[str]:
    """Lines that load a variable from its field."""
    name = f"%l{serial}.{variable[1:]}"
    return [
        f"  {name}.at = getelementptr i8, ptr %cpu, i64 {offset}",
        f"  {name} = load i64, ptr {name}.at",
        f"  store i64 {name}, ptr {variable}",
    ]


@functools.cache
def touched(function: Restricted) -> frozenset[int]:
    """Offsets of the fields that a function and what it calls read or write."""
    text, emitter = outline_ir(function, CPU)
    found = {int(offset) for offset in re.findall(r"i8, ptr %cpu, i64 (\d+)", text)}
    return frozenset(found.union(*(touched(called) for called in emitter.outlines.values())))


def region_ir(region: Region, handlers: Mapping[str, Handler]) -> str:
    """The module of a region: functions `entry0`, `entry1`... for its entries in order."""
    asked: frozenset[int] = frozenset()
    while True:
        emitter = RegionEmitter(region, handlers, asked)
        body = emitter.body()
        if emitter.asked <= asked:
            break
        asked |= emitter.asked
    declared = [declaration(function) for _, function in sorted(emitter.outlines.items())]
    signature = f"define internal preserve_nonecc void @body({HANDLER_PARAMETERS}) #0"
    functions = [f"{signature} {{\nentry:\n{body}\n}}", flags_ir(emitter.shapes)]
    functions += [entry_ir(number, delta) for number, delta in enumerate(region.entries)]
    return "\n".join([*sorted(emitter.declarations), *declared, *functions, ATTRIBUTES])


def entry_ir(number: int, delta: int) -> str:
    """A handler that begins the region at one of its entries: EA, free there, says at which."""
    words = ", ".join(f"i64 {number if name == 'ea' else '%' + name}" for name in REGISTERS)
    return f"""\
define preserve_nonecc void @entry{number}({HANDLER_PARAMETERS}) #0 {{
  %head = getelementptr i8, ptr %uop, i64 {-delta}
  musttail call preserve_nonecc void @body(ptr %cpu, ptr %head, {words})
  ret void
}}"""
