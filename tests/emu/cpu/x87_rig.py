"""x87 instructions run by the processor here, by the host's and by Unicorn."""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

import unicorn
from iced_x86 import Code, Decoder, Instruction
from unicorn import x86_const

from emu.cpu.decode import MNEMONICS

from . import machines, native

WORD = (1 << 64) - 1
STATUS = 0x8D5
BYTES = 256  # of memory that an operand may lie in
BASE = 3  # RBX points to it
EXTENDED_EDGES = (
    (0x0000, 0),
    (0x8000, 0),
    (0x3FFF, 1 << 63),
    (0xBFFF, 1 << 63),
    (0x7FFF, 1 << 63),
    (0xFFFF, 1 << 63),
    (0x7FFF, 3 << 62),
    (0xFFFF, 3 << 62 | 5),
    (0x7FFF, 2 << 62 | 7),
    (0xFFFF, 2 << 62 | 99),
    (0x7FFF, 7),
    (0x3FFF, 1),
    (0x0000, 1),
    (0x8000, 1 << 62),
    (0x0000, 1 << 63),
    (0x0001, 1 << 63),
    (0x7FFE, WORD),
    (0xFFFE, WORD),
    (0x403E, WORD),
    (0x403D, 1 << 63),
    (0x3FFE, 1 << 63),
    (0x3FFE, WORD),
    (0x4000, 3 << 62),
    (0x3FC0, 1 << 63),
)
FLOAT_EDGES = (
    0x00000000, 0x80000000, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FA00001, 0x00000001,
    0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x3FF0000000000000, 0x7FF0000000000000, 0x7FF8000000000001,
    0x7FF4000000000000, 0x0000000000000001, 0x000FFFFFFFFFFFFF, 0x7FEFFFFFFFFFFFFF, 0x8000,
    0x7FFF, 0x8000000000000000, 0x7FFFFFFFFFFFFFFF, WORD,
)  # fmt: skip


class X87State(NamedTuple):
    """What FXSAVE shows, less the pointers: control, status and abridged tags, ST(0) to ST(7)."""

    fcw: int
    fsw: int
    ftw: int
    stack: tuple[tuple[int, int], ...]

    def image(self) -> bytes:
        """The FXSAVE image."""
        head = struct.pack("<HHB", self.fcw, self.fsw, self.ftw).ljust(32, b"\0")
        regs = b"".join(struct.pack("<QH6x", m, e) for e, m in self.stack)
        return (head + regs).ljust(512, b"\0")

    @staticmethod
    def of_image(image: bytes) -> X87State:
        """The state that an FXSAVE image holds."""
        fcw, fsw, ftw = struct.unpack_from("<HHB", image)
        stack = []
        for i in range(8):
            m, e = struct.unpack_from("<QH", image, 32 + 16 * i)
            stack.append((e, m))
        return X87State(fcw, fsw, ftw, tuple(stack))


class X87Case(NamedTuple):
    """An instruction and the state it starts from."""

    code: bytes
    insn: Instruction
    state: X87State
    flags: int
    data: bytes

    def __str__(self) -> str:
        s = self.state
        stack = " ".join(f"{e:04x}:{m:016x}" for e, m in s.stack[:3])
        return (
            f"{self.insn} [{self.code.hex(' ')}] fcw {s.fcw:04x} fsw {s.fsw:04x} "
            f"ftw {s.ftw:02x} st {stack} memory {self.data[:10][::-1].hex()}"
        )


class X87Outcome(NamedTuple):
    """What an instruction left behind."""

    state: X87State
    rax: int
    flags: int
    data: bytes


def forms() -> list[tuple[bytes, Instruction]]:
    """One encoding a form, and every register of the register forms."""
    found = []
    for opcode in range(0xD8, 0xE0):
        for modrm in [*range(0x03, 0x40, 8), *range(0xC0, 0x100)]:
            code = bytes([opcode, modrm])
            insn = Decoder(64, code, ip=0).decode()
            if insn.code != Code.INVALID:
                found.append((code, insn))
    return found


