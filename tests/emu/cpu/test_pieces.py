"""Records of instructions: what is kept for the same bytes is what would be made again."""

from __future__ import annotations

import random

import pytest
from iced_x86 import Code, Decoder

from emu.cpu.code import Mode
from emu.cpu.decode import Uop, translator
from emu.cpu.models import MODELS
from emu.cpu.models.instructions import as_known
from emu.cpu.pieces import Pieces

from .encodings import encodings

MODEL = MODELS["zen3"]


def mode(bits):
    return Mode(bits, False, False, 0xFFFFFFFF, 0xE7, 0)


def placed(piece, offset, left):
    records = bytearray()
    piece.put(records, offset, left)
    return bytes(records)


def expected(code, bits, offset, left):
    """The records of an instruction translated at its place."""
    insn = Decoder(bits, code, ip=offset).decode()
    uops = [Uop(translator().system)]
    if as_known(MODEL, insn):
        uops, _ = translator().uops(insn, bits, enabled=0xE7)
    return b"".join(translator().pack(uop, insn.len, offset, left) for uop in uops)


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_a_piece_put_elsewhere_is_what_translation_there_gives(bits):
    rng = random.Random(bits)
    pieces = Pieces(translator())
    wrong = []
    for items in encodings(bits, each=1).values():
        for code, _ in items:
            first, second = rng.randrange(4000), rng.randrange(4000)
            for offset in (first, second):
                insn = Decoder(bits, code, ip=offset).decode()
                piece = pieces.known_in(mode(bits)).get(code)
                if piece is None:
                    piece = pieces.make(insn, code, mode(bits), MODEL)
                if placed(piece, offset, 3) != expected(code, bits, offset, 3):
                    wrong.append(f"{insn} [{code.hex(' ')}] at {offset:#x}")

    assert [] == wrong


def test_branches_and_addresses_by_rip_are_kept_in_64_bit_mode_alone():
    for code in (bytes.fromhex("eb10"), bytes.fromhex("e8fdffffff")):
        for bits, kept in ((64, True), (32, False)):
            pieces = Pieces(translator())
            pieces.make(Decoder(bits, code, ip=0x123).decode(), code, mode(bits), MODEL)

            assert kept == (code in pieces.known_in(mode(bits)))


def test_a_piece_cut_short_is_not_kept():
    code = bytes.fromhex("48b8") + bytes(8)
    pieces = Pieces(translator())
    insn = Decoder(64, code, ip=0).decode()
    pieces.make(insn, code[:5], mode(64), MODEL)

    assert Code.INVALID != insn.code
    assert {} == pieces.known_in(mode(64))
