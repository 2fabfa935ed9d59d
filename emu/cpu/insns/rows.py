"""What a row of an instruction table says, and the handlers that follow from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

from emu.cpu.compiler.words import Restricted

MODES = ("long", "legacy")
NO_SUCH_ADDRESS = (("long", 16), ("legacy", 64))


class Insn(NamedTuple):
    """An instruction: its mnemonic (as iced-x86 spells it), its function and its forms.

    A form has one letter an operand: R general register, M memory, I immediate, S segment register,
    X vector register, P MMX register, T x87 register, C control and D debug register, J near branch
    target, Z memory implied by a string instruction. The function gets each operand as a kind:
    R0 R1 R2 (by position among the registers), I, M, J and so on.

    `size` says where the operand size comes from: "first" operand, "code" (the opcode's operand
    size) or "fixed", the row's only one; `modal` makes a handler for 64-bit mode and one for the
    others, given as `mode`; `addressed` one for each address size, given as `address`. With
    `own_address` the function computes the address itself. `constants` are more arguments.
    `undefined` are the RFLAGS bits that the manual leaves undefined. With `python` the function
    leaves some cases to plain Python: the instruction ends its block.
    """

    mnemonic: str
    function: Callable[..., Any]
    forms: str
    sizes: tuple[int, ...] = (8, 16, 32, 64)
    size: str = "first"
    modal: bool = False
    addressed: bool = False
    own_address: bool = False
    undefined: int = 0
    constants: dict[str, Any] = {}  # noqa: RUF012 - never written
    python: bool = False


class Handler(NamedTuple):
    """One specialisation of a row: a compiled function."""

    name: str
    function: Restricted
    constants: dict[str, Any]


def operand_kinds(form: str) -> tuple[str, ...]:
    """The operand kinds of a form, registers numbered by their position: "RMR" is R0 M R1."""
    kinds = []
    registers = 0
    for letter in "" if form == "-" else form:
        if letter in "RSXPTCD":
            kinds.append(f"{letter}{registers}")
            registers += 1
        else:
            kinds.append(letter)
    return tuple(kinds)


def handler_name(mnemonic: str, size: int, form: str, mode: str = "", address: int = 0) -> str:
    """The key that the decoder builds for an instruction."""
    name = f"{mnemonic}_{size}" + ("" if form == "-" else f"_{form}")
    if mode:
        name += f"_{mode}"
    return name + (f"_a{address}" if address else "")


def handlers(row: Insn) -> Iterator[Handler]:
    """Every specialisation of a row."""
    function = cast("Restricted", row.function)
    parameters = [a.arg for a in function.tree.args.args][2:]
    choices = itertools.product(
        row.forms.split(),
        row.sizes,
        MODES if row.modal else ("",),
        (16, 32, 64) if row.addressed else (0,),
    )
    for form, size, mode, address in choices:
        if (mode, size) == ("legacy", 64) or (mode, address) in NO_SUCH_ADDRESS:
            continue
        constants = dict(row.constants)
        if "size" in parameters:
            constants["size"] = size
        if row.modal:
            constants["mode"] = mode
        if row.addressed:
            constants["address"] = address
        free = [p for p in parameters if p not in constants]
        constants.update(zip(free, operand_kinds(form), strict=False))
        yield Handler(handler_name(row.mnemonic, size, form, mode, address), function, constants)
