"""`nestling run`: boot an image on the emulated machine."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from emu.cli.console import Console, Terminated
from emu.cli.machine import Machine, assemble, kvm_of, machine_options
from emu.cli.output import writable
from emu.cli.run_trace import Trace
from emu.errors import InputError

if TYPE_CHECKING:
    from emu.machine.board import Board, Outcome

LIMIT_STATUS: Final = 124  # as of timeout(1)
FAULT_STATUS: Final = 125
INTERRUPTED_STATUS: Final = 130
STATUS_SECONDS: Final = 0.5
ERASE_LINE: Final = "\r\x1b[K"


class Ended(NamedTuple):
    """How a run ended, for the status line and for machines."""

    reason: str
    text: str
    debug_exit: int | None  # the status that the guest gave, if it did
    exit_status: int
    instructions: int
    ticks: int
    seconds: float

    @property
    def mips(self) -> float:
        """Millions of instructions a second."""
        return self.instructions / self.seconds / 1e6 if self.seconds else 0.0

    def line(self) -> str:
        """The status line."""
        return (
            f"nestling: {self.text}; {self.instructions} instructions, "
            f"{self.seconds:.2f} s, {self.mips:.1f} MIPS"
        )

    def as_json(self, image: str) -> str:
        """The same for machines."""
        fields: dict[str, Any] = {"image": image, **self._asdict(), "mips": round(self.mips, 3)}
        return json.dumps(fields, indent=2)


class SerialOutput:
    """What the guest writes to its serial port, on stdout at once; nowhere when that is closed."""

    def __init__(self) -> None:
        self.stream = getattr(sys.stdout, "buffer", None)
        self.last = b"\n"

    def __call__(self, data: bytes) -> None:
        """Write what the guest has written."""
        if self.stream is not None:
            self.stream.write(data)
            self.stream.flush()
            self.last = data[-1:]

    def finish(self) -> None:
        """Let what follows on a terminal that shows both begin a line of its own."""
        if self.last != b"\n" and is_terminal(sys.stdout) and is_terminal(sys.stderr):
            click.echo(err=True)


class LiveStatus:
    """How far the run is, on a terminal that does not show the guest's output."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.began = self.shown = time.perf_counter()
        self.wanted = (
            is_terminal(sys.stderr)
            and not is_terminal(sys.stdout)
            and os.environ.get("TERM") != "dumb"
        )

    def __call__(self) -> None:
        """Write the line again when it is old."""
        now = time.perf_counter()
        if not self.wanted or now - self.shown < STATUS_SECONDS:
            return
        self.shown = now
        retired = self.board.scheduler.retired
        rate = retired / (now - self.began) / 1e6
        sys.stderr.write(f"{ERASE_LINE}{retired / 1e6:.0f} M instructions, {rate:.1f} MIPS")
        sys.stderr.flush()

    def finish(self) -> None:
        """Leave no trace."""
        if self.wanted and self.shown != self.began:
            sys.stderr.write(ERASE_LINE)


def is_terminal(stream: Any) -> bool:
    """Whether a standard stream is there and is a terminal."""
    return stream is not None and stream.isatty()


def status_of(outcome: Outcome) -> int:
    """The exit status of a run: that of the debug-exit device, or why there is none."""
    if outcome.status is not None:
        return outcome.status
    return LIMIT_STATUS if outcome.reason.name in ("LIMIT", "IDLE_LIMIT") else FAULT_STATUS


def execute(board: Board, image: str, max_instructions: int | None) -> Ended:
    """Run a board with the user's terminal or pipe as its serial line, to whatever end."""
    from emu.cpu.errors import NotImplementedInstruction  # noqa: PLC0415

    live = LiveStatus(board)
    ended: tuple[str, str, int | None, int]
    began = time.perf_counter()
    try:
        with Console(board) as console:
            console.also = live
            outcome = board.run(max_instructions)
    except NotImplementedInstruction as stop:
        raise InputError(f"{image}: {stop}") from stop
    except KeyboardInterrupt as stop:
        status = 128 + stop.number if isinstance(stop, Terminated) else INTERRUPTED_STATUS
        ended = ("interrupted", "interrupted", None, status)
        retired, ticks = board.scheduler.retired, board.clock.now
    else:
        reason = outcome.reason
        ended = (reason.name.lower(), reason.value, outcome.status, status_of(outcome))
        retired, ticks = outcome.instructions, outcome.ticks
    finally:
        live.finish()
    return Ended(*ended, retired, ticks, round(time.perf_counter() - began, 3))


def report(ended: Ended, image: str, json_file: str | None) -> None:
    """Write the status line, and the outcome for machines to a file or, for ``-``, in its place."""
    if json_file == "-":
        click.echo(ended.as_json(image), err=True)
        return
    click.echo(ended.line(), err=True)
    if json_file is not None:
        writable(json_file).write_text(ended.as_json(image) + "\n", encoding="utf-8")


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `run` alone."""
    for option in (
        click.option(
            "--json",
            "json_file",
            metavar="FILE",
            help="The outcome as JSON, to a file; to stderr for -.",
        ),
        click.option("--trace-file", metavar="FILE", help="Where the trace goes; else stderr."),
        click.option(
            "--trace",
            "kinds",
            type=click.Choice(("exec", "mem", "events")),
            multiple=True,
            help="Instructions, memory accesses, or events; can be given again.",
        ),
        click.option(
            "--move-to",
            metavar="RELEASE",
            help="With --kernel: move the guest to this kernel at --at-exit.",
        ),
        click.option(
            "--at-exit", type=click.IntRange(1), help="After so many exits to the first kernel."
        ),
        click.option(
            "--max-instructions", default=None, type=click.IntRange(0), help="Stop after so many."
        ),
    ):
        command = option(command)
    return command


def move(board: Board, described: Machine, kernel: str, at_exit: int | None) -> None:
    """Run to an exit, and give the guest to another kernel; raises InputError, KvmError."""
    if described.kernel is None or at_exit is None or described.smp > 1:
        raise InputError("--move-to needs --kernel, --at-exit and a single processor")
    from emu.migration.running import move_to, run_to_exit  # noqa: PLC0415

    core = run_to_exit(board, at_exit)
    move_to(core, kvm_of(kernel, core.model))
    click.echo(f"nestling: at exit {at_exit}: from {described.kernel} to {kernel}", err=True)


@click.command()
@machine_options
@with_options
def run(
    max_instructions: int | None,
    json_file: str | None,
    kinds: tuple[str, ...],
    trace_file: str | None,
    move_to: str | None,
    at_exit: int | None,
    **machine: Any,
) -> int:
    """Boot IMAGE (Multiboot, ELF or Linux, or a guest that ships) and show its serial port.

    What the guest writes is stdout; its input is stdin.  On a terminal Ctrl-C ends the run, and so
    does Ctrl-A X; Ctrl-A H lists the other escapes.

    The exit status is that of the debug-exit device; 0 after power-off, 124 when a limit ended the
    run, 125 after a triple fault or when nothing can happen any more, 130 after Ctrl-C.
    """
    described = Machine(**machine)
    if json_file not in (None, "-"):
        writable(json_file)
    output, trace = SerialOutput(), Trace(kinds, trace_file)
    board = assemble(described, output, trace.processor())
    trace.attach(board)
    try:
        if move_to is not None:
            move(board, described, move_to, at_exit)
        ended = execute(board, described.image, max_instructions)
    finally:
        trace.close()
        output.finish()
    report(ended, described.image, json_file)
    return ended.exit_status