def extended(rng: random.Random) -> tuple[int, int]:
    """A register's contents: edges, numbers near one, anything."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(EXTENDED_EDGES)
    m = rng.getrandbits(64)
    if rng.random() < 0.3:
        m &= WORD << rng.randrange(64)
    if rng.random() < 0.1:
        m |= WORD >> rng.randrange(64)
    if kind < 0.95:
        m |= 1 << 63
    if kind < 0.75:
        return rng.getrandbits(1) << 15 | 0x3FFF + rng.randrange(-70, 70), m
    return rng.getrandbits(16), m


def random_case(code: bytes, insn: Instruction, rng: random.Random) -> X87Case:
    """Random and edge operands; most often every exception is masked and the stack is full."""
    fcw = 0x40 | rng.getrandbits(2) << 8 | rng.getrandbits(2) << 10
    fcw |= 0x3F if rng.random() < 0.7 else rng.getrandbits(6)
    top = rng.randrange(8)
    sticky = 0 if rng.random() < 0.7 else rng.getrandbits(7) & (fcw | 0x40)
    fsw = top << 11 | rng.getrandbits(4) * 0x900 & 0x4700 | sticky
    ftw = rng.choice((0xFF, 0x7F, 0xFE, rng.getrandbits(8)))
    if rng.random() < 0.7:
        # as many as an instruction needs
        ftw = 1 << (top + 0 & 7) | 1 << (top + 1 & 7) | rng.getrandbits(8)
        ftw &= ~(1 << (top - 1 & 7)) if rng.random() < 0.8 else 0xFF
    stack = [extended(rng) for _ in range(8)]
    if rng.random() < 0.2:
        stack[1] = (stack[0][0] + rng.randrange(-3, 4) & 0xFFFF, stack[0][1])
    if rng.random() < 0.1:
        stack[1] = stack[0]
    data = bytearray(rng.randbytes(BYTES))
    if rng.random() < 0.4:
        data[:8] = rng.choice(FLOAT_EDGES).to_bytes(8, "little")
    elif rng.random() < 0.3:
        data[:10] = struct.pack("<QH", *reversed(extended(rng)))
    if MNEMONICS[insn.mnemonic] == "FBLD":
        digits = "".join(rng.choice("0123456789") for _ in range(18))
        data[:10] = bytes.fromhex(digits) + rng.choice((b"\0", b"\x80"))
    state = X87State(fcw, fsw, ftw, tuple(stack))
    return X87Case(code, insn, state, rng.getrandbits(12) & STATUS, bytes(data))


class X87Rig:
    """A processor here, and the host's."""

    def __init__(self) -> None:
        self.cpu = machines.machine(64)
        self.native = native.Native() if native.available() else None

    def load(self, state: X87State) -> None:
        """Put a state into the processor."""
        s = self.cpu.state
        s.fcw, s.fsw, s.ftw = state.fcw, state.fsw, state.ftw
        for i, (e, m) in enumerate(state.stack):
            place = (state.fsw >> 11) + i & 7
            s.st_mantissa[place], s.st_exponent[place] = m, e

    def saved(self) -> X87State:
        """The state of the processor."""
        s = self.cpu.state
        top = s.fsw >> 11 & 7
        stack = tuple((s.st_exponent[top + i & 7], s.st_mantissa[top + i & 7]) for i in range(8))
        return X87State(s.fcw, s.fsw, s.ftw, stack)

    def ours(self, case: X87Case) -> X87Outcome:
        """Run a case here."""
        cpu = self.cpu
        state = cpu.state
        cpu.memory.load(machines.CODE, case.code + b"\x90" * 4)
        cpu.memory.load(machines.DATA, case.data)
        state.rip = machines.CODE
        state.gpr[0] = 0x1234567812345678
        state.gpr[BASE] = machines.DATA
        cpu.rflags = case.flags | 2
        self.load(case.state)
        cpu.fault = None
        cpu.refresh()
        state.budget = state.slice = 1
        cpu.step()

        assert cpu.fault is None
        assert machines.CODE + len(case.code) == state.rip
        data = cpu.memory.read(machines.DATA, BYTES)
        return X87Outcome(self.saved(), state.gpr[0], cpu.rflags & STATUS, data)

    def host(self, case: X87Case) -> X87Outcome:
        """Run a case on the host's processor."""
        assert self.native is not None
        registers = [0x1234567812345678] + [0] * 15
        registers[BASE] = self.native.data_at
        after = self.native.run(
            case.code, registers, case.flags, bytes(512), 0x1F80, case.data, case.state.image()
        )
        state = X87State.of_image(after.fx)
        return X87Outcome(state, after.registers[0], after.flags, after.data)


