"""The serial port at the user's end: pipes, files, a terminal, and what ends a run."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

import pytest

from tests.emu.cli.conftest import ROOT, process
from tests.emu.cli.guests import OUTPUT, QUIT_STATUS, STATUS, write

SECONDS = 60
# makes standard input the controlling terminal of a session of its own, then runs the command
ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "emu", *sys.argv[1:]])
"""


class Terminal:
    """The user at a terminal on which the command runs; stderr is a pipe."""

    def __init__(self, *arguments, **environment):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.seen = b""

    def read_until(self, text):
        end = time.monotonic() + SECONDS
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 4096)
        seen, self.seen = self.seen, b""
        return seen

    def wait_for_the_guest(self):
        """Until the keys are the guest's."""
        end = time.monotonic() + SECONDS
        while self.before == termios.tcgetattr(self.slave) and time.monotonic() < end:
            time.sleep(0.01)

    def type(self, keys):
        os.write(self.master, keys)

    def end(self):
        """Exit status and stderr; the terminal must be as it was."""
        _, errors = self.process.communicate(timeout=SECONDS)
        assert self.before == termios.tcgetattr(self.slave)
        return self.process.returncode, errors.decode()


@contextmanager
def terminal(*arguments, **environment):
    user = Terminal(*arguments, **environment)
    try:
        yield user
    finally:
        user.process.kill()
        user.process.communicate()
        os.close(user.master)
        os.close(user.slave)


@pytest.mark.parametrize("guest", ["polling", "listening"])
@pytest.mark.parametrize("form", ["pipe", "file"])
def test_what_comes_in_on_stdin_the_guest_reads(tmp_path, guest, form):
    image = write(tmp_path, guest)
    typed = tmp_path / "typed"
    typed.write_bytes(b"hello q")
    if form == "pipe":
        done = process("run", "--bare", image, input="hello q")
    else:
        with typed.open() as stream:
            done = process("run", "--bare", image, stdin=stream)

    assert QUIT_STATUS == done.returncode
    assert done.stdout.endswith("hello q")


def test_a_file_as_input_gives_the_same_run_every_time(tmp_path):
    image, typed = write(tmp_path, "polling"), tmp_path / "typed"
    typed.write_bytes(b"abc" * 100 + b"q")
    runs = []
    for name in ("first", "second"):
        out = tmp_path / name
        with typed.open() as stream:
            process("run", "--bare", image, "--json", out, stdin=stream)
        runs.append(json.loads(out.read_text()))

    assert runs[0]["instructions"] == runs[1]["instructions"] > 300
    assert runs[0]["ticks"] == runs[1]["ticks"]


def test_a_guest_that_waits_for_a_pipe_that_ends_has_nothing_to_wait_for(tmp_path):
    done = process("run", "--bare", write(tmp_path, "listening"), input="no end")

    assert 124 == done.returncode
    assert ">no end" == done.stdout
    assert "longer than the idle limit" in done.stderr


@pytest.mark.parametrize("guest", ["polling", "listening"])
def test_keys_go_to_the_guest_one_by_one_and_are_not_echoed(tmp_path, guest):
    with terminal("run", "--bare", write(tmp_path, guest)) as user:
        user.wait_for_the_guest()
        user.type(b"a")

        assert user.read_until(b"a") in (b"a", b">a")

        user.type(b"\x01\x01q")  # Ctrl-A Ctrl-A is Ctrl-A

        assert b"\x01q" == user.read_until(b"q")
        assert QUIT_STATUS == user.end()[0]


@pytest.mark.parametrize(
    ("guest", "keys"),
    [("listening", b"\x03"), ("talkative", b"\x03"), ("listening", b"\x01x")],
    ids=["Ctrl-C, halted", "Ctrl-C, busy", "Ctrl-A X"],
)
def test_a_key_ends_the_run_with_a_status_line(tmp_path, guest, keys):
    with terminal("run", "--bare", write(tmp_path, guest)) as user:
        user.wait_for_the_guest()
        user.type(keys)
        code, errors = drained(user)

        assert 130 == code
        assert "nestling: interrupted; " in errors
        assert "MIPS" in errors


def drained(user):
    """The end of a run whose output nobody reads otherwise."""
    while user.process.poll() is None:
        if select.select([user.master], [], [], 0.05)[0]:
            os.read(user.master, 1 << 16)
    return user.end()


def test_the_escapes_are_listed_and_control_c_can_be_sent(tmp_path):
    with terminal("run", "--bare", write(tmp_path, "listening")) as user:
        user.read_until(b">")
        user.type(b"\x01h\x01c\x01zq")

        assert b"\x03q" == user.read_until(b"q").replace(b"^C", b"")

        code, errors = user.end()

        assert QUIT_STATUS == code
        assert "Ctrl-A X  end the run" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(tmp_path, number):
    with terminal("run", "--bare", write(tmp_path, "listening")) as user:
        user.read_until(b">")

        assert user.before != termios.tcgetattr(user.slave)

        user.process.send_signal(number)
        code, errors = user.end()

        assert 128 + number == code
        assert "interrupted" in errors


def test_an_endless_guest_is_interrupted_anywhere(tmp_path):
    command = [sys.executable, "-m", "emu", "run", "--bare", write(tmp_path, "talkative")]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        restore_signals=True,
    ) as running:  # fmt: skip
        running.stdout.read(1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=SECONDS)

    assert 130 == running.returncode
    assert errors.startswith(b"nestling: interrupted; ")
    assert b"Traceback" not in errors


def test_a_closed_pipe_ends_a_run_quietly(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "emu", "run", "--bare", write(tmp_path, "talkative")]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    os.close(writer)

    assert 1 == done.returncode
    assert b"" == done.stderr


def shell(line, *arguments):
    """A command of the shell, for what only it can do to the standard streams."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {line}', "sh", sys.executable, "-m", "emu", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, check=False,
        timeout=SECONDS,
    )  # fmt: skip


def test_without_standard_streams_a_run_still_runs(tmp_path):
    image = write(tmp_path, "long mode")

    assert STATUS == shell("<&- >&- 2>&-", "run", "--bare", image).returncode
    assert "exit status" in shell(">&-", "run", "--bare", image).stderr
    assert OUTPUT.decode() == shell("2>&-", "run", "--bare", image).stdout
    assert 0 == shell(">&-", "releases").returncode


def test_a_full_device_is_said_in_one_line(tmp_path):
    done = shell(">/dev/full", "run", "--bare", write(tmp_path, "long mode"))

    assert 2 == done.returncode
    assert "nestling: output: No space left on device\n" == done.stderr
