"""`nestling run`: serial output, exit status, and one line for what cannot be run."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from emu.cli import nestling
from emu.cli.run import size
from emu.errors import InputError
from tests.emu.machine.images import OUTPUT, STATUS, multiboot_elf


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.elf"
    path.write_bytes(multiboot_elf())
    return str(path)


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
        ([], "--bare"),
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
