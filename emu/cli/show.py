"""`nestling show`: a nested-state file in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from emu.cli.output import folded, json_option, print_json
from emu.migration.capture import Capture
from emu.migration.inputs import read_states

if TYPE_CHECKING:
    from emu.migration.decode import Member, Section

WORD = 8
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
    from emu.migration.decode import decode, summary, unusual  # noqa: PLC0415 - not small

    states = read_states(file)
    if as_json:
        print_json([_as_json(state, decode(state.blob, everything)) for state in states])
        return
    for state in states:
        sections = decode(state.blob, everything)
        click.secho(state.name, bold=True)
        for line in (state.title, state.provenance and f"from {state.provenance}"):
            if line:
                click.echo(line)
        pairs = "  ".join(f"{name} {getattr(state, name):#x}" for name in REGISTERS)
        click.echo(f"{len(state.blob)} bytes; vCPU registers: {pairs}")
        marked = len(unusual(sections))
        click.echo(f"{summary(state.blob)}; {marked or 'nothing'} unusual{' (!)' * bool(marked)}\n")
        for section in sections:
            print_section(section)


def print_section(section: Section, place: str = "5d") -> None:
    """Print the members of a section, a line each; `place` is how their offsets are written."""
    click.secho(section.title, bold=True)
    width = max((len(member.name) for member in section.members), default=0)
    for member in section.members:
        digits = f"{member.value:#x}" if member.width <= WORD else f"{member.width} bytes"
        head = f"  {member.offset:{place}}  {member.name:<{width}}  {digits:>18}"
        text = _said(member)
        if member.notice:
            head, text = f"!{head[1:]}", f"{text}  <- {member.notice}"
        folded(f"{head}  ", text, "yellow" if member.notice else None)
    if section.zero_members:
        click.secho(f"  {section.zero_members} other members are zero", dim=True)
    click.echo()


def _said(member: Member) -> str:
    """The names of what is set, and since which release kernels know it."""
    if len(member.since) == len(member.meaning) > 0:
        pairs = zip(member.meaning, member.since, strict=True)
        return " | ".join(f"{name} (since {since})" if since else name for name, since in pairs)
    text = " | ".join(member.meaning)
    return f"{text}  (since {member.since[0]})".lstrip() if member.since else text


def section_as_json(section: Section) -> dict[str, Any]:
    """A section for machines."""
    return {
        "title": section.title,
        "members": [
            {
                "name": row.name,
                "offset": row.offset,
                "width": row.width,
                "value": row.value,
                "meaning": list(row.meaning),
                "notice": row.notice,
                "since": list(row.since),
            }
            for row in section.members
        ],
        "zero_members": section.zero_members,
    }


def _as_json(state: Capture, sections: list[Section]) -> dict[str, Any]:
    return {
        "name": state.name,
        "title": state.title,
        "provenance": state.provenance,
        "bytes": len(state.blob),
        "registers": {name: getattr(state, name) for name in REGISTERS},
        "sections": [section_as_json(section) for section in sections],
    }
