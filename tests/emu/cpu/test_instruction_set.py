"""What the models advertise runs, and what they do not advertise is no instruction."""

from __future__ import annotations

from functools import cache

import pytest
from iced_x86 import Code, Decoder

from emu.cpu import vectors
from emu.cpu.decode import MNEMONICS, translator
from emu.cpu.models import MODELS
from emu.cpu.models.instructions import as_known, lacks, needed
from emu.cpu.state import Vector
from emu.cpu.system import table
from emu.cpu.system.vectors import refuse
from tests.emu.cpu import machines
from tests.emu.cpu.encodings import encodings
from tests.emu.cpu.test_vectors import gathers, plain_vex

BITS = (64, 32, 16)
# what an extension of the processor runs, or its system management mode
ELSEWHERE = {"VMX", "SVM", "SKINIT_OR_SVM", "SMM", "SMX", "INVEPT", "INVVPID"}


@cache
def every_form(bits: int) -> list:
    """One encoding of every form that the decoder knows."""
    found = [insn for items in encodings(bits, each=1).values() for _, insn in items]
    if bits != 16:
        found += [insn for _, insn in plain_vex(bits)]
    if bits == 64:
        found += [insn for _, insn in gathers()]
    return found


def runs(insn, bits: int) -> bool:
    """Whether there are semantics for an instruction."""
    row = vectors.covers(insn)
    if row is not None and vectors.uops(translator(), insn, bits, row) is not None:
        return True
    if row is None and translator().template(insn, bits, False).number != translator().system:
        return True
    return row is None and table().get(MNEMONICS[insn.mnemonic]) not in (None, refuse)


def elsewhere(insn) -> bool:
    return bool(ELSEWHERE & set(needed(insn))) or MNEMONICS[insn.mnemonic] == "RSM"


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("model", MODELS)
def test_every_instruction_of_an_advertised_feature_has_semantics(model, bits):
    missing = {
        str(insn)
        for insn in every_form(bits)
        if not lacks(MODELS[model], insn) and not elsewhere(insn) and not runs(insn, bits)
    }

    assert set() == missing


def test_an_instruction_without_semantics_is_found():
    unknown = Decoder(64, bytes.fromhex("62f17c4858c0")).decode()  # VADDPS ZMM0, ZMM0, ZMM0

    assert lacks(MODELS["skylake-x"], unknown)
    assert not runs(unknown, 64)


OF_LATER_PROCESSORS = {
    "PADDB ymm": "c5f5fcc2",
    "ADDPS xmm by VEX": "c5f058c2",
    "PSHUFB": "660f3800c1",
    "POPCNT": "f30fb8c3",
    "MOVBE": "0f38f003",
    "ANDN": "c4e270f2c3",
    "ADCX": "660f38f6c3",
    "AESENC": "660f38dcc1",
    "FISTTP": "dd0b",
    "CLAC": "0f01ca",
    "EXTRQ": "660f79c1",
    "SHA1NEXTE": "0f38c8c1",
    "VFMADD132PS": "c4e27198c2",
}


@pytest.mark.parametrize("code", OF_LATER_PROCESSORS.values(), ids=OF_LATER_PROCESSORS)
def test_what_a_minimal_processor_lacks_is_undefined(code):
    cpu = machines.machine(64)
    cpu.model = MODELS["minimal"]
    cpu.memory.load(machines.CODE, bytes.fromhex(code))
    cpu.state.rip, cpu.state.rbx = machines.CODE, machines.DATA
    cpu.state.budget = cpu.state.slice = 1
    cpu.step()

    assert Vector.UD == cpu.fault.vector


@pytest.mark.parametrize(
    ("code", "plain"),
    [("f30fbcc3", Code.BSF_R32_RM32), ("f3480fbdc3", Code.BSR_R64_RM64), ("f30f09", Code.WBINVD)],
)
def test_a_prefix_that_is_not_known_does_not_count(code, plain):
    insn = Decoder(64, bytes.fromhex(code)).decode()

    assert as_known(MODELS["minimal"], insn)
    assert plain == insn.code
