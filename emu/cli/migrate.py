"""`nestling migrate`: one move of nested state between two kernels."""

from __future__ import annotations

from errno import errorcode
from typing import TYPE_CHECKING, Any

import click

from emu.cli.output import json_option, kernel, print_json, styled, table, writable
from emu.errors import InputError
from emu.migration.inputs import read_states

if TYPE_CHECKING:
    from emu.migration.migrate import Verdict

DEFAULT_STATE = "vmx-l2-running"


@click.command()
@click.option("--from", "source", required=True, help="The kernel that saves: a name or .toml.")
@click.option("--to", "destination", required=True, help="The kernel that restores.")
@click.option(
    "--policy", "how", default="flags", show_default=True, help="How the format is agreed."
)
@click.option(
    "--state", default=DEFAULT_STATE, show_default=True, help="A file or shipped capture."
)
@click.option("--vcpu", default=0, show_default=True, help="Which state of a file with several.")
@click.option(
    "--unused", is_flag=True, help="The guest does not use what the source's kernel adds."
)
@click.option("--record", "path", help="Write a replay file.")
@json_option
@click.pass_context
def migrate(
    ctx: click.Context,
    source: str,
    destination: str,
    how: str,
    state: str,
    vcpu: int,
    unused: bool,
    path: str | None,
    as_json: bool,
) -> None:
    """Save a vCPU's nested state under one kernel and restore it under another.

    The verdict is accepted, refused (by which rule), or accepted but lost (which content).
    Exits 1 unless it is accepted.
    """
    from emu.migration import replay  # noqa: PLC0415 - loaded when the arguments are good
    from emu.migration.policy import policy  # noqa: PLC0415

    chosen = policy(how)
    kernels = kernel(source), kernel(destination)
    states = read_states(state)
    if not 0 <= vcpu < len(states):
        raise InputError(f"{state}: has {len(states)} nested states, no number {vcpu}")
    target = writable(path) if path else None
    verdict, content = replay.record(states[vcpu], *kernels, chosen, {} if unused else None)
    if target is not None:
        replay.write(target, content)
    if as_json:
        print_json(as_dict(verdict))
    else:
        print_verdict(verdict, chosen.title)
        if target is not None:
            click.echo(f"recorded in {target}: nestling replay {target}")
    ctx.exit(0 if verdict.outcome == "accepted" else 1)


def print_verdict(verdict: Verdict, title: str) -> None:
    """Print a verdict for people."""
    click.echo(f"Linux {verdict.source} -> Linux {verdict.destination}, policy {title}: ", nl=False)
    click.echo(styled(verdict.outcome))
    if verdict.outcome in ("refused", "impossible"):
        code = errorcode.get(verdict.errno, str(verdict.errno))
        click.echo(f"  at     {verdict.stage}: {code}")
        click.echo(f"  rule   {verdict.rule} (nestling explain {verdict.rule})")
        if verdict.detail:
            click.echo(f"  value  {verdict.detail}")
    if verdict.result:
        click.echo(
            f"  KVM_SET_NESTED_STATE returned {verdict.result}: no errno, yet L2 is not running"
        )
    if verdict.withheld:
        click.echo(f"  the guest was never offered: {', '.join(verdict.withheld)}")
    if verdict.lost:
        rows = [
            (item.name, f"{item.was:#x}", "-" if item.now is None else f"{item.now:#x}")
            for item in verdict.lost
        ]
        table(("content", "source held", "destination holds"), rows)


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    return {
        "source": verdict.source,
        "destination": verdict.destination,
        "policy": verdict.policy,
        "outcome": verdict.outcome,
        "stage": verdict.stage,
        "rule": verdict.rule,
        "errno": errorcode.get(verdict.errno, "") if verdict.errno else "",
        "detail": verdict.detail,
        "result": verdict.result,
        "lost": [item._asdict() for item in verdict.lost],
        "withheld": list(verdict.withheld),
    }
