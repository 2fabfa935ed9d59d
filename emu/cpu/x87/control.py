"""x87 instructions on the FPU's own state. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from iced_x86 import OpKind

from emu.cpu.decode import operand_bits
from emu.cpu.errors import Fault
from emu.cpu.flags import VM
from emu.cpu.paging import CR0_MP, CR0_PE, CR0_TS
from emu.cpu.state import Vector
from emu.cpu.system.operands import get, memory_address, put, set_register
from emu.cpu.x87.unit import EXCEPTIONS, Frozen, available, check_pending, set_status
from emu.cpu.x87.values import Bits, Kind, unpacked

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

INITIAL_CONTROL = 0x37F
CONTROL_BITS, CONTROL_ONE = 0x1F7F, 1 << 6
LONG = 28  # bytes of the environment with a 32-bit operand size; 14 with a 16-bit one
KEPT_BY_CLEAR = 0x7F00
RESERVED_HALF = 0xFFFF0000  # is written as ones
VALID_TAG, ZERO_TAG, SPECIAL_TAG, EMPTY_TAG = range(4)


def set_control(cpu: Cpu, word: int) -> None:
    """Write FCW; what it unmasks becomes pending."""
    set_words(cpu, word, int(cpu.state.fsw))


def set_words(cpu: Cpu, control: int, status: int) -> None:
    """Write FCW and FSW."""
    cpu.state.fcw = control & CONTROL_BITS | CONTROL_ONE
    set_status(cpu, status)


def tag_word(state: Any) -> int:
    """The full tag word, two bits a physical register. SDM Vol. 1, x87 FPU Tag Word."""
    word = 0
    for place in range(8):
        if not int(state.ftw) >> place & 1:
            tag = EMPTY_TAG
        else:
            bits = Bits(int(state.st_exponent[place]), int(state.st_mantissa[place]))
            value = unpacked(bits)
            tag = ZERO_TAG if value.kind == Kind.ZERO else SPECIAL_TAG
            if value.kind == Kind.FINITE and not value.denormal:
                tag = VALID_TAG
        word |= tag << 2 * place
    return word


def real_format(cpu: Cpu) -> bool:
    """Whether pointers are kept as linear addresses: in real and virtual-8086 mode."""
    return not cpu.state.cr0 & CR0_PE or bool(cpu.state.rflags & VM)


def environment_image(cpu: Cpu, size: int) -> bytes:
    """The environment as FNSTENV stores it. SDM Vol. 1, x87 FPU State Image in Memory."""
    state = cpu.state
    head = (int(state.fcw), int(state.fsw), tag_word(state))
    fip, fdp, fop = int(state.fip), int(state.fdp), int(state.fop)
    zeroed = cpu.model.has("ZERO_FCS_FDS")
    fcs, fds = (0, 0) if zeroed else (int(state.fcs), int(state.fds))
    if real_format(cpu):
        code, data = (int(state.fcs) << 4) + fip, (int(state.fds) << 4) + fdp
        pointers = (code & 0xFFFF, code >> 4 & ~0xFFF | fop, data & 0xFFFF, data >> 4 & ~0xFFF)
    elif size == LONG:
        pointers = (fip, fop << 16 | fcs, fdp, fds | RESERVED_HALF)
    else:
        pointers = (fip, fcs, fdp, fds)
    if size == LONG:
        head = tuple(word | RESERVED_HALF for word in head)  # type: ignore[assignment]
        return struct.pack("<7I", *(word & 0xFFFFFFFF for word in (*head, *pointers)))
    return struct.pack("<7H", *(word & 0xFFFF for word in (*head, *pointers)))


def load_environment(cpu: Cpu, data: bytes) -> None:
    """Load the environment from its image."""
    state = cpu.state
    long = len(data) == LONG
    words = struct.unpack("<7I" if long else "<7H", data)
    tags = words[2]
    state.ftw = sum(1 << i for i in range(8) if tags >> 2 * i & 3 != EMPTY_TAG)
    if real_format(cpu):
        state.fcs = state.fds = 0
        state.fip = words[3] & 0xFFFF | (words[4] & ~0xFFF) << 4
        state.fdp = words[5] & 0xFFFF | (words[6] & ~0xFFF) << 4
        state.fop = words[4] & 0x7FF
    else:
        state.fip, state.fcs, state.fdp, state.fds = (
            words[3],
            words[4] & 0xFFFF,
            words[5],
            words[6] & 0xFFFF,
        )
        state.fop = words[4] >> 16 & 0x7FF if long else 0
    set_words(cpu, words[0], words[1] & 0xFFFF)


def stack_image(state: Any) -> bytes:
    """ST(0) to ST(7), ten bytes each."""
    top = int(state.fsw) >> 11 & 7
    return b"".join(
        struct.pack("<QH", state.st_mantissa[top + i & 7], state.st_exponent[top + i & 7])
        for i in range(8)
    )


def initialise(cpu: Cpu) -> None:
    """The state after FNINIT: registers keep what they hold, tagged empty."""
    state = cpu.state
    state.ftw = state.fop = 0
    state.fip = state.fdp = state.fcs = state.fds = 0
    set_words(cpu, INITIAL_CONTROL, 0)


def fninit(cpu: Cpu, insn: Any) -> None:
    """FNINIT."""
    available(cpu)
    initialise(cpu)


def fnclex(cpu: Cpu, insn: Any) -> None:
    """FNCLEX: clear the exceptions and what they set."""
    available(cpu)
    set_status(cpu, int(cpu.state.fsw) & KEPT_BY_CLEAR)


def fldcw(cpu: Cpu, insn: Any) -> None:
    """FLDCW."""
    set_control(cpu, get(cpu, insn, 0))


def fnstcw(cpu: Cpu, insn: Any) -> None:
    """FNSTCW."""
    available(cpu)
    put(cpu, insn, 0, int(cpu.state.fcw))


def fnstsw(cpu: Cpu, insn: Any) -> None:
    """FNSTSW: to memory or AX."""
    available(cpu)
    if insn.op_kind(0) == OpKind.REGISTER:
        set_register(cpu, 0, 16, int(cpu.state.fsw))
    else:
        put(cpu, insn, 0, int(cpu.state.fsw))


def fnstenv(cpu: Cpu, insn: Any) -> None:
    """FNSTENV: store the environment, then mask all exceptions."""
    available(cpu)
    size = operand_bits(insn, 0) // 8
    linear = memory_address(cpu, insn, size, True)
    cpu.write_bytes(linear, environment_image(cpu, size))
    set_control(cpu, int(cpu.state.fcw) | EXCEPTIONS)


def fldenv(cpu: Cpu, insn: Any) -> None:
    """FLDENV."""
    size = operand_bits(insn, 0) // 8
    load_environment(cpu, cpu.read_bytes(memory_address(cpu, insn, size), size))


def fnsave(cpu: Cpu, insn: Any) -> None:
    """FNSAVE: store environment and registers, then initialise."""
    available(cpu)
    size = operand_bits(insn, 0) // 8
    linear = memory_address(cpu, insn, size, True)
    cpu.write_bytes(linear, environment_image(cpu, size - 80) + stack_image(cpu.state))
    initialise(cpu)


def frstor(cpu: Cpu, insn: Any) -> None:
    """FRSTOR."""
    size = operand_bits(insn, 0) // 8
    data = cpu.read_bytes(memory_address(cpu, insn, size), size)
    load_environment(cpu, data[: size - 80])
    state = cpu.state
    top = int(state.fsw) >> 11 & 7
    for i in range(8):
        place = top + i & 7
        mantissa, exponent = struct.unpack_from("<QH", data, size - 80 + 10 * i)
        state.st_mantissa[place], state.st_exponent[place] = mantissa, exponent


def wait(cpu: Cpu, insn: Any) -> None:
    """WAIT: pending exceptions, and #NM with CR0.MP and CR0.TS both set."""
    if cpu.state.cr0 & CR0_MP and cpu.state.cr0 & CR0_TS:
        raise Fault(Vector.NM)
    try:
        check_pending(cpu)
    except Frozen:
        return


def ignored(cpu: Cpu, insn: Any) -> None:
    """FNENI, FNDISI, FNSETPM: of the 8087 and the 80287, without effect since."""
    available(cpu)


def waiting(function: Callable[[Cpu, Any], None]) -> Callable[[Cpu, Any], None]:
    """A control instruction that pending exceptions keep from running."""

    def run(cpu: Cpu, insn: Any) -> None:
        available(cpu)
        try:
            check_pending(cpu)
        except Frozen:
            return
        function(cpu, insn)

    return run


TABLE: Final[dict[str, Callable[[Cpu, Any], None]]] = {
    "FNINIT": fninit,
    "FNCLEX": fnclex,
    "FLDCW": waiting(fldcw),
    "FNSTCW": fnstcw,
    "FNSTSW": fnstsw,
    "FNSTENV": fnstenv,
    "FLDENV": waiting(fldenv),
    "FNSAVE": fnsave,
    "FRSTOR": waiting(frstor),
    "WAIT": wait,
    "FNENI": ignored,
    "FNDISI": ignored,
    "FNSETPM": ignored,
}
