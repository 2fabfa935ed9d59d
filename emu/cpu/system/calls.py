"""Software interrupts and fast system calls. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu import debug
from emu.cpu.decode import MNEMONICS, operand_bits
from emu.cpu.errors import Fault
from emu.cpu.flags import IF, IOPL, OF, RESERVED_ONE, RF, TF, VM
from emu.cpu.guest_mode import Event, EventKind, Intercept, ask
from emu.cpu.models.model import INTEL
from emu.cpu.paging import CR0_PE, CR4_FSGSBASE, EFER_SCE
from emu.cpu.plain import run_handler
from emu.cpu.state import CS, FS, GS, SS, STI, Vector
from emu.cpu.system.events import software_interrupt
from emu.cpu.system.operands import (
    get_register,
    is_base,
    is_canonical,
    peek,
    push,
    register_number,
    require_privilege,
    set_register,
    set_stack_pointer,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

CODE_64, CODE_32, DATA = 0xA09B, 0xC09B, 0xC093
MASK32 = 0xFFFFFFFF


def trap(cpu: Cpu, insn: Any, kind: EventKind, vector: int) -> None:
    """Deliver a software interrupt; the handler's address becomes the next RIP."""
    held_back = cpu.debug_causes  # by MOV SS; INT1 is that #DB itself
    software_interrupt(cpu, Event(kind, vector, None, insn.len), cpu.next_rip)
    cpu.debug_causes = held_back if kind != EventKind.PRIVILEGED else 0
    cpu.untraced = True
    cpu.next_rip = int(cpu.state.rip)


def int_n(cpu: Cpu, insn: Any) -> None:
    """INT n."""
    vector = insn.immediate(0) & 0xFF
    ask(cpu, Intercept.INT_N, insn, vector)
    trap(cpu, insn, EventKind.SOFTWARE, vector)


def int3(cpu: Cpu, insn: Any) -> None:
    """INT3."""
    trap(cpu, insn, EventKind.SOFTWARE_EXCEPTION, Vector.BP)


def into(cpu: Cpu, insn: Any) -> None:
    """INTO: #OF when OF is set."""
    if cpu.rflags & OF:
        trap(cpu, insn, EventKind.SOFTWARE_EXCEPTION, Vector.OF)


def int1(cpu: Cpu, insn: Any) -> None:
    """INT1: #DB, whatever the gate's DPL."""
    ask(cpu, Intercept.INT1, insn)
    trap(cpu, insn, EventKind.PRIVILEGED, Vector.DB)


def undefined(cpu: Cpu, insn: Any) -> None:
    """UD0, UD1, UD2."""
    raise Fault(Vector.UD)


def set_flat(cpu: Cpu, seg: int, selector: int, rights: int) -> None:
    """Load a segment register with base 0 and the greatest limit, without a descriptor."""
    state = cpu.state
    state.selector[seg] = selector & 0xFFFF
    state.segment_base[seg] = 0
    state.segment_limit[seg] = MASK32
    state.segment_rights[seg] = rights


def syscall(cpu: Cpu, insn: Any) -> None:
    """SYSCALL: to the target in IA32_LSTAR (CSTAR, STAR on AMD outside 64-bit mode)."""
    state = cpu.state
    cpu.untraced = bool(state.sfmask & TF)
    intel = cpu.model.vendor == INTEL
    if not state.efer & EFER_SCE or not state.cr0 & CR0_PE or (intel and cpu.mode.bits != 64):
        raise Fault(Vector.UD)
    state.rcx = cpu.next_rip
    if cpu.long_mode:
        state.r11 = cpu.rflags & ~(RF if not intel else 0)
        cpu.next_rip = int(state.lstar if cpu.mode.bits == 64 else state.cstar)
        cpu.rflags = cpu.rflags & ~(int(state.sfmask) | RF) | RESERVED_ONE
        code = CODE_64
    else:
        state.rcx = cpu.next_rip & MASK32
        cpu.next_rip = int(state.star) & MASK32
        cpu.rflags = cpu.rflags & ~(IF | RF | VM)
        code = CODE_32
    selector = int(state.star) >> 32 & 0xFFFC
    set_flat(cpu, CS, selector, code)
    set_flat(cpu, SS, selector + 8, DATA)
    state.cpl = 0
    cpu.refresh()


def sysret(cpu: Cpu, insn: Any) -> None:
    """SYSRET: to 64-bit code with REX.W, else to compatibility (on AMD also legacy) mode."""
    state = cpu.state
    intel = cpu.model.vendor == INTEL
    if not state.efer & EFER_SCE or not state.cr0 & CR0_PE or (intel and cpu.mode.bits != 64):
        raise Fault(Vector.UD)
    require_privilege(cpu)
    wide = MNEMONICS[insn.mnemonic] == "SYSRETQ"
    if wide and intel and not is_canonical(cpu, int(state.rcx)):
        raise Fault(Vector.GP, 0)
    cpu.next_rip = int(state.rcx) if wide else int(state.rcx) & MASK32
    if cpu.long_mode:
        cpu.rflags = int(state.r11) & 0x3C7FD7 | RESERVED_ONE
    else:
        cpu.rflags = cpu.rflags | IF
    base = int(state.star) >> 48
    set_flat(cpu, CS, base + (16 if wide else 0) | 3, (CODE_64 if wide else CODE_32) | 3 << 5)
    if intel:
        set_flat(cpu, SS, base + 8 | 3, DATA | 3 << 5)
    else:
        # the hidden part of SS stays as it is. APM Vol. 3, SYSRET
        state.selector[SS] = base + 8 & 0xFFFF
    state.cpl = 3
    cpu.refresh()
    if state.rflags & TF:
        # the trap comes after SYSRET itself
        cpu.debug_causes |= debug.SINGLE_STEP


