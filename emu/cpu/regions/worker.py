"""Translates regions in a process of its own: regions on standard input, code on standard output.

What is exchanged is a pickle after its length; an empty answer says that the region cannot be
translated.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from emu.cpu.regions.build import object_code
from emu.cpu.regions.hot import Answer
from emu.cpu.regions.shape import Region


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message."""
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None at the end."""
    size = stream.read(8)
    return stream.read(int.from_bytes(size, "little")) if len(size) == 8 else None


class Worker:
    """A process that translates, one region after the other."""

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[tuple[Region, Answer]] = queue.SimpleQueue()
        threading.Thread(target=self.serve, name="translator", daemon=True).start()

    def submit(self, region: Region, answer: Answer) -> None:
        """Ask for the code of a region."""
        self.requests.put((region, answer))

    def serve(self) -> None:
        """Hand requests to the process, one at a time."""
        process = subprocess.Popen(
            [sys.executable, "-m", "emu.cpu.regions.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            start_new_session=True,  # an interrupt from the terminal is not for it
        )
        assert process.stdin is not None
        assert process.stdout is not None
        while True:
            region, answer = self.requests.get()
            try:
                send(process.stdin, pickle.dumps(region))
                answer.code = receive(process.stdout) or b""
            except OSError:
                return  # it is gone: the guest goes on without translations
            answer.ready = True


def main() -> None:
    """Answer until there are no more requests."""
    while (request := receive(sys.stdin.buffer)) is not None:
        code = object_code(pickle.loads(request))  # noqa: S301 - from the process that began us
        try:
            send(sys.stdout.buffer, code)
        except BrokenPipeError:
            os._exit(0)  # nobody waits for it any more


if __name__ == "__main__":
    main()
