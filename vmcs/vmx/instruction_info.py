"""The VM-exit instruction-information field, for each instruction that gives it a format."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vmcs.schema import BitField, Layout, bit, bits, gap
from vmcs.vmx.exit_qualification import REGISTERS
from vmcs.vmx.exit_reasons import ExitReason

SECTION: Final = "Information for VM Exits Due to Instruction Execution"
IMMEDIATE: Final = "arch/x86/kvm/vmx/vmx.h: vmx_get_msr_imm_reg, 7.3"

SCALING: Final = bits(
    "SCALING", 0, 1, "Scaling", {0: "no scaling", 1: "by 2", 2: "by 4", 3: "by 8"}
)
REG1: Final = bits("REG1", 3, 6, "Reg1", REGISTERS)
ADDRESS_SIZE: Final = bits(
    "ADDRESS_SIZE", 7, 9, "Address size", {0: "16-bit", 1: "32-bit", 2: "64-bit"}
)
IS_REGISTER: Final = bits("MEM_REG", 10, 10, "Mem/Reg", {0: "memory", 1: "register"})
SEGMENT: Final = bits(
    "SEGMENT", 15, 17, "Segment register", dict(enumerate(("ES", "CS", "SS", "DS", "FS", "GS")))
)
INDEX_REG: Final = bits("INDEX_REG", 18, 21, "IndexReg", REGISTERS)
INDEX_REG_INVALID: Final = bit("INDEX_REG_INVALID", 22, "IndexReg invalid")
BASE_REG: Final = bits("BASE_REG", 23, 26, "BaseReg", REGISTERS)
BASE_REG_INVALID: Final = bit("BASE_REG_INVALID", 27, "BaseReg invalid")
REG2: Final = bits("REG2", 28, 31, "Reg2", REGISTERS)


def _table(name: str, *rows: BitField) -> Layout:
    return Layout(f"VM-exit instruction information: {name}", 32, *rows, sdm=SECTION)


INS_OUTS: Final = _table("INS and OUTS", gap(0, 6), ADDRESS_SIZE, gap(10, 14), SEGMENT, gap(18, 31))

INVALIDATE: Final = _table(
    "INVEPT, INVPCID and INVVPID",
    SCALING,
    gap(2, 6),
    ADDRESS_SIZE,
    gap(10, 14),
    SEGMENT,
    INDEX_REG,
    INDEX_REG_INVALID,
    BASE_REG,
    BASE_REG_INVALID,
    REG2,
)

GDTR_IDTR: Final = _table(
    "LIDT, LGDT, SIDT and SGDT",
    SCALING,
    gap(2, 6),
    ADDRESS_SIZE,
    gap(10),
    bits("OPERAND_SIZE", 11, 11, "Operand size", {0: "16-bit", 1: "32-bit"}),
    gap(12, 14),
    SEGMENT,
    INDEX_REG,
    INDEX_REG_INVALID,
    BASE_REG,
    BASE_REG_INVALID,
    bits(
        "INSTRUCTION", 28, 29, "Instruction identity", {0: "SGDT", 1: "SIDT", 2: "LGDT", 3: "LIDT"}
    ),
    gap(30, 31),
)

LDTR_TR: Final = _table(
    "LLDT, LTR, SLDT and STR",
    SCALING,
    gap(2),
    REG1,
    ADDRESS_SIZE,
    IS_REGISTER,
    gap(11, 14),
    SEGMENT,
    INDEX_REG,
    INDEX_REG_INVALID,
    BASE_REG,
    BASE_REG_INVALID,
    bits("INSTRUCTION", 28, 29, "Instruction identity", {0: "SLDT", 1: "STR", 2: "LLDT", 3: "LTR"}),
    gap(30, 31),
)

RANDOM: Final = _table(
    "RDRAND and RDSEED",
    gap(0, 2),
    bits("REG1", 3, 6, "Operand register (destination)", REGISTERS),
    gap(7, 10),
    bits("OPERAND_SIZE", 11, 12, "Operand size", {0: "16-bit", 1: "32-bit", 2: "64-bit"}),
    gap(13, 31),
)

WAIT: Final = _table(
    "TPAUSE and UMWAIT",
    gap(0, 2),
    bits("REG1", 3, 6, "Operand register (source)", REGISTERS),
    gap(7, 31),
)

MEMORY_OPERAND: Final = _table(
    "VMCLEAR, VMPTRLD, VMPTRST, VMXON, XRSTORS and XSAVES",
    SCALING,
    gap(2, 6),
    ADDRESS_SIZE,
    gap(10, 14),
    SEGMENT,
    INDEX_REG,
    INDEX_REG_INVALID,
    BASE_REG,
    BASE_REG_INVALID,
    gap(28, 31),
)

VMREAD_VMWRITE: Final = _table(
    "VMREAD and VMWRITE",
    SCALING,
    gap(2),
    REG1,
    ADDRESS_SIZE,
    IS_REGISTER,
    gap(11, 14),
    SEGMENT,
    INDEX_REG,
    INDEX_REG_INVALID,
    BASE_REG,
    BASE_REG_INVALID,
    REG2,
)

LOADIWKEY: Final = _table(
    "LOADIWKEY",
    gap(0, 2),
    bits("REG1", 3, 6, "First XMM register operand"),
    gap(7, 27),
    bits("REG2", 28, 31, "Second XMM register operand"),
)

MSR_IMMEDIATE: Final = Layout(
    "VM-exit instruction information: RDMSR and WRMSRNS with immediate operand",
    32,
    gap(0, 2),
    bits("REG1", 3, 6, "General-purpose register operand", REGISTERS),
    gap(7, 31),
    seen=IMMEDIATE,
)

INSTRUCTION_INFO: Final[Mapping[ExitReason, Layout]] = MappingProxyType(
    {
        ExitReason.VMCLEAR: MEMORY_OPERAND,
        ExitReason.VMPTRLD: MEMORY_OPERAND,
        ExitReason.VMPTRST: MEMORY_OPERAND,
        ExitReason.VMREAD: VMREAD_VMWRITE,
        ExitReason.VMWRITE: VMREAD_VMWRITE,
        ExitReason.VMXON: MEMORY_OPERAND,
        ExitReason.IO_INSTRUCTION: INS_OUTS,
        ExitReason.GDTR_OR_IDTR_ACCESS: GDTR_IDTR,
        ExitReason.LDTR_OR_TR_ACCESS: LDTR_TR,
        ExitReason.INVEPT: INVALIDATE,
        ExitReason.INVVPID: INVALIDATE,
        ExitReason.RDRAND: RANDOM,
        ExitReason.INVPCID: INVALIDATE,
        ExitReason.RDSEED: RANDOM,
        ExitReason.XSAVES: MEMORY_OPERAND,
        ExitReason.XRSTORS: MEMORY_OPERAND,
        ExitReason.UMWAIT: WAIT,
        ExitReason.TPAUSE: WAIT,
        ExitReason.LOADIWKEY: LOADIWKEY,
        ExitReason.RDMSR_IMMEDIATE: MSR_IMMEDIATE,
        ExitReason.WRMSRNS_IMMEDIATE: MSR_IMMEDIATE,
    }
)
