"""Far transfers: JMP, CALL, RET and IRET. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iced_x86 import OpKind

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault
from emu.cpu.flags import AC, ID, IF, IOPL, NT, RF, STATUS, TF, VIF, VIP, VM
from emu.cpu.flags import DF as DIRECTION
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.segments import CONFORMING, DB, PRESENT, L, S, dpl
from emu.cpu.state import CS, SS, Vector
from emu.cpu.system import task
from emu.cpu.system.descriptors import (
    CALL16,
    CALL32,
    TASK_GATE,
    check_code_mode,
    code_descriptor_at_level,
    descriptor_limit,
    descriptor_place,
    descriptor_rights,
    drop_privileged_segments,
    fill_segment,
    is_code,
    is_null,
    load_code_segment,
    load_null,
    load_real,
    read_descriptor,
    read_tss,
    rpl,
    set_accessed,
    stack_descriptor,
)
from emu.cpu.system.events import write_at_level
from emu.cpu.system.operands import (
    WORD,
    is_canonical,
    load,
    memory_address,
    operand_size,
    peek,
    protected,
    push,
    set_stack_pointer,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

FAR_POINTERS = (OpKind.FAR_BRANCH16, OpKind.FAR_BRANCH32)


def target(cpu: Cpu, insn: Any) -> tuple[int, int, int]:
    """Selector, offset and operand size of a far pointer."""
    size = operand_size(insn)
    kind = insn.op_kind(0)
    if kind == OpKind.FAR_BRANCH16:
        return insn.far_branch_selector, insn.far_branch16, 16
    if kind == OpKind.FAR_BRANCH32:
        return insn.far_branch_selector, insn.far_branch32, 32
    width = size // 8
    linear = memory_address(cpu, insn, width + 2)
    return load(cpu, linear + width, 2), load(cpu, linear, width), size


def check_target(cpu: Cpu, offset: int, descriptor: int) -> int:
    """#GP(0) for an offset beyond the limit of the new code segment, or not canonical."""
    if cpu.long_mode and descriptor_rights(descriptor) & L:
        if not is_canonical(cpu, offset):
            raise Fault(Vector.GP, 0)
    elif offset & 0xFFFFFFFF > descriptor_limit(descriptor):
        raise Fault(Vector.GP, 0)
    else:
        return offset & 0xFFFFFFFF
    return offset


def jmp(cpu: Cpu, insn: Any) -> None:
    """JMP, far: to a code segment, through a call gate, or to another task."""
    selector, offset, _ = target(cpu, insn)
    if not protected(cpu):
        real_transfer(cpu, selector, offset)
        return
    descriptor = transfer_descriptor(cpu, selector)
    rights = descriptor_rights(descriptor)
    if rights & S:
        checked = code_descriptor_at_level(cpu, selector, descriptor, rpl(selector))
        cpu.next_rip = check_target(cpu, offset, descriptor)
        load_code_segment(cpu, selector, checked, cpu.state.cpl)
    elif is_call_gate(cpu, rights):
        code, code_descriptor, offset = gate_target(cpu, selector, descriptor)
        checked = code_descriptor_at_level(cpu, code, code_descriptor, 0)
        cpu.next_rip = check_target(cpu, offset, code_descriptor)
        load_code_segment(cpu, code, checked, cpu.state.cpl)
    else:
        to_task(cpu, selector, descriptor, task.JUMP)
    cpu.refresh()


