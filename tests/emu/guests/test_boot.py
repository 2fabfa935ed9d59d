"""What the boot code does where L1 meets an exception that nobody expects."""

from emu.guests import find
from emu.guests.assembler import assemble, link
from emu.guests.build import BASE, source
from emu.machine.board import Board
from emu.machine.core import Cores
from emu.machine.loaders import load


def test_an_unexpected_exception_is_told():
    text = source(find("vmx-pae")).replace("main:\n", "main:\n    ud2\n", 1)
    output = bytearray()
    board = Board(make_processor=Cores(), transmit=output.extend)
    load(board, link(assemble(text), BASE), "ud2")
    outcome = board.run(1_000_000)

    assert b"unexpected exception 6, error code 0x0, at 0x10" == output[:47]
    assert 99 << 1 | 1 == outcome.status
