"""Debian's kernels boot to user space, print, and power off; every run is the same."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from emu.cpu.models import MODELS
from emu.machine.board import Board, Outcome, Reason
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load

from .initramfs import initramfs
from .packages import RELEASES, package

pytestmark = pytest.mark.conformance

MEMORY = 256 << 20
# panics end the run; the self-tests of ciphers take half of a boot and are none of ours
COMMAND_LINE = "console=ttyS0 panic=-1 cryptomgr.notests"
LIMIT = 3_000_000_000


class Boot(NamedTuple):
    """A run to its end, and what the guest wrote to its serial port."""

    outcome: Outcome
    console: list[str]


def boot(release: str, model: str, processors: int = 1) -> Boot:
    """Boot Debian's kernel of a release with the program in `init.s`."""
    image = package(release).vmlinuz
    written = bytearray()
    cores = Cores(MODELS[model])
    config = BoardConfig(processors=processors, memory=MEMORY, apic=cores.apic())
    board = Board(config, cores, transmit=written.extend)
    load(board, image.read_bytes(), image.name, COMMAND_LINE, initramfs())
    outcome = board.run(LIMIT)
    return Boot(outcome, written.decode().splitlines())


@pytest.mark.parametrize("model", ["skylake-x", "zen3"])
@pytest.mark.parametrize("release", RELEASES)
def test_a_kernel_boots_to_user_space_and_powers_off(release, model):
    first = boot(release, model)

    assert (Reason.POWER_OFF, 0) == first.outcome[:2], first.console[-20:]
    line = next(text for text in first.console if text.startswith("init: "))
    name = package(release).vmlinuz.name.removeprefix("vmlinuz-")
    assert f"init: Linux {name} x86_64" == line
    assert not [text for text in first.console if "BUG:" in text or "WARNING:" in text]
    assert first == boot(release, model)


@pytest.mark.parametrize("release", RELEASES)
def test_a_kernel_brings_up_every_processor(release):
    done = boot(release, "skylake-x", processors=2)

    assert (Reason.POWER_OFF, 0) == done.outcome[:2], done.console[-20:]
    assert [text for text in done.console if "Brought up 1 node, 2 CPUs" in text]
    assert [text for text in done.console if text.startswith("init: Linux")]
