"""Reading what the user names: a regular file, or standard input for ``-``."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from emu.errors import InputError

STANDARD_INPUT = "-"


def read_file(path: Path | str) -> bytes:
    """The bytes of the file at `path`, of standard input for ``-``; raises InputError.

    A pipe or a device is refused: reading one may never end.
    """
    if str(path) == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InputError(f"{path}: is no regular file")
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{str(path)!r}: no path: {error}") from None
