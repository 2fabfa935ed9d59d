"""The x87 FPU while one instruction runs: register stack, exceptions, pointers.

SDM Vol. 1, x87 FPU Data Registers; x87 FPU Status Register; x87 FPU Exception Handling.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iced_x86 import OpKind

from emu.cpu.decode import operand_bits
from emu.cpu.errors import Fault
from emu.cpu.models.model import INTEL
from emu.cpu.paging import CR0_EM, CR0_NE, CR0_TS
from emu.cpu.registers import REGISTERS, SEGMENTS
from emu.cpu.state import CS, Vector
from emu.cpu.system.operands import load, memory_address, offset_of, store
from emu.cpu.x87.values import (
    EXTENDED,
    IE,
    INDEFINITE,
    OE,
    PE,
    SCALE,
    UE,
    Bits,
    Exact,
    Format,
    Value,
    encoded,
    encoded_float,
    infinity,
    largest,
    overflows_to_infinity,
    rounded,
    unpacked,
    zero,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

STACK_FAULT, SUMMARY, BUSY = 1 << 6, 1 << 7, 1 << 15
C0, C1, C2, C3 = 1 << 8, 1 << 9, 1 << 10, 1 << 14
EXCEPTIONS = 0x3F
TOP_SHIFT = 11
BEFORE_RESULT = 7  # IE, DE, ZE: unmasked, they leave no result


class Abandoned(Exception):  # noqa: N818 - the instruction ends without a result
    """An unmasked exception keeps the result away."""


class Unit:
    """The FPU of a processor during one instruction; `commit` makes status and pointers visible."""

    def __init__(self, cpu: Cpu, insn: Any) -> None:
        self.cpu, self.insn = cpu, insn
        self.state = cpu.state
        self.control = int(self.state.fcw)
        self.status = int(self.state.fsw)
        self.tags = int(self.state.ftw)
        self.mode = self.control >> 10 & 3
        self.form = EXTENDED[self.control >> 8 & 3]
        self.flags = 0
        self.conditions: int | None = None  # C0 to C3 as they are replaced; None: C1 alone
        self.up = False  # C1
        self.data: tuple[int, int] | None = None  # selector and offset of the memory operand

    # the stack

    @property
    def top(self) -> int:
        """TOP: the physical register that ST(0) is."""
        return self.status >> TOP_SHIFT & 7

    @top.setter
    def top(self, value: int) -> None:
        self.status = self.status & ~(7 << TOP_SHIFT) | (value & 7) << TOP_SHIFT

    def empty(self, i: int) -> bool:
        """Whether ST(i) is tagged empty."""
        return not self.tags >> (self.top + i & 7) & 1

    def raw(self, i: int) -> Bits:
        """The contents of ST(i), whatever its tag."""
        place = self.top + i & 7
        return Bits(int(self.state.st_exponent[place]), int(self.state.st_mantissa[place]))

    def value(self, i: int) -> Value:
        """The value of ST(i), which is not empty."""
        return unpacked(self.raw(i))

    def put(self, i: int, bits: Bits) -> None:
        """Write ST(i) and tag it valid."""
        place = self.top + i & 7
        self.state.st_exponent[place], self.state.st_mantissa[place] = bits
        self.tags |= 1 << place

    def free(self, i: int) -> None:
        """Tag ST(i) empty."""
        self.tags &= ~(1 << (self.top + i & 7))

    def pop(self, count: int = 1) -> None:
        """Take ST(0) off."""
        for _ in range(count):
            self.free(0)
            self.top += 1

    def push(self, bits: Bits) -> None:
        """Put a new ST(0); on a full stack that is the invalid operation."""
        if not self.empty(7):
            self.stack_fault(overflow=True)
            bits = INDEFINITE
        self.top -= 1
        self.put(0, bits)

    def push_over(self, bits: Bits) -> None:
        """Push in response to a stack fault, over whatever is there."""
        self.top -= 1
        self.put(0, bits)

    def room(self) -> bool:
        """Whether ST(0) holds something and there is room for one more; if not, both get NaNs."""
        if not self.empty(0) and self.empty(7):
            return True
        self.stack_fault(overflow=not self.empty(0))
        self.put(0, INDEFINITE)
        self.push_over(INDEFINITE)
        return False

    @property
    def old_conditions(self) -> int:
        """C0 to C3 as they were."""
        return self.status & (C0 | C1 | C2 | C3)

    def keep_conditions(self) -> None:
        """Leave C0 to C3 as they are."""
        self.conditions = self.old_conditions

    def present(self, *registers: int) -> bool:
        """Whether all registers hold something; if not, the stack underflow is noted."""
        if any(self.empty(i) for i in registers):
            self.stack_fault(overflow=False)
            return False
        return True

    def stack_fault(self, overflow: bool) -> None:
        """Stack overflow or underflow: C1 tells which."""
        self.up = overflow
        self.note(IE | STACK_FAULT)

    # exceptions

    def note(self, flags: int) -> None:
        """Note exceptions; an unmasked one that comes before the result ends the instruction."""
        self.flags |= flags
        if flags & BEFORE_RESULT & ~self.control:
            raise Abandoned

    def settle(self, result: Exact | Bits, form: Format | None = None) -> Bits:
        """A result rounded for a register, what happens on the way noted."""
        if isinstance(result, Bits):
            return result
        form = form or self.form
        found = rounded(result, form, self.mode)
        sign = result.sign
        if found.over:
            return self.overflowed(result, form)
        if found.tiny and not self.control & UE:
            self.note(UE)
            found = rounded(result._replace(e=result.e + SCALE), form, self.mode)
            if found.tiny:
                self.precision(True, False)
                return zero(sign)
        elif found.tiny and found.inexact:
            self.note(UE)
        self.precision(found.inexact, found.up)
        return encoded(sign, found.m, found.e)

    def overflowed(self, result: Exact, form: Format) -> Bits:
        """A register result beyond the format: infinity or the largest, or scaled if unmasked."""
        self.note(OE)
        if self.control & OE:
            away = overflows_to_infinity(result.sign, self.mode)
            self.precision(True, away)
            if away:
                return infinity(result.sign)
            best = largest(form)
            return encoded(result.sign, best.m, best.e)
        found = rounded(result._replace(e=result.e - SCALE), form, self.mode)
        if found.over:
            # massive overflow, by FSCALE. SDM Vol. 1, Numeric Overflow Exception
            self.precision(True, True)
            return infinity(result.sign)
        self.precision(found.inexact, found.up)
        return encoded(result.sign, found.m, found.e)

    def settle_float(self, result: Exact, form: Format) -> int:
        """A number rounded for memory; unmasked overflow and underflow leave memory as it is."""
        found = rounded(result, form, self.mode)
        if found.over:
            self.note(OE)
            if not self.control & OE:
                raise Abandoned
            away = overflows_to_infinity(result.sign, self.mode)
            self.precision(True, away)
            best = largest(form)
            return encoded_float(result.sign, best.m, best.e, form) + away
        if found.tiny and (found.inexact or not self.control & UE):
            self.note(UE)
            if not self.control & UE:
                raise Abandoned
        self.precision(found.inexact, found.up)
        return encoded_float(result.sign, found.m, found.e, form)

    def precision(self, inexact: bool, up: bool) -> None:
        """PE, and C1 for the direction of rounding."""
        if inexact:
            self.note(PE)
            self.up = up

    # operands

    @property
    def in_memory(self) -> bool:
        """Whether the first operand lies in memory."""
        return bool(self.insn.op_count) and self.insn.op_kind(0) == OpKind.MEMORY

    def register(self, position: int) -> int:
        """The number of a stack register operand."""
        return REGISTERS[self.insn.op_register(position)].number

    @property
    def width(self) -> int:
        """Bytes of the memory operand."""
        return operand_bits(self.insn, 0) // 8

    def address(self, count: int, writes: bool) -> int:
        """Linear address of the memory operand, noted for the data pointer."""
        seg = SEGMENTS[self.insn.memory_segment]
        self.data = int(self.state.selector[seg]), offset_of(self.cpu, self.insn)
        return memory_address(self.cpu, self.insn, count, writes)

    def load(self) -> int:
        """The memory operand as an unsigned integer."""
        width = self.width
        linear = self.address(width, False)
        if width in (2, 4, 8):
            return load(self.cpu, linear, width)
        return self.cpu.read(linear, width)

    def store(self, value: int) -> None:
        """Write the memory operand; registers and status change after that."""
        width = self.width
        linear = self.address(width, True)
        if width in (2, 4, 8):
            store(self.cpu, linear, value, width)
        else:
            self.cpu.write(linear, value, width)

    # the end

    def commit(self) -> None:
        """Write status word and pointers."""
        state = self.state
        status = self.status
        if self.conditions is None:
            status &= ~C1
        else:
            status = status & ~(C0 | C1 | C2 | C3) | self.conditions
        status |= self.flags | (C1 if self.up else 0)
        unmasked = self.flags & EXCEPTIONS & ~self.control
        state.ftw = self.tags
        set_status(self.cpu, status)
        state.fcs, state.fip = state.selector[CS], state.rip
        if self.data is not None:
            state.fds, state.fdp = self.data
        # SDM Vol. 1, Fopcode Compatibility Sub-mode
        if unmasked or self.cpu.model.vendor != INTEL:
            state.fop = opcode(self.cpu, self.insn)


def opcode(cpu: Cpu, insn: Any) -> int:
    """FOP: the low three bits of the first opcode byte and the second byte."""
    state = cpu.state
    data = cpu.read_bytes(state.rip + state.linear_base[CS] & state.linear_mask, insn.len)
    at = next(i for i, byte in enumerate(data) if byte & 0xF8 == 0xD8)
    return (data[at] & 7) << 8 | data[at + 1]


def set_status(cpu: Cpu, status: int) -> None:
    """Write FSW; ES and B say whether an exception is pending that is not masked."""
    state = cpu.state
    status &= ~(SUMMARY | BUSY)
    if status & EXCEPTIONS & ~int(state.fcw):
        status |= SUMMARY | BUSY
    if (status ^ int(state.fsw)) & SUMMARY:
        cpu.mode_lost = True  # MMX instructions report what is pending
        if not status & SUMMARY:
            cpu.environment.floating_point_clear()
    state.fsw = status


def available(cpu: Cpu) -> None:
    """#NM with CR0.EM or CR0.TS."""
    if cpu.state.cr0 & (CR0_EM | CR0_TS):
        raise Fault(Vector.NM)


def check_pending(cpu: Cpu) -> None:
    """#MF, or the signal FERR#, for an unmasked exception that an earlier instruction left."""
    if not cpu.state.fsw & SUMMARY:
        return
    if cpu.state.cr0 & CR0_NE:
        raise Fault(Vector.MF)
    if not cpu.environment.floating_point_error():
        # without IGNNE# the processor waits for the interrupt that FERR# brings
        cpu.next_rip = int(cpu.state.rip)
        cpu.halted = True
        raise Frozen


class Frozen(Exception):  # noqa: N818 - the processor waits
    """The instruction is not begun: FERR# is signalled and IGNNE# is not given."""


def instruction(function: Callable[[Unit], None]) -> Callable[[Cpu, Any], None]:
    """A waiting instruction that is not a control instruction."""

    def run(cpu: Cpu, insn: Any) -> None:
        available(cpu)
        try:
            check_pending(cpu)
        except Frozen:
            return
        unit = Unit(cpu, insn)
        with contextlib.suppress(Abandoned):
            function(unit)
        unit.commit()

    return run
