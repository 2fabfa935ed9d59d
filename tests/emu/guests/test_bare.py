"""The guests on the emulated hardware, without a KVM beneath them."""

import pytest

from emu.cpu.models import MODELS
from emu.guests import GUESTS
from emu.machine.board import Board, Reason
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load
from tests.emu.guests.lines import LINES

MODEL_OF = {"vmx": "skylake-x", "svm": "zen3"}


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_the_guest_does_what_it_says(guest):
    output = bytearray()
    cores = Cores(MODELS[MODEL_OF[guest.vendor]])
    board = Board(BoardConfig(apic=cores.apic()), cores, output.extend)
    load(board, guest.image(), guest.name)
    outcome = board.run(10_000_000)

    assert LINES[guest.name] == output.decode()
    assert (Reason.DEBUG_EXIT, 1) == (outcome.reason, outcome.status)
