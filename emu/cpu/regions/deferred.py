"""Status flags that are computed only where they are asked for.

Most operations set flags that the next one overwrites. A region keeps, instead of flags, the
function of `flags.py` that would compute them with its arguments. Only a reader (a branch, ADC) or
a way out of the region computes; across the branches inside a region the arguments travel as
variables, with a number for the function.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from emu.cpu.compiler.emit import Emitter
from emu.cpu.compiler.values import Edge, Struct, Word
from emu.cpu.compiler.words import Restricted, less_signed, restricted
from emu.cpu.flags import extend
from emu.cpu.state import CPU

SETTERS = frozenset(
    (
        "flags_add",
        "flags_sub",
        "flags_compare",
        "flags_step",
        "flags_logic",
        "flags_carry_overflow",
    )
)
"""Functions of `flags.py` that set every flag: their call is put off."""
FLAGS = ("flag_result", "flag_carries")
MOST_WORDS = 4  # arguments of a setter that are not known when compiling


class Deferred(NamedTuple):
    """Flags by the call that computes them."""

    function: Restricted
    arguments: tuple[Any, ...]  # without the processor
    words: tuple[Any, ...] = ()  # the flags where they have been computed already


class Arrived(NamedTuple):
    """Flags as they came into a block: by whatever call its predecessor left them with."""

    block: int


class Shape(NamedTuple):
    """A setter with the arguments that are known; the others are None."""

    function: Restricted
    known: tuple[Any, ...]


def stripped(value: Any) -> Any:
    """What was put off, without what was computed of it."""
    return value._replace(words=()) if isinstance(value, Deferred) else value


@restricted
def compared(a: int, b: int, result: int, code: int, size: int) -> Any:
    """Condition `code` after a comparison of `a` with `b`, both zero-extended from `size` bits."""
    if code == 2:
        return a < b
    if code == 3:
        return a >= b
    if code == 4:
        return a == b
    if code == 5:
        return a != b
    if code == 6:
        return a <= b
    if code == 7:
        return a > b
    if code == 8:
        return result >> (size - 1) & 1
    if code == 9:
        return result >> (size - 1) & 1 ^ 1
    if code == 12:
        return less_signed(extend(a, size), extend(b, size))
    if code == 13:
        return less_signed(extend(a, size), extend(b, size)) ^ 1
    if code == 14:
        return less_signed(extend(b, size), extend(a, size)) ^ 1
    return less_signed(extend(b, size), extend(a, size))


COMPARED = cast("Restricted", compared)
COMPARISONS = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15))
"""The conditions that look at CF, ZF, SF alone, or at SF and OF together."""
BELOW = 2


class FlagEmitter(Emitter):
    """An emitter that puts the computation of flags off."""

    def __init__(self) -> None:
        super().__init__(handler=True, cpu=CPU)
        self.shapes: dict[Shape, int] = {}
        self.eager = False
        self.leaving = False
        self.asked: set[int] = set()  # blocks that need the flags they begin with

    # putting off

    def inline(self, function: Restricted, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Compile a call here, or put it off when it sets the flags."""
        if self.eager:
            return super().inline(function, arguments, named)
        if function.name in SETTERS:
            flags = Deferred(function, tuple(self.settled(a) for a in arguments[1:]))
            self.registers.update(dict.fromkeys(FLAGS, flags))
            return None
        flags = self.registers["flag_carries"]
        if isinstance(flags, Deferred) and flags.function.name == "flags_compare":
            a, b, result, size = flags.arguments
            if function.name == "condition" and arguments[1] in COMPARISONS:
                return super().inline(COMPARED, [a, b, result, arguments[1], size], {})
            if function.name == "carry_flag":
                return super().inline(COMPARED, [a, b, result, BELOW, size], {})
        return super().inline(function, arguments, named)

    # computing

    def register(self, name: str) -> Any:
        """A field held in a register; flags that were put off are computed for this reader."""
        value = self.registers[name]
        if isinstance(value, Arrived):
            self.fetch_arrived(value)
        elif isinstance(value, Deferred):
            if self.leaving or not value.words:
                value = value._replace(words=self.call(value))
                self.registers.update(
                    {n: value for n in FLAGS if stripped(self.registers[n]) == stripped(value)}
                )
            return value.words[FLAGS.index(name)]
        return self.registers[name]

    def call(self, flags: Deferred) -> tuple[Any, ...]:
        """Make a call that was put off; the flags that it sets."""
        registers, eager = self.registers, self.eager
        self.registers, self.eager = dict(registers), True
        super().inline(flags.function, [self.cpu, *flags.arguments], {})
        words = tuple(self.registers[name] for name in FLAGS)
        self.registers, self.eager = registers, eager
        return words

    def fetch_arrived(self, flags: Arrived) -> None:
        """Compute the flags that a block began with: on a way out by a call, else beforehand."""
        if not self.leaving:
            self.asked.add(flags.block)
        words = [self.operation(f"load i64, ptr %t_{i}").text for i in range(MOST_WORDS)]
        kind = self.operation("load i64, ptr %t_kind").text
        given = [self.operation(f"load i64, ptr %r_{name}").text for name in FLAGS]
        arguments = "".join(f", i64 {word}" for word in (kind, *words, *given))
        self.line(f"call preserve_mostcc void @compute_flags(ptr %cpu{arguments})")
        for name in FLAGS:
            if self.registers[name] == flags:
                pointer = Emitter.pointer(self, self.cpu, CPU.places[name])
                self.registers[name] = self.load(pointer)

    def settle(self) -> None:
        """Turn what was put off into words."""
        self.registers.update({name: self.register(name) for name in FLAGS})

    # joining

    def do_While(self, node: Any) -> None:
        """A loop of a handler: flags are words in it."""
        self.settle()
        eager, self.eager = self.eager, True
        super().do_While(node)
        self.eager = eager

    def join(self, edges: list[Edge], label: str) -> Any:
        """Join edges; where they bring different flags each computes its own first."""
        for name in FLAGS:
            for edge in edges:
                edge.registers[name] = stripped(edge.registers[name])
        if any(e.registers[n] != edges[0].registers[n] for e in edges for n in FLAGS):
            edges = [self.settled_edge(edge) for edge in edges]
        return super().join(edges, label)

    def settled_edge(self, edge: Edge) -> Edge:
        """An edge that brings words, computed before the branch at its end."""
        state = self.lines, self.label, self.registers
        self.lines, self.label, self.registers = [], edge.label, dict(edge.registers)
        self.settle()
        lines, label, registers = self.lines, self.label, self.registers
        self.lines, self.label, self.registers = state
        self.lines[edge.at] = "\n".join([*lines, self.lines[edge.at]])
        return edge._replace(label=label, registers=registers)

    # between blocks

    def hand_on(self, asked: bool) -> None:
        """Leave the flags for another block of the region: as words when it asks for them."""
        flags, other = (stripped(self.registers[name]) for name in FLAGS)
        if asked or flags != other or not isinstance(flags, Deferred | Arrived):
            self.hand_on_words()
        elif isinstance(flags, Deferred):
            known = tuple(None if isinstance(a, Word) else a for a in flags.arguments)
            shape = Shape(flags.function, known)
            kind = self.shapes.setdefault(shape, len(self.shapes) + 1)
            words = [a.text for a in flags.arguments if isinstance(a, Word)]
            words += ["poison"] * (MOST_WORDS - len(words))
            for i, word in enumerate(words):
                self.line(f"store i64 {word}, ptr %t_{i}")
            self.line(f"store i64 {kind}, ptr %t_kind")

    def hand_on_words(self) -> None:
        """Leave the flags as words."""
        for name in FLAGS:
            self.line(f"store i64 {self.word(self.register(name))}, ptr %r_{name}")
        self.line("store i64 0, ptr %t_kind")

    def take_up(self, block: int, asked: bool) -> None:
        """The flags at the beginning of a block."""
        for name in FLAGS:
            self.registers[name] = (
                self.operation(f"load i64, ptr %r_{name}") if asked else Arrived(block)
            )

    def flag_variables(self) -> list[str]:
        """The variables that flags travel in."""
        names = ["t_kind", *(f"t_{i}" for i in range(MOST_WORDS))]
        return [f"  %{name} = alloca i64" for name in names] + ["  store i64 0, ptr %t_kind"]


