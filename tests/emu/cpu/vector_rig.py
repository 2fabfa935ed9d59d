"""Vector instructions run compiled, as plain Python, by Unicorn and by the host's processor."""

from __future__ import annotations

import random
from typing import Any

from iced_x86 import EncodingKind, Instruction, OpKind, Register
from unicorn import x86_const

from emu.cpu.decode import MNEMONICS
from emu.cpu.insns.sse_float import DAZ, FTZ
from emu.cpu.models import MODELS
from emu.cpu.paging import CR4_OSFXSR, CR4_OSXSAVE
from emu.cpu.registers import ADDRESS_REGISTERS, REGISTERS
from emu.cpu.state import ZERO_REGISTER
from emu.cpu.vectors import is_mmx

from . import native
from .differential import EDGES, SPAN, STATUS, Case, Outcome, Rig

WORD = (1 << 64) - 1
LANE_EDGES = (
    *EDGES,
    0x8000800080008000,
    0x7FFF7FFF7FFF7FFF,
    0x8080808080808080,
    0x0001000100010001,
    *(0x3FF0000000000000, 0xBFF0000000000000, 0x7FF0000000000000, 0xFFF0000000000000),
    *(0x7FF8000000000000, 0x7FF4000000000000, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF),
    *(0x3F8000003F800000, 0x7F800000FF800000, 0x7FC000007FA00000, 0x008000007F7FFFFF),
    *(0x0000000100000001, 0x007FFFFF80000001, 0x000FFFFFFFFFFFFF, 0x3FF0000000000001),
)


