"""What all subcommands share: exit codes, errors of one line, a start that loads little."""

import os
import signal
import subprocess
import sys
from importlib import import_module

import click
import pytest

import emu.cli
from emu.cli import SUBCOMMANDS
from emu.errors import EmuError
from tests.emu.cli.conftest import ROOT, process

HEAVY = ("numba", "llvmlite", "matplotlib", "dask", "pandas", "IPython")
STARTS = {
    "show": ("show", "vmx-l2-running"),
    "show JSON": ("show", "svm-l2-running", "--json"),
    "judge one kernel": ("judge", "vmx-l2-mtf-pending", "--kernel", "5.4"),
    "judge every kernel, Intel": ("judge", "vmx-l2-running"),
    "judge every kernel, AMD": ("judge", "svm-l2-running"),
    "migrate": ("migrate", "--from", "5.4", "--to", "6.12"),
    "explain": ("explain", "flags_known"),
    "releases": ("releases",),
}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_has_a_module_of_its_name_and_help(nestling, name):
    command = getattr(import_module(f"emu.cli.{name}"), name)
    answer = nestling(name, "--help")

    assert name == command.name
    assert 0 == answer.code
    assert answer.out.startswith(f"Usage: nestling {name}")


def test_help_lists_the_subcommands_in_order(nestling):
    lines = nestling("--help").out.splitlines()
    listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line[2] != " "]

    assert list(SUBCOMMANDS) == listed


def test_help_imports_no_subcommand():
    code = "import sys, emu.cli\ntry: emu.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(name for name in sys.modules if name.startswith('emu.cli.')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert "[]" == done.stdout.splitlines()[-1]


def test_the_version_is_told(nestling):
    answer = nestling("--version")

    assert 0 == answer.code
    assert answer.out.startswith("nestling, version ")


@pytest.mark.parametrize("arguments", [("nosuch",), ("show",), ("judge", "a", "--speed", "9")])
def test_wrong_usage_exits_2_and_says_what_is_wrong(nestling, arguments):
    answer = nestling(*arguments)

    assert 2 == answer.code
    assert "" == answer.out
    assert "Error: " in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("arguments", STARTS.values(), ids=list(STARTS))
def test_a_short_command_loads_nothing_heavy(arguments):
    """What makes a start slow is what is imported; the time itself depends on the machine."""
    code = (
        "import sys\nfrom emu.cli import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit as ended: code = ended.code\n"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert done.stderr.splitlines()[-1] in ("0 []", "1 []")
    assert done.stdout


def raising(error):
    @click.command()
    def show():
        raise error

    return show


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "nestling: interrupted"),
        (click.Abort(), 130, "nestling: interrupted"),
        (EmuError("no good"), 1, "nestling: no good"),
        (OSError(28, "No space left on device", "out.json"), 2, "out.json: No space left"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_subcommand_raises_becomes_an_exit_code(nestling, monkeypatch, error, code, text):
    monkeypatch.setattr(import_module("emu.cli.show"), "show", raising(error))
    answer = nestling("show")

    assert code == answer.code
    assert text in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "arguments", [("releases",), ("show", "vmx-l2-running", "--all"), ("judge", "vmx-l1-vmxon")]
)
def test_a_closed_pipe_ends_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "emu", *arguments]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    os.close(writer)

    assert 1 == done.returncode
    assert "" == done.stderr


@pytest.mark.parametrize(("setting", "coloured"), [("1", False), ("", None)])
def test_no_color_is_obeyed(monkeypatch, setting, coloured):
    monkeypatch.setenv("NO_COLOR", setting)
    seen = []
    command = click.Command("show", callback=lambda: seen.append(click.get_current_context().color))
    monkeypatch.setattr(import_module("emu.cli.show"), "show", command)
    with pytest.raises(SystemExit):
        emu.cli.main(["show"])

    assert [coloured] == seen


WAITING = """
import signal, time, click, emu.cli, emu.cli.show

# A shell starts background jobs with the interrupt ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

@click.command()
def show():
    print("ready", flush=True)
    time.sleep(60)

emu.cli.show.show = show
emu.cli.main(["show"])
"""


def test_an_interrupt_of_the_process_ends_without_a_traceback():
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as running:
        assert running.stdout.readline() == "ready\n"

        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)

    assert 130 == running.returncode
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_the_module_is_the_command():
    done = process("explain", "flags_known")

    assert 0 == done.returncode
    assert "flags_known" in done.stdout
    assert callable(emu.cli.main)
