"""Debian's kernels boot to user space, print, and power off; every run is the same.

With KVM's modules in the archive KVM finds the virtualization extension of the processor, and says
how long nested state is.
"""

from __future__ import annotations

from collections.abc import Sequence
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
# a panic ends the run; the self-tests of ciphers take half of a boot
COMMAND_LINE = "console=ttyS0 panic=-1 cryptomgr.notests"
LIMIT = 10_000_000_000
INTEL, AMD = "skylake-x", "zen3"
# what the kernel writes when it has found itself to be wrong
ALARMS = ("BUG:", "Oops", "WARNING: CPU:", "Call Trace:")
# Linux: struct kvm_nested_state, as KVM_CHECK_EXTENSION gives its largest size
NESTED_STATE = {INTEL: 8320, AMD: 4224}
MODULES = {INTEL: ("irqbypass", "kvm", "kvm-intel"), AMD: ("irqbypass", "kvm", "ccp", "kvm-amd")}


class Boot(NamedTuple):
    """A run to its end, and what the guest wrote to its serial port."""

    outcome: Outcome
    console: list[str]

    def said(self) -> list[str]:
        """The lines of the program in user space."""
        return [line for line in self.console if line.startswith("init: ")]

    def alarms(self) -> list[str]:
        """The lines in which the kernel complains of itself."""
        return [line for line in self.console if any(text in line for text in ALARMS)]


def boot(release: str, model: str, processors: int = 1, modules: Sequence[str] = ()) -> Boot:
    """Boot Debian's kernel of a release with the program in `init.s` and modules to load."""
    kernel = package(release)
    image = kernel.vmlinuz
    archive = initramfs([kernel.module(name) for name in modules])
    written = bytearray()
    cores = Cores(MODELS[model])
    config = BoardConfig(processors=processors, memory=MEMORY, apic=cores.apic())
    board = Board(config, cores, transmit=written.extend)
    load(board, image.read_bytes(), image.name, COMMAND_LINE, archive)
    outcome = board.run(LIMIT)
    return Boot(outcome, written.decode().splitlines())


def greeting(release: str) -> str:
    """What the program in user space says first."""
    name = package(release).vmlinuz.name.removeprefix("vmlinuz-")
    return f"init: Linux {name} x86_64"


@pytest.mark.parametrize("model", [INTEL, AMD])
@pytest.mark.parametrize("release", RELEASES)
def test_a_kernel_boots_to_user_space_and_powers_off(release, model):
    first = boot(release, model)

    assert (Reason.POWER_OFF, 0) == first.outcome[:2], first.console[-20:]
    assert [greeting(release)] == first.said()
    assert [] == first.alarms()
    assert first == boot(release, model)


@pytest.mark.parametrize("release", RELEASES)
def test_a_kernel_brings_up_every_processor(release):
    done = boot(release, INTEL, processors=2)

    assert (Reason.POWER_OFF, 0) == done.outcome[:2], done.console[-20:]
    assert [line for line in done.console if "Brought up 1 node, 2 CPUs" in line]
    assert [greeting(release)] == done.said()
    assert [] == done.alarms()


@pytest.mark.parametrize("model", [INTEL, AMD])
@pytest.mark.parametrize("release", RELEASES)
def test_kvm_offers_nested_state_on_the_bare_machine(release, model):
    modules = MODULES[model]
    done = boot(release, model, modules=modules)
    loaded = [f"init: module {number}: 0" for number in range(len(modules))]
    size = f"init: KVM_CAP_NESTED_STATE: {NESTED_STATE[model]}"

    assert (Reason.POWER_OFF, 0) == done.outcome[:2], done.console[-20:]
    assert [greeting(release), *loaded, size] == done.said()
    assert [] == done.alarms()
