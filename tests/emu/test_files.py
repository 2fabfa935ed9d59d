import io
import os
import sys
from types import SimpleNamespace

import pytest

from emu.errors import InputError
from emu.files import read_file


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"bytes\0more")

    assert b"bytes\0more" == read_file(path)


def test_a_hyphen_is_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"given")))

    assert b"given" == read_file("-")


def test_what_may_never_end_is_not_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name in (pipe, "/dev/zero"):
        with pytest.raises(InputError, match=r"is no regular file$"):
            read_file(name)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "missing: cannot be read: No such file"), ("a\0b", "no path: embedded null")],
)
def test_what_cannot_be_opened_is_said_with_its_name(name, words):
    with pytest.raises(InputError, match=words):
        read_file(name)
