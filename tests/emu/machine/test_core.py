"""Processors on the board: an image boots, events arrive, time passes."""

from __future__ import annotations

import pytest

from emu.cpu.models import MODELS
from emu.machine.board import Board, Reason
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load

from .images import OUTPUT, STATUS, multiboot_elf


def machine(image, model="skylake-x", processors=1, name="image"):
    output = bytearray()
    cores = Cores(MODELS[model])
    config = BoardConfig(processors=processors, apic=cores.apic())
    board = Board(config, cores, transmit=output.extend)
    load(board, image, name, name)
    return board, output


def test_an_image_boots_prints_and_exits():
    board, output = machine(multiboot_elf())
    outcome = board.run(10_000)

    assert (Reason.DEBUG_EXIT, STATUS) == (outcome.reason, outcome.status)
    assert OUTPUT == bytes(output)


def test_the_number_of_instructions_is_the_same_on_every_run():
    counts = {machine(multiboot_elf())[0].run(10_000).instructions for _ in range(2)}

    assert 1 == len(counts)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_boots_what_it_can(model):
    board, _ = machine(multiboot_elf(), model)

    assert Reason.DEBUG_EXIT == board.run(10_000).reason


def test_a_limit_of_instructions_is_kept():
    board, _ = machine(multiboot_elf())
    outcome = board.run(7)

    assert (Reason.LIMIT, 7) == (outcome.reason, outcome.instructions)


def test_a_triple_fault_ends_the_machine():
    image = bytearray(multiboot_elf())
    at = image.index(bytes.fromhex("0f011c25"))
    image[at + 8 :] = bytes.fromhex("0f0b").ljust(len(image) - at - 8, b"\0")
    board, _ = machine(bytes(image))

    assert Reason.TRIPLE_FAULT == board.run(10_000).reason
