"""From restricted Python to LLVM IR text: one walk over the syntax tree, SSA as it goes.

Values known when compiling (operand sizes, forms, tables, functions) are Python objects and are
folded; the rest are i64 (`Word`), i1 (`Bit`) or a structure in memory (`Struct`). What `REGISTERS`
names are fields of the processor that a handler keeps in machine registers: they are parameters of
every handler and travel in tail calls, and `leave` stores them.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from emu.cpu.compiler.layout import Layout, Place
from emu.cpu.compiler.values import (
    BINARY,
    COMPARE,
    HANDLER_PARAMETERS,
    REGISTERS,
    Array,
    Bit,
    CompileError,
    Edge,
    Frame,
    Struct,
    Word,
    _Dead,
)
from emu.cpu.compiler.words import WORD, Intrinsic, Restricted, Special, unlikely


class Emitter:
    """The body of one IR function."""

    def __init__(self, handler: bool, cpu: Layout) -> None:
        self.handler = handler
        self.cpu = Struct(cpu, "%cpu")
        self.lines: list[str] = []
        self.serial = 0
        self.label = "entry"
        self.live = True
        self.registers: dict[str, Any] = {}
        self.frames: list[Frame] = []
        self.outlines: dict[str, Restricted] = {}
        self.declarations: set[str] = set()

    # names and lines

    def fresh(self, prefix: str = "v") -> str:
        """A name not used yet in this function."""
        self.serial += 1
        return f"%{prefix}{self.serial}"

    def line(self, text: str) -> None:
        """Append one instruction."""
        self.lines.append("  " + text)

    def start(self, label: str) -> None:
        """Begin the block `label` (a name with its %)."""
        self.lines.append(f"{label[1:]}:")
        self.label = label[1:]
        self.live = True

    def operation(self, text: str) -> Word:
        """Append `name = text` and return the name as a word."""
        name = self.fresh()
        self.line(f"{name} = {text}")
        return Word(name)

    # conversions

    def word(self, value: Any) -> str:
        """The IR operand for `value` as i64."""
        if isinstance(value, int):
            return str(value & WORD)
        if isinstance(value, Word):
            return value.text
        if isinstance(value, Bit):
            return self.operation(f"zext i1 {value.text} to i64").text
        raise CompileError(f"{value!r} is not a word")

    def settled(self, value: Any) -> Any:
        """`value` in a form that can be joined: a condition becomes a word."""
        if type(value) is tuple:
            return tuple(self.settled(part) for part in value)
        return Word(self.word(value)) if isinstance(value, Bit) else value

    def bit(self, value: Any) -> bool | Bit:
        """`value` as a condition."""
        if isinstance(value, Bit):
            return value
        if isinstance(value, Word):
            return Bit(self.operation(f"icmp ne i64 {value.text}, 0").text)
        return bool(value)

    # joining control flow

    def edge(self, value: Any = None) -> Edge:
        """What holds at the end of the current block."""
        names, registers = dict(self.frames[-1].names), dict(self.registers)
        return Edge(self.label, names, registers, value, len(self.lines))

    def join(self, edges: list[Edge], label: str) -> Any:
        """Begin `label` with phi instructions for what differs; return the joined value."""
        self.start(label)
        if not edges:
            self.live = False
            return None
        common = [n for n in edges[0].names if all(n in e.names for e in edges)]
        self.frames[-1].names = {
            name: self.phi([(e.names[name], e.label) for e in edges]) for name in common
        }
        self.registers = {
            name: self.phi([(e.registers[name], e.label) for e in edges]) for name in self.registers
        }
        return self.phi([(e.value, e.label) for e in edges])

    def phi(self, values: list[tuple[Any, str]]) -> Any:
        """One value for what several edges bring."""
        first = values[0][0]
        if all(type(v) is type(first) and v == first for v, _ in values):
            return first
        if all(isinstance(v, Struct) for v, _ in values):
            arms = ", ".join(f"[ {v.text}, %{label} ]" for v, label in values)
            return Struct(first.layout, self.operation(f"phi ptr {arms}").text)
        if all(isinstance(v, tuple) and not isinstance(v, Word | Array) for v, _ in values):
            columns = zip(*(v for v, _ in values), strict=True)
            labels = [label for _, label in values]
            return tuple(self.phi(list(zip(column, labels, strict=True))) for column in columns)
        arms_of = []
        for value, label in values:
            if isinstance(value, Word | int):
                arms_of.append(f"[ {self.word(value)}, %{label} ]")
            else:
                return _Undefined(value)
        return self.operation(f"phi i64 {', '.join(arms_of)}")

    # statements

    def statements(self, body: Iterable[ast.stmt]) -> None:
        """Compile a suite; what follows a terminator is dead and is skipped."""
        for statement in body:
            if not self.live:
                return
            method = getattr(self, f"do_{type(statement).__name__}", None)
            if method is None:
                raise CompileError(f"statement {type(statement).__name__}")
            try:
                method(statement)
            except _Dead:
                return

    def do_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.value(node.value)

    def do_Pass(self, node: ast.Pass) -> None:
        pass

    def do_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value)

    def do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def do_AugAssign(self, node: ast.AugAssign) -> None:
        load = ast.parse(ast.unparse(node.target), mode="eval").body
        self.assign(node.target, self.binary(node.op, self.value(load), self.value(node.value)))

    def assign(self, target: ast.expr, value: Any) -> None:
        """Bind a name, or store to a field."""
        if isinstance(target, ast.Name):
            self.frames[-1].names[target.id] = self.settled(value)
        elif isinstance(target, ast.Tuple):
            for element, part in zip(target.elts, value, strict=True):
                self.assign(element, part)
        elif isinstance(target, ast.Attribute):
            struct = self.value(target.value)
            if not isinstance(struct, Struct):
                raise CompileError(f"{ast.unparse(target)}: not a structure")
            if self.in_register(struct, target.attr):
                self.registers[target.attr] = Word(self.word(value))
            else:
                self.store(self.pointer(struct, self.place(struct, target.attr)), value)
        elif isinstance(target, ast.Subscript):
            array = self.value(target.value)
            if not isinstance(array, Array):
                raise CompileError(f"{ast.unparse(target)}: not an array field")
            self.store(self.element(array, self.value(target.slice)), value)
        else:
            raise CompileError(f"assignment to {ast.unparse(target)}")

    def do_Return(self, node: ast.Return) -> None:
        value = self.settled(self.value(node.value)) if node.value is not None else None
        self.frames[-1].returns.append((len(self.lines), self.edge(value)))
        self.lines.append("  br return")
        self.live = False

    def do_If(self, node: ast.If) -> None:
        then, other, after = self.fresh("b"), self.fresh("b"), self.fresh("b")
        known = self.branch(node.test, then, other)
        if known is not None:
            self.statements(node.body if known else node.orelse)
            return
        edges = []
        names, registers = dict(self.frames[-1].names), dict(self.registers)
        for label, body in ((then, node.body), (other, node.orelse)):
            self.start(label)
            self.frames[-1].names, self.registers = dict(names), dict(registers)
            self.statements(body)
            if self.live:
                edges.append(self.edge())
                self.line(f"br label {after}")
        if edges:
            self.join(edges, after)
        else:
            self.live = False

    def branch(self, test: ast.expr, yes: str, no: str) -> bool | None:
        """Branch on `test`; a condition that is known emits no branch and is returned."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            known = self.branch(test.operand, no, yes)
            return None if known is None else not known
        if not isinstance(test, ast.BoolOp):
            condition = self.bit(self.value(test))
            if isinstance(condition, bool):
                return condition
            weight = ""
            if isinstance(test, ast.Call) and self.value(test.func) is unlikely:
                weight = ", !prof !0"
            self.line(f"br i1 {condition.text}, label {yes}, label {no}{weight}")
            return None
        conjunction = isinstance(test.op, ast.And)
        emitted = False
        for position, operand in enumerate(test.values):
            last = position == len(test.values) - 1
            onward = (yes if conjunction else no) if last else self.fresh("b")
            known = self.branch(operand, *((onward, no) if conjunction else (yes, onward)))
            if known is None:
                emitted = True
                if not last:
                    self.start(onward)
            elif known is not conjunction:
                return self.decided(emitted, known, no if conjunction else yes)
            elif last:
                return self.decided(emitted, known, onward)
        return None

    def decided(self, emitted: bool, known: bool, label: str) -> bool | None:
        """A test whose rest is known: go to `label`, unless nothing was dynamic so far."""
        if not emitted:
            return known
        self.line(f"br label {label}")
        return None

    def do_While(self, node: ast.While) -> None:
        frame = self.frames[-1]
        header, body, after = self.fresh("b"), self.fresh("b"), self.fresh("b")
        stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and _is_store(n)}
        before = self.edge()
        self.line(f"br label {header}")
        self.start(header)
        slots: dict[tuple[str, str], tuple[int, str, Any]] = {}
        for kind, table in (("name", frame.names), ("register", self.registers)):
            for name in list(table):
                if kind == "name" and name not in stored:
                    continue
                phi = self.fresh()
                initial = table[name]
                slots[kind, name] = (len(self.lines), phi, initial)
                self.lines.append("")
                is_struct = isinstance(initial, Struct)
                table[name] = Struct(initial.layout, phi) if is_struct else Word(phi)
        back: list[Edge] = []
        out: list[Edge] = []
        done = self.fresh("b")
        known = self.branch(node.test, body, done)
        if known is False:
            raise CompileError("a loop whose condition is known to be false")
        names, registers = dict(frame.names), dict(self.registers)
        if known:
            self.line(f"br label {body}")
        else:
            self.start(done)
            out.append(self.edge())
            self.line(f"br label {after}")
        frame.names, self.registers = names, registers
        self.start(body)
        frame.loops.append((back, header, out, after))
        self.statements(node.body)
        frame.loops.pop()
        if self.live:
            back.append(self.edge())
            self.line(f"br label {header}")
        for (kind, name), (at, phi, initial) in slots.items():
            arms = []
            type_name = "ptr" if isinstance(initial, Struct) else "i64"
            for edge in (before, *back):
                table = edge.names if kind == "name" else edge.registers
                value = table[name]
                text = value.text if isinstance(value, Struct) else self.word(value)
                arms.append(f"[ {text}, %{edge.label} ]")
            self.lines[at] = f"  {phi} = phi {type_name} {', '.join(arms)}"
        if out:
            self.join(out, after)
        else:
            self.live = False

    def do_Break(self, node: ast.Break) -> None:
        _, _, out, after = self.frames[-1].loops[-1]
        out.append(self.edge())
        self.line(f"br label {after}")
        self.live = False

    def do_Continue(self, node: ast.Continue) -> None:
        back, header, _, _ = self.frames[-1].loops[-1]
        back.append(self.edge())
        self.line(f"br label {header}")
        self.live = False

    def do_For(self, node: ast.For) -> None:
        """`for name in <known sequence>`: unrolled."""
        sequence = self.value(node.iter)
        if isinstance(sequence, Word | Bit | Struct | Array):
            raise CompileError("a for loop over what is not known when compiling")
        for item in sequence:
            self.assign(node.target, item)
            self.statements(node.body)
            if not self.live:
                return

    # expressions

    def value(self, node: ast.expr) -> Any:
        """The value of an expression: a Python object when known, else a Word, Bit or Struct."""
        method = getattr(self, f"of_{type(node).__name__}", None)
        if method is None:
            raise CompileError(f"expression {ast.unparse(node)}")
        return method(node)

    def of_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def of_Name(self, node: ast.Name) -> Any:
        frame = self.frames[-1]
        if node.id in frame.names:
            value = frame.names[node.id]
            if isinstance(value, _Undefined):
                raise CompileError(f"{node.id} is not the same on every way here")
            return value
        if node.id in frame.function.function.__globals__:
            return frame.function.function.__globals__[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        raise CompileError(f"name {node.id} is not defined on every way here")

    def of_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.value(element) for element in node.elts)

    def of_JoinedStr(self, node: ast.JoinedStr) -> Any:
        raise CompileError("a formatted string")

    def of_Attribute(self, node: ast.Attribute) -> Any:
        value = self.value(node.value)
        if not isinstance(value, Struct):
            return self.attribute(value, node.attr)
        if node.attr == "address":
            return self.operation(f"ptrtoint ptr {value.text} to i64")
        if self.in_register(value, node.attr):
            return self.register(node.attr)
        place = self.place(value, node.attr)
        if place.length > 1:
            return Array(value, place)
        return self.load(self.pointer(value, place))

    def attribute(self, value: Any, name: str) -> Any:
        """An attribute of what is known when compiling."""
        return getattr(value, name)

    def register(self, name: str) -> Any:
        """The value of a field that is held in a register."""
        return self.registers[name]

    def in_register(self, struct: Struct, name: str) -> bool:
        """Whether the field travels in a register: in handlers, of the processor's own state."""
        return self.handler and struct.text == "%cpu" and name in REGISTERS

    def place(self, struct: Struct, name: str) -> Place:
        """Where a field is."""
        if name not in struct.layout.places:
            raise CompileError(f"{struct.layout.name} has no field {name}")
        return struct.layout.places[name]

    def pointer(self, struct: Struct, place: Place) -> tuple[str, int]:
        """The IR pointer of a field, and its width."""
        name = self.fresh()
        self.line(f"{name} = getelementptr i8, ptr {struct.text}, i64 {place.offset}")
        return name, place.width

    def element(self, array: Array, index: Any) -> tuple[str, int]:
        """The IR pointer of an element, and its width."""
        place = array.place
        if isinstance(index, int):
            if index >= place.length:
                raise CompileError(f"index {index} of {place.length}")
            return self.pointer(
                array.struct, place._replace(offset=place.offset + index * place.width)
            )
        base, _ = self.pointer(array.struct, place)
        name = self.fresh()
        width = 8 * place.width
        self.line(f"{name} = getelementptr i{width}, ptr {base}, i64 {self.word(index)}")
        return name, place.width

    def load(self, pointer: tuple[str, int]) -> Word:
        """Read a field, widened to a word."""
        name, width = pointer
        loaded = self.operation(f"load i{8 * width}, ptr {name}")
        return loaded if width == 8 else self.operation(f"zext i{8 * width} {loaded.text} to i64")

    def store(self, pointer: tuple[str, int], value: Any) -> None:
        """Write a field, the word cut to its width."""
        name, width = pointer
        text = self.word(value)
        if width != 8:
            text = self.operation(f"trunc i64 {text} to i{8 * width}").text
        self.line(f"store i{8 * width} {text}, ptr {name}")

    def of_Subscript(self, node: ast.Subscript) -> Any:
        value, index = self.value(node.value), self.value(node.slice)
        if isinstance(value, Array):
            return self.load(self.element(value, index))
        if isinstance(index, Word | Bit | Struct):
            raise CompileError(f"{ast.unparse(node)}: the index must be known when compiling")
        return value[index]

    def of_BinOp(self, node: ast.BinOp) -> Any:
        return self.binary(node.op, self.value(node.left), self.value(node.right))

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        """One operator on words."""
        name, function = BINARY[type(op)]
        if isinstance(left, int) and isinstance(right, int):
            return function(left & WORD, right & WORD) & WORD
        if isinstance(left, Bit) and isinstance(right, Bit) and name in ("and", "or", "xor"):
            return Bit(self.operation(f"{name} i1 {left.text}, {right.text}").text)
        return self.operation(f"{name} i64 {self.word(left)}, {self.word(right)}")

    def of_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            condition = self.bit(value)
            if isinstance(condition, bool):
                return not condition
            return Bit(self.operation(f"xor i1 {condition.text}, true").text)
        if isinstance(value, int):
            return (~value if isinstance(node.op, ast.Invert) else -value) & WORD
        if isinstance(node.op, ast.Invert):
            return self.operation(f"xor i64 {self.word(value)}, -1")
        return self.operation(f"sub i64 0, {self.word(value)}")

    def of_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1:
            raise CompileError("a chained comparison")
        left, right = self.value(node.left), self.value(node.comparators[0])
        op = node.ops[0]
        if isinstance(op, ast.In | ast.NotIn | ast.Is | ast.IsNot):
            if isinstance(left, Word | Bit) or isinstance(right, Word | Bit):
                raise CompileError(f"{ast.unparse(node)}: not known when compiling")
            known = left in right if isinstance(op, ast.In | ast.NotIn) else left is right
            return known is isinstance(op, ast.In | ast.Is)
        name, function = COMPARE[type(op)]
        if not isinstance(left, Word | Bit) and not isinstance(right, Word | Bit):
            return function(left, right)
        return Bit(self.operation(f"icmp {name} i64 {self.word(left)}, {self.word(right)}").text)

    def of_BoolOp(self, node: ast.BoolOp) -> Any:
        return self.of_IfExp(ast.IfExp(node, ast.Constant(1), ast.Constant(0)))

    def of_IfExp(self, node: ast.IfExp) -> Any:
        then, other, after = self.fresh("b"), self.fresh("b"), self.fresh("b")
        known = self.branch(node.test, then, other)
        if known is not None:
            return self.value(node.body if known else node.orelse)
        edges = []
        names, registers = dict(self.frames[-1].names), dict(self.registers)
        for label, choice in ((then, node.body), (other, node.orelse)):
            self.start(label)
            self.frames[-1].names, self.registers = dict(names), dict(registers)
            edges.append(self.edge(self.settled(self.value(choice))))
            self.line(f"br label {after}")
        return self.join(edges, after)

    # calls

    def of_Call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        arguments = [self.value(argument) for argument in node.args]
        named = {k.arg: self.value(k.value) for k in node.keywords if k.arg is not None}
        if isinstance(function, Restricted):
            if function.kind == "outline":
                return self.call_outline(function, arguments)
            if function.kind == "tail":
                return self.call_tail(function, arguments)
            return self.inline(function, arguments, named)
        if isinstance(function, Intrinsic):
            return self.expand(function, arguments)
        if isinstance(function, Special):
            return self.special(function.name, arguments)
        if isinstance(function, Layout):
            return self.structure(function, *arguments)
        if function in (min, max) and any(isinstance(a, Word) for a in arguments):
            return self.smaller("ult" if function is min else "ugt", *arguments)
        if any(isinstance(a, Word | Bit | Struct | Array) for a in (*arguments, *named.values())):
            raise CompileError(f"{ast.unparse(node)}: {function!r} is not restricted Python")
        return function(*arguments, **named)

    def structure(self, layout: Layout, address: Any) -> Any:
        """The structure at an address."""
        pointer = self.fresh("p")
        self.line(f"{pointer} = inttoptr i64 {self.word(address)} to ptr")
        return Struct(layout, pointer)

    def smaller(self, relation: str, left: Any, right: Any) -> Word:
        """The one of two words that stands in `relation` to the other: `min` and `max`."""
        a, b = self.word(left), self.word(right)
        chosen = self.operation(f"icmp {relation} i64 {a}, {b}")
        return self.operation(f"select i1 {chosen.text}, i64 {a}, i64 {b}")

    def inline(self, function: Restricted, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Compile the body of `function` here."""
        if len(self.frames) > 40:
            raise CompileError(f"{function.name}: inlined too deep; is it recursive?")
        frame = Frame(function, bind(function, arguments, named))
        self.frames.append(frame)
        try:
            self.statements(function.tree.body)
        except CompileError as error:
            if not getattr(error, "located", False):
                located = CompileError(f"{function.name}: {error}")
                located.located = True  # type: ignore[attr-defined]
                raise located from error
            raise
        if self.live:
            frame.returns.append((len(self.lines), self.edge(None)))
            self.lines.append("  br return")
        result = self.finish_inline(frame)
        self.frames.pop()
        if not self.live:
            raise _Dead
        return result

    def finish_inline(self, frame: Frame) -> Any:
        """Join the returns of an inlined function."""
        if not frame.returns:
            self.live = False
            return None
        if len(frame.returns) == 1 and frame.returns[0][0] == len(self.lines) - 1:
            edge = frame.returns[0][1]
            self.lines.pop()
            self.label, self.registers, self.live = edge.label, edge.registers, True
            return edge.value
        after = self.fresh("b")
        for at, _ in frame.returns:
            self.lines[at] = f"  br label {after}"
        edges = [edge._replace(names={}) for _, edge in frame.returns]
        return self.join(edges, after)

    def call_outline(self, function: Restricted, arguments: list[Any]) -> Word:
        """Call a function that is compiled on its own."""
        self.outlines[function.name] = function
        if not isinstance(arguments[0], Struct):
            raise CompileError(f"{function.name}: the first argument is the processor")
        words = "".join(f", i64 {self.word(a)}" for a in arguments[1:])
        return self.operation(
            f"call preserve_mostcc i64 @{function.name}(ptr {arguments[0].text}{words})"
        )

    def call_tail(self, function: Restricted, arguments: list[Any]) -> None:
        """End in another handler."""
        if not self.handler:
            raise CompileError(f"{function.name} is the end of a handler")
        self.outlines[function.name] = function
        self.tail_call(f"@{function.name}", arguments[1].text)

    def expand(self, intrinsic: Intrinsic, arguments: list[Any]) -> Any:
        """Fill in the IR of an intrinsic; fold it when everything is known."""
        if all(isinstance(a, int) for a in arguments) and intrinsic.has_result:
            if not intrinsic.name.startswith("raw_"):
                return intrinsic(*arguments)
        self.declarations.update(intrinsic.declare)
        result = self.fresh() if intrinsic.has_result else ""
        fill: dict[str, str] = {"r": result}
        for i in range(intrinsic.ir.count("{t")):
            fill[f"t{i}"] = ""
        for key in list(fill):
            if key.startswith("t") and "{" + key + "}" in intrinsic.ir:
                fill[key] = self.fresh("t")
        words = [self.word(a) for a in arguments]
        for text in intrinsic.ir.format(*words, **fill).splitlines():
            self.line(text)
        return Word(result) if result else None

    def special(self, name: str, arguments: list[Any]) -> Any:
        """`leave()` and `dispatch(uop)`: the ends of a handler; `unlikely(condition)`."""
        if name == "unlikely":
            return arguments[0]
        if not self.handler:
            raise CompileError(f"{name} outside a handler")
        if name == "leave":
            self.leave()
        else:
            self.dispatch(arguments[0])
        return None

    def leave(self) -> None:
        """Store what is held in registers and return."""
        for register in REGISTERS:
            pointer = self.pointer(self.cpu, self.place(self.cpu, register))
            self.store(pointer, self.register(register))
        self.line("ret void")
        self.live = False

    def dispatch(self, target: Any) -> None:
        """Tail-call the handler of the micro-operation `target`."""
        handler = self.fresh()
        self.line(f"{handler} = load ptr, ptr {target.text}")
        self.tail_call(handler, target.text)

    def tail_call(self, function: str, uop: str) -> None:
        """End the block with a tail call that hands on every register."""
        words = "".join(f", i64 {self.word(self.register(name))}" for name in REGISTERS)
        self.line(f"musttail call preserve_nonecc void {function}(ptr %cpu, ptr {uop}{words})")
        self.line("ret void")
        self.live = False


class _Undefined(NamedTuple):
    """A name whose values on two ways cannot be joined."""

    value: Any


def _is_store(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def bind(function: Restricted, arguments: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    """The parameters of `function` with their values, defaults filled in."""
    arguments_of = function.tree.args
    parameters = [a.arg for a in (*arguments_of.posonlyargs, *arguments_of.args)]
    if len(arguments) > len(parameters):
        raise CompileError(f"{function.name}: {len(arguments)} arguments, {len(parameters)} taken")
    bound = dict(zip(parameters, arguments, strict=False))
    bound.update(named)
    defaults = function.function.__defaults__ or ()
    for name, value in zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True):
        bound.setdefault(name, value)
    missing = [name for name in parameters if name not in bound]
    if missing or len(bound) != len(parameters):
        raise CompileError(f"{function.name}: arguments {sorted(bound)}, parameters {parameters}")
    return bound


def handler_ir(
    name: str, function: Restricted, constants: dict[str, Any], cpu: Layout, uop: Layout
) -> tuple[str, Emitter]:
    """IR of one handler: `function(cpu, uop, **constants)`, then on to the next micro-operation."""
    emitter = Emitter(handler=True, cpu=cpu)
    emitter.registers = {register: Word(f"%{register}") for register in REGISTERS}
    emitter.frames.append(Frame(function, {}))
    with contextlib.suppress(_Dead):
        emitter.inline(function, [Struct(cpu, "%cpu"), Struct(uop, "%uop")], constants)
    if emitter.live:
        following = emitter.fresh("p")
        emitter.line(f"{following} = getelementptr i8, ptr %uop, i64 {uop.size}")
        emitter.dispatch(Struct(uop, following))
    body = "\n".join(emitter.lines)
    return (
        f"define preserve_nonecc void @{name}({HANDLER_PARAMETERS}) #0 {{\nentry:\n{body}\n}}\n",
        emitter,
    )


def outline_ir(function: Restricted, cpu: Layout) -> tuple[str, Emitter]:
    """IR of a function that is compiled on its own: words in, one word out."""
    emitter = Emitter(handler=False, cpu=cpu)
    parameters = [a.arg for a in function.tree.args.args]
    emitter.frames.append(Frame(function, {}))
    words: list[Any] = [Word(f"%{name}") for name in parameters[1:]]
    result = emitter.inline(function, [Struct(cpu, "%cpu"), *words], {})
    if emitter.live:
        emitter.line(f"ret i64 {0 if result is None else emitter.word(result)}")
    signature = "ptr %cpu" + "".join(f", i64 %{name}" for name in parameters[1:])
    body = "\n".join(emitter.lines)
    name = function.name
    text = (
        f"define preserve_mostcc i64 @{name}({signature}) #1 {{\nentry:\n{body}\n}}\n"
        f"define i64 @call_{name}({signature}) {{\n"
        f"  %r = call preserve_mostcc i64 @{name}({signature})\n  ret i64 %r\n}}\n"
    )
    return text, emitter
