"""One instruction run three ways: compiled, as plain Python, and by Unicorn."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import unicorn
from iced_x86 import CodeSize, FlowControl, Instruction, OpKind
from unicorn import x86_const

from emu.cpu.decode import MNEMONICS, STRINGS, address_bits, translator
from emu.cpu.registers import ADDRESS_REGISTERS, REGISTERS
from emu.cpu.state import GPR_NAMES, ZERO_REGISTER

from . import machines

WORD = (1 << 64) - 1
SPAN = 0x4000  # bytes of data that are compared
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
         0x7FFFFFFFFFFFFFFF, 0x8000000000000000, WORD)  # fmt: skip
STATUS = 0x8D5
GPR_CONST = {
    64: [getattr(x86_const, f"UC_X86_REG_{n.upper()}") for n in GPR_NAMES],
    32: [getattr(x86_const, f"UC_X86_REG_E{n[1:].upper()}") for n in GPR_NAMES[:8]],
    16: [getattr(x86_const, f"UC_X86_REG_E{n[1:].upper()}") for n in GPR_NAMES[:8]],
}
UC_MODES = {64: unicorn.UC_MODE_64, 32: unicorn.UC_MODE_32, 16: unicorn.UC_MODE_16}


class Outcome(NamedTuple):
    """What an instruction left behind."""

    fault: int  # vector, -1 when there was none
    rip: int
    registers: tuple[int, ...]
    flags: int
    data: bytes
    stack: bytes


class Case(NamedTuple):
    """An instruction and the state it starts from."""

    code: bytes
    insn: Instruction
    registers: tuple[int, ...]
    flags: int
    data: bytes


class Rig:
    """The machines of one mode, used again for each case."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.cpu = machines.machine(bits)
        real = bits == 16
        self.code = machines.LOW_CODE if real else machines.CODE
        self.data = machines.LOW_DATA if real else machines.DATA
        self.stack = machines.LOW_STACK if real else machines.STACK
        self.code_base = self.code if real else 0
        self.data_base = self.data if real else 0
        self.stack_base = self.stack if real else 0
        self.count = 16 if bits == 64 else 8
        self.loaded = self.loaded_there = b""  # the code that either processor has
        self.mask = WORD if bits == 64 else 0xFFFFFFFF
        self.uc = self.new_unicorn()
        for seg, name in enumerate(("ES", "CS", "SS", "DS", "FS", "GS")):
            selector = self.uc.reg_read(getattr(x86_const, f"UC_X86_REG_{name}"))
            self.cpu.state.selector[seg] = selector

    def new_unicorn(self) -> Any:
        uc = unicorn.Uc(unicorn.UC_ARCH_X86, UC_MODES[self.bits])
        uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_ICELAKE_SERVER)
        uc.mem_map(self.code - 0x1000, 0x3000)
        uc.mem_map(self.data, SPAN)
        uc.mem_map(self.stack, SPAN)
        if self.bits == 16:
            bases = {"CS": self.code, "SS": self.stack}
            for name in ("CS", "DS", "ES", "SS", "FS", "GS"):
                base = bases.get(name, self.data)
                uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), base >> 4)
        self.interrupts: list[int] = []
        uc.hook_add(unicorn.UC_HOOK_INTR, self.on_interrupt)
        return uc

    def on_interrupt(self, uc: Any, number: int, _: Any) -> None:
        self.interrupts.append(number)
        uc.emu_stop()

    def case(self, code: bytes, insn: Instruction, rng: random.Random) -> Case | None:
        """Random and edge operands; address registers such that memory operands hit the data."""
        registers = [
            rng.choice(EDGES) if rng.random() < 0.4 else rng.getrandbits(64)
            for _ in range(self.count)
        ]
        registers = [value & self.mask for value in registers]
        registers[4] = self.stack - self.stack_base + SPAN // 2 + rng.randrange(64)
        kinds = [insn.op_kind(i) for i in range(insn.op_count)]
        if any(kind in STRINGS and STRINGS[kind][0] == 16 for kind in kinds) and self.bits == 32:
            return None
        if any(kind in STRINGS for kind in kinds):
            for number in (6, 7):
                registers[number] = self.data - self.data_base + SPAN // 2 + rng.randrange(64)
            registers[1] = rng.randrange(8)
        if OpKind.MEMORY in kinds and not self.aim(insn, registers, rng):
            return None
        flags = rng.getrandbits(12) & STATUS | 2
        if any(kind in STRINGS for kind in kinds):
            flags |= rng.getrandbits(1) << 10
        data = rng.randbytes(SPAN)
        return Case(code, insn, tuple(registers), flags, data)

    def misalignment(self, rng: random.Random) -> int:
        """Where in a line an operand lies."""
        return rng.randrange(64)

    def aim(self, insn: Instruction, registers: list[int], rng: random.Random) -> bool:
        """Choose the base register so that the address lies in the data."""
        base = ADDRESS_REGISTERS[insn.memory_base]
        index = ADDRESS_REGISTERS[insn.memory_index]
        if base >= self.count or base == index or 4 in (base, index):
            return False
        if base in (5,) and self.bits == 16:
            return False  # through SS, which has its own base
        width = address_bits(insn, self.bits)
        if width == 16 and self.bits == 32:
            return False  # the data lie higher
        mask = (1 << width) - 1
        target = self.data - self.data_base + SPAN // 2 + self.misalignment(rng)
        if MNEMONICS[insn.mnemonic] == "CMPXCHG16B" and rng.random() < 0.75:
            target &= ~15
        scaled = 0
        if index != ZERO_REGISTER:
            scaled = (registers[index] & mask) * insn.memory_index_scale
        value = (target - scaled - insn.memory_displacement) & mask
        registers[base] = registers[base] & ~mask & self.mask | value
        # a register that is also a bit index reaches far: keep it small
        if (
            MNEMONICS[insn.mnemonic] in ("BT", "BTS", "BTR", "BTC")
            and insn.op_kind(1) == OpKind.REGISTER
        ):
            source = translator().uops(insn, self.bits)[0][-1].r0
            if source in (base, index):
                return False
            registers[source] = rng.randrange(-2000, 2000) & self.mask
        return True

    def ours(self, case: Case, plain: bool) -> Outcome:
        cpu = self.cpu
        state = cpu.state
        memory = cpu.memory
        if self.loaded != case.code:
            memory.load(self.code, case.code + b"\x90" * 4)
            self.loaded = case.code
        memory.load(self.data, case.data)
        memory.load(self.stack, case.data)
        for number, value in enumerate(case.registers):
            state.gpr[number] = value
        cpu.rflags = case.flags
        state.rip = self.code - self.code_base
        cpu.fault = None
        cpu.refresh()
        state.budget = state.slice = 1
        repeating = True
        while repeating:
            state.budget = 1
            cpu.step(plain)
            repeating = state.rip == self.code - self.code_base and cpu.fault is None
            if not is_rep(case):
                break
        return Outcome(
            -1 if cpu.fault is None else cpu.fault.vector,
            state.rip,
            tuple(state.gpr[i] for i in range(self.count)),
            cpu.rflags & (STATUS | 1 << 10),
            memory.read(self.data, SPAN),
            memory.read(self.stack, SPAN),
        )

    def theirs(self, case: Case) -> Outcome:
        uc = self.uc
        if self.loaded_there != case.code:
            uc.mem_write(self.code, case.code + b"\x90" * 4)
            uc.ctl_remove_cache(self.code, self.code + 16)
            self.loaded_there = case.code
        uc.mem_write(self.data, case.data)
        uc.mem_write(self.stack, case.data)
        for const, value in zip(GPR_CONST[self.bits], case.registers, strict=False):
            uc.reg_write(const, value)
        uc.reg_write(x86_const.UC_X86_REG_EFLAGS, case.flags)
        self.interrupts.clear()
        fault = -1
        try:
            uc.emu_start(self.code, self.code + len(case.code), count=0 if is_rep(case) else 1)
        except unicorn.UcError as error:
            fault = 6 if error.errno == unicorn.UC_ERR_INSN_INVALID else 14
        if self.interrupts:
            fault = self.interrupts[0]
        rip = uc.reg_read(x86_const.UC_X86_REG_RIP if self.bits == 64 else x86_const.UC_X86_REG_EIP)
        return Outcome(
            fault,
            rip,
            tuple(uc.reg_read(const) for const in GPR_CONST[self.bits]),
            uc.reg_read(x86_const.UC_X86_REG_EFLAGS) & (STATUS | 1 << 10),
            bytes(uc.mem_read(self.data, SPAN)),
            bytes(uc.mem_read(self.stack, SPAN)),
        )


