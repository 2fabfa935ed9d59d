"""Visits of guest mode as lines: for people, and as JSON for machines; and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import click

from emu.cli.output import table
from emu.cpu.exit_report import ExitReport
from emu.cpu.timeline import Visit

if TYPE_CHECKING:
    from emu.kvm.running.timeline import Passage

HEAD: Final = (
    f"{'exit':>6} {'instruction':>12} {'host ran':>9} {'guest ran':>9}  {'guest RIP':<18}  why"
)


KVM_HEAD: Final = f"{'exit':>6} {'instruction':>12} {'ran':>9}  {'who':<8}  {'guest RIP':<18}  why"


def why(report: ExitReport, injected: str = "") -> str:
    """The reason of an exit by name, with what qualifies it."""
    text = click.style(report.name, fg="red" if report.failed_entry else "cyan")
    parts = [*report.details, *report.event]
    if report.failed_entry:
        parts.append("entry failed")
    if report.delivering:
        parts.append(f"while delivering {' '.join(report.delivering)}")
    if injected:
        parts.append(f"after injecting {injected}")
    return f"{text}  {', '.join(parts)}".rstrip(" ")


def line(visit: Visit) -> str:
    """A visit: when it ended, how long host and guest ran, where the guest stands, and why."""
    return (
        f"{visit.number:>6} {visit.instruction:>12} {visit.host:>9} {visit.guest:>9}  "
        f"{visit.exit.rip:#018x}  {why(visit.exit, visit.injected)}"
    )


def kvm_line(passage: Passage) -> str:
    """An exit to L0: who was left, and who goes on."""
    who = f"{passage.left} -> {passage.goes_on}"
    who = click.style(f"{who:<8}", fg="yellow" if passage.left != passage.goes_on else None)
    return (
        f"{passage.number:>6} {passage.instruction:>12} {passage.ran:>9}  {who}  "
        f"{passage.exit.rip:#018x}  {why(passage.exit)}"
    )


def as_json(visit: Visit | Passage) -> str:
    """A visit or an exit to L0 as one line of JSON."""
    return json.dumps({**visit._asdict(), "exit": visit.exit._asdict()})


def summary(visits: Sequence[Visit]) -> None:
    """A table of the reasons: how often each came, and what guest and host ran before it."""
    counted = [(visit.exit.name, visit.guest, visit.host) for visit in visits]
    _summary(("reason", "exits", "guest instructions", "host instructions"), counted)


def kvm_summary(passages: Sequence[Passage]) -> None:
    """A table of the reasons: whose exits, and how many instructions ran before them."""
    counted = [(f"{p.left} {p.exit.name}", p.ran) for p in passages]
    _summary(("reason", "exits", "instructions"), counted)


def _summary(columns: Sequence[str], counted: Iterable[tuple[str, *tuple[int, ...]]]) -> None:
    reasons: dict[str, list[int]] = {}
    for name, *costs in counted:
        row = reasons.setdefault(name, [0] * (1 + len(costs)))
        row[:] = [old + more for old, more in zip(row, (1, *costs), strict=True)]
    if reasons:
        ordered = sorted(reasons.items(), key=lambda item: (-item[1][0], item[0]))
        click.echo()
        table(columns, [(name, *map(str, row)) for name, row in ordered])
