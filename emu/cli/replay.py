"""`nestling replay`: a recorded migration, again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from emu.cli.migrate import as_dict, print_verdict
from emu.cli.output import json_option, print_json, table


@click.command()
@click.argument("file")
@json_option
@click.pass_context
def replay(ctx: click.Context, file: str, as_json: bool) -> None:
    """Migrate again from a replay FILE, and compare the checksum of every step.

    The file holds all that the migration depended on, so it gives the same on every machine.
    Exits 1 and names the first step that differs.
    """
    from emu.migration import replay as engine  # noqa: PLC0415 - loaded when it is needed
    from emu.migration.policy import policy  # noqa: PLC0415

    content = engine.read(Path(file))
    verdict, difference, steps = engine.run(content, file)
    if as_json:
        print_json(
            {
                "verdict": as_dict(verdict),
                "steps": [{"name": s.name, "crc32c": f"{s.checksum:08x}"} for s in steps],
                "difference": asdict(difference) if difference else None,
            }
        )
        ctx.exit(1 if difference else 0)
    table(
        ("step", "what", "crc32c"),
        [(str(n), step.name, f"{step.checksum:08x}") for n, step in enumerate(steps)],
    )
    print_verdict(verdict, policy(verdict.policy).title)
    if difference is None:
        click.secho(f"bit for bit as recorded: {len(steps)} steps", fg="green")
        return
    click.secho(f"differs from the recording at step {difference.index}", fg="red")
    for what, step in (("recorded", difference.recorded), ("replayed", difference.replayed)):
        text = f"{step.name} {step.checksum:08x}" if step else "no such step"
        click.echo(f"  {what}  {text}")
    ctx.exit(1)