PUSHES = ("FLD", "FILD", "FBLD", "FXTRACT")
EVERY_TAG = 0xFF


def full_stack(case: X87Case) -> X87Case:
    """The same with every exception masked, none noted, no stack fault: what Unicorn can tell."""
    s = case.state
    top = s.fsw >> 11 & 7
    ftw = EVERY_TAG
    if MNEMONICS[case.insn.mnemonic].startswith(PUSHES):
        ftw &= ~(1 << (top - 1 & 7))
    state = s._replace(fcw=0x37F | s.fcw & 0xC00, fsw=s.fsw & 0x3800, ftw=ftw)
    return case._replace(state=state)


class UnicornX87:
    """Unicorn's FPU."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        for base in (machines.CODE, machines.DATA):
            self.uc.mem_map(base, 0x1000)

    def run(self, case: X87Case) -> X87Outcome:
        """Run a case of `full_stack`."""
        uc, s = self.uc, case.state
        uc.mem_write(machines.CODE, case.code + b"\x90" * 4)
        uc.ctl_remove_cache(machines.CODE, machines.CODE + 16)
        uc.mem_write(machines.DATA, case.data)
        uc.reg_write(x86_const.UC_X86_REG_FPCW, s.fcw)
        uc.reg_write(x86_const.UC_X86_REG_FPSW, s.fsw)
        uc.reg_write(x86_const.UC_X86_REG_FPTAG, 0)
        for i, (e, m) in enumerate(s.stack):
            uc.reg_write(x86_const.UC_X86_REG_FP0 + ((s.fsw >> 11) + i & 7), (m, e))
        uc.reg_write(x86_const.UC_X86_REG_RAX, 0x1234567812345678)
        uc.reg_write(x86_const.UC_X86_REG_RBX, machines.DATA)
        uc.reg_write(x86_const.UC_X86_REG_EFLAGS, case.flags | 2)
        uc.emu_start(machines.CODE, machines.CODE + len(case.code), count=1)
        fsw = uc.reg_read(x86_const.UC_X86_REG_FPSW)
        stack = []
        for i in range(8):
            m, e = uc.reg_read(x86_const.UC_X86_REG_FP0 + ((fsw >> 11) + i & 7))
            stack.append((e, m))
        return X87Outcome(
            X87State(s.fcw, fsw, EVERY_TAG, tuple(stack)),
            uc.reg_read(x86_const.UC_X86_REG_RAX),
            uc.reg_read(x86_const.UC_X86_REG_EFLAGS) & STATUS,
            bytes(uc.mem_read(machines.DATA, BYTES)),
        )


# where Unicorn errs, and the page of SDM Vol. 2 that says so; processors agree with the page
UNICORN_ERRS = {
    "FCOMI": "FCOMI: OF, SF and AF are cleared",
    "FCOMIP": "FCOMI: OF, SF and AF are cleared",
    "FUCOMI": "FCOMI: OF, SF and AF are cleared",
    "FUCOMIP": "FCOMI: OF, SF and AF are cleared",
    "FLDPI": "FLDPI: the constant is rounded by RC",
    "FLDL2T": "FLDL2T: the constant is rounded by RC",
    "FLDL2E": "FLDL2E: the constant is rounded by RC",
    "FLDLG2": "FLDLG2: the constant is rounded by RC",
    "FLDLN2": "FLDLN2: the constant is rounded by RC",
    "FPREM": "FPREM: the remainder is exact, whatever the exponents",
    "FPREM1": "FPREM1: the remainder is exact, whatever the exponents",
    "FSQRT": "FSQRT: the invalid operation sets IE, not C2",
    "FSCALE": "FSCALE: infinity by minus infinity is the invalid operation",
    "FBSTP": "FBSTP: what does not fit is the packed BCD integer indefinite; zero has its sign",
    "FISTTP": "FISTTP: what does not fit is the integer indefinite",
    "FXTRACT": "FXTRACT: a NaN gives two NaNs",
    "FST": "FST: the upper bits of a NaN's payload are stored",
    "FSTP": "FST: the upper bits of a NaN's payload are stored",
}
C0_C2_C3_TOP = 0x7D00


def unicorn_differs(case: X87Case, ours: X87Outcome, theirs: X87Outcome) -> str:
    """How Unicorn differs: registers, TOP, condition codes, flags, memory; "" when it agrees."""
    found = []
    top = ours.state.fsw >> 11
    for i in range(8):
        mine, other = ours.state.stack[i], theirs.state.stack[i]
        if mine != other and ours.state.ftw >> (top + i & 7) & 1:
            found.append(f"st{i} {mine[0]:04x}:{mine[1]:016x}, not {other[0]:04x}:{other[1]:016x}")
    if (ours.state.fsw ^ theirs.state.fsw) & C0_C2_C3_TOP:
        found.append(f"fsw {ours.state.fsw:x}, not {theirs.state.fsw:x}")
    found += [n for n in ("rax", "flags", "data") if getattr(ours, n) != getattr(theirs, n)]
    return "; ".join(found) if MNEMONICS[case.insn.mnemonic] not in UNICORN_ERRS else ""


COMPARES = ("FCOM", "FUCOM", "FICOM", "FTST")
CONDITIONS = 0x4700


def excused(case: X87Case, ours: X87Outcome) -> tuple[int, bool]:
    """FSW bits that the host need not share, and whether its flags count. SDM Vol. 2 settles it."""
    name = MNEMONICS[case.insn.mnemonic]
    if not name.startswith(COMPARES):
        return 0, True
    unmasked = ours.state.fsw & ~case.state.fcw & 7 != 0
    # FCOM, FCOMI: what is compared is told if the exception is masked; AMD's tell it anyway
    if unmasked:
        return CONDITIONS, False
    # FCOMI: C1 is set to 0; AMD's keep it
    return 0x200 if "COMI" in name else 0, True


def differences(case: X87Case, ours: X87Outcome, theirs: X87Outcome) -> str:
    """How two outcomes differ, empty when they agree; what empty registers hold does not count."""
    found = []
    ignored, flags_count = excused(case, ours)
    ours = ours._replace(state=ours.state._replace(fsw=ours.state.fsw & ~ignored))
    theirs = theirs._replace(state=theirs.state._replace(fsw=theirs.state.fsw & ~ignored))
    if not flags_count:
        theirs = theirs._replace(flags=ours.flags)
    for name in ("fcw", "fsw", "ftw"):
        mine, other = getattr(ours.state, name), getattr(theirs.state, name)
        if mine != other:
            found.append(f"{name} {mine:x}, not {other:x}")
    top = theirs.state.fsw >> 11
    for i, (mine, other) in enumerate(zip(ours.state.stack, theirs.state.stack, strict=True)):
        if mine != other and theirs.state.ftw >> (top + i & 7) & 1:
            found.append(f"st{i} {mine[0]:04x}:{mine[1]:016x}, not {other[0]:04x}:{other[1]:016x}")
    if ours.flags != theirs.flags:
        found.append(f"flags {ours.flags:x}, not {theirs.flags:x}")
    if ours.rax != theirs.rax:
        found.append(f"rax {ours.rax:x}, not {theirs.rax:x}")
    if ours.data != theirs.data:
        found.append(f"memory {ours.data[:10][::-1].hex()}, not {theirs.data[:10][::-1].hex()}")
    return "; ".join(found)
