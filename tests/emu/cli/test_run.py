"""`nestling run`: serial output, exit status, and one line for what cannot be run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import emu.cli.run
from emu.cli import nestling
from emu.cli.machine import default_model, size
from emu.cli.run import Ended, LiveStatus
from emu.errors import InputError
from tests.emu.machine.images import OUTPUT, STATUS, multiboot_elf


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.elf"
    path.write_bytes(multiboot_elf())
    return str(path)


ENDED = Ended("debug_exit", "the guest wrote its exit status", 7, 7, 38, 4038, 0.5)


def invoke(*arguments):
    return CliRunner().invoke(nestling, ["run", *arguments], standalone_mode=False)


def test_the_serial_port_is_stdout_and_the_exit_status_the_guests(image):
    result = invoke(image, "--bare")

    assert STATUS == result.return_value
    assert OUTPUT in result.stdout_bytes


def test_a_limit_has_a_status_of_its_own(image):
    assert 124 == invoke(image, "--bare", "--max-instructions", "3").return_value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bare", "--cpu", "pentium"], "no processor model"),
        (["--bare", "--memory", "lots"], "not a size"),
        (["--bare", "--initrd", "/nonexistent"], "/nonexistent"),
        (["--bare", "--memory", "59G", "--smp", "2", "--initrd", "/dev/zero"], "no regular file"),
        (["--bare", "--json", "/nonexistent/out"], "does not exist"),
        (["--bare", "--kernel", "6.12"], "exclude each other"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(image, arguments, message):
    result = invoke(image, *arguments)

    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("text", "value"), [("4096", 4096), ("128M", 128 << 20), ("2g", 2 << 30), ("1MiB", 1 << 20)]
)
def test_sizes(text, value):
    assert value == size(text)


def test_the_outcome_is_told_to_machines(image, tmp_path):
    path = tmp_path / "outcome.json"
    result = invoke(image, "--bare", "--json", str(path))
    written = json.loads(path.read_text())

    assert OUTPUT == result.stdout_bytes
    assert image == written["image"]
    assert ("debug_exit", STATUS, STATUS) == tuple(
        written[name] for name in ("reason", "debug_exit", "exit_status")
    )
    assert 38 == written["instructions"]


def test_the_outcome_can_take_the_place_of_the_status_line(image):
    result = invoke(image, "--bare", "--json", "-", "--max-instructions", "3")
    written = json.loads(result.stderr)

    assert ("limit", None, 124) == tuple(
        written[name] for name in ("reason", "debug_exit", "exit_status")
    )


def test_the_status_line_tells_instructions_and_speed():
    assert (
        "nestling: the guest wrote its exit status; 38 instructions, 0.50 s, 0.0 MIPS"
        == ENDED.line()
    )
    assert 400.0 == ENDED._replace(instructions=200_000_000).mips


@pytest.mark.parametrize(
    ("terminals", "shown"), [(("err",), True), (("out", "err"), False), ((), False)]
)
def test_a_live_status_is_shown_where_it_is_in_nobodys_way(capsys, monkeypatch, terminals, shown):
    streams = {"out": emu.cli.run.sys.stdout, "err": emu.cli.run.sys.stderr}
    monkeypatch.setattr(
        emu.cli.run, "is_terminal", lambda stream: stream in [streams[name] for name in terminals]
    )
    monkeypatch.setenv("TERM", "xterm")
    live = LiveStatus(SimpleNamespace(scheduler=SimpleNamespace(retired=5_000_000)))
    live.began -= 1
    live.shown -= 1
    live()
    live.finish()
    written = capsys.readouterr().err

    assert shown == written.startswith("\r\x1b[K5 M instructions, ")
    assert shown == written.endswith("\r\x1b[K")


def test_a_guest_that_ships_is_run_by_its_name_on_a_processor_of_its_kind():
    result = invoke("--bare", "svm-churn", "--max-instructions", "3")

    assert 124 == result.return_value
    assert "zen3" == default_model("svm-churn")
    assert "skylake-x" == default_model("vmx-churn") == default_model("image.elf")


def test_a_file_comes_before_a_guest_of_its_name(image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("vmx-churn").write_bytes(Path(image).read_bytes())

    assert OUTPUT in invoke("--bare", "vmx-churn").stdout_bytes
