"""Three million random and edge operands: every form of every instruction, beside its oracles.

Integer instructions run compiled, as plain Python and by Unicorn; vector instructions by the host's
processor as well; x87 instructions and those that only plain Python runs by the host's processor.
`INSTRUCTION_CASES` in the environment says how many in all; they are drawn from fixed seeds.
"""

import os
import sys
import time

import pytest

from emu.cpu.decode import translator
from tests.emu.cpu import native, test_insns, test_vectors
from tests.emu.cpu.system import test_vector_units
from tests.emu.cpu.x87 import test_data

pytestmark = pytest.mark.conformance

CASES = int(os.environ.get("INSTRUCTION_CASES", "3000000"))
# of all cases: those of integer, vector, x87 instructions, and of those in plain Python
INTEGER, VECTOR, X87, UNITS = 0.55, 0.3, 0.1, 0.05
SEED = 3
HOST = pytest.mark.skipif(not native.available(), reason="needs an x86-64 host with AVX2")


def repeats(share, forms):
    """How often each form is run for a share of the cases."""
    return max(round(CASES * share / forms), 1)


def integer_forms():
    """Encodings that rows of integer instructions cover, in all modes."""
    return sum(
        translator().row(insn) is not None
        for bits in test_insns.BITS
        for items in test_insns.by_mnemonic(bits).values()
        for _, insn in items
    )


def report(what, count, began):
    """Tell the rate of a run."""
    taken = time.monotonic() - began
    sys.stdout.write(f"\n{what}: {count:,} cases, {count / taken:,.0f} a second\n")


@pytest.mark.parametrize(("family", "bits"), test_insns.FAMILIES_BY_MODE)
def test_integer_instructions(family, bits):
    began = time.monotonic()
    repeat = repeats(INTEGER, integer_forms())
    count, wrong = test_insns.run_family(bits, family, SEED, repeat)
    report(f"{family}, {bits} bits", count, began)

    assert [] == wrong
    assert count >= repeat


@pytest.mark.parametrize("bits", test_vectors.BITS)
@pytest.mark.parametrize("part", range(test_vectors.PARTS))
def test_vector_instructions(part, bits):
    began = time.monotonic()
    forms = sum(len(test_vectors.forms(mode)) for mode in test_vectors.BITS)
    repeat = repeats(VECTOR, forms)
    count, wrong = test_vectors.run(bits, part, SEED, repeat)
    report(f"vectors, {bits} bits, part {part}", count, began)

    assert [] == wrong
    assert count >= repeat


@HOST
@pytest.mark.parametrize("part", range(test_data.PARTS))
def test_x87_instructions(part):
    began = time.monotonic()
    repeat = repeats(X87, len(test_data.decided()))
    count, wrong = test_data.disagreements(part, SEED, repeat)
    report(f"x87, part {part}", count, began)

    assert [] == wrong
    assert count >= repeat


@HOST
def test_instructions_in_plain_python():
    began = time.monotonic()
    repeat = repeats(UNITS, len(test_vector_units.forms()))
    count, wrong = test_vector_units.disagreements(SEED, repeat)
    report("plain Python", count, began)

    assert [] == wrong
    assert count >= repeat
