"""`nestling matrix`: every pair of kernels, and the scenarios of a rolling upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from emu.cli.migrate import DEFAULT_STATE, as_dict
from emu.cli.output import (
    compile_first,
    folded,
    json_option,
    kernels,
    print_json,
    progress,
    styled,
    table,
    writable,
)
from emu.errors import InputError
from emu.migration.inputs import read_states

if TYPE_CHECKING:
    from emu.migration.matrix import Matrix
    from emu.migration.policy import Policy

PICTURES = (".png", ".svg")
SHOWN_REASONS = 8


@click.command()
@click.option("--policy", "hows", multiple=True, help="Policies; default: flags, as KVM does.")
@click.option("--kernels", "names", multiple=True, help="Kernels; default: every release.")
@click.option(
    "--state", default=DEFAULT_STATE, show_default=True, help="A file or shipped capture."
)
@click.option("--picture", multiple=True, help="Write a heat map (.png or .svg).")
@click.option("--scenarios", is_flag=True, help="Policies through a rolling upgrade, with counts.")
@json_option
def matrix(
    hows: tuple[str, ...],
    names: tuple[str, ...],
    state: str,
    picture: tuple[str, ...],
    scenarios: bool,
    as_json: bool,
) -> None:
    """Migrate between every pair of kernels; rows save, columns restore.

    With --scenarios, guests move through old and new hosts (upgrade, evacuation, mixed pool,
    rollback) under every policy, with example kernels whose nested state has grown.
    """
    from emu.migration import matrix as engine  # noqa: PLC0415 - loaded when it is needed
    from emu.migration.policy import POLICIES, policy  # noqa: PLC0415

    chosen = [policy(part) for how in hows for part in how.split(",") if part]
    if hows and not chosen:
        raise InputError("no policy is named: the list is empty")
    targets = [writable(path) for path in picture]
    for target in targets:
        if target.suffix not in PICTURES:
            raise InputError(f"{target}: a picture ends in .png or .svg")
    if scenarios and (names or picture):
        raise click.UsageError("--scenarios has kernels of its own, and draws no picture")
    if scenarios:
        _scenarios(chosen or list(POLICIES), as_json)
        return
    chosen = chosen or [policy("flags")]
    capture = read_states(state)[0]
    asked = kernels(names)
    compile_first()
    found = []
    for one in chosen:
        with progress(f"policy {one.name}", len(asked) ** 2) as advance:
            found.append(engine.matrix(capture, asked, asked, one, advance))
    for target in targets:
        engine.draw(found, target)
    if as_json:
        print_json([_as_json(made) for made in found])
        return
    for made, one in zip(found, chosen, strict=True):
        _print(made, one)
    for target in targets:
        click.echo(f"wrote {target}")


def _print(made: Matrix, how: Policy) -> None:
    from emu.migration.matrix import MARKS, WORDS  # noqa: PLC0415 - loaded with the engine

    click.secho(f"policy {how.name}: {how.title}; state {made.capture}", bold=True)
    width = max(map(len, (*made.sources, *made.destinations)))
    for level in range(width):
        heads = "".join(name.rjust(width)[level] for name in made.destinations)
        click.echo(" " * (width + 2) + heads)
    for name, row in zip(made.sources, made.cells, strict=True):
        marks = "".join(styled(v.outcome, MARKS[v.outcome]) for v in row)
        click.echo(f"{name:>{width}}  {marks}")
    click.echo("a row: the kernel that saves; a column, read downwards: the kernel that restores\n")
    counts = made.counts
    parts = [
        f"{styled(outcome, MARKS[outcome])} {counts[outcome]} {WORDS[outcome]}"
        for outcome in MARKS
        if counts[outcome]
    ]
    click.echo("   ".join(parts))
    reasons = made.reasons[:SHOWN_REASONS]
    if reasons:
        rows = [(styled(outcome), why, str(number)) for outcome, why, number in reasons]
        table(("", "by rule or content", "pairs"), rows)
    click.echo()


def _scenarios(chosen: list[Policy], as_json: bool) -> None:
    from emu.migration.matrix import SCENARIOS, Tally, tally  # noqa: PLC0415
    from emu.migration.scenarios import example_pools, scenario_captures  # noqa: PLC0415

    compile_first()
    pools, captures = example_pools(), scenario_captures()
    counts: dict[str, dict[str, Tally]] = {}
    total = len(chosen) * len(SCENARIOS)
    with progress("scenarios", total) as advance:
        for how in chosen:
            for scenario in SCENARIOS:
                row = counts.setdefault(how.name, {})
                row[scenario.name] = tally(scenario, how, pools, captures)
                advance(sum(map(len, counts.values())), total)
    if as_json:
        print_json(
            {
                "pools": [[pool.old.name, pool.new.name] for pool in pools],
                "captures": [capture.name for capture in captures],
                "counts": {
                    name: {where: vars(one) for where, one in row.items()}
                    for name, row in counts.items()
                },
            }
        )
        return
    click.echo("old and new kernels: " + ", ".join(f"{p.old.name} / {p.new.name}" for p in pools))
    click.echo("states: " + ", ".join(capture.name for capture in captures))
    click.echo(
        "each with the new kernel's addition in use, and not in use; kept / lossy / refused\n"
    )
    rows = []
    for how in chosen:
        cells = [_cell(counts[how.name][scenario.name]) for scenario in SCENARIOS]
        rows.append((f"{how.name} {how.option}".strip(), *cells))
    table(("policy", *(scenario.name for scenario in SCENARIOS)), rows)
    click.echo()
    for scenario in SCENARIOS:
        folded(f"{scenario.name:>10}: ", scenario.title)


def _cell(one: Any) -> str:
    kept = styled("accepted", str(one.kept))
    if one.withheld:
        kept += f" (+{one.withheld} withheld)"
    lossy = styled("lost", str(one.lossy)) if one.lossy else "0"
    refused = styled("refused", str(one.refused)) if one.refused else "0"
    return f"{kept} / {lossy} / {refused}"


def _as_json(made: Matrix) -> dict[str, Any]:
    return {
        "policy": made.policy,
        "capture": made.capture,
        "sources": list(made.sources),
        "destinations": list(made.destinations),
        "counts": made.counts,
        "cells": [[as_dict(verdict) for verdict in row] for row in made.cells],
    }
