"""Images with damaged headers: refused in one line, or loaded and run to whatever end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpu.errors import NotImplementedInstruction
from emu.errors import InputError
from emu.machine.board import Board, Outcome
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.firmware import MIB
from emu.machine.loaders import load
from tests.emu.machine.images import multiboot_elf
from tests.emu.machine.loaders import images

CODE = bytes.fromhex("31c0 40 e6f4 ebfe")
STEPS = 200
HEADERS = 0x300  # bytes at the beginning that are damaged; code behind them mostly is not
BASES = {
    "Multiboot ELF": multiboot_elf(),
    "Multiboot by addresses": images.multiboot_header(
        1 << 16, 0x10_0000, 0x10_0000, 0, 0x20_0000, 0x10_0020
    )
    + CODE * 20,
    "ELF32": images.elf(32, segments=((0x10_0000, CODE, 64), (0x20_0000, b"data", 0x1000))),
    "ELF64": images.elf(64, segments=((0x10_0000, CODE, 64), (0x20_0000, b"data", 0x1000))),
    "bzImage": images.bzimage(CODE * 50),
}
VALUES = st.one_of(
    st.integers(0, 255).map(lambda value: bytes((value,))),
    st.sampled_from((0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_F000, 0x10_0000)).map(
        lambda value: value.to_bytes(4, "little")
    ),
    st.sampled_from(((1 << 64) - 1, 1 << 63, 1 << 40, 1 << 36)).map(
        lambda value: value.to_bytes(8, "little")
    ),
)


def outcome(image):
    """How an image ends, or what is said when it is refused or stopped."""
    board = Board(BoardConfig(memory=32 * MIB), Cores())
    try:
        load(board, image, "image")
        return board.run(STEPS)
    except (InputError, NotImplementedInstruction) as error:
        return str(error)


@pytest.mark.parametrize("name", BASES)
def test_the_undamaged_image_runs(name):
    assert isinstance(outcome(BASES[name]), Outcome)


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=25)
@given(data=st.data())
def test_any_damage_is_refused_or_runs_to_some_end(name, data):
    image = bytearray(BASES[name])
    places = st.integers(0, min(len(image), HEADERS) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, VALUES), min_size=1, max_size=6)):
        image[place : place + len(value)] = value
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(image))))
    ended = outcome(bytes(image[:cut]))

    if isinstance(ended, str):
        assert ended.startswith(("image: ", "not implemented: "))
        assert "\n" not in ended
    else:
        assert ended.instructions <= STEPS
