"""Every vector row, compiled against plain Python, Unicorn and the host; see `vector_rig`."""

from __future__ import annotations

import itertools
import random
import struct
from functools import cache

import pytest
from iced_x86 import Code, Decoder

from emu.cpu import vectors
from emu.cpu.decode import MNEMONICS, translator
from emu.cpu.paging import CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE
from emu.cpu.state import Vector

from . import machines
from .encodings import encodings
from .vector_rig import VectorRig, label

BITS = (64, 32, 16)
PARTS = 4


@cache
def rig(bits: int) -> VectorRig:
    return VectorRig(bits)


def plain_vex(bits: int) -> list:
    """VEX encodings without a second source, which random bytes seldom give."""
    found = []
    for opcode_map, opcode, pp, wide in itertools.product(
        (1, 2, 3), range(256), range(4), (0, 128)
    ):
        for length, modrm in itertools.product((0, 4), (0xC1, 0x03, 0x0B, 0x13, 0x1B, 0x33)):
            code = bytes([0xC4, 0xE0 | opcode_map, wide | 0x78 | length | pp, opcode, modrm, 5])
            insn = Decoder(bits, code + bytes(10), ip=0).decode()
            if insn.code != Code.INVALID and insn.len <= len(code):
                found.append((code[: insn.len], insn))
    return found


def gathers() -> list:
    """VSIB encodings: DEST 1, index 2, mask 3, base RBX."""
    found = []
    for opcode, wide, length in itertools.product(range(0x90, 0x94), (0, 0x80), (0, 4)):
        code = bytes([0xC4, 0xE2, wide | 0x61 | length, opcode, 0x0C, 0x53])
        found.append((code, Decoder(64, code, ip=0).decode()))
    return found


def every_encoding(bits: int) -> list:
    """Encodings, one a form."""
    found = [item for items in encodings(bits, each=1).values() for item in items]
    if bits == 16:
        return found
    known = {(insn.code, insn.op1_kind, insn.op0_kind) for _, insn in found}
    for code, insn in plain_vex(bits):
        key = (insn.code, insn.op1_kind, insn.op0_kind)
        if key not in known:
            known.add(key)
            found.append((code, insn))
    return found


@cache
def forms(bits: int) -> list:
    """Encodings that the rows cover, with the rows."""
    found = []
    for code, insn in every_encoding(bits):
        row = vectors.covers(insn)
        if row is None or insn.has_lock_prefix:
            continue
        if bits == 16 and insn.encoding == vectors.EncodingKind.VEX:
            continue
        if vectors.uops(translator(), insn, bits, row) is not None:
            found.append((code, insn, row))
    return found


def run(bits: int, part: int, seed: int, repeat: int) -> tuple[int, list[str]]:
    rng = random.Random(f"{bits} {part} {seed}")
    machine = rig(bits)
    wrong = []
    count = 0
    for code, insn, row in forms(bits)[part::PARTS]:
        for _ in range(repeat):
            case = machine.case(code, insn, rng)
            if case is None:
                continue
            count += 1
            ours = machine.ours(case, plain=False)
            plain = machine.ours(case, plain=True)
            if ours != plain:
                fields = [n for n in ours._fields if getattr(ours, n) != getattr(plain, n)]
                where = [
                    i
                    for i, (a, b) in enumerate(zip(ours.registers, plain.registers, strict=True))
                    if a != b
                ]
                wrong.append(f"{label(case)}: compiled and plain differ in {fields} {where}")
            for difference in (
                machine.against_unicorn(case, ours, row.undefined),
                machine.against_host(case, ours, row.undefined),
            ):
                wrong += [f"{label(case)}: {difference}"] * bool(difference)
    return count, wrong


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_form_agrees_with_plain_execution_unicorn_and_the_host(part, bits):
    count, wrong = run(bits, part, seed=1, repeat=1)

    assert [] == wrong
    assert count > 0


def test_every_row_has_an_encoding_that_reaches_it():
    reached = {(MNEMONICS[insn.mnemonic]) for bits in (64, 32) for _, insn, _ in forms(bits)}
    missed = [
        MNEMONICS[number] for number in vectors.BY_MNEMONIC if MNEMONICS[number] not in reached
    ]

    assert [] == missed


RELATIVE_ERROR = 1.5 * 2**-12  # SDM Vol. 2, RCPPS, RSQRTPS
APPROXIMATIONS = {
    "rcpps": (bytes.fromhex("0f53c1"), lambda x: 1 / x),
    "rsqrtps": (bytes.fromhex("0f52c1"), lambda x: abs(x) ** -0.5),
}
EDGES = {
    # operand: RCPPS, RSQRTPS
    0x00000000: (0x7F800000, 0x7F800000),
    0x80000001: (0xFF800000, 0xFF800000),
    0x7F800000: (0x00000000, 0x00000000),
    0xFF800000: (0x80000000, 0xFFC00000),
    0xBF800000: (0xBF800000, 0xFFC00000),
    0x7FA00000: (0x7FE00000, 0x7FE00000),
}


