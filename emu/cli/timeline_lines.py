"""Visits of guest mode as lines: for people, and as JSON for machines; and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import click

from emu.cli.output import table
from emu.cpu.timeline import Visit

HEAD: Final = (
    f"{'exit':>6} {'instruction':>12} {'host ran':>9} {'guest ran':>9}  {'guest RIP':<18}  why"
)


def why(visit: Visit) -> str:
    """The reason of an exit by name, with what qualifies it."""
    report = visit.exit
    text = click.style(report.name, fg="red" if report.failed_entry else "cyan")
    parts = [*report.details, *report.event]
    if report.failed_entry:
        parts.append("entry failed")
    if report.delivering:
        parts.append(f"while delivering {' '.join(report.delivering)}")
    if visit.injected:
        parts.append(f"after injecting {visit.injected}")
    return f"{text}  {', '.join(parts)}".rstrip(" ")


def line(visit: Visit) -> str:
    """A visit: when it ended, how long host and guest ran, where the guest stands, and why."""
    return (
        f"{visit.number:>6} {visit.instruction:>12} {visit.host:>9} {visit.guest:>9}  "
        f"{visit.exit.rip:#018x}  {why(visit)}"
    )


def as_json(visit: Visit) -> str:
    """A visit as one line of JSON."""
    return json.dumps({**visit._asdict(), "exit": visit.exit._asdict()})


def summary(visits: Sequence[Visit]) -> None:
    """A table of the reasons: how often each came, and what guest and host ran before it."""
    if not visits:
        return
    reasons: dict[str, list[int]] = {}
    for visit in visits:
        row = reasons.setdefault(visit.exit.name, [0, 0, 0])
        row[0], row[1], row[2] = row[0] + 1, row[1] + visit.guest, row[2] + visit.host
    ordered = sorted(reasons.items(), key=lambda item: (-item[1][0], item[0]))
    click.echo()
    table(
        ("reason", "exits", "guest instructions", "host instructions"),
        [(name, *map(str, row)) for name, row in ordered],
    )
