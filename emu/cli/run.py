"""`nestling run`: boot an image on the emulated machine."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emu.errors import InputError

if TYPE_CHECKING:
    from emu.cpu.models import Model
    from emu.machine.board import Outcome

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LIMIT_STATUS = 124  # as of timeout(1)
FAULT_STATUS = 125


def size(text: str) -> int:
    """Bytes of a size such as 128M; raises InputError."""
    found = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if not found:
        raise InputError(f"{text!r} is not a size: write 128M or 2G")
    return int(found[1]) * UNITS[found[2].upper()]


def model_of(name: str) -> Model:
    """The processor model `name`, or the one recorded in the JSON file of that name."""
    from emu.cpu.models import MODELS, load_model  # noqa: PLC0415 - other commands need no CPU

    if name.endswith(".json"):
        return load_model(name)
    if name not in MODELS:
        raise InputError(f"{name!r} is no processor model: there are {', '.join(MODELS)}")
    return MODELS[name]


def read(path: str) -> bytes:
    """The bytes of a file; raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def status_of(outcome: Outcome) -> int:
    """The exit status of a run: that of the debug-exit device, or why there is none."""
    if outcome.status is not None:
        return outcome.status
    return LIMIT_STATUS if outcome.reason.name in ("LIMIT", "IDLE_LIMIT") else FAULT_STATUS


@click.command()
@click.argument("image")
@click.option("--bare", is_flag=True, help="On the bare machine, without a simulated KVM.")
@click.option("--cpu", default="skylake-x", help="A processor model, or a recorded one (JSON).")
@click.option("--smp", default=1, type=click.IntRange(1, 255), help="Processors.")
@click.option("--memory", default="128M", help="RAM.")
@click.option("--append", default="", help="The command line of the image.")
@click.option("--initrd", default=None, help="An initial RAM disk or first module.")
@click.option("--max-instructions", default=None, type=int, help="Stop after so many.")
def run(
    image: str,
    bare: bool,
    cpu: str,
    smp: int,
    memory: str,
    append: str,
    initrd: str | None,
    max_instructions: int | None,
) -> int:
    """Boot IMAGE (Multiboot, ELF or Linux) and show its serial port.

    The exit status is that of the debug-exit device; 0 after power-off, 124 when a limit ended the
    run, 125 after a triple fault or when nothing can happen any more.
    """
    if not bare:
        raise InputError("only --bare runs images: without it a simulated KVM would be needed")
    from emu.cpu.errors import NotImplementedInstruction  # noqa: PLC0415
    from emu.machine.board import Board  # noqa: PLC0415
    from emu.machine.config import BoardConfig  # noqa: PLC0415
    from emu.machine.core import Cores  # noqa: PLC0415
    from emu.machine.loaders import load  # noqa: PLC0415

    cores = Cores(model_of(cpu))
    config = BoardConfig(processors=smp, memory=size(memory), apic=cores.apic())
    board = Board(config, cores, transmit=transmit)
    load(board, read(image), image, append, read(initrd) if initrd else b"")
    began = time.perf_counter()
    try:
        outcome = board.run(max_instructions)
    except NotImplementedInstruction as stop:
        raise InputError(f"{image}: {stop}") from stop
    finally:
        sys.stdout.flush()
    seconds = time.perf_counter() - began
    rate = outcome.instructions / seconds / 1e6 if seconds else 0.0
    click.echo(
        f"nestling: {outcome.reason.value}; {outcome.instructions} instructions, "
        f"{seconds:.2f} s, {rate:.1f} MIPS",
        err=True,
    )
    return status_of(outcome)


def transmit(data: bytes) -> None:
    """What the guest writes to its serial port, on stdout at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
