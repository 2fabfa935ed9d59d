"""Processors on the board: an image boots, events arrive, time passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emu.cpu.models import MODELS
from emu.machine.board import Board, Reason
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load

from .images import OUTPUT, STATUS, multiboot_elf

IMAGES = "NESTLING_KVM_UNIT_TESTS"
# image, model, processors; all of them print PASS lines and no FAIL
KVM_UNIT_TESTS = (
    ("setjmp", "skylake-x", 1),
    ("tsc", "skylake-x", 1),
    ("memory", "skylake-x", 1),
    ("syscall", "zen3", 1),
    ("umip", "skylake-x", 1),
    ("idt_test", "skylake-x", 1),
    ("smap", "skylake-x", 1),
    ("pku", "skylake-x", 1),
    ("la57", "skylake-x", 1),
    ("debug", "skylake-x", 1),
    ("eventinj", "skylake-x", 1),
    ("tsc_adjust", "skylake-x", 1),
    ("pcid", "skylake-x", 1),
    ("smptest", "skylake-x", 2),
    ("ioapic", "skylake-x", 4),
)


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


@pytest.mark.parametrize(("image", "model", "processors"), KVM_UNIT_TESTS)
def test_kvm_unit_tests_pass_as_on_hardware(image, model, processors):
    folder = os.environ.get(IMAGES)
    if not folder:
        pytest.skip(f"{IMAGES} does not name a folder of kvm-unit-tests images (x86/*.flat)")
    path = Path(folder) / f"{image}.flat"
    board, output = machine(path.read_bytes(), model, processors, path.name)
    outcome = board.run(50_000_000)
    lines = output.decode().splitlines()

    assert (Reason.DEBUG_EXIT, 1) == (outcome.reason, outcome.status)
    assert [] == [line for line in lines if line.startswith("FAIL")]
    assert [] != [line for line in lines if line.startswith("PASS")]
