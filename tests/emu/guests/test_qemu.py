"""The SVM guests under QEMU's TCG, an emulator that is not ours. VMX it has none."""

import shutil
import subprocess

import pytest

from emu.guests import GUESTS
from tests.emu.guests.lines import LINES

QEMU = shutil.which("qemu-system-x86_64")
ARGUMENTS = (
    "-accel tcg -cpu qemu64,+svm,+npt -m 128 -device isa-debug-exit,iobase=0xf4 "
    "-serial stdio -display none -nodefaults -no-reboot"
)


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="there is no qemu-system-x86_64")
@pytest.mark.parametrize(
    "guest", [guest for guest in GUESTS if guest.vendor == "svm"], ids=lambda guest: guest.name
)
def test_the_guest_says_the_same_under_qemu(guest):
    command = [QEMU, *ARGUMENTS.split(), "-kernel", str(guest.path)]
    run = subprocess.run(command, capture_output=True, timeout=60, check=False)

    assert LINES[guest.name] == run.stdout.decode()
    assert (0 << 1 | 1) == run.returncode
