"""The guest's serial port at the user's end: keys while it runs, and the terminal as it was after.

From a terminal every key goes to the guest at once, but for two: Ctrl-C ends the run, and Ctrl-A
begins an escape, of which `KEYS` is the table. A file is input from the start, a pipe while it is
open.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import termios
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from emu.machine.board import Board

POLL_SECONDS: Final = 0.02
CHUNK: Final = 4096
ESCAPE: Final = 0x01  # Ctrl-A
CONTROL_C: Final = b"\x03"
KEYS: Final = {
    "x": "end the run",
    "c": "send Ctrl-C to the guest",
    "a": "send Ctrl-A to the guest (Ctrl-A again does, too)",
    "h": "this list",
}
# bits of the terminal's modes that are off while the guest has the keys
INPUT_MODES: Final = termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.ISTRIP
LOCAL_MODES: Final = termios.ICANON | termios.ECHO | termios.IEXTEN
SILENCED: Final = (termios.VSUSP, termios.VQUIT)  # keys whose signals are the guest's to see
ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal ended the run, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Console:
    """Standard input as the other end of a board's serial line, for the time of a `with`."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.descriptor = _descriptor(sys.stdin)
        self.live = False  # whether more can come
        self.modes: list[Any] | None = None  # of the terminal, to be restored
        self.escaped = False
        self.handlers: dict[int, Any] = {}
        self.due = 0.0
        self.also: Callable[[], None] | None = None  # what else is looked after now and then

    def __enter__(self) -> Console:
        self.board.scheduler.between = self.between
        self.board.scheduler.idle = self.idle
        if self.descriptor < 0:
            return self
        mode = os.fstat(self.descriptor).st_mode
        if stat.S_ISREG(mode):
            self.board.serial.receive(_rest(self.descriptor))
        elif os.isatty(self.descriptor):
            self._take_terminal()
        else:
            self.live = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.modes is not None:
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.modes)
            self.modes = None
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers.clear()
        self.live = False

    def _take_terminal(self) -> None:
        """Give the guest the keys, unless another job of the shell has the terminal."""
        if os.tcgetpgrp(self.descriptor) != os.getpgrp():
            return
        for number in ENDINGS:
            self.handlers[number] = signal.signal(number, _terminate)
        self.modes = termios.tcgetattr(self.descriptor)
        raw = termios.tcgetattr(self.descriptor)
        raw[0] &= ~INPUT_MODES
        raw[3] &= ~LOCAL_MODES
        characters = list(raw[6])
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        for place in SILENCED:
            characters[place] = b"\0"
        raw[6] = characters
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, raw)
        self.live = True

    # what the scheduler calls

    def between(self) -> None:
        """Look for input every now and then."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + POLL_SECONDS
        if self.live:
            self._read(0)
        if self.also is not None:
            self.also()

    def idle(self, event: int | None) -> bool:
        """While the guest waits for input that can come, time passes as it does outside."""
        if not self.live or not self.board.serial.listens:
            return False
        clock = self.board.clock
        return self._read(None if event is None else (event - clock.now) / clock.hz)

    def _read(self, seconds: float | None) -> bool:
        """Wait so long for input (None: for ever) and hand it on; whether there was any."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.descriptor, CHUNK)
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            self.live = False
            return False
        if self.modes is not None:
            data = b"".join(self._key(byte) for byte in data)
        self.board.serial.receive(data)
        return bool(data)

    def _key(self, byte: int) -> bytes:
        """What a key sends; raises KeyboardInterrupt when it ends the run."""
        if not self.escaped:
            self.escaped = byte == ESCAPE
            return b"" if self.escaped else bytes((byte,))
        self.escaped = False
        key = "a" if byte == ESCAPE else chr(byte).lower()
        if key == "x":
            raise KeyboardInterrupt
        if key == "h":
            for name, what in KEYS.items():
                click.echo(f"Ctrl-A {name.upper()}  {what}", err=True)
        return {"a": bytes((ESCAPE,)), "c": CONTROL_C}.get(key, b"")


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)


def _descriptor(stream: Any) -> int:
    """The file descriptor of standard input; -1 when there is none."""
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return -1


def _rest(descriptor: int) -> bytes:
    """All that is left of a file."""
    pieces = iter(lambda: os.read(descriptor, 1 << 20), b"")
    return b"".join(pieces)
