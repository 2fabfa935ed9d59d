"""Little random programs in 64-bit mode: a loop with branches, a subroutine, memory operands."""

from __future__ import annotations

import random

from iced_x86 import BlockEncoder, Code, Instruction, MemoryOperand, Register

from emu.cpu.cpu import Cpu
from emu.cpu.flags import CONDITIONS

from ..machines import CODE, DATA, STACK

Names = dict[int, list[int]]
COUNTER = Register.R15
NUMBERED = ("RAX", "RCX", "RDX", "RBP", "R8", "R9", "R10")
GENERAL: Names = {
    64: [getattr(Register, name) for name in NUMBERED],
    32: [getattr(Register, n) for n in ("EAX", "ECX", "EDX", "EBP", "R8D", "R9D", "R10D")],
    16: [getattr(Register, n) for n in ("AX", "CX", "DX", "BP", "R8W", "R9W", "R10W")],
    8: [getattr(Register, n) for n in ("AL", "CL", "DL", "BPL", "R8L", "R9L", "R10L")],
}
POINTERS = (Register.RBX, Register.RSI, Register.RDI)
BINARY = ("ADD", "SUB", "AND", "OR", "XOR", "CMP", "ADC", "SBB")
UNARY = ("INC", "DEC", "NEG", "NOT")
SHIFTS = ("SHL", "SHR", "SAR", "ROL", "ROR", "RCL")
PLAIN = ("LAHF", "SAHF", "CMC", "STC", "CLC", "CDQ", "CQO", "CWDE", "STI", "CLI")
STRINGS = ("MOVSB_M8_M8", "STOSQ_M64_RAX", "LODSD_EAX_M32", "CMPSB_M8_M8", "SCASB_AL_M8")
VECTORS = ("PADDD_XMM_XMMM128", "PXOR_XMM_XMMM128", "MULSD_XMM_XMMM64", "PCMPEQB_XMM_XMMM128")


def code_of(name: str) -> int:
    """The encoding with this name."""
    return int(getattr(Code, name))


