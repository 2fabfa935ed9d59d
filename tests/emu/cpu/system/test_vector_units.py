"""Vector instructions that plain Python runs, beside the host's processor; their faults."""

from __future__ import annotations

import random
from functools import cache

import pytest
from iced_x86 import Decoder

from emu.cpu.decode import MNEMONICS
from emu.cpu.paging import CR0_EM, CR0_TS, CR4_OSXSAVE
from emu.cpu.registers import ADDRESS_REGISTERS
from emu.cpu.state import Vector
from emu.cpu.system import crypto, scattered, text
from tests.emu.cpu import machines, native
from tests.emu.cpu.differential import Case
from tests.emu.cpu.test_vectors import every_encoding, gathers
from tests.emu.cpu.vector_rig import VectorRig, label

UNITS = {**crypto.TABLE, **text.TABLE, **scattered.TABLE}
LETTERS = b"\0aabc"
HOST = pytest.mark.skipif(not native.available(), reason="needs an x86-64 host with AVX2")


def host_features() -> set[str]:
    from pathlib import Path  # noqa: PLC0415 - for this alone

    names = Path("/proc/cpuinfo").read_text().split()
    wanted = {"SHA": "sha_ni", "VAES": "vaes", "SSE4A": "sse4a", "VPCLMULQDQ": "vpclmulqdq"}
    return {feature for feature, name in wanted.items() if name in names}


@cache
def rig() -> VectorRig:
    return VectorRig(64)


@cache
def forms() -> list:
    found = [item for item in every_encoding(64) if MNEMONICS[item[1].mnemonic] in UNITS]
    return [(code, insn) for code, insn in found if not insn.is_vsib]


def with_text(case: Case, rng: random.Random) -> Case:
    """The same with short strings in registers and memory, and lengths near the edges."""
    data = bytearray(case.data)
    middle = len(data) // 2
    for at in [*range(512), *range(middle, middle + 256)]:
        data[at] = rng.choice(LETTERS)
    registers = list(case.registers)
    if case.insn.op_kind(1) == 0 or ADDRESS_REGISTERS[case.insn.memory_base] not in (0, 2):
        for number in (0, 2):
            registers[number] = rng.randrange(-18, 18) & (1 << 64) - 1
    return case._replace(data=bytes(data), registers=tuple(registers))


def known_to_host(insn) -> bool:
    from emu.cpu.models.instructions import needed  # noqa: PLC0415 - for this alone

    beyond = {"SHA", "VAES", "SSE4A", "VPCLMULQDQ"} - host_features()
    return not beyond & set(needed(insn))


def disagreements(seed: int, repeat: int) -> tuple[int, list[str]]:
    rng = random.Random(seed)
    wrong = []
    count = 0
    for code, insn in filter(lambda item: known_to_host(item[1]), forms()):
        for turn in range(repeat):
            case = rig().case(code, insn, rng)
            if case is None:
                break
            if "CMP" in MNEMONICS[insn.mnemonic] and turn % 3:
                case = with_text(case, rng)
            count += 1
            difference = rig().against_host(case, rig().ours(case, plain=False), 0)
            wrong += [f"{label(case)}: {difference}"] * bool(difference)
    return count, wrong


@HOST
def test_every_form_agrees_with_the_host():
    count, wrong = disagreements(seed=1, repeat=9)

    assert [] == wrong
    assert count > 500


def test_every_unit_has_an_encoding_that_reaches_it():
    reached = {MNEMONICS[insn.mnemonic] for _, insn in [*forms(), *gathers()]}

    assert set() == UNITS.keys() - reached


def gather_case(code: bytes, insn, rng: random.Random) -> Case:
    """Indices that stay in the data; some mask elements set."""
    case = rig().case(bytes.fromhex("0f57c0"), Decoder(64, bytes.fromhex("0f57c0")).decode(), rng)
    assert case is not None
    data = bytearray(case.data)
    width = 4 if "GATHERD" in MNEMONICS[insn.mnemonic] else 8
    for at in range(64, 96, width):
        data[at : at + width] = rng.randrange(-900, 900).to_bytes(width, "little", signed=True)
    registers = list(case.registers)
    registers[3] = machines.DATA + len(data) // 2
    return case._replace(code=code, insn=insn, data=bytes(data), registers=tuple(registers))


