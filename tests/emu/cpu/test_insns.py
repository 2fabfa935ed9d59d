"""Every form of every instruction row, three ways; see `differential`."""

from __future__ import annotations

import random
from functools import cache

import pytest

from emu.cpu.decode import MNEMONICS, translator
from emu.cpu.insns.rows import Insn
from emu.cpu.program import rows
from emu.cpu.state import Vector

from .differential import Outcome, Rig, disagreement
from .encodings import encodings

BITS = (64, 32, 16)
MICRO = {
    "plumbing",
    "sse_moves",
    "sse_integer",
    "sse_shuffle",
    "sse_float",
    "sse_convert",
    "sse_fused",
    "privileged",
    "control_structure",
}  # see test_vectors and system/
FAMILIES = sorted(set(rows()) - MICRO)
FAMILIES_BY_MODE = [
    (family, bits) for family in FAMILIES for bits in BITS if (family, bits) != ("decimal", 64)
]


@cache
def rig(bits: int) -> Rig:
    return Rig(bits)


@cache
def by_mnemonic(bits: int) -> dict[str, list]:
    return encodings(bits, each=1)


def row_of(bits: int, insn) -> Insn | None:
    return translator().row(insn)


def cases(bits: int, family: str, seed: int, repeat: int):
    rng = random.Random(f"{family} {seed}")
    table = set(map(id, rows()[family]))
    for items in by_mnemonic(bits).values():
        for code, insn in items:
            row = row_of(bits, insn)
            if row is None or id(row) not in table:
                continue
            for _ in range(repeat):
                case = rig(bits).case(code, insn, rng)
                if case is not None:
                    yield case, row


def run_family(bits: int, family: str, seed: int, repeat: int) -> tuple[int, list[str]]:
    wrong = []
    count = 0
    for case, row in cases(bits, family, seed, repeat):
        count += 1
        label = f"{case.insn} [{case.code.hex(' ')}]"
        ours: Outcome = rig(bits).ours(case, plain=False)
        plain = rig(bits).ours(case, plain=True)
        if ours != plain:
            fields = [n for n in ours._fields if getattr(ours, n) != getattr(plain, n)]
            wrong.append(f"{label}: compiled and plain differ in {', '.join(fields)}")
        if ours.fault == Vector.GP:
            continue  # Unicorn, without an IDT, would go on with #DF
        difference = disagreement(case, ours, rig(bits).theirs(case), row.undefined)
        if difference:
            wrong.append(f"{label}: {difference}")
    return count, wrong


@pytest.mark.parametrize(("family", "bits"), FAMILIES_BY_MODE)
def test_every_form_agrees_with_plain_execution_and_unicorn(family, bits):
    count, wrong = run_family(bits, family, seed=1, repeat=1)

    assert [] == wrong
    assert count > 0


def test_every_row_has_an_encoding_that_reaches_it():
    reached = {
        id(row)
        for bits in BITS
        for items in by_mnemonic(bits).values()
        for _, insn in items
        if (row := row_of(bits, insn)) is not None
    }
    missed = [
        f"{row.mnemonic} {row.forms}"
        for family in FAMILIES
        for row in rows()[family]
        if id(row) not in reached
    ]

    assert [] == missed


def test_mnemonics_are_those_of_the_decoder():
    known = set(MNEMONICS.values())
    spelled = {
        row.mnemonic.removeprefix("REP_").removeprefix("REPNE_").removesuffix("16")
        for family in FAMILIES
        for row in rows()[family]
    }

    assert {"CRC32Q"} == spelled - known
