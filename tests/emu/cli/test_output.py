import subprocess
import sys

import pytest

from emu.cli.output import compile_first, kernel, kernels, progress, styled, table, writable
from emu.errors import InputError
from emu.releases import RELEASES, release


def test_kernels_are_named_one_by_one_or_with_commas():
    assert [release("5.4"), release("6.12"), release("7.3")] == kernels(["5.4,6.12", "7.3"])
    assert list(RELEASES.values()) == kernels([])
    assert [release("5.4")] == kernels([], [release("5.4")])


def test_a_name_that_ends_in_toml_is_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nbase = "6.12"\n')

    assert "mine" == kernel(str(path)).name


def test_an_outcome_has_a_colour():
    assert "\x1b[31m\x1b[1mrefused\x1b[0m" == styled("refused")
    assert "\x1b[32mx\x1b[0m" == styled("accepted", "x")


def test_a_table_is_aligned_and_plain_where_no_terminal_is(capsys):
    table(("a", "bb"), [("1", styled("refused")), ("333", "4")])

    assert [" a    bb", " 1    refused", " 333  4"] == [
        line.rstrip() for line in capsys.readouterr().out.splitlines()
    ]


def test_progress_is_silent_where_no_terminal_is(capsys):
    with progress("walking", 3) as advance:
        advance(1, 3)

    assert ("", "") == tuple(capsys.readouterr())


def test_what_is_compiled_already_is_not_compiled_again(capsys):
    compile_first()
    capsys.readouterr()
    compile_first()

    assert ("", "") == tuple(capsys.readouterr())


def test_a_path_to_write_is_a_file_or_nothing_yet(tmp_path):
    old = tmp_path / "old"
    old.write_text("x")

    assert old == writable(str(old))
    assert tmp_path / "new" == writable(str(tmp_path / "new"))
    for path, words in ((tmp_path, "is no file"), (tmp_path / "a" / "b", "does not exist")):
        with pytest.raises(InputError, match=words):
            writable(str(path))


def test_processes_that_tests_start_inherit_no_width():
    code = "import os; print(*sorted({'COLUMNS', 'LINES'} & set(os.environ)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "\n" == done.stdout
