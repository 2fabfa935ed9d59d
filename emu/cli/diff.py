"""`nestling diff`: two nested states by field, or two kernels by fact and rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from emu.cli.output import json_option, kernel, print_json, table
from emu.errors import InputError
from emu.migration.capture import Capture, shipped
from emu.migration.inputs import read_states
from emu.releases import RELEASES
from emu.releases.schema import FACTS, Release

if TYPE_CHECKING:
    from emu.migration.decode import Member

REGISTERS = ("cr0", "cr3", "cr4", "efer")
FactRow = tuple[str, str, str, str]


@click.command()
@click.argument("a")
@click.argument("b")
@json_option
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, as_json: bool) -> None:
    """Compare two nested-state files by field, or two kernels by fact and rule.

    A and B are both files (or shipped captures), or both kernels (names or .toml files).
    Exits 1 when they differ.
    """
    sides = [_side(name) for name in (a, b)]
    if isinstance(sides[0], Release) != isinstance(sides[1], Release):
        raise InputError(f"{a} and {b}: one is a kernel, the other a nested state")
    if isinstance(sides[0], Release) and isinstance(sides[1], Release):
        rows = _releases(sides[0], sides[1])
        columns = ("fact", "member", sides[0].name, sides[1].name)
    else:
        rows = _states(*(side for side in sides if isinstance(side, Capture)))
        columns = ("section", "member", a, b)
    if as_json:
        print_json([dict(zip(("where", "name", "a", "b"), row, strict=True)) for row in rows])
    elif rows:
        table(columns, rows)
    else:
        click.echo("no difference")
    ctx.exit(1 if rows else 0)


def _side(name: str) -> Release | Capture:
    if name.endswith(".toml") or (name in RELEASES and not Path(name).exists()):
        return kernel(name)
    if not Path(name).exists() and name not in shipped():
        raise InputError(f"{name}: neither a file, nor a shipped capture, nor a kernel")
    return read_states(name)[0]


def _releases(a: Release, b: Release) -> list[FactRow]:
    rows: list[FactRow] = []
    for fact in FACTS:
        left, right = a.facts[fact.name], b.facts[fact.name]
        if isinstance(left, int) or isinstance(right, int):
            if left != right:
                rows.append((fact.name, "", str(left), str(right)))
            continue
        rows += [(fact.name, member, "yes", "") for member in sorted(left - right)]
        rows += [(fact.name, member, "", "yes") for member in sorted(right - left)]
    grown = [{item.name: item for item in side.growth} for side in (a, b)]
    for name in sorted(grown[0].keys() ^ grown[1].keys()):
        rows.append(("growth", name, "yes" * (name in grown[0]), "yes" * (name in grown[1])))
    return rows


def _states(a: Capture, b: Capture) -> list[FactRow]:
    from emu.migration.decode import decode  # noqa: PLC0415 - the tables are not small

    def members(state: Capture) -> dict[tuple[str, str], Member]:
        sections = decode(state.blob, everything=True)
        return {(s.title, row.name): row for s in sections for row in s.members}

    left, right = members(a), members(b)
    rows: list[FactRow] = []
    registers = ((name, getattr(a, name), getattr(b, name)) for name in REGISTERS)
    rows += [("registers", name, f"{x:#x}", f"{y:#x}") for name, x, y in registers if x != y]
    for key in [*left, *(key for key in right if key not in left)]:
        one, other = left.get(key), right.get(key)
        if one is None or other is None or one.value != other.value:
            rows.append((key[0], key[1], _shown(one), _shown(other)))
    return rows


def _shown(member: Member | None) -> str:
    if member is None:
        return ""
    meaning = f" {' | '.join(member.meaning)}" if member.meaning else ""
    return f"{member.value:#x}{meaning}"
