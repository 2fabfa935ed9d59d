"""What a VM exit tells of the instruction that caused it: information field, qualification.

SDM Vol. 3, Information for VM Exits Due to Instruction Execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from iced_x86 import OpCodeInfo, OpKind, Register

from emu.cpu.decode import MNEMONICS, address_bits, operand_bits
from emu.cpu.registers import REGISTERS, SEGMENTS
from emu.cpu.state import WORD
from vmcs.vmx import instruction_info as layouts
from vmcs.vmx.exit_reasons import ExitReason

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.cpu.guest_mode import PortAccess

ADDRESS_SIZES: Final = {16: 0, 32: 1, 64: 2}
TABLE_NAMES: Final = ("SGDT", "SIDT", "LGDT", "LIDT")
SYSTEM_NAMES: Final = ("SLDT", "STR", "LLDT", "LTR")


def has_memory(insn: Any) -> bool:
    """Whether an operand is in memory."""
    return any(insn.op_kind(i) == OpKind.MEMORY for i in range(insn.op_count))


def register_of(insn: Any, position: int) -> int:
    """The number of a register operand; 0 where the operand is none."""
    if position >= insn.op_count or insn.op_kind(position) != OpKind.REGISTER:
        return 0
    return REGISTERS[insn.op_register(position)].number


def memory_words(cpu: Cpu, insn: Any) -> dict[str, int]:
    """The parts that describe the memory operand."""
    base, index = insn.memory_base, insn.memory_index
    based = base in REGISTERS
    indexed = index in REGISTERS
    return {
        "SCALING": insn.memory_index_scale.bit_length() - 1,
        "ADDRESS_SIZE": ADDRESS_SIZES[address_bits(insn, cpu.mode.bits)],
        "SEGMENT": SEGMENTS[insn.memory_segment],
        "INDEX_REG": REGISTERS[index].number if indexed else 0,
        "INDEX_REG_INVALID": int(not indexed),
        "BASE_REG": REGISTERS[base].number if based else 0,
        "BASE_REG_INVALID": int(not based),
    }


def displacement(cpu: Cpu, insn: Any) -> int:
    """The qualification of instructions with a memory operand: displacement, RIP added."""
    if not has_memory(insn):
        return 0
    value = int(insn.memory_displacement)
    if insn.memory_base in (Register.RIP, Register.EIP):
        # it was decoded with its offset in the page as RIP
        value += int(cpu.state.rip) - int(insn.ip)
    elif address_bits(insn, cpu.mode.bits) < 64 and value >> 31 & 1:
        value |= WORD ^ 0xFFFFFFFF
    return value & WORD


def memory_operand(cpu: Cpu, insn: Any) -> int:
    """VMCLEAR, VMPTRLD, VMPTRST, VMXON, XSAVES, XRSTORS."""
    return layouts.MEMORY_OPERAND.word(**memory_words(cpu, insn))


def invalidate(cpu: Cpu, insn: Any) -> int:
    """INVEPT, INVPCID, INVVPID."""
    return layouts.INVALIDATE.word(**memory_words(cpu, insn), REG2=register_of(insn, 0))


def field_access(cpu: Cpu, insn: Any) -> int:
    """VMREAD, VMWRITE: the register with the encoding is Reg2."""
    place = 0 if MNEMONICS[insn.mnemonic] == "VMREAD" else 1
    encoding = register_of(insn, 1 - place)
    if has_memory(insn):
        return layouts.VMREAD_VMWRITE.word(**memory_words(cpu, insn), REG2=encoding)
    return layouts.VMREAD_VMWRITE.word(MEM_REG=1, REG1=register_of(insn, place), REG2=encoding)


def table_access(cpu: Cpu, insn: Any) -> int:
    """LGDT, LIDT, SGDT, SIDT."""
    return layouts.GDTR_IDTR.word(
        **memory_words(cpu, insn),
        OPERAND_SIZE=int(OpCodeInfo(insn.code).operand_size != 16),
        INSTRUCTION=TABLE_NAMES.index(MNEMONICS[insn.mnemonic]),
    )


def system_access(cpu: Cpu, insn: Any) -> int:
    """LLDT, LTR, SLDT, STR."""
    name = SYSTEM_NAMES.index(MNEMONICS[insn.mnemonic])
    if has_memory(insn):
        return layouts.LDTR_TR.word(**memory_words(cpu, insn), INSTRUCTION=name)
    return layouts.LDTR_TR.word(MEM_REG=1, REG1=register_of(insn, 0), INSTRUCTION=name)


def random(_: Cpu, insn: Any) -> int:
    """RDRAND, RDSEED."""
    size = ADDRESS_SIZES[operand_bits(insn, 0)]
    return layouts.RANDOM.word(REG1=register_of(insn, 0), OPERAND_SIZE=size)


FORMATS: Final[dict[ExitReason, Callable[[Cpu, Any], int]]] = {
    ExitReason.VMCLEAR: memory_operand,
    ExitReason.VMPTRLD: memory_operand,
    ExitReason.VMPTRST: memory_operand,
    ExitReason.VMXON: memory_operand,
    ExitReason.XSAVES: memory_operand,
    ExitReason.XRSTORS: memory_operand,
    ExitReason.VMREAD: field_access,
    ExitReason.VMWRITE: field_access,
    ExitReason.INVEPT: invalidate,
    ExitReason.INVVPID: invalidate,
    ExitReason.INVPCID: invalidate,
    ExitReason.GDTR_OR_IDTR_ACCESS: table_access,
    ExitReason.LDTR_OR_TR_ACCESS: system_access,
    ExitReason.RDRAND: random,
    ExitReason.RDSEED: random,
}
"""Who makes the information field of an exit reason: the reasons of `vmcs.vmx.instruction_info`."""

WITH_DISPLACEMENT: Final = frozenset(FORMATS) - {ExitReason.RDRAND, ExitReason.RDSEED}


def instruction_information(cpu: Cpu, insn: Any, reason: ExitReason) -> int:
    """The VM-exit instruction-information field; 0 for reasons that have no format."""
    make = FORMATS.get(reason)
    return make(cpu, insn) if make is not None else 0


def string_information(access: PortAccess) -> int:
    """INS, OUTS."""
    return layouts.INS_OUTS.word(ADDRESS_SIZE=ADDRESS_SIZES[access.width], SEGMENT=access.seg)
