"""Segment and descriptor-table registers. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iced_x86 import OpKind

from emu.cpu.decode import MNEMONICS, operand_bits
from emu.cpu.errors import Fault
from emu.cpu.flags import ZF
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.paging import CR4_UMIP
from emu.cpu.registers import REGISTERS
from emu.cpu.segments import (
    CODE_SEGMENT,
    CONFORMING,
    PRESENT,
    READABLE,
    UNUSABLE,
    WRITABLE,
    S,
    dpl,
)
from emu.cpu.state import LDTR, MOV_SS, SS, TR, Vector
from emu.cpu.system.descriptors import (
    BUSY,
    LDT,
    TSS16,
    TSS32,
    descriptor_limit,
    descriptor_place,
    descriptor_rights,
    fill_segment,
    is_null,
    load_segment_register,
    read_descriptor,
    read_wide_descriptor,
    rpl,
    wide_base,
)
from emu.cpu.system.operands import (
    get,
    get_register,
    is_base,
    load,
    memory_address,
    operand_size,
    peek,
    protected,
    put,
    register_number,
    require_privilege,
    set_register,
    set_stack_pointer,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

LOADS = {"LES": 0, "LSS": SS, "LDS": 3, "LFS": 4, "LGS": 5}
# types that LAR and LSL accept, outside and in IA-32e mode. SDM Vol. 2, LAR; LSL
LAR_TYPES = (frozenset((1, 2, 3, 4, 5, 9, 11, 12)), frozenset((2, 9, 11, 12)))
LSL_TYPES = (frozenset((1, 2, 3, 9, 11)), frozenset((2, 9, 11)))


def is_segment(insn: Any, position: int) -> bool:
    """Whether an operand is a segment register."""
    if insn.op_kind(position) != OpKind.REGISTER:
        return False
    operand = REGISTERS.get(insn.op_register(position))
    return operand is not None and operand.letter == "S"


def mov_to_segment(cpu: Cpu, insn: Any) -> None:
    """MOV Sreg, r/m16: a load of SS inhibits events for one instruction."""
    seg = register_number(insn, 0)
    load_segment_register(cpu, seg, get(cpu, insn, 1, 16))
    cpu.inhibits = MOV_SS if seg == SS else 0


def mov_from_segment(cpu: Cpu, insn: Any) -> None:
    """MOV r/m, Sreg: memory takes 16 bits, a register the selector zero-extended."""
    value = int(cpu.state.selector[register_number(insn, 1)])
    if insn.op_kind(0) == OpKind.REGISTER:
        set_register(cpu, register_number(insn, 0), operand_bits(insn, 0), value)
    else:
        put(cpu, insn, 0, value, 16)


def pop(cpu: Cpu, insn: Any) -> None:
    """POP Sreg."""
    width = operand_size(insn) // 8
    seg = register_number(insn, 0)
    load_segment_register(cpu, seg, peek(cpu, 0, width) & 0xFFFF)
    set_stack_pointer(cpu, cpu.state.rsp + width)
    cpu.inhibits = MOV_SS if seg == SS else 0


def load_far_pointer(cpu: Cpu, insn: Any) -> None:
    """LDS, LES, LFS, LGS, LSS: a segment register and a general register from memory."""
    size = operand_size(insn)
    linear = memory_address(cpu, insn, size // 8 + 2)
    offset, selector = load(cpu, linear, size // 8), load(cpu, linear + size // 8, 2)
    load_segment_register(cpu, LOADS[MNEMONICS[insn.mnemonic]], selector)
    set_register(cpu, register_number(insn, 0), size, offset)


# tables


def check_umip(cpu: Cpu) -> None:
    """#GP(0) above CPL 0 with CR4.UMIP."""
    if cpu.state.cpl and cpu.state.cr4 & CR4_UMIP:
        raise Fault(Vector.GP, 0)