class VectorRig(Rig):
    """A rig whose cases also have vector registers, taken from the data."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.cpu.model = MODELS["zen3"]  # has every vector feature
        state = self.cpu.state
        state.cr4 |= CR4_OSFXSR | CR4_OSXSAVE
        state.xcr0 = 7
        self.cpu.refresh()
        self.uc.reg_write(
            x86_const.UC_X86_REG_CR4, self.uc.reg_read(x86_const.UC_X86_REG_CR4) | CR4_OSFXSR
        )
        self.native = native.Native() if bits == 64 and native.available() else None

    def misalignment(self, rng: random.Random) -> int:
        return rng.choice((0, 32, 64, 96))

    def words(self, rng: random.Random) -> int:
        """One word of a vector register or of the data."""
        return rng.choice(LANE_EDGES) if rng.random() < 0.3 else rng.getrandbits(64)

    def case(self, code: bytes, insn: Instruction, rng: random.Random) -> Case | None:
        case = super().case(code, insn, rng)
        if case is None:
            return None
        small = rng.random() < 0.5  # shift counts
        words = [
            rng.randrange(80) if small and i % 2 == 0 and rng.random() < 0.5 else self.words(rng)
            for i in range(64)
        ]
        head = b"".join(word.to_bytes(8, "little") for word in words)
        tail = b"".join(self.words(rng).to_bytes(8, "little") for _ in range(32))
        middle = SPAN // 2
        data = case.data
        data = head + data[512:middle] + tail + data[middle + len(tail) :]
        return case._replace(data=data)

    @property
    def vector_count(self) -> int:
        return 16 if self.bits == 64 else 8

    def mmx_words(self, case: Case) -> list[int]:
        return [int.from_bytes(case.data[768 + 8 * i : 776 + 8 * i], "little") for i in range(8)]

    def mxcsr(self, case: Case) -> int:
        """Every mask set; rounding, flags, DAZ and FTZ vary."""
        varied = int.from_bytes(case.data[1000:1002], "little")
        return 0x1F80 | varied & (0xE07F if varied & 0x100 else 0x603F)

    def ours(self, case: Case, plain: bool) -> Outcome:
        record = self.cpu.record
        state = self.cpu.state
        zmm = record["zmm"].reshape(34, 8)
        for n in range(16):
            for w in range(4):
                at = 32 * n + 8 * w
                state.zmm[8 * n + w] = int.from_bytes(case.data[at : at + 8], "little")
                state.zmm[8 * n + 4 + w] = 0xABCD
        for n, word in enumerate(self.mmx_words(case)):
            state.st_mantissa[n] = word
            state.st_exponent[n] = 0xFFFF
        state.fsw = 0
        state.ftw = 0xFF
        state.mxcsr = self.mxcsr(case)
        outcome = super().ours(case, plain)
        vectors = tuple(int(w) for w in zmm[:16].ravel())
        mmx = tuple(state.st_mantissa[n] for n in range(8))
        return outcome._replace(registers=(*outcome.registers, *vectors, *mmx, state.mxcsr))

    def theirs(self, case: Case) -> Outcome:
        uc = self.uc
        for n in range(self.vector_count):
            value = int.from_bytes(case.data[32 * n : 32 * n + 16], "little")
            uc.reg_write(x86_const.UC_X86_REG_XMM0 + n, value)
        uc.reg_write(x86_const.UC_X86_REG_MXCSR, self.mxcsr(case))
        for n, word in enumerate(self.mmx_words(case)):
            uc.reg_write(x86_const.UC_X86_REG_FP0 + n, (word, 0xFFFF))
        return super().theirs(case)

    def parts(self, ours: Outcome) -> tuple[tuple[int, ...], list[int], tuple[int, ...], int]:
        """General registers, vector words (sixteen registers of eight), MMX, MXCSR."""
        general, rest = ours.registers[: self.count], ours.registers[self.count :]
        return general, list(rest[:128]), rest[128:136], rest[136]

    def against_unicorn(self, case: Case, ours: Outcome, undefined: int) -> str:
        """How Unicorn differs; empty when it agrees or cannot tell."""
        if case.insn.encoding != EncodingKind.LEGACY or is_aligned_fault(ours):
            return ""
        if case.code[:2] in (b"\x66\xf2", b"\x66\xf3"):
            return ""  # SDM Vol. 2, Mandatory Prefix: F2 and F3 count; QEMU looks at 66
        if self.mxcsr(case) & (DAZ | FTZ):
            return ""  # SDM Vol. 1, MXCSR: Unicorn leaves denormals now and then; hosts do not
        if MNEMONICS[case.insn.mnemonic].startswith(("PHADD", "PHSUB")) and is_mmx(case.insn):
            return ""  # SDM Vol. 2, PHADDW: QEMU overwrites a source before it has read it
        if MNEMONICS[case.insn.mnemonic].startswith(("HADD", "HSUB", "ADDSUB", "DPP")):
            return ""  # SDM Vol. 2, DPPS: pairs are added, NaNs in order; not so in QEMU
        if is_approximate(case):
            return ""
        theirs = self.theirs(case)
        if theirs.fault == 6:
            return ""
        if ours.fault != theirs.fault:
            return f"fault {ours.fault}, Unicorn {theirs.fault}"
        general, vectors, mmx, _ = self.parts(ours)
        found = []
        if general != theirs.registers:
            found.append("general registers")
        for n in range(self.vector_count):
            value = self.uc.reg_read(x86_const.UC_X86_REG_XMM0 + n)
            mine = vectors[8 * n] | vectors[8 * n + 1] << 64
            if mine != value:
                found.append(f"xmm{n} {mine:032x}, Unicorn {value:032x}")
        for n in range(8):
            value = self.uc.reg_read(x86_const.UC_X86_REG_FP0 + n)[0]
            if mmx[n] != value:
                found.append(f"mm{n} {mmx[n]:x}, Unicorn {value:x}")
        if (ours.flags ^ theirs.flags) & STATUS & ~undefined:
            found.append(f"flags {ours.flags:x}, Unicorn {theirs.flags:x}")
        if ours.data != theirs.data:
            found.append("data")
        return "; ".join(found)

    def against_host(self, case: Case, ours: Outcome, undefined: int) -> str:
        """How the host's processor differs; empty when it agrees or cannot tell."""
        if self.native is None or ours.fault >= 0 or is_approximate(case):
            return ""
        insn = case.insn
        registers = list(case.registers)
        kinds = [insn.op_kind(i) for i in range(insn.op_count)]
        if any(
            kind == OpKind.REGISTER and STACK_POINTER == REGISTERS[insn.op_register(i)][:2]
            for i, kind in enumerate(kinds)
        ):
            return ""
        shift = self.native.data_at - self.data
        base = -1
        if OpKind.MEMORY in kinds:
            base = ADDRESS_REGISTERS[insn.memory_base]
            plain = insn.memory_segment not in FS_GS and b"\x67" not in case.code[:4]
            if base == ZERO_REGISTER or base > 15 or not plain:
                return ""
            registers[base] = registers[base] + shift & WORD
        elif any(kind not in KNOWN for kind in kinds) and insn.op_count:
            return ""
        after = self.native.run(
            case.code,
            registers,
            case.flags,
            case.data[:512],
            self.mxcsr(case),
            case.data,
            self.image(case),
        )
        theirs = list(after.registers)
        if base >= 0 and theirs[base] == registers[base]:
            theirs[base] = case.registers[base]
        general, vectors, mmx, mxcsr = self.parts(ours)
        found = []
        for n in range(16):
            if general[n] != theirs[n]:
                found.append(f"r{n} {general[n]:x}, host {theirs[n]:x}")
            low = b"".join(w.to_bytes(8, "little") for w in vectors[8 * n : 8 * n + 4])
            host = after.vectors[32 * n : 32 * n + 32]
            if low != host:
                found.append(f"ymm{n} {low[::-1].hex()}, host {host[::-1].hex()}")
        if insn.encoding == EncodingKind.LEGACY:
            found += self.compare_mmx(mmx, after)
        if (ours.flags ^ after.flags) & STATUS & ~undefined:
            found.append(f"flags {ours.flags:x}, host {after.flags:x}")
        if mxcsr != after.mxcsr:
            found.append(f"mxcsr {mxcsr:x}, host {after.mxcsr:x}")
        if ours.data != after.data:
            found.append("data")
        return "; ".join(found)

    def image(self, case: Case) -> bytes:
        """An FXSAVE image with the MMX registers of the case."""
        image = bytearray(512)
        image[0:2] = (0x37F).to_bytes(2, "little")
        image[4] = 0xFF
        for n, word in enumerate(self.mmx_words(case)):
            image[32 + 16 * n : 42 + 16 * n] = word.to_bytes(8, "little") + b"\xff\xff"
        return bytes(image)

    def compare_mmx(self, mmx: tuple[int, ...], after: Any) -> list[str]:
        """Differences in the MMX registers."""
        found = []
        for n in range(8):
            host = int.from_bytes(after.fx[32 + 16 * n : 40 + 16 * n], "little")
            if host != mmx[n]:
                found.append(f"mm{n} {mmx[n]:x}, host {host:x}")
        return found


STACK_POINTER = ("R", 4)
FS_GS = frozenset((Register.FS, Register.GS))
KNOWN = frozenset((OpKind.REGISTER, OpKind.IMMEDIATE8, OpKind.IMMEDIATE8_2ND, OpKind.IMMEDIATE32))


def is_approximate(case: Case) -> bool:
    """SDM Vol. 2, RCPPS, RSQRTPS: only a bound on the error is given; see test_vectors."""
    return MNEMONICS[case.insn.mnemonic].removeprefix("V").startswith(("RCP", "RSQRT"))


def is_aligned_fault(ours: Outcome) -> bool:
    """Unicorn does not check alignment."""
    return ours.fault == 13


def label(case: Case) -> str:
    return f"{case.insn} [{case.code.hex(' ')}] {MNEMONICS[case.insn.mnemonic]}"
