"""Operands of L1's VMX instructions, as the VM exit describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.kvm.control_registers import EFER
from vmcs.vmx.instruction_info import VMREAD_VMWRITE

if TYPE_CHECKING:
    from emu.kvm.running.vmx_run import VmxRun

REGISTERS: Final = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
ADDRESS_MASKS: Final = (0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
SS: Final = 2
CODE, WRITABLE_OR_READABLE, EXPAND_DOWN = 8, 2, 4


def is_register(info: int) -> bool:
    """Whether VMREAD's or VMWRITE's first operand is a register."""
    return bool(VMREAD_VMWRITE.get(info, "MEM_REG"))


def first_register(info: int) -> str:
    """Name of the register operand Reg1."""
    return REGISTERS[VMREAD_VMWRITE.get(info, "REG1")]


def second_register(info: int) -> str:
    """Name of the register operand Reg2."""
    return REGISTERS[VMREAD_VMWRITE.get(info, "REG2")]


def memory_address(l0: VmxRun, size: int, *, writes: bool) -> int:
    """Linear address of a memory operand of `size` bytes; raises Fault where L1 may not use it.

    Source: arch/x86/kvm/vmx/nested.c: get_vmx_mem_address.
    """
    vcpu, loaded = l0.vcpu, l0.vmx.loaded
    info = loaded["VMX_INSTRUCTION_INFO"]
    offset = loaded["EXIT_QUALIFICATION"]
    if not VMREAD_VMWRITE.get(info, "BASE_REG_INVALID"):
        offset += vcpu.read_register(REGISTERS[VMREAD_VMWRITE.get(info, "BASE_REG")])
    if not VMREAD_VMWRITE.get(info, "INDEX_REG_INVALID"):
        index = vcpu.read_register(REGISTERS[VMREAD_VMWRITE.get(info, "INDEX_REG")])
        offset += index << VMREAD_VMWRITE.get(info, "SCALING")
    offset &= ADDRESS_MASKS[VMREAD_VMWRITE.get(info, "ADDRESS_SIZE")]
    number = VMREAD_VMWRITE.get(info, "SEGMENT")
    segment = l0.vmx.get_segment(SEGMENTS[number])
    vector = Vector.SS if number == SS else Vector.GP
    if l0.in_64_bit_mode:
        base = segment.base if SEGMENTS[number] in ("fs", "gs") else 0
        linear = base + offset & ADDRESS_MASKS[2]
        if not l0.is_canonical(linear):
            raise Fault(vector, 0)
        return linear
    kind = segment.type
    if writes:
        refused = kind & (CODE | WRITABLE_OR_READABLE) != WRITABLE_OR_READABLE
    else:
        refused = kind & (CODE | WRITABLE_OR_READABLE) == CODE
    if refused:
        raise Fault(Vector.GP, 0)
    if segment.unusable:
        raise Fault(vector, 0)
    expands_down = not kind & CODE and kind & EXPAND_DOWN
    last = offset + size - 1
    outside = offset <= segment.limit if expands_down else last > segment.limit
    if outside:
        raise Fault(vector, 0)
    return segment.base + offset & ADDRESS_MASKS[1]


def read_pointer(l0: VmxRun) -> int:
    """The 64-bit memory operand of VMXON, VMCLEAR and VMPTRLD."""
    return l0.read(memory_address(l0, 8, writes=False), 8)


def operand_size(l0: VmxRun) -> int:
    """Bytes of VMREAD's and VMWRITE's operands: 8 in 64-bit mode."""
    return 8 if l0.vcpu.efer & EFER.LMA and l0.in_64_bit_mode else 4
