"""The command line run as a user runs it, within this process or as one of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from emu.cli import main

ROOT = Path(__file__).parents[3]


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def complaint(self):
        """The one line on stderr of a bad input; empty where there is none or more."""
        lines = self.err.splitlines()
        return lines[0] if len(lines) == 1 and not self.out else ""


@pytest.fixture
def nestling(capsys, monkeypatch):
    """Run the command with these arguments, 120 columns wide: exit code, stdout, stderr.

    Under `pytest -s` the width would be that of the terminal.
    """
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(ended.value.code, captured.out, captured.err)

    return run


def process(*arguments, **options):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "emu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **options)