@HOST
@pytest.mark.parametrize(("code", "insn"), gathers(), ids=str)
def test_gathers_agree_with_the_host(code, insn):
    rng = random.Random(str(insn))
    for _ in range(10):
        case = gather_case(code, insn, rng)
        ours = rig().ours(case, plain=False)

        assert -1 == ours.fault
        assert "" == rig().against_host(case, ours, 0)


def run(code: str, **fields: int) -> VectorRig:
    """One instruction after registers are set; the rig holds the processor."""
    machine = VectorRig(64)
    cpu = machine.cpu
    cpu.memory.load(machines.CODE, bytes.fromhex(code))
    cpu.state.rip = machines.CODE
    for name, value in fields.items():
        setattr(cpu.state, name, value)
    for number in range(4):
        for word in range(4):
            cpu.state.zmm[8 * number + word] = 0
    return machine


def step(machine: VectorRig) -> int:
    cpu = machine.cpu
    cpu.fault = None
    cpu.refresh()
    cpu.state.budget = cpu.state.slice = 1
    cpu.step()
    return -1 if cpu.fault is None else cpu.fault.vector


END = machines.MEMORY  # nothing is mapped from here on


def test_a_gather_that_faults_keeps_what_it_has_and_goes_on_there():
    machine = run("c4e261920c53", rbx=END - 8)  # VGATHERDPS XMM1, [RBX+XMM2*2], XMM3
    state = machine.cpu.state
    machine.cpu.memory.load(END - 8, bytes.fromhex("11111111 22222222"))
    state.zmm[16], state.zmm[17] = 0x00000002_00000000, 0x00000000_00000004
    state.zmm[24] = state.zmm[25] = 0x80000000_80000000

    assert Vector.PF == step(machine)
    assert (0x22222222_11111111, 0x80000000_80000000) == (state.zmm[8], state.zmm[25])
    assert 0 == state.zmm[24]

    state.zmm[17] = 0

    assert -1 == step(machine)
    assert (0x11111111_11111111, 0) == (state.zmm[9], state.zmm[25])


def test_a_gather_wants_three_registers():
    assert Vector.UD == step(run("c4e271920c53", rbx=machines.DATA))  # DEST is the mask


@pytest.mark.parametrize("code", ["c4e2712e13", "c4e2718e13"])
def test_a_masked_store_touches_chosen_elements_alone(code):
    machine = run(code, rbx=END - 8)  # VMASKMOVPS, VPMASKMOVD [RBX], XMM1, XMM2
    state = machine.cpu.state
    state.zmm[8] = 0x80000000_00000000
    state.zmm[16] = 0x55555555_44444444
    machine.cpu.memory.load(END - 8, bytes(8))

    assert -1 == step(machine)
    assert bytes.fromhex("00000000 55555555") == machine.cpu.memory.read(END - 8, 8)

    state.rip = machines.CODE
    state.zmm[9] = 0x80000000

    assert Vector.PF == step(machine)


@pytest.mark.parametrize(
    ("code", "cr0", "cr4", "vector"),
    [
        ("660f38dcc1", CR0_EM, 0, Vector.UD),
        ("660f38dcc1", CR0_TS, 0, Vector.NM),
        ("c4e279dcc1", 0, CR4_OSXSAVE, Vector.UD),
        ("660f38dc03", 0, 0, Vector.GP),
        ("660f3a630300", 0, 0, -1),
    ],
)
def test_units_are_gated_and_legacy_operands_aligned(code, cr0, cr4, vector):
    machine = run(code, rbx=machines.DATA + 8)
    machine.cpu.state.cr0 |= cr0
    machine.cpu.state.cr4 &= ~cr4

    assert vector == step(machine)