def sysenter(cpu: Cpu, insn: Any) -> None:
    """SYSENTER: to CPL 0 at IA32_SYSENTER_EIP."""
    state = cpu.state
    if cpu.model.vendor != INTEL and cpu.long_mode:
        raise Fault(Vector.UD)
    if not state.cr0 & CR0_PE or not int(state.sysenter_cs) & 0xFFFC:
        raise Fault(Vector.GP, 0)
    long = cpu.long_mode
    cpu.rflags = cpu.rflags & ~(IF | VM)
    selector = int(state.sysenter_cs) & 0xFFFC
    set_flat(cpu, CS, selector, CODE_64 if long else CODE_32)
    set_flat(cpu, SS, selector + 8, DATA)
    mask = (1 << 64) - 1 if long else MASK32
    state.rsp = int(state.sysenter_esp) & mask
    cpu.next_rip = int(state.sysenter_eip) & mask
    state.cpl = 0
    cpu.refresh()


def sysexit(cpu: Cpu, insn: Any) -> None:
    """SYSEXIT: to CPL 3 at RDX with the stack RCX."""
    state = cpu.state
    if cpu.model.vendor != INTEL and cpu.long_mode:
        raise Fault(Vector.UD)
    wide = MNEMONICS[insn.mnemonic] == "SYSEXITQ"
    if not state.cr0 & CR0_PE or not int(state.sysenter_cs) & 0xFFFC:
        raise Fault(Vector.GP, 0)
    require_privilege(cpu)
    rip, rsp = int(state.rdx), int(state.rcx)
    if wide:
        if not is_canonical(cpu, rip) or not is_canonical(cpu, rsp):
            raise Fault(Vector.GP, 0)
    else:
        rip, rsp = rip & MASK32, rsp & MASK32
    base = int(state.sysenter_cs) & 0xFFFC
    set_flat(cpu, CS, base + (32 if wide else 16) | 3, (CODE_64 if wide else CODE_32) | 3 << 5)
    set_flat(cpu, SS, base + (40 if wide else 24) | 3, DATA | 3 << 5)
    state.rsp = rsp
    cpu.next_rip = rip
    state.cpl = 3
    cpu.refresh()


def swapgs(cpu: Cpu, insn: Any) -> None:
    """SWAPGS: the base of GS against IA32_KERNEL_GS_BASE."""
    require_privilege(cpu)
    state = cpu.state
    base = int(state.segment_base[GS])
    state.segment_base[GS] = state.kernel_gs_base
    state.kernel_gs_base = base
    cpu.refresh()


def segment_base(cpu: Cpu, insn: Any) -> None:
    """RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE."""
    name = MNEMONICS[insn.mnemonic]
    state = cpu.state
    if not state.cr4 & CR4_FSGSBASE:
        raise Fault(Vector.UD)
    seg = FS if "FS" in name else GS
    number = register_number(insn, 0)
    size = operand_bits(insn, 0)
    if name.startswith("RD"):
        set_register(cpu, number, size, int(state.segment_base[seg]))
        return
    value = get_register(cpu, number, size)
    if not is_base(cpu, value):
        raise Fault(Vector.GP, 0)
    state.segment_base[seg] = value
    cpu.refresh()


def flags(cpu: Cpu, insn: Any) -> None:
    """PUSHF, POPF, CLI and STI in virtual-8086 mode, or trapped by guest mode."""
    name = MNEMONICS[insn.mnemonic]
    if name.startswith(("PUSHF", "POPF")):
        ask(cpu, Intercept.PUSHF if name.startswith("PUSHF") else Intercept.POPF, insn)
    if cpu.state.rflags & VM:
        virtual_flags(cpu, name)
    else:
        run_handler(cpu, insn)


def virtual_flags(cpu: Cpu, name: str) -> None:
    """PUSHF, POPF, CLI and STI in virtual-8086 mode: with IOPL 3 as always, else #GP(0)."""
    state = cpu.state
    if state.rflags & IOPL != IOPL:
        raise Fault(Vector.GP, 0)
    if name == "CLI":
        state.rflags &= ~IF
    elif name == "STI":
        cpu.inhibits = 0 if state.rflags & IF else STI
        state.rflags |= IF
    else:
        width = 4 if name.endswith("D") else 2
        if name.startswith("PUSHF"):
            push(cpu, [cpu.rflags & ~(RF | VM) & (1 << 8 * width) - 1], width)
        else:
            value = peek(cpu, 0, width)
            kept = IOPL | VM | RF | 3 << 19 | (0xFFFF0000 if width == 2 else 0)
            set_stack_pointer(cpu, state.rsp + width)
            cpu.rflags = cpu.rflags & kept | value & ~kept & 0x257FD5


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "INT": int_n,
    "INT3": int3,
    "INTO": into,
    "INT1": int1,
    "UD0": undefined,
    "UD1": undefined,
    "UD2": undefined,
    "SYSCALL": syscall,
    "SYSRET": sysret,
    "SYSRETQ": sysret,
    "SYSENTER": sysenter,
    "SYSEXIT": sysexit,
    "SYSEXITQ": sysexit,
    "SWAPGS": swapgs,
    **dict.fromkeys(("RDFSBASE", "RDGSBASE", "WRFSBASE", "WRGSBASE"), segment_base),
    **dict.fromkeys(("PUSHF", "PUSHFD", "PUSHFQ", "POPF", "POPFD", "POPFQ", "CLI", "STI"), flags),
}