def flags_ir(shapes: dict[Shape, int]) -> str:
    """The function that computes flags from what they travel as, and stores them."""
    emitter = FlagEmitter()
    emitter.eager = True
    arms = " ".join(f"i64 {kind}, label %s{kind}" for kind in shapes.values())
    emitter.line(f"switch i64 %kind, label %s0 [{arms}]")
    emitter.start("%s0")
    finish(emitter, {name: Word(f"%{name}") for name in FLAGS})
    for shape, kind in shapes.items():
        emitter.start(f"%s{kind}")
        words = iter(range(MOST_WORDS))
        arguments = [Word(f"%t{next(words)}") if k is None else k for k in shape.known]
        emitter.registers = dict.fromkeys(FLAGS, 0)
        Emitter.inline(emitter, shape.function, [Struct(CPU, "%cpu"), *arguments], {})
        finish(emitter, emitter.registers)
    parameters = ["kind", *(f"t{i}" for i in range(MOST_WORDS)), *FLAGS]
    signature = "ptr %cpu" + "".join(f", i64 %{name}" for name in parameters)
    body = "\n".join(emitter.lines)
    return f"define internal preserve_mostcc void @compute_flags({signature}) #1 {{\n{body}\n}}"


def finish(emitter: FlagEmitter, values: dict[str, Any]) -> None:
    """Store the flags and return."""
    for name in FLAGS:
        emitter.store(emitter.pointer(emitter.cpu, CPU.places[name]), values[name])
    emitter.line("ret void")
