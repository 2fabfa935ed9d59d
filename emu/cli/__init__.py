"""The command `nestling`: one module a subcommand, loaded when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from emu.errors import EmuError, InputError

# Subcommands in the order of `nestling --help`; a subcommand's module has a command of its name.
SUBCOMMANDS: Final = {
    "demo": "A tour: real nested state from old kernels to new ones and back.",
    "run": "Boot an image on the emulated machine and show its serial port.",
    "trace": "What each instruction of an image changes, from a moment that you name.",
    "vmcs": "The VMCS or VMCB of a running guest, field by field, at a moment that you name.",
    "show": "A nested-state file in words: header, vmcs12 or VMCB, controls by name.",
    "judge": "What each kernel says to a nested state: accepted, refused (why), or lossy (what).",
    "migrate": "Move nested state from one kernel to another under a policy.",
    "matrix": "The verdict for every pair of kernels, as a table, a heat map or JSON.",
    "replay": "Run a recorded migration again, and name the first step that differs.",
    "releases": "The simulated kernels, and how each differs from the one before.",
    "explain": "One rule: what it asks, where it stands, which kernels have it.",
    "diff": "Two nested states by field, or two kernels by fact and rule.",
    "conform": "Replay verdicts recorded from real kernels, and count the agreement.",
}
USAGE_ERROR, FAILURE, INTERRUPTED = 2, 1, 130


class Subcommands(click.Group):
    """A group that imports a subcommand's module only when that subcommand runs."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(SUBCOMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None for an unknown one."""
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = getattr(import_module(f"emu.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - not small

    try:
        found = version("nestling")
    except PackageNotFoundError:
        found = "unknown: it runs from a source tree"
    click.echo(f"nestling, version {found}")
    ctx.exit()


@click.group(cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def nestling() -> None:
    """Test nested virtualization without the hardware: KVM nested state of every Linux release."""


def _discard_output() -> None:
    """Let what is left for a closed pipe go nowhere, for Python writes it out at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _colour() -> bool | None:
    """Whether to write in colour; None: as the stream allows. See no-color.org."""
    return False if os.environ.get("NO_COLOR") else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 2 for bad input, 1 for a verdict that is not good, 0 otherwise."""
    try:
        status = nestling.main(
            args=arguments, prog_name="nestling", standalone_mode=False, color=_colour()
        )
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE_ERROR)
    except InputError as error:
        click.echo(f"nestling: {error}", err=True)
        sys.exit(USAGE_ERROR)
    except EmuError as error:
        click.echo(f"nestling: {error}", err=True)
        sys.exit(FAILURE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("nestling: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        sys.exit(FAILURE)
    except OSError as error:
        click.echo(f"nestling: {error.filename or 'output'}: {error.strerror}", err=True)
        if error.filename is None:
            _discard_output()
        sys.exit(USAGE_ERROR)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
