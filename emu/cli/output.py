"""What the subcommands share: kernels by name or file, tables, JSON, progress."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from emu.errors import InputError

if TYPE_CHECKING:
    from emu.releases.schema import Release

COLOURS = {"accepted": "green", "lost": "yellow", "refused": "red", "impossible": "bright_black"}
WIDTH, SHORTEST = 120, 30
SOURCE_FILE = re.compile(r"\.[ch]: ")
COMPILED_PACKAGES = ("vmcs", "emu")

json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON.")


def kernel(name: str) -> Release:
    """The release `name`, or the kernel that the TOML file of that name describes."""
    if name.endswith(".toml"):
        from emu.releases.kernel_file import load_kernel  # noqa: PLC0415 - with a TOML parser

        return load_kernel(name)
    from emu.releases import release  # noqa: PLC0415 - a module a release

    return release(name)


def kernels(names: Sequence[str], default: Iterable[Release] | None = None) -> list[Release]:
    """The kernels that the user names, one by one or with commas; all releases for none."""
    listed = [part for name in names for part in name.split(",") if part]
    if listed:
        return [kernel(name) for name in listed]
    if names:
        raise InputError("no kernel is named: the list is empty")
    if default is not None:
        return list(default)
    from emu.releases import RELEASES  # noqa: PLC0415 - a module a release

    return list(RELEASES.values())


def print_json(value: object) -> None:
    """Write `value` to stdout as JSON, keys in the order given."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def styled(outcome: str, text: str | None = None) -> str:
    """`text` in the colour of a verdict's outcome."""
    return click.style(text or outcome, fg=COLOURS.get(outcome), bold=outcome == "refused" or None)


def places(section: str) -> list[str]:
    """Where a rule stands, a line a place: the manual's section, and KVM's function."""
    parts = [part for part in section.split("; ") if part]
    return [f"{'KVM' if SOURCE_FILE.search(part) else 'manual'}: {part}" for part in parts]


def folded(head: str, text: str, colour: str | None = None) -> None:
    """Print `text` beside `head`, folded to the terminal, every line as far in as the first."""
    room = max(width() - len(head), SHORTEST)
    lines = wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    click.secho(f"{head}{lines[0]}".rstrip(), fg=colour)
    for line in lines[1:]:
        click.secho(" " * len(head) + line, fg=colour)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table, aligned, wide columns folded to the terminal."""
    from rich.console import Console  # noqa: PLC0415 - only a table needs rich
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text.from_ansi(cell) for cell in row))
    Console(width=width(), highlight=False).print(made)


def width() -> int:
    """Columns to write in: the terminal's, or what COLUMNS says; elsewhere enough for a table."""
    return get_terminal_size((WIDTH, 0)).columns


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress display on stderr while something takes long; yields what says how far it is.

    On a terminal it is a bar; elsewhere nothing is written, so that logs stay readable.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total or None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def compile_first() -> None:
    """Compile what is not in the cache yet, with a progress display: the first run ever."""
    from vmcs import warm  # noqa: PLC0415 - commands that compile nothing do not ask
    from vmcs.jit import jit_disabled  # noqa: PLC0415

    if jit_disabled() or warm.is_warm(COMPILED_PACKAGES):
        return
    click.echo("nestling: compiling for this machine, once", err=True)
    with progress("compiling", 0) as bar:
        warm.warm(lambda done, total, _name: bar(done, total), COMPILED_PACKAGES)


def writable(path: str) -> Path:
    """A path that a result can be written to; raises InputError.

    What is there may be replaced, so it must be a file: no folder, no device.
    """
    found = Path(path)
    if not found.parent.is_dir():
        raise InputError(f"{path}: the folder {found.parent} does not exist")
    if found.exists() and not found.is_file():
        raise InputError(f"{path}: is there already, and is no file")
    return found
