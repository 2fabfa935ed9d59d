"""`nestling trace`: what each instruction of a guest changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from emu.cli.breakpoints import Moment, moment, run_to
from emu.cli.machine import Machine, assemble, machine_options
from emu.cli.output import json_option
from emu.errors import EmuError, InputError

if TYPE_CHECKING:
    from emu.machine.board import Board

DEFAULT_COUNT = 100


def transmit(data: bytes) -> None:
    """What the guest writes to its serial port, beside the trace."""
    click.echo(data, err=True, nl=False)


@click.command()
@machine_options
@click.option("--from", "first", type=click.IntRange(0), help="Begin after so many instructions.")
@click.option("--at", metavar="MOMENT", help="Begin at rip:ADDR, instruction:N or exit:N.")
@click.option("--count", default=DEFAULT_COUNT, type=click.IntRange(1), help="Instructions.")
@json_option
def trace(first: int | None, at: str | None, count: int, as_json: bool, **machine: Any) -> None:
    """Show each instruction of IMAGE with the registers, flags and memory that it changed.

    The guest runs at full speed to where the trace begins; the traced instructions run as plain
    Python, one by one.  What the guest writes to its serial port goes to stderr.
    """
    from emu.cpu.observed import ObservedCpu  # noqa: PLC0415

    if first is not None and at is not None:
        raise click.UsageError("--from and --at exclude each other")
    start = moment(at) if at is not None else Moment("instruction", first or 0)
    described = Machine(**machine)
    board = assemble(described, transmit, ObservedCpu)
    outcome = run_to(board, start)
    if outcome.reason.name != "PAUSED":
        raise EmuError(
            f"{described.image}: {start} does not come: {outcome.reason.value} "
            f"after {outcome.instructions} instructions"
        )
    end = show(board, described.image, count, as_json)
    if end:
        click.echo(f"nestling: {end}", err=True)


def show(board: Board, image: str, count: int, as_json: bool) -> str:
    """Trace up to `count` instructions; why there were fewer, if so."""
    from emu.cli import trace_lines  # noqa: PLC0415
    from emu.cpu.errors import NotImplementedInstruction  # noqa: PLC0415
    from emu.cpu.trace import Step, Tracer  # noqa: PLC0415

    left = count

    def sink(step: Step) -> None:
        nonlocal left
        if left:
            click.echo(trace_lines.as_json(step) if as_json else trace_lines.line(step))
        left = max(left - 1, 0)
        if not left:
            board.pause()

    tracer = Tracer(sink)
    for core in board.processors:
        core.cpu.observe(tracer)  # type: ignore[attr-defined]
    try:
        outcome = board.run()
    except NotImplementedInstruction as stop:
        raise InputError(f"{image}: {stop}") from stop
    return outcome.reason.value if left else ""
