"""`nestling run --trace`: instructions, memory accesses and events of a run, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from emu.cli.output import writable

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.cpu.trace import EventTracer
    from emu.machine.board import Board


class Trace:
    """What `--trace` shows, on stderr or in a file."""

    def __init__(self, kinds: tuple[str, ...], path: str | None) -> None:
        self.kinds = frozenset(kinds)
        if path is not None and not kinds:
            raise click.UsageError("--trace-file needs --trace")
        self.stream = writable(path).open("w", encoding="utf-8") if path is not None else None

    def write(self, text: str) -> None:
        """One line."""
        if self.stream is None:
            click.echo(text, err=True)
        else:
            self.stream.write(f"{text}\n")

    def processor(self) -> type[Cpu] | None:
        """The class of the processors; None when nothing is traced."""
        from emu.cpu.observed import ObservedCpu  # noqa: PLC0415

        return ObservedCpu if self.kinds else None

    def attach(self, board: Board) -> None:
        """Observe the processors of a board, in single steps where instructions count."""
        if not self.kinds:
            return
        from emu.cli.trace_lines import event_line, writers  # noqa: PLC0415
        from emu.cpu.trace import EventTracer, Tracer  # noqa: PLC0415

        observer: EventTracer
        if self.kinds == {"events"}:
            observer = EventTracer(lambda cpu, text: self.write(event_line(cpu, text)))
        else:
            observer = Tracer(writers(self.kinds, self.write), accesses="mem" in self.kinds)
        for core in board.processors:
            core.cpu.observe(observer)  # type: ignore[attr-defined]

    def close(self) -> None:
        """The file is whole."""
        if self.stream is not None:
            self.stream.close()
