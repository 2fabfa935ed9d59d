"""A real qemu-system-x86_64 under TCG that saves and loads streams, driven through QMP."""

import contextlib
import json
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

BINARY = shutil.which("qemu-system-x86_64")
DEADLINE = 20.0
COMMON_ARGUMENTS = ("-accel", "tcg", "-nodefaults", "-display", "none", "-qmp", "stdio")


@dataclass(frozen=True)
class Loaded:
    """How a load ended: exit status (None: still running, loaded) and what QEMU printed."""

    status: int | None
    stderr: str
    saved_again: bytes | None


class Monitor:
    """QMP over the standard input and output of one QEMU; everything before one deadline."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.errors = directory / "stderr"
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                (BINARY, *COMMON_ARGUMENTS, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                cwd=directory,
            )
        self.deadline = time.monotonic() + DEADLINE
        self.pending = b""

    def __enter__(self) -> "Monitor":
        self._message()
        self.command("qmp_capabilities")
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def command(self, name: str, **arguments: object) -> object:
        """The command's return value; raises `EOFError` when QEMU is gone."""
        request = json.dumps({"execute": name, "arguments": arguments}).encode()
        try:
            self.process.stdin.write(request + b"\n")
        except BrokenPipeError:
            raise EOFError from None
        while True:
            answer = self._message()
            if "return" in answer:
                return answer["return"]
            assert "error" not in answer, f"{name}: {answer}"

    def save(self, path: Path, *capabilities: str) -> None:
        """Migrate to a file."""
        for capability in capabilities:
            setting = {"capability": capability, "state": True}
            self.command("migrate-set-capabilities", capabilities=[setting])
        self.command("migrate", uri=f"exec:cat > {path}")
        while (status := self.command("query-migrate").get("status")) != "completed":
            assert status not in ("failed", "cancelled"), self.stderr()
            time.sleep(0.01)

    def stderr(self) -> str:
        return self.errors.read_text(errors="replace")

    def _message(self) -> dict:
        while b"\n" not in self.pending:
            left = self.deadline - time.monotonic()
            readable, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            assert readable, f"QEMU did not answer within {DEADLINE} s: {self.stderr()}"
            chunk = self.process.stdout.read(65536)
            if not chunk:
                raise EOFError
            self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)


def save(
    directory: Path,
    *arguments: str,
    capabilities: tuple[str, ...] = (),
    run: float = 0,
) -> bytes:
    """The stream of a fresh guest, at reset or after it ran for `run` seconds."""
    path = directory / "saved"
    stopped = () if run else ("-S",)
    with Monitor(directory, *arguments, *stopped) as monitor:
        if run:
            time.sleep(run)
        monitor.save(path, *capabilities)
    return path.read_bytes()


def load(
    directory: Path,
    stream: bytes,
    *arguments: str,
    capabilities: tuple[str, ...] = (),
    save_again: bool = False,
) -> Loaded:
    """Load `stream` into a fresh guest, and save that once more if asked to."""
    path = directory / "incoming"
    path.write_bytes(stream)
    again = directory / "again"
    with Monitor(directory, *arguments, "-S", "-incoming", "defer") as monitor:
        for capability in capabilities:
            setting = {"capability": capability, "state": True}
            monitor.command("migrate-set-capabilities", capabilities=[setting])
        with contextlib.suppress(EOFError):
            monitor.command("migrate-incoming", uri=f"exec:cat {path}")
            while monitor.command("query-status")["status"] == "inmigrate":
                time.sleep(0.01)
            if save_again:
                monitor.save(again)
            return Loaded(None, monitor.stderr(), again.read_bytes() if save_again else None)
        return Loaded(monitor.process.wait(DEADLINE), monitor.stderr(), None)