BRANCHES = frozenset(
    (FlowControl.CONDITIONAL_BRANCH, FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CALL,
     FlowControl.INDIRECT_BRANCH, FlowControl.INDIRECT_CALL, FlowControl.RETURN)
)  # fmt: skip


def excused(case: Case, ours: Outcome, theirs: Outcome) -> str:
    """Why Unicorn's answer does not count; empty when it does. The manual settles each of these."""
    name = MNEMONICS[case.insn.mnemonic]
    rex = any(byte >> 4 == 4 for byte in case.code[:3])
    reasons = {
        "Unicorn has no such encoding": theirs.fault == 6,
        "Unicorn does not report #DE in every case": ours.fault == 0 and theirs.fault != 14,
        "Unicorn fetches the target of a branch": (
            case.insn.flow_control in BRANCHES and theirs.fault == 14
        ),
        "the stack reaches beyond what Unicorn has mapped": (
            name in ("ENTER", "LEAVE") and theirs.fault == 14
        ),
        "66 before a near branch is ignored by Intel, cuts RIP in QEMU": (
            b"\x66" in case.code[:4] and case.insn.flow_control in BRANCHES
        ),
        "QEMU takes AH for SPL under REX": name in ("LAHF", "SAHF") and rex,
        "QEMU computes the flags of LOCK NEG from the wrong operand": (
            name == "NEG" and case.insn.has_lock_prefix
        ),
        "QEMU clears bit 63 or 31, and sets CF, when BZHI's index is that bit or beyond": (
            name == "BZHI" and bool((ours.flags | theirs.flags) & 1)
        ),
        "BSF and BSR of zero leave DEST in the manual, its lower half in QEMU": (
            name in ("BSF", "BSR") and bool(theirs.flags & 1 << 6)
        ),
        "a 32-bit PUSH of a segment register writes 16 bits; QEMU writes 32": (
            name == "PUSH"
            and case.insn.op_kind(0) == OpKind.REGISTER
            and ours.stack != theirs.stack
            and REGISTERS[case.insn.op_register(0)].letter == "S"
        ),
        "Unicorn takes 16-bit POPCNT and MOVBE for 32-bit ones in 16-bit mode": (
            name in ("POPCNT", "MOVBE", "CRC32", "ADCX", "ADOX", "TZCNT", "LZCNT")
            and case.insn.code_size == CodeSize.CODE16
        ),
        "QEMU shifts the upper half of the register into a 32-bit BEXTR": name == "BEXTR",
        "QEMU inverts the CF of BLSI": (
            name == "BLSI" and ours.registers == theirs.registers and ours.data == theirs.data
        ),
        "QEMU leaves bits above 31 in a 32-bit PDEP or PEXT": (
            name in ("PDEP", "PEXT")
            and [r & 0xFFFFFFFF for r in ours.registers]
            == [r & 0xFFFFFFFF for r in theirs.registers]
        ),
        # APM Vol. 3, CMPXCHG: accumulator or destination is written, not both; processors agree
        "QEMU clears bits 63:32 of the register that CMPXCHG does not write": (
            name == "CMPXCHG"
            and ours.data == theirs.data
            and [r & 0xFFFFFFFF for r in ours.registers]
            == [r & 0xFFFFFFFF for r in theirs.registers]
        ),
        "QEMU takes F3 REX.B 90 for XCHG": name == "PAUSE" and rex,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def disagreement(case: Case, ours: Outcome, theirs: Outcome, undefined: int) -> str:
    """How the two differ in what is defined; empty when they agree."""
    if excused(case, ours, theirs):
        return ""
    if ours.fault != theirs.fault:
        return f"fault {ours.fault}, Unicorn {theirs.fault}"
    if ours.fault >= 0:
        return ""
    found = []
    if ours.rip != theirs.rip:
        found.append(f"rip {ours.rip:x}, Unicorn {theirs.rip:x}")
    for number, (mine, other) in enumerate(zip(ours.registers, theirs.registers, strict=True)):
        if mine != other:
            found.append(f"{GPR_NAMES[number]} {mine:x}, Unicorn {other:x}")
    if (ours.flags ^ theirs.flags) & ~undefined:
        found.append(f"flags {ours.flags:x}, Unicorn {theirs.flags:x}, undefined {undefined:x}")
    found += [n for n in ("data", "stack") if getattr(ours, n) != getattr(theirs, n)]
    return "; ".join(found)


def is_rep(case: Case) -> bool:
    return case.insn.is_string_instruction and (
        case.insn.has_rep_prefix or case.insn.has_repne_prefix
    )