def load_table(cpu: Cpu, insn: Any) -> None:
    """LGDT, LIDT."""
    require_privilege(cpu)
    ask(cpu, Intercept[MNEMONICS[insn.mnemonic]], insn)
    long = cpu.mode.bits == 64
    width = 10 if long else 6
    linear = memory_address(cpu, insn, width)
    limit, base = load(cpu, linear, 2), load(cpu, linear + 2, width - 2)
    if long and not is_base(cpu, base):
        raise Fault(Vector.GP, 0)
    if not long and operand_size(insn) == 16:
        base &= 0xFFFFFF
    state = cpu.state
    if MNEMONICS[insn.mnemonic] == "LGDT":
        state.gdtr_base, state.gdtr_limit = base, limit
    else:
        state.idtr_base, state.idtr_limit = base, limit


def store_table(cpu: Cpu, insn: Any) -> None:
    """SGDT, SIDT."""
    check_umip(cpu)
    ask(cpu, Intercept[MNEMONICS[insn.mnemonic]], insn)
    width = 8 if cpu.mode.bits == 64 else 4
    state = cpu.state
    if MNEMONICS[insn.mnemonic] == "SGDT":
        base, limit = state.gdtr_base, state.gdtr_limit
    else:
        base, limit = state.idtr_base, state.idtr_limit
    linear = memory_address(cpu, insn, width + 2, True)
    data = int(limit) | int(base) << 16
    cpu.write(linear, data, width + 2)


def lldt(cpu: Cpu, insn: Any) -> None:
    """LLDT: a null selector makes LDTR unusable."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    require_privilege(cpu)
    ask(cpu, Intercept[MNEMONICS[insn.mnemonic]], insn)
    selector = get(cpu, insn, 0, 16)
    state = cpu.state
    if is_null(selector):
        state.selector[LDTR] = selector
        state.segment_rights[LDTR] = UNUSABLE
        return
    load_system(cpu, LDTR, selector, frozenset((LDT,)))


def ltr(cpu: Cpu, insn: Any) -> None:
    """LTR: the descriptor of the TSS is marked busy."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    require_privilege(cpu)
    ask(cpu, Intercept[MNEMONICS[insn.mnemonic]], insn)
    selector = get(cpu, insn, 0, 16)
    if is_null(selector):
        raise Fault(Vector.GP, 0)
    load_system(cpu, TR, selector, frozenset((TSS32,) if cpu.long_mode else (TSS16, TSS32)))


def load_system(cpu: Cpu, seg: int, selector: int, kinds: frozenset[int]) -> None:
    """Load LDTR or TR from a system descriptor of the GDT."""
    where = selector & 0xFFFC
    if selector & 4:
        raise Fault(Vector.GP, where)
    if cpu.long_mode:
        descriptor = read_wide_descriptor(cpu, selector, Vector.GP)
    else:
        descriptor = read_descriptor(cpu, selector, Vector.GP)
    rights = descriptor_rights(descriptor)
    if rights & S or rights & 15 not in kinds:
        raise Fault(Vector.GP, where)
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    base = wide_base(descriptor)
    if cpu.long_mode and not is_base(cpu, base):
        raise Fault(Vector.GP, where)
    if seg == TR:
        place = descriptor_place(cpu, selector)
        assert place is not None
        descriptor |= BUSY
        cpu.write(place + 5, descriptor >> 40, 1, implicit=True)
    fill_segment(cpu, seg, selector, descriptor)
    if cpu.long_mode:
        cpu.state.segment_base[seg] = base


