"""`nestling explain`: one rule."""

from __future__ import annotations

from dataclasses import asdict

import click

from emu.cli.output import folded, json_option, places, print_json


@click.command()
@click.argument("rule")
@json_option
def explain(rule: str, as_json: bool) -> None:
    """Say what RULE asks, where it stands in manual and kernel, and which kernels have it.

    RULE is a name as `nestling judge` prints it, or a fact of a kernel, or a member of one, as
    `nestling releases` prints them.
    """
    from emu.migration.rulebook import explained, releases_with, rules_named  # noqa: PLC0415

    found = [explained(one) for one in rules_named(rule)]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        click.secho(one.name, bold=True, nl=False)
        click.echo(f"  ({one.table}, {one.kind})")
        _part("asks", one.asks)
        for number, condition in enumerate(one.when):
            _part("and" if number else "when", condition)
        for word, meaning in one.words.items():
            _part("where", f"{word}: {meaning}")
        _part("gives", one.result)
        for place in places(one.section):
            source, _, where = place.partition(": ")
            _part(source, where)
        _part("in", one.kernels and f"Linux {releases_with(one.kernels)}")
        _part("e.g.", one.example)
        click.echo()


def _part(label: str, text: str | tuple[str, ...]) -> None:
    """A labelled part of a rule, folded to the terminal; nothing where there is no text."""
    if text:
        folded(f"  {label:<6} ", str(text))