def approximated(name: str, words: list[int]) -> list[int]:
    cpu = VectorRig(64).cpu
    state = cpu.state
    cpu.memory.load(machines.CODE, APPROXIMATIONS[name][0])
    state.mxcsr = 0x1F80
    state.zmm[8], state.zmm[9] = words[0] | words[1] << 32, words[2] | words[3] << 32
    state.rip = machines.CODE
    state.budget = state.slice = 1
    cpu.step()

    assert cpu.fault is None
    assert 0x1F80 == state.mxcsr
    return list(struct.unpack("<4I", struct.pack("<2Q", state.zmm[0], state.zmm[1])))


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations_keep_to_the_bound(name):
    rng = random.Random(name)
    exact = APPROXIMATIONS[name][1]
    for _ in range(50):
        words = [rng.randrange(1, 250) << 23 | rng.getrandbits(23) for _ in range(4)]
        operands = struct.unpack("<4f", struct.pack("<4I", *words))
        results = struct.unpack("<4f", struct.pack("<4I", *approximated(name, words)))
        errors = [abs(y / exact(x) - 1) for x, y in zip(operands, results, strict=True)]

        assert max(errors) <= RELATIVE_ERROR


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_approximations_of_special_operands(name):
    column = list(APPROXIMATIONS).index(name)
    for word, results in EDGES.items():
        assert [results[column]] * 4 == approximated(name, [word] * 4)


MOVAPS = bytes.fromhex("0f 28 03")  # MOVAPS XMM0, [RBX]
PADDB = bytes.fromhex("66 0f fc c1")
VPADDB = bytes.fromhex("c5 f9 fc c1")
PADDB_MMX = bytes.fromhex("0f fc c1")


def fault_of(code: bytes, cr0: int = 0, cr4: int = 0, rbx: int = 0, xcr0: int = 7) -> int:
    """The vector that an instruction raises with bits of CR0 set and of CR4 clear; -1 for none."""
    cpu = VectorRig(64).cpu
    state = cpu.state
    cpu.memory.load(machines.CODE, code)
    state.cr0 |= cr0
    state.cr4 &= ~cr4
    state.xcr0 = xcr0
    state.rip = machines.CODE
    state.rbx = machines.DATA + rbx
    cpu.refresh()
    state.budget = state.slice = 1
    cpu.step()
    return -1 if cpu.fault is None else cpu.fault.vector


def test_legacy_operands_must_be_aligned_and_vex_ones_need_not():
    unaligned_vex = bytes.fromhex("c5 f9 fc 03")  # VPADDB XMM0, XMM0, [RBX]

    assert Vector.GP == fault_of(MOVAPS, rbx=8)
    assert Vector.GP == fault_of(bytes.fromhex("66 0f fc 03"), rbx=1)
    assert -1 == fault_of(bytes.fromhex("0f 10 03"), rbx=1)
    assert -1 == fault_of(unaligned_vex, rbx=1)
    assert Vector.GP == fault_of(bytes.fromhex("c5 fc 28 03"), rbx=16)
    assert -1 == fault_of(bytes.fromhex("c5 fc 28 03"), rbx=32)


@pytest.mark.parametrize(
    ("code", "cr0", "cr4", "xcr0", "vector"),
    [
        (PADDB, CR0_EM, 0, 7, Vector.UD),
        (PADDB, CR0_TS, 0, 7, Vector.NM),
        (PADDB, CR0_TS, CR4_OSFXSR, 7, Vector.UD),
        (PADDB, 0, CR4_OSXSAVE, 1, -1),
        (VPADDB, 0, CR4_OSXSAVE, 7, Vector.UD),
        (VPADDB, 0, 0, 3, Vector.UD),
        (VPADDB, CR0_TS, 0, 7, Vector.NM),
        (VPADDB, CR0_EM, CR4_OSFXSR, 7, -1),
        (PADDB_MMX, CR0_EM, 0, 7, Vector.UD),
        (PADDB_MMX, CR0_TS, 0, 7, Vector.NM),
        (PADDB_MMX, 0, CR4_OSFXSR, 1, -1),
    ],
)
def test_control_registers_gate_vector_instructions(code, cr0, cr4, xcr0, vector):
    assert vector == fault_of(code, cr0, cr4, xcr0=xcr0)


@pytest.mark.parametrize("count", [16, 32])
def test_a_wide_store_that_faults_in_its_second_page_writes_nothing(count):
    cpu = VectorRig(64).cpu
    state = cpu.state
    last = machines.MEMORY - count // 2  # the tables end with the memory
    before = cpu.memory.read(last, count // 2)
    cpu.memory.load(machines.CODE, bytes.fromhex("c5 fe 7f 03" if count == 32 else "f3 0f 7f 03"))
    state.rip = machines.CODE
    state.rbx = last
    state.zmm[0] = 0x0123456789ABCDEF
    state.budget = state.slice = 1
    cpu.step()

    assert Vector.PF == cpu.fault.vector
    assert machines.MEMORY == cpu.fault.address
    assert before == cpu.memory.read(last, count // 2)


def test_an_unmasked_exception_leaves_the_destination_and_sets_its_flag():
    cpu = VectorRig(64).cpu
    state = cpu.state
    cpu.memory.load(machines.CODE, bytes.fromhex("66 0f 5e c1"))  # DIVPD XMM0, XMM1
    state.mxcsr = 0x1D80  # #Z not masked
    state.cr4 |= CR4_OSXMMEXCPT
    state.zmm[0] = state.zmm[1] = 0x3FF0000000000000
    state.zmm[8], state.zmm[9] = 0x4000000000000000, 0
    state.rip = machines.CODE
    cpu.refresh()
    state.budget = state.slice = 1
    cpu.step()

    assert Vector.XM == cpu.fault.vector
    assert 0x1D84 == state.mxcsr
    assert 0x3FF0000000000000 == state.zmm[0]
