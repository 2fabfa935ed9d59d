"""`nestling conform`: recorded verdicts of real kernels against the emulated kernels."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emu.cli.output import compile_first, json_option, print_json, progress, styled, table
from emu.errors import InputError

if TYPE_CHECKING:
    from emu.conform.run import Agreement

SHOWN = 10


def _replay(path: str, keep: int, nested: bool | None) -> Agreement:
    from emu.conform.recorded import read_recording  # noqa: PLC0415 - loaded in the workers
    from emu.conform.run import replay  # noqa: PLC0415
    from emu.kvm.host import ModuleParameters  # noqa: PLC0415

    return replay(read_recording(Path(path), ModuleParameters(nested=nested)), keep)


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--first",
    default=SHOWN,
    type=click.IntRange(0),
    show_default=True,
    help="Disagreements shown, each file.",
)
@click.option(
    "--jobs", default=0, type=click.IntRange(0), help="Processes; default: one for each processor."
)
@click.option("--tags", is_flag=True, help="Agreement for each tag of the cases as well.")
@json_option
@click.pass_context
def conform(
    ctx: click.Context, files: tuple[str, ...], first: int, jobs: int, tags: bool, as_json: bool
) -> None:
    """Replay recorded verdicts (FILES, *.json.gz) against the emulated kernel that they came from.

    Exits 1 when any value differs.
    """
    for path in files:
        if not Path(path).is_file():
            raise InputError(
                f"{path}: is no file" if Path(path).exists() else f"{path}: no such file"
            )
    compile_first()
    results: dict[str, Agreement] = {}
    workers = min(jobs or os.cpu_count() or 1, len(files))
    # Largest first, so that no process is left alone with the longest file at the end.
    ordered = sorted(files, key=lambda path: (-Path(path).stat().st_size, path))
    with progress("replaying", len(files)) as advance:
        if workers == 1:
            for path in files:
                results[path] = _replay(path, first, None)
                advance(len(results), len(files))
        else:
            with ProcessPoolExecutor(workers) as pool:
                waiting = {pool.submit(_replay, path, first, None): path for path in ordered}
                for done in as_completed(waiting):
                    results[waiting[done]] = done.result()
                    advance(len(results), len(files))
    found = [results[path] for path in files]
    if as_json:
        print_json([_as_json(agreement) for agreement in found])
    else:
        _print(found, tags)
    ctx.exit(0 if all(agreement.complete for agreement in found) else 1)


def _print(found: list[Agreement], tags: bool) -> None:
    rows = [_row(a.name, a.cases, a.agreeing) for a in found]
    total = _row("all", sum(a.cases for a in found), sum(a.agreeing for a in found))
    table(("file", "cases", "agree", "disagree"), [*rows, total] if len(rows) > 1 else rows)
    for agreement in found:
        if tags:
            by_tag = sorted(agreement.by_tag.items())
            table(("tag", "cases", "agree", "disagree"), [_row(t, *n) for t, n in by_tag])
        if agreement.disagreements:
            click.secho(f"\n{agreement.name}: first disagreements", bold=True)
            columns = ("case", "tag", "step", "value", "real kernel", "emulated", "rule")
            table(columns, [tuple(map(str, astuple(d))) for d in agreement.disagreements])


def _row(name: str, cases: int, agreeing: int) -> tuple[str, str, str, str]:
    wrong = cases - agreeing
    text = styled("refused", str(wrong)) if wrong else styled("accepted", "0")
    return name, f"{cases:,}", f"{agreeing:,}", text


def _as_json(agreement: Agreement) -> dict[str, Any]:
    return {
        "name": agreement.name,
        "cases": agreement.cases,
        "agree": agreement.agreeing,
        "by_tag": {
            tag: {"cases": n, "agree": ok} for tag, (n, ok) in sorted(agreement.by_tag.items())
        },
        "disagreements": [asdict(d) for d in agreement.disagreements],
    }
