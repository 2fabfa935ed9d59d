"""`nestling show`: a nested-state file in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from emu.cli.output import json_option, print_json
from emu.migration.capture import Capture
from emu.migration.inputs import read_states

if TYPE_CHECKING:
    from emu.migration.decode import Member, Section

REGISTERS = ("cr0", "cr3", "cr4", "efer")


@click.command()
@click.argument("file")
@click.option("--all", "everything", is_flag=True, help="Members that are zero as well.")
@json_option
def show(file: str, everything: bool, as_json: bool) -> None:
    """Print the nested state in FILE by name, unusual values marked with `!`.

    FILE is a raw blob, hexadecimal text, a capture (JSON), a QEMU migration stream, a libvirt save
    image, or the name of a capture that ships with Nestling.
    """
    from emu.migration.decode import decode  # noqa: PLC0415 - the tables are not small

    states = read_states(file)
    if as_json:
        print_json([_as_json(state, decode(state.blob, everything)) for state in states])
        return
    for state in states:
        click.secho(state.name, bold=True)
        for line in (state.title, state.provenance and f"from {state.provenance}"):
            if line:
                click.echo(line)
        pairs = "  ".join(f"{name} {getattr(state, name):#x}" for name in REGISTERS)
        click.echo(f"{len(state.blob)} bytes; vCPU registers: {pairs}\n")
        for section in decode(state.blob, everything):
            _print(section)


def _print(section: Section) -> None:
    click.secho(section.title, bold=True)
    width = max((len(member.name) for member in section.members), default=0)
    for member in section.members:
        digits = f"{member.value:#x}"
        line = f"  {member.offset:5}  {member.name:<{width}}  {digits:>18}"
        if member.meaning:
            line += "  " + " | ".join(member.meaning)
        if member.notice:
            click.secho(f"! {line[2:]}  <- {member.notice}", fg="yellow")
        else:
            click.echo(line)
    if section.zero_members:
        click.secho(f"  {section.zero_members} other members are zero", dim=True)
    click.echo()


def _as_json(state: Capture, sections: list[Section]) -> dict[str, Any]:
    def member(row: Member) -> dict[str, Any]:
        return {
            "name": row.name,
            "offset": row.offset,
            "width": row.width,
            "value": row.value,
            "meaning": list(row.meaning),
            "notice": row.notice,
        }

    return {
        "name": state.name,
        "title": state.title,
        "provenance": state.provenance,
        "bytes": len(state.blob),
        "registers": {name: getattr(state, name) for name in REGISTERS},
        "sections": [
            {
                "title": section.title,
                "members": [member(row) for row in section.members],
                "zero_members": section.zero_members,
            }
            for section in sections
        ],
    }