def call(cpu: Cpu, insn: Any) -> None:
    """CALL, far: to a code segment, through a call gate, or to another task."""
    selector, offset, size = target(cpu, insn)
    state = cpu.state
    back = [int(state.selector[CS]), cpu.next_rip]
    if not protected(cpu):
        if offset > state.segment_limit[CS]:
            raise Fault(Vector.GP, 0)
        push(cpu, back, size // 8)
        real_transfer(cpu, selector, offset)
        return
    descriptor = transfer_descriptor(cpu, selector)
    rights = descriptor_rights(descriptor)
    if rights & S:
        checked = code_descriptor_at_level(cpu, selector, descriptor, rpl(selector))
        where = check_target(cpu, offset, descriptor)
        push(cpu, back, size // 8)
        load_code_segment(cpu, selector, checked, state.cpl)
        cpu.next_rip = where
    elif is_call_gate(cpu, rights):
        through_call_gate(cpu, selector, descriptor, back)
    else:
        to_task(cpu, selector, descriptor, task.CALL)
    cpu.refresh()


def real_transfer(cpu: Cpu, selector: int, offset: int) -> None:
    """Load CS and IP outside protected mode."""
    if offset > cpu.state.segment_limit[CS]:
        raise Fault(Vector.GP, 0)
    load_real(cpu, CS, selector)
    cpu.next_rip = offset
    cpu.refresh()


def transfer_descriptor(cpu: Cpu, selector: int) -> int:
    """The descriptor that a far pointer names."""
    if is_null(selector):
        raise Fault(Vector.GP, 0)
    return read_descriptor(cpu, selector, Vector.GP)


def is_call_gate(cpu: Cpu, rights: int) -> bool:
    """Whether a system descriptor is a call gate of the mode."""
    return rights & 15 == CALL32 or (rights & 15 == CALL16 and not cpu.long_mode)


def to_task(cpu: Cpu, selector: int, descriptor: int, how: str) -> None:
    """A TSS descriptor or a task gate as the target; in IA-32e mode neither is one."""
    rights = descriptor_rights(descriptor)
    where = selector & 0xFFFC
    known = rights & 15 == TASK_GATE or rights & 15 in task.AVAILABLE
    if cpu.long_mode or not known or not task.gate_level_allows(rights, cpu.state.cpl, selector):
        raise Fault(Vector.GP, where)
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    if rights & 15 == TASK_GATE:
        selector = descriptor >> 16 & 0xFFFF
        descriptor = task.tss_descriptor(cpu, selector, 0, False)
    task.jump_or_call(cpu, selector, descriptor, how)


def gate_target(cpu: Cpu, selector: int, gate: int) -> tuple[int, int, int]:
    """Selector, descriptor and offset that a call gate leads to."""
    rights = descriptor_rights(gate)
    where = selector & 0xFFFC
    if dpl(rights) < max(cpu.state.cpl, rpl(selector)):
        raise Fault(Vector.GP, where)
    offset = gate & 0xFFFF
    if rights & 8:
        offset |= gate >> 32 & 0xFFFF0000
    if cpu.long_mode:
        place = descriptor_place(cpu, selector, 16)
        if place is None:
            raise Fault(Vector.GP, where)
        high = cpu.read(place + 8, 8, implicit=True)
        if high >> 40 & 0x1F:
            raise Fault(Vector.GP, where)
        offset |= (high & 0xFFFFFFFF) << 32
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    code = gate >> 16 & 0xFFFF
    if is_null(code):
        raise Fault(Vector.GP, 0)
    descriptor = read_descriptor(cpu, code, Vector.GP)
    code_rights = descriptor_rights(descriptor)
    if not is_code(code_rights) or dpl(code_rights) > cpu.state.cpl:
        raise Fault(Vector.GP, code & 0xFFFC)
    if cpu.long_mode and (not code_rights & L or code_rights & DB):
        raise Fault(Vector.GP, code & 0xFFFC)
    if not code_rights & PRESENT:
        raise Fault(Vector.NP, code & 0xFFFC)
    return code, descriptor, offset


def through_call_gate(cpu: Cpu, selector: int, gate: int, back: list[int]) -> None:
    """CALL through a call gate, to the same level or, on its stack, to a more privileged one."""
    state = cpu.state
    code, descriptor, offset = gate_target(cpu, selector, gate)
    rights = descriptor_rights(descriptor)
    width = 8 if cpu.long_mode else 4 if descriptor_rights(gate) & 8 else 2
    where = check_target(cpu, offset, descriptor)
    if rights & CONFORMING or dpl(rights) == state.cpl:
        push(cpu, back, width)
        load_code_segment(cpu, code, set_accessed(cpu, code, descriptor), state.cpl)
    else:
        cpl = dpl(rights)
        outer = [int(state.selector[SS]), int(state.rsp)]
        if cpu.long_mode:
            pointer = read_tss(cpu, 4 + 8 * cpl, 8)
            frame = [*outer, *back]
            top = pointer - 32 & WORD
            if not is_canonical(cpu, pointer) or not is_canonical(cpu, top):
                raise Fault(Vector.SS, 0)
            data = b"".join(value.to_bytes(8, "little") for value in reversed(frame))
            write_at_level(cpu, cpl, top, data)
            load_null(cpu, SS, cpl)
            state.rsp = top
        else:
            count = gate >> 32 & 0x1F
            parameters = [peek(cpu, width * i, width) for i in reversed(range(count))]
            inner_push(cpu, cpl, [*outer, *parameters, *back], width)
        load_code_segment(cpu, code, set_accessed(cpu, code, descriptor), cpl)
        if cpu.long_mode:
            load_null(cpu, SS, cpl)
    cpu.next_rip = where


def inner_push(cpu: Cpu, cpl: int, frame: list[int], width: int) -> None:
    """Push a frame on the stack that the TSS holds for a level."""
    from emu.cpu.system.events import push_on_inner_stack  # noqa: PLC0415

    push_on_inner_stack(cpu, cpl, frame, width)


def retf(cpu: Cpu, insn: Any) -> None:
    """RET, far, with or without bytes to release."""
    size = operand_size(insn)
    width = size // 8
    release = insn.immediate(0) & 0xFFFF if insn.op_count else 0
    state = cpu.state
    offset = peek(cpu, 0, width)
    selector = peek(cpu, width, width) & 0xFFFF
    if not protected(cpu):
        if offset > state.segment_limit[CS]:
            raise Fault(Vector.GP, 0)
        set_stack_pointer(cpu, state.rsp + 2 * width + release)
        real_transfer(cpu, selector, offset)
        return
    descriptor = return_descriptor(cpu, selector)
    where = check_target(cpu, offset, descriptor)
    if rpl(selector) > state.cpl:
        return_outward(cpu, selector, descriptor, 2 * width + release, width)
        set_stack_pointer(cpu, state.rsp + release)
    else:
        set_stack_pointer(cpu, state.rsp + 2 * width + release)
        load_code_segment(cpu, selector, set_accessed(cpu, selector, descriptor), state.cpl)
    cpu.next_rip = where
    cpu.refresh()


def return_descriptor(cpu: Cpu, selector: int) -> int:
    """The code segment that a return leads to, checked."""
    if is_null(selector):
        raise Fault(Vector.GP, 0)
    descriptor = read_descriptor(cpu, selector, Vector.GP)
    rights = descriptor_rights(descriptor)
    where = selector & 0xFFFC
    level = rpl(selector)
    if not is_code(rights) or level < cpu.state.cpl:
        raise Fault(Vector.GP, where)
    if dpl(rights) > level if rights & CONFORMING else dpl(rights) != level:
        raise Fault(Vector.GP, where)
    check_code_mode(cpu, rights, where)
    if not rights & PRESENT:
        raise Fault(Vector.NP, where)
    return descriptor


def return_outward(cpu: Cpu, selector: int, descriptor: int, above: int, width: int) -> None:
    """Return to a less privileged level, or in 64-bit IRET anywhere: SS and the stack pointer."""
    state = cpu.state
    pointer = peek(cpu, above, width)
    stack = peek(cpu, above + width, width) & 0xFFFF
    level = rpl(selector)
    to_64 = cpu.long_mode and descriptor_rights(descriptor) & L
    if is_null(stack):
        # a null SS is fine for 64-bit code below level 3
        if not to_64 or level == 3 or rpl(stack) != level:
            raise Fault(Vector.GP, 0)
        found = None
    else:
        found = stack_descriptor(cpu, stack, level)
    old = state.cpl
    load_code_segment(cpu, selector, set_accessed(cpu, selector, descriptor), level)
    if found is None:
        load_null(cpu, SS, stack)
    else:
        fill_segment(cpu, SS, stack, found)
    cpu.refresh()
    state.rsp = (
        pointer if width == 8 else state.rsp & ~state.stack_mask | pointer & state.stack_mask
    )
    if level > old:
        drop_privileged_segments(cpu)


def iret(cpu: Cpu, insn: Any) -> None:
    """IRET, IRETD, IRETQ: return from an interrupt; NMIs are accepted again."""
    width = {"IRET": 2, "IRETD": 4, "IRETQ": 8}[MNEMONICS[insn.mnemonic]]
    state = cpu.state
    ask(cpu, Intercept.IRET, insn)
    if not state.cr0 & 1:
        iret_real(cpu, width)
    elif state.rflags & VM:
        if state.rflags >> 12 & 3 < 3:
            raise Fault(Vector.GP, 0)
        iret_real(cpu, width)
    elif state.rflags & NT:
        if cpu.long_mode:
            raise Fault(Vector.GP, 0)
        task.return_to_previous(cpu)
        cpu.refresh()
    else:
        iret_protected(cpu, width)
    if cpu.guest is None or cpu.guest.iret_unblocks():
        cpu.nmi_blocked = False


def new_flags(cpu: Cpu, value: int, width: int) -> int:
    """RFLAGS as IRET loads them at the current privilege level."""
    writable = STATUS | TF | DIRECTION | NT
    if width > 2:
        writable |= RF | AC | ID
    if cpu.state.cpl <= cpu.state.rflags >> 12 & 3:
        writable |= IF
    if cpu.state.cpl == 0:
        writable |= IOPL
        if width > 2:
            writable |= VIF | VIP
    return cpu.rflags & ~writable | value & writable


def iret_real(cpu: Cpu, width: int) -> None:
    """IRET in real-address mode, and in virtual-8086 mode with IOPL 3."""
    state = cpu.state
    offset, selector, flags = (peek(cpu, width * i, width) for i in range(3))
    if offset > state.segment_limit[CS]:
        raise Fault(Vector.GP, 0)
    vm86 = state.rflags & VM
    kept = VM | VIF | VIP | (IOPL if vm86 else 0)
    if width == 2:
        kept |= 0xFFFF0000
    else:
        kept |= RF & 0
    flags = cpu.rflags & kept | flags & ~kept & 0x257FD5
    set_stack_pointer(cpu, state.rsp + 3 * width)
    cpu.rflags = flags
    load_real(cpu, CS, selector & 0xFFFF)
    cpu.next_rip = offset
    cpu.refresh()


def iret_protected(cpu: Cpu, width: int) -> None:
    """IRET in protected and IA-32e mode: to the same level, outward, or to virtual-8086 mode."""
    state = cpu.state
    offset, selector, image = (peek(cpu, width * i, width) for i in range(3))
    selector &= 0xFFFF
    if image & VM and state.cpl == 0 and width == 4 and not cpu.long_mode:
        to_virtual_8086(cpu, offset, selector, image)
        return
    descriptor = return_descriptor(cpu, selector)
    where = check_target(cpu, offset, descriptor)
    flags = new_flags(cpu, image, width)
    if rpl(selector) > state.cpl or cpu.mode.bits == 64:
        return_outward(cpu, selector, descriptor, 3 * width, width)
    else:
        set_stack_pointer(cpu, state.rsp + 3 * width)
        load_code_segment(cpu, selector, set_accessed(cpu, selector, descriptor), state.cpl)
    cpu.rflags = flags
    cpu.next_rip = where
    cpu.refresh()


def to_virtual_8086(cpu: Cpu, offset: int, selector: int, image: int) -> None:
    """IRET to virtual-8086 mode: nine words from the stack of level 0."""
    state = cpu.state
    pointer, stack, es, ds, fs, gs = (peek(cpu, 12 + 4 * i, 4) for i in range(6))
    if offset > 0xFFFF:
        raise Fault(Vector.GP, 0)
    cpu.rflags = image & 0x3F7FD5
    state.cpl = 3
    for seg, value in ((0, es), (CS, selector), (SS, stack), (3, ds), (4, fs), (5, gs)):
        load_real(cpu, seg, value & 0xFFFF)
    state.rsp = pointer
    cpu.next_rip = offset
    cpu.refresh()


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "JMP": jmp,
    "CALL": call,
    "RETF": retf,
    "IRET": iret,
    "IRETD": iret,
    "IRETQ": iret,
}
