"""Input and output. SDM Vol. 2, IN; OUT; INS; OUTS; Vol. 1, I/O Permission Bit Map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu import debug
from emu.cpu.decode import IMMEDIATES, MNEMONICS, STRINGS, operand_bits
from emu.cpu.errors import Fault
from emu.cpu.flags import DF, VM
from emu.cpu.guest_mode import PortAccess
from emu.cpu.paging import CR0_PE, CR4_DE, WRITE
from emu.cpu.registers import SEGMENTS
from emu.cpu.segments import UNUSABLE
from emu.cpu.smm import IoAccess
from emu.cpu.state import ES, TR, Vector
from emu.cpu.system.operands import get_register, linear_at, load, set_register, store

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

SIZES = {"B": 1, "W": 2, "D": 4}
BURST = 256  # iterations of a repeated string before events are looked at


def check_permission(cpu: Cpu, port: int, size: int) -> None:
    """#GP(0) unless IOPL or the I/O permission bit map of the TSS allows the access."""
    state = cpu.state
    if not state.cr0 & CR0_PE:
        return
    if not state.rflags & VM and state.cpl <= state.rflags >> 12 & 3:
        return
    limit = int(state.segment_limit[TR])
    rights = state.segment_rights[TR]
    if rights & UNUSABLE or not rights & 8 or limit < 0x67:
        raise Fault(Vector.GP, 0)
    base = int(state.segment_base[TR])
    place = cpu.read(base + 0x66, 2, implicit=True) + port // 8
    if place + 1 > limit:
        raise Fault(Vector.GP, 0)
    bits = cpu.read(base + place, 2, implicit=True)
    if bits >> port % 8 & (1 << size) - 1:
        raise Fault(Vector.GP, 0)


def note_breakpoints(cpu: Cpu, port: int, size: int) -> None:
    """I/O breakpoints, with CR4.DE."""
    if cpu.state.dr[7] & 0xFF and cpu.state.cr4 & CR4_DE:
        debug.port_breakpoints(cpu, port, size)


def note_smi(
    cpu: Cpu, insn: Any, port: int, size: int, reads: bool, string: bool = False, linear: int = 0
) -> None:
    """Remember the I/O instruction when its access brought an SMI; no register has changed."""
    smm, state = cpu.smm, cpu.state
    if not smm.pending or smm.active or smm.io is not None:
        return
    immediate = not string and insn.op_kind(1 if reads else 0) in IMMEDIATES
    repeats = string and (insn.has_rep_prefix or insn.has_repne_prefix)
    rip, rcx, rsi, rdi = (int(getattr(state, name)) for name in ("rip", "rcx", "rsi", "rdi"))
    smm.io = IoAccess(port, size, reads, string, repeats, immediate, rip, rcx, rsi, rdi, linear)


def port_of(cpu: Cpu, insn: Any, position: int) -> int:
    """The port of IN or OUT: an immediate byte or DX."""
    if insn.op_kind(position) in IMMEDIATES:
        return int(insn.immediate(position)) & 0xFF
    return int(cpu.state.rdx) & 0xFFFF


def is_immediate(insn: Any, position: int) -> bool:
    """Whether the port is an immediate byte."""
    return insn.op_kind(position) in IMMEDIATES


def linear_of(cpu: Cpu, seg: int, offset: int) -> int:
    """Linear address of seg:offset, unchecked."""
    return int(cpu.state.linear_base[seg]) + offset & int(cpu.state.linear_mask)


def ask_port(cpu: Cpu, insn: Any, access: PortAccess) -> None:
    """Let guest mode intercept IN and OUT."""
    if cpu.guest is not None:
        cpu.guest.port(access, insn)


def port_in(cpu: Cpu, insn: Any) -> None:
    """IN: AL, AX or EAX from a port."""
    bits = operand_bits(insn, 0)
    port = port_of(cpu, insn, 1)
    check_permission(cpu, port, bits // 8)
    ask_port(cpu, insn, PortAccess(port, bits // 8, True, immediate=is_immediate(insn, 1)))
    note_breakpoints(cpu, port, bits // 8)
    value = cpu.environment.port_read(port, bits // 8)
    note_smi(cpu, insn, port, bits // 8, True)
    set_register(cpu, 0, bits, value)


def port_out(cpu: Cpu, insn: Any) -> None:
    """OUT: AL, AX or EAX to a port."""
    bits = operand_bits(insn, 1)
    port = port_of(cpu, insn, 0)
    check_permission(cpu, port, bits // 8)
    ask_port(cpu, insn, PortAccess(port, bits // 8, False, immediate=is_immediate(insn, 0)))
    note_breakpoints(cpu, port, bits // 8)
    cpu.environment.port_write(port, bits // 8, get_register(cpu, 0, bits))
    note_smi(cpu, insn, port, bits // 8, False)


def string(cpu: Cpu, insn: Any) -> None:
    """INS, OUTS, with or without REP: an iteration is interruptible as an instruction is."""
    name = MNEMONICS[insn.mnemonic]
    state = cpu.state
    size = SIZES[name[-1]]
    reads = name.startswith("INS")
    position = next(i for i in range(insn.op_count) if insn.op_kind(i) in STRINGS)
    width, overridable = STRINGS[insn.op_kind(position)]
    seg = SEGMENTS[insn.memory_segment] if overridable else ES
    number = 7 if reads else 6
    port = int(state.rdx) & 0xFFFF
    repeats = insn.has_rep_prefix or insn.has_repne_prefix
    check_permission(cpu, port, size)
    rounds = 0
    while not repeats or get_register(cpu, 1, width):
        offset = get_register(cpu, number, width)
        if cpu.guest is not None:
            linear = linear_of(cpu, seg, offset)
            access = PortAccess(port, size, reads, True, repeats, False, linear, seg, width)
            cpu.guest.port(access, insn)
        linear = linear_at(cpu, seg, offset, size, reads)
        if reads:
            cpu.pieces(
                linear, size, WRITE, False
            )  # the destination is checked before the port is read
            store(cpu, linear, cpu.environment.port_read(port, size), size)
        else:
            cpu.environment.port_write(port, size, load(cpu, linear, size))
        note_breakpoints(cpu, port, size)
        note_smi(cpu, insn, port, size, reads, True, linear)
        step = -size if state.rflags & DF else size
        set_register(cpu, number, width, get_register(cpu, number, width) + step)
        if not repeats:
            return
        set_register(cpu, 1, width, get_register(cpu, 1, width) - 1)
        rounds += 1
        if (rounds == BURST or cpu.smm.io is not None) and get_register(cpu, 1, width):
            cpu.next_rip = int(state.rip)
            return


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "IN": port_in,
    "OUT": port_out,
    **dict.fromkeys(("INSB", "INSW", "INSD", "OUTSB", "OUTSW", "OUTSD"), string),
}
