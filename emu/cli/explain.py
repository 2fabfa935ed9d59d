"""`nestling explain`: one rule."""

from __future__ import annotations

from dataclasses import asdict

import click

from emu.cli.output import json_option, print_json


@click.command()
@click.argument("rule")
@json_option
def explain(rule: str, as_json: bool) -> None:
    """Say what RULE asks, where it stands in the manual or the kernel, and which kernels have it.

    RULE is a name as `nestling judge` prints it, or the name of a kernel's fact.
    """
    from emu.migration.rulebook import releases_with, rules_named  # noqa: PLC0415 - not small

    found = rules_named(rule)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        click.secho(one.name, bold=True, nl=False)
        click.echo(f"  ({one.table}, {one.kind})")
        click.echo(f"  asks   {one.asks}")
        for number, condition in enumerate(one.when):
            click.echo(f"  {'when ' if not number else 'and  '}  {condition}")
        if one.result:
            click.echo(f"  gives  {one.result}")
        click.echo(f"  stands {one.section}")
        if one.kernels:
            click.echo(f"  in     Linux {releases_with(one.kernels)}")
        click.echo()
