"""`nestling trace`: what each instruction of a guest changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from emu.cli.breakpoints import Moment, moment, run_to
from emu.cli.machine import Machine, assemble, machine_options
from emu.cli.output import json_option
from emu.errors import EmuError, InputError

if TYPE_CHECKING:
    from emu.cpu.observed import Observer
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
@click.option("--vmx", "visits", is_flag=True, help="A line a visit of guest mode, VMX or SVM.")
@json_option
def trace(
    first: int | None, at: str | None, count: int, visits: bool, as_json: bool, **machine: Any
) -> None:
    """Show each instruction of IMAGE with the registers, flags and memory that it changed.

    The guest runs at full speed to where the trace begins; the traced instructions run as plain
    Python, one by one.  What the guest writes to its serial port goes to stderr.

    With --vmx there is a line for each visit of guest mode, --count of them: who ran for how many
    instructions, and why the guest was left; with --kernel as well, a line for each exit to KVM and
    who goes on after it, L1 or L2.  All code then runs at full speed.
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
    show_trace = stepped if not visits else visited if described.kernel is None else passed
    end = show_trace(board, described.image, count, as_json)
    if end:
        click.echo(f"nestling: {end}", err=True)


def stepped(board: Board, image: str, count: int, as_json: bool) -> str:
    """Trace up to `count` instructions; why there were fewer, if so."""
    from emu.cli import trace_lines  # noqa: PLC0415
    from emu.cpu.trace import Step, Tracer  # noqa: PLC0415

    def write(step: Step) -> None:
        click.echo(trace_lines.as_json(step) if as_json else trace_lines.line(step))

    return observe(board, image, count, write, Tracer)


def visited(board: Board, image: str, count: int, as_json: bool) -> str:
    """Trace up to `count` visits of guest mode; why there were fewer, if so."""
    from emu.cli import timeline_lines  # noqa: PLC0415
    from emu.cpu.timeline import Timeline, Visit  # noqa: PLC0415

    seen: list[Visit] = []

    def write(visit: Visit) -> None:
        seen.append(visit)
        click.echo(timeline_lines.as_json(visit) if as_json else timeline_lines.line(visit))

    if not as_json:
        click.secho(timeline_lines.HEAD, bold=True)
    end = observe(board, image, count, write, Timeline)
    if not as_json:
        timeline_lines.summary(seen)
    return end


def passed(board: Board, image: str, count: int, as_json: bool) -> str:
    """Trace up to `count` exits to the simulated KVM; why there were fewer, if so."""
    from emu.cli import timeline_lines  # noqa: PLC0415
    from emu.cpu.observed import Observer  # noqa: PLC0415
    from emu.kvm.running.timeline import KvmTimeline, Passage  # noqa: PLC0415

    seen: list[Passage] = []

    def write(passage: Passage) -> None:
        seen.append(passage)
        click.echo(timeline_lines.as_json(passage) if as_json else timeline_lines.kvm_line(passage))

    def tracer(sink: Callable[[Passage], None]) -> Observer:
        for core in board.processors:
            KvmTimeline(core, sink)  # type: ignore[arg-type]
        return Observer()

    if not as_json:
        click.secho(timeline_lines.KVM_HEAD, bold=True)
    end = observe(board, image, count, write, tracer)
    if not as_json:
        timeline_lines.kvm_summary(seen)
    return end


def observe(
    board: Board,
    image: str,
    count: int,
    write: Callable[[Any], None],
    tracer: Callable[[Callable[[Any], None]], Observer],
) -> str:
    """Run until `count` records are written; why there were fewer, if so."""
    from emu.cpu.errors import NotImplementedInstruction  # noqa: PLC0415

    left = count

    def sink(record: Any) -> None:
        nonlocal left
        if left:
            write(record)
        left = max(left - 1, 0)
        if not left:
            board.pause()

    observer = tracer(sink)
    for core in board.processors:
        core.cpu.observe(observer)  # type: ignore[attr-defined]
    try:
        outcome = board.run()
    except NotImplementedInstruction as stop:
        raise InputError(f"{image}: {stop}") from stop
    return outcome.reason.value if left else ""