class Writer:
    """Writes one program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.body: list[Instruction] = []

    def memory(self) -> MemoryOperand:
        """An operand near one of the pointers."""
        chosen = self.random.choice(POINTERS)
        index = self.random.choice((Register.NONE, Register.NONE, Register.R11))
        near = self.random.choice((-8, -3, 0, 4, 8, 0x10, 0x7C))
        return MemoryOperand(chosen, index, 1 << self.random.randrange(4), near, 1)

    def register(self, size: int) -> int:
        """A general register."""
        return self.random.choice(GENERAL[size])

    def add(self, instruction: Instruction) -> None:
        """Append an instruction; its address is its number, for branches to name."""
        instruction.ip = 0x1000 + len(self.body)
        self.body.append(instruction)

    def arithmetic(self) -> None:
        """Two operands, one of them perhaps in memory."""
        size = self.random.choice((8, 16, 32, 64))
        name = self.random.choice((*BINARY, "MOV"))
        form = self.random.randrange(4)
        register = self.register(size)
        if form == 0:
            code = code_of(f"{name}_RM{size}_R{size}")
            self.add(Instruction.create_reg_reg(code, register, self.register(size)))
        elif form == 1:
            code = code_of(f"{name}_R{size}_RM{size}")
            self.add(Instruction.create_reg_mem(code, register, self.memory()))
        elif form == 2:
            code = code_of(f"{name}_RM{size}_R{size}")
            self.add(Instruction.create_mem_reg(code, self.memory(), register))
        elif name == "MOV":
            value = self.random.getrandbits(31)
            self.add(Instruction.create_reg_i32(Code.MOV_RM64_IMM32, self.register(64), value))
        else:
            size = self.random.choice((16, 32, 64))
            code = code_of(f"{name}_RM{size}_IMM8")
            value = self.random.randrange(-128, 128)
            self.add(Instruction.create_reg_i32(code, self.register(size), value))

    def other(self) -> None:
        """Anything else that computes."""
        size = self.random.choice((8, 16, 32, 64))
        kind = self.random.randrange(10)
        condition = self.random.choice(CONDITIONS).upper()
        if kind == 0:
            code = code_of(f"{self.random.choice(UNARY)}_RM{size}")
            if self.random.random() < 0.5:
                self.add(Instruction.create_reg(code, self.register(size)))
            else:
                self.add(Instruction.create_mem(code, self.memory()))
        elif kind == 1:
            count = self.random.randrange(70)
            code = code_of(f"{self.random.choice(SHIFTS)}_RM{size}_IMM8")
            self.add(Instruction.create_reg_i32(code, self.register(size), count))
        elif kind == 2:
            code = code_of(f"{self.random.choice(SHIFTS)}_RM{size}_CL")
            self.add(Instruction.create_reg_reg(code, self.register(size), Register.CL))
        elif kind == 3:
            size = max(size, 16)
            code = code_of(f"CMOV{condition}_R{size}_RM{size}")
            self.add(Instruction.create_reg_mem(code, self.register(size), self.memory()))
        elif kind == 4:
            self.add(Instruction.create_reg(code_of(f"SET{condition}_RM8"), self.register(8)))
        elif kind == 5:
            code = code_of(self.random.choice(("IMUL_R64_RM64", "XADD_RM64_R64", "BT_RM64_R64")))
            self.add(Instruction.create_reg_reg(code, self.register(64), self.register(64)))
        elif kind == 6:
            code = code_of(self.random.choice(("LEA_R64_M", "LEA_R32_M", "CRC32_R32_RM32")))
            size = 64 if code == Code.LEA_R64_M else 32
            self.add(Instruction.create_reg_mem(code, self.register(size), self.memory()))
        elif kind == 7:
            self.add(Instruction.create(code_of(self.random.choice(PLAIN))))
            self.add(Instruction.create_reg_reg(Code.XOR_R8_RM8, Register.AH, Register.DH))
        elif kind == 8:
            code = code_of(self.random.choice(VECTORS))
            target = self.random.choice((Register.XMM0, Register.XMM1))
            self.add(Instruction.create_reg_reg(code, target, Register.XMM2))
        else:
            self.add(Instruction.create_mem_reg(Code.CMPXCHG_RM64_R64, self.memory(), Register.RDX))

    def stack(self) -> None:
        """Push and pop."""
        self.add(Instruction.create_reg(Code.PUSH_R64, self.register(64)))
        if self.random.random() < 0.3:
            self.add(Instruction.create(Code.PUSHFQ))
            self.add(Instruction.create(Code.POPFQ))
        self.add(Instruction.create_reg(Code.POP_R64, self.register(64)))

    def pointer(self) -> None:
        """Move a pointer on."""
        step = self.random.choice((1, 8, 24, 0x200))
        pointer = self.random.choice(POINTERS)
        self.add(Instruction.create_reg_i32(Code.ADD_RM64_IMM32, pointer, step))

    def skip(self) -> None:
        """A conditional branch over the next few instructions."""
        name = f"J{self.random.choice(CONDITIONS).upper()}_REL32_64"
        self.add(Instruction.create_branch(code_of(name), 0))
        at = len(self.body) - 1
        for _ in range(self.random.randrange(1, 4)):
            self.step()
        self.body[at].near_branch64 = 0x1000 + len(self.body)

    def step(self) -> None:
        """One of the above."""
        self.random.choices(
            (self.arithmetic, self.other, self.stack, self.pointer, self.skip), (8, 6, 1, 1, 2)
        )[0]()

    def program(self) -> bytes:
        """A loop that calls a subroutine, and HLT."""
        for _ in range(self.random.randrange(2, 5)):
            self.step()
        call = len(self.body)
        self.add(Instruction.create_branch(Code.CALL_REL32_64, 0))
        for _ in range(self.random.randrange(2, 9)):
            self.step()
        self.add(Instruction.create_reg(Code.DEC_RM64, COUNTER))
        self.add(Instruction.create_branch(Code.JNE_REL32_64, 0x1000))
        self.add(Instruction.create(Code.HLT))
        self.body[call].near_branch64 = 0x1000 + len(self.body)
        for _ in range(self.random.randrange(1, 5)):
            self.step()
        self.add(Instruction.create(Code.RETNQ))
        encoder = BlockEncoder(64)
        encoder.add_many(self.body)
        return bytes(encoder.encode(CODE))


def prepare(cpu: Cpu, seed: int) -> None:
    """Load the program with this number, and registers to begin with."""
    cpu.memory.load(CODE, Writer(seed).program())
    generator = random.Random(~seed)
    state = cpu.state
    for number in range(16):
        state.gpr[number] = generator.getrandbits(generator.choice((8, 16, 32, 64)))
    for lane in range(24):
        state.zmm[lane] = generator.getrandbits(64)
    cpu.memory.load(DATA - 0x1000, generator.randbytes(0x4000))
    state.rbx = DATA + generator.randrange(0xFC0, 0x1040)
    state.rsi = DATA + generator.randrange(0x400)
    state.rdi = generator.choice((DATA + 0xFF0, DATA + 0x800, DATA + 0x800, CODE + 0x20, MISSING))
    state.r11 = generator.randrange(64)
    state.r15 = generator.randrange(100, 400)
    state.rip, state.rsp = CODE, STACK


MISSING = 0x4000_0000
"""Where no page is mapped."""
