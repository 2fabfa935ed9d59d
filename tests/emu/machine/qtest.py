"""The devices of a real QEMU, one access at a time, by its qtest protocol.

QEMU is stopped before its first instruction: ports and memory change only as asked and its virtual
clock stands still, so that its device models can be compared with ours.
"""

from __future__ import annotations

import shutil
import subprocess

QEMU = shutil.which("qemu-system-x86_64")
OPTIONS = (
    *("-M", "q35", "-accel", "tcg", "-S", "-display", "none", "-nodefaults"),
    *("-qtest", "stdio", "-qtest-log", "/dev/null", "-serial", "null", "-device", "pc-testdev"),
)


class QtestMachine:
    """A QEMU PC whose time stands still."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [QEMU or "", *OPTIONS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def command(self, text: str) -> list[str]:
        """Send a command: the words of its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        while True:
            words = self.process.stdout.readline().split()
            if words and words[0] == "OK":
                return words[1:]
            if not words or words[0] == "FAIL":
                raise RuntimeError(f"qtest: {text}: {words}")

    def port_read(self, port: int, size: int) -> int:
        """IN."""
        return int(self.command(f"in{' bw l'[size]} {port:#x}")[0], 16)

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self.command(f"out{' bw l'[size]} {port:#x} {value:#x}")

    def load(self, gpa: int) -> int:
        """A 32-bit load."""
        return int(self.command(f"readl {gpa:#x}")[0], 16)

    def store(self, gpa: int, value: int) -> None:
        """A 32-bit store."""
        self.command(f"writel {gpa:#x} {value:#x}")

    def close(self) -> None:
        """End QEMU."""
        self.process.kill()
        self.process.communicate()
