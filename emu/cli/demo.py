"""`nestling demo`: a tour that runs ordinary commands and says what they show."""

from __future__ import annotations

import shlex
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from textwrap import fill
from typing import Final, NamedTuple

import click

WIDTH = 88


class Part(NamedTuple):
    """A paragraph, and the command that shows it; `lines` shortens a long answer.

    ``FOLDER`` in the command stands for a temporary folder.
    """

    text: str
    command: str
    lines: int = 0


INTRODUCTION: Final = (
    (
        "A guest that is a hypervisor itself (L1) runs a guest of its own (L2).  The half of the "
        "processor that L1 programmed for L2 is in no register: KVM keeps it as nested state, and "
        "hands it out (KVM_GET_NESTED_STATE) and takes it in (KVM_SET_NESTED_STATE) when the guest "
        "moves to another host."
    ),
    (
        "What that state holds, and which checks refuse it, differs from one Linux release to the "
        "next.  Nestling emulates the KVM of each of them; the commands below need no "
        "virtualization hardware, no /dev/kvm and no root."
    ),
)

TOUR: Final = (
    Part(
        "Nested state that a real kernel handed out.  L2 is running, and a trap that L1 asked "
        "for (MTF: single-stepping) is pending in it.",
        "show vmx-l2-mtf-pending",
        lines=20,
    ),
    Part(
        "Would other kernels take it?  Every release from 4.18 on is asked; a refusal names the "
        "rule, where the rule stands, and the value that broke it.",
        "judge vmx-l2-mtf-pending",
    ),
    Part("What does that rule ask, and which kernels have it?", "explain flags_known"),
    Part(
        "So a guest moves from an old host (5.4) to a new one (6.12) while L2 simply runs ...",
        "migrate --from 5.4 --to 6.12 --state vmx-l2-running",
    ),
    Part(
        "... L1 single-steps L2 on the new host, and the way back is closed: the flag that "
        "announces the pending trap came with 5.7.",
        "migrate --from 6.12 --to 5.4 --state vmx-l2-mtf-pending",
    ),
    Part(
        "A refusal is loud.  Worse is an old kernel that accepts and forgets.  Before 5.8 there "
        "is no word for the deadline of L2's preemption timer: the timer starts again in full.",
        "migrate --from 6.12 --to 5.7 --state vmx-l2-timer",
    ),
    Part(
        "AMD has such a case too.  L1 has executed VMRUN, and the entry to L2 is not complete; "
        "5.10 takes the state and forgets that.  --record writes the move down ...",
        "migrate --from 6.12 --to 5.10 --state svm-l2-entry-pending --record FOLDER/move.json",
    ),
    Part(
        "... with both kernels, the processor, the state and a checksum of every step, so that "
        "anybody can run it again, bit for bit.",
        "replay FOLDER/move.json",
    ),
    Part(
        "Every pair of some kernels: rows save, columns restore.  Without --kernels it is all of "
        "them; --picture draws a heat map.",
        "matrix --state vmx-l2-mtf-pending --kernels 5.4,5.6,5.7,5.10,6.1,6.12,7.3",
    ),
    Part(
        "How should such a format be versioned?  The KVM list asked in 2018; here is every answer, "
        "tried.  Three kernels of the future, each with an addition to nested state, meet 6.12 in "
        "a rolling upgrade.  'kept' is good; 'lossy' is silent damage to a guest; 'refused' is a "
        "migration that fails; 'withheld': kept, as the guest was not offered the addition yet.",
        "matrix --scenarios",
    ),
)

READING: Final = (
    "Every policy upgrades safely ('old to new').  They part on the way back.  'maximum', 'size' "
    "and 'capability' lose content silently.  'version' refuses every guest, even one that does "
    "not use what is new; 'flags', which KVM uses, refuses exactly those that do.  'qemu' is "
    "'flags' with a migration stream that has no field for what QEMU does not know: it loses that "
    "even between two new hosts.  'quirk' neither loses nor refuses, at the price of an addition "
    "that stays off until the pool is uniform."
)

NEXT: Final = """Where to go next
  nestling judge FILE         your own state: raw, hex, JSON, a QEMU migration stream
  nestling releases 5.8       what a kernel changed, and where that was seen
  nestling diff 5.7 5.8       two kernels, rule by rule
  nestling matrix --picture all.svg
  nestling run --kernel 6.12 vmx-faults            L1 and L2, running
  nestling trace --vmx --kernel 6.12 vmx-faults    every entry and exit of theirs
  notebooks/                  the question of 2018, with plots; a processor, step by step
  nestling --help"""


@click.command()
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Take nested state of a real kernel from old hosts to new ones and back, with commands.

    Needs less than a minute; what it records goes to a temporary folder.
    """
    for text in INTRODUCTION:
        _say(text)
    with tempfile.TemporaryDirectory(prefix="nestling-demo-") as folder:
        for number, part in enumerate(TOUR, 1):
            _say(f"[{number}/{len(TOUR)}] {part.text}")
            command = part.command.replace("FOLDER", folder)
            _run(ctx.find_root().command, command, part.lines)
    _say(READING)
    click.echo(NEXT)


def _say(text: str) -> None:
    click.echo(fill(" ".join(text.split()), WIDTH) + "\n")


def _run(nestling: click.Command, command: str, shown: int) -> None:
    """Run one command as the command line does; print what it prints, `shown` lines of it."""
    click.secho(f"$ nestling {command}", bold=True)
    arguments = shlex.split(command)
    if not shown:
        nestling.main(args=arguments, prog_name="nestling", standalone_mode=False)
        click.echo()
        return
    answer = StringIO()
    with redirect_stdout(answer):
        colour = sys.__stdout__ is not None and sys.__stdout__.isatty()
        nestling.main(
            args=arguments, prog_name="nestling", standalone_mode=False, color=colour or None
        )
    lines = answer.getvalue().splitlines()
    click.echo("\n".join(lines[:shown]))
    click.echo(f"  ... {len(lines) - shown} more lines\n")
