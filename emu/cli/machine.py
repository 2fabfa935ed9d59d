"""What commands that run a guest share: the options that describe a machine, and the machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from emu.errors import InputError
from emu.files import read_file
from emu.guests import find

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.cpu.models import Model
    from emu.kvm import Kvm
    from emu.machine.board import Board

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

F = TypeVar("F", bound=Callable[..., Any])


class Machine(NamedTuple):
    """A machine as the command line describes it."""

    image: str
    bare: bool
    cpu: str | None
    smp: int
    memory: str
    append: str
    initrd: str | None
    kernel: str | None = None


OPTIONS = (
    click.argument("image"),
    click.option("--bare", is_flag=True, help="On the bare machine, as without --kernel."),
    click.option("--kernel", default=None, help="Under the simulated KVM of this release."),
    click.option(
        "--cpu",
        default=None,
        help="A processor model, or a recorded one (JSON); ,+NAME and ,-NAME change it.",
    ),
    click.option("--smp", default=1, type=click.IntRange(1, 255), help="Processors."),
    click.option("--memory", default="128M", help="RAM."),
    click.option("--append", default="", help="The command line of the image."),
    click.option("--initrd", default=None, help="An initial RAM disk or first module."),
)


def machine_options(command: F) -> F:
    """The image and the options of `Machine`, by the names of its fields."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def size(text: str) -> int:
    """Bytes of a size such as 128M; raises InputError."""
    found = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text, re.IGNORECASE | re.ASCII)
    if not found:
        raise InputError(f"{text!r} is not a size: write 128M or 2G")
    return int(found[1]) * UNITS[found[2].upper()]


def image_of(name: str) -> bytes:
    """The file `name` or, where there is none, the guest that ships under this name."""
    guest = find(name)
    return guest.image() if guest and not Path(name).exists() else read_file(name)


def default_model(image: str) -> str:
    """The processor model that `image` is for where it is a guest that ships."""
    guest = find(image)
    return "zen3" if guest and guest.vendor == "svm" else "skylake-x"


def model_of(name: str) -> Model:
    """The processor model `name`, or the one recorded in the JSON file of that name.

    Features may follow that it has more or less: "zen3,-npt,+tsc_adjust".
    """
    from emu.cpu.models import MODELS, load_model, varied  # noqa: PLC0415 - others need no CPU

    name, *changes = name.split(",")
    if name.endswith(".json"):
        model = load_model(name)
    elif name in MODELS:
        model = MODELS[name]
    else:
        raise InputError(f"{name!r} is no processor model: there are {', '.join(MODELS)}")
    return varied(model, changes) if changes else model


def kvm_of(name: str, model: Model) -> Kvm:
    """The KVM of the release `name` on a host with that processor, `nested` on; InputError."""
    from emu.cli.output import kernel  # noqa: PLC0415
    from emu.kvm import Kvm  # noqa: PLC0415
    from emu.kvm.cpu_models import host_of  # noqa: PLC0415
    from emu.kvm.host import ModuleParameters  # noqa: PLC0415
    from emu.kvm.running.machine import HOSTS  # noqa: PLC0415

    if model.name not in HOSTS:
        known = ", ".join(HOSTS)
        raise InputError(f"KVM runs on the processor models {known}, not on {model.name!r}")
    release = kernel(name)
    return Kvm(release, host_of(HOSTS[model.name], release, ModuleParameters(nested=True)))


def assemble(
    machine: Machine, transmit: Callable[[bytes], None], processor: type[Cpu] | None = None
) -> Board:
    """The board of `machine` with its image loaded; raises InputError.

    `transmit` gets what the guest writes to its serial port. `processor` is the class of the
    processors when they are to be observed.
    """
    if machine.bare and machine.kernel is not None:
        raise InputError("--bare and --kernel exclude each other")
    from emu.cpu import program  # noqa: PLC0415
    from emu.cpu.cpu import Cpu  # noqa: PLC0415
    from emu.machine.board import Board  # noqa: PLC0415
    from emu.machine.config import BoardConfig  # noqa: PLC0415
    from emu.machine.core import Cores  # noqa: PLC0415
    from emu.machine.loaders import load  # noqa: PLC0415

    model = model_of(machine.cpu or default_model(machine.image))
    memory, image = size(machine.memory), image_of(machine.image)
    initrd = read_file(machine.initrd) if machine.initrd else b""
    if not program.is_compiled():
        click.echo("nestling: compiling the processor for this machine, once", err=True)
    cores: Cores
    if machine.kernel is None:
        cores = Cores(model, processor or Cpu)
    else:
        from emu.kvm.running.machine import KvmCores  # noqa: PLC0415

        cores = KvmCores(kvm_of(machine.kernel, model), model, processor or Cpu)
    config = BoardConfig(processors=machine.smp, memory=memory, apic=cores.apic())
    try:
        board = Board(config, cores, transmit=transmit)
    except (OSError, MemoryError):
        raise InputError(f"this machine has no room for {machine.memory} of RAM") from None
    load(board, image, machine.image, machine.append, initrd)
    return board