def store_system(cpu: Cpu, insn: Any) -> None:
    """SLDT, STR."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    check_umip(cpu)
    ask(cpu, Intercept[MNEMONICS[insn.mnemonic]], insn)
    seg = LDTR if MNEMONICS[insn.mnemonic] == "SLDT" else TR
    value = int(cpu.state.selector[seg])
    if insn.op_kind(0) == OpKind.REGISTER:
        set_register(cpu, register_number(insn, 0), operand_bits(insn, 0), value)
    else:
        put(cpu, insn, 0, value, 16)


# questions about descriptors


def set_zero_flag(cpu: Cpu, value: bool) -> None:
    """ZF alone."""
    cpu.rflags = cpu.rflags & ~ZF | (ZF if value else 0)


def visible(cpu: Cpu, selector: int, system: tuple[frozenset[int], frozenset[int]]) -> int | None:
    """The descriptor that LAR or LSL may tell of; None when it is none of theirs."""
    if is_null(selector):
        return None
    place = descriptor_place(cpu, selector)
    if place is None:
        return None
    descriptor = cpu.read(place, 8, implicit=True)
    rights = descriptor_rights(descriptor)
    if not rights & S and rights & 15 not in system[cpu.long_mode]:
        return None
    conforming = rights & S and rights & CODE_SEGMENT and rights & CONFORMING
    if not conforming and dpl(rights) < max(cpu.state.cpl, rpl(selector)):
        return None
    return descriptor


def lar(cpu: Cpu, insn: Any) -> None:
    """LAR: the access rights of a descriptor, ZF whether it is visible."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    descriptor = visible(cpu, get(cpu, insn, 1, 16), LAR_TYPES)
    if descriptor is not None:
        put(cpu, insn, 0, descriptor >> 32 & 0xF0FF00)
    set_zero_flag(cpu, descriptor is not None)


def lsl(cpu: Cpu, insn: Any) -> None:
    """LSL: the limit of a segment in bytes, ZF whether it is visible."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    descriptor = visible(cpu, get(cpu, insn, 1, 16), LSL_TYPES)
    if descriptor is not None:
        put(cpu, insn, 0, descriptor_limit(descriptor))
    set_zero_flag(cpu, descriptor is not None)


NO_SYSTEM_TYPES: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())


def verify(cpu: Cpu, insn: Any) -> None:
    """VERR, VERW: ZF whether a segment can be read or written at the current level."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    descriptor = visible(cpu, get(cpu, insn, 0, 16), NO_SYSTEM_TYPES)
    allowed = False
    if descriptor is not None:
        rights = descriptor_rights(descriptor)
        code = bool(rights & CODE_SEGMENT)
        if MNEMONICS[insn.mnemonic] == "VERR":
            allowed = not code or bool(rights & READABLE)
        else:
            allowed = not code and bool(rights & WRITABLE)
    set_zero_flag(cpu, allowed)


def arpl(cpu: Cpu, insn: Any) -> None:
    """ARPL: the RPL of the destination raised to that of the source."""
    if not protected(cpu):
        raise Fault(Vector.UD)
    selector, source = get(cpu, insn, 0, 16), get(cpu, insn, 1, 16)
    lower = rpl(selector) < rpl(source)
    if lower:
        put(cpu, insn, 0, selector & ~3 | rpl(source), 16)
    set_zero_flag(cpu, lower)


def bound(cpu: Cpu, insn: Any) -> None:
    """BOUND: #BR when an index is outside two signed bounds in memory."""
    size = operand_size(insn)
    linear = memory_address(cpu, insn, size // 4)
    sign = 1 << size - 1
    index = get_register(cpu, register_number(insn, 0), size) ^ sign
    low, high = (load(cpu, linear + i * size // 8, size // 8) ^ sign for i in (0, 1))
    if not low <= index <= high:
        raise Fault(Vector.BR)


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "POP": pop,
    **dict.fromkeys(LOADS, load_far_pointer),
    "LGDT": load_table,
    "LIDT": load_table,
    "SGDT": store_table,
    "SIDT": store_table,
    "LLDT": lldt,
    "LTR": ltr,
    "SLDT": store_system,
    "STR": store_system,
    "LAR": lar,
    "LSL": lsl,
    "VERR": verify,
    "VERW": verify,
    "ARPL": arpl,
    "BOUND": bound,
}
