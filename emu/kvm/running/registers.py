"""What a vCPU keeps in the processor's registers while it runs, whatever control structure it has.

Rows, and both directions: before the first entry into the processor, after the last exit out of it.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from emu.cpu.system.xsave import restore_x87, x87_image

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu
    from emu.kvm.vcpu import Vcpu

GENERAL: Final = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
IN_PROCESSOR: Final = tuple(name for name in GENERAL if name != "rsp")

# MSRs that the guest reads and writes in the processor: arch/x86/kvm/vmx/vmx.c: vmx_uret_msrs_list.
MSRS: Final = {
    0xC000_0081: "star",
    0xC000_0082: "lstar",
    0xC000_0083: "cstar",
    0xC000_0084: "sfmask",
    0xC000_0102: "kernel_gs_base",
    0xC000_0103: "tsc_aux",
}

# SDM Vol. 1, XSAVE Area: the legacy region, the header, AVX state in standard form.
MXCSR_AT, XMM_AT, BITMAP_AT, YMM_AT, SIZE = 24, 160, 512, 576, 4096
X87_SSE, AVX = 3, 4
MXCSR_MASK: Final = 0xFFFF
REGISTERS: Final = 16
WORDS: Final = 8  # of a ZMM register


def load_general(vcpu: Vcpu, state: Any) -> None:
    """General registers but RSP, which the control structure holds, CR2, and the MSRs."""
    registers, msrs = vcpu.registers, vcpu.msrs
    for name in IN_PROCESSOR:
        setattr(state, name, registers[name])
    state.cr2 = vcpu.cr2
    for index, name in MSRS.items():
        setattr(state, name, msrs.get(index, 0))


def save_general(vcpu: Vcpu, state: Any) -> None:
    """The same, out of the processor."""
    registers, msrs = vcpu.registers, vcpu.msrs
    for name in IN_PROCESSOR:
        registers[name] = getattr(state, name)
    vcpu.cr2 = state.cr2
    for index, name in MSRS.items():
        msrs[index] = getattr(state, name)


def load_rest(vcpu: Vcpu, cpu: Cpu) -> None:
    """What stays in the processor from exit to exit: debug registers, extended state."""
    state = cpu.state
    for i, address in enumerate(vcpu.debug.db):
        state.dr[i] = address
    state.dr[6], state.dr[7] = vcpu.debug.dr6, vcpu.debug.dr7
    state.xcr0 = vcpu.xcr0
    _load_extended(vcpu.xsave, cpu)


def save_rest(vcpu: Vcpu, cpu: Cpu) -> None:
    """The same, out of the processor."""
    state = cpu.state
    a, b, c, d = (int(state.dr[i]) for i in range(4))
    vcpu.debug = replace(vcpu.debug, db=(a, b, c, d), dr6=int(state.dr[6]))
    vcpu.xcr0 = int(state.xcr0)
    vcpu.xsave = _extended(cpu)


def _extended(cpu: Cpu) -> bytes:
    """x87, SSE and AVX state as KVM_GET_XSAVE gives it."""
    state = cpu.state
    area = bytearray(SIZE)
    area[:XMM_AT] = x87_image(cpu, True)
    struct.pack_into("<II", area, MXCSR_AT, state.mxcsr, MXCSR_MASK)
    struct.pack_into("<Q", area, BITMAP_AT, X87_SSE | int(state.xcr0) & AVX)
    for i in range(REGISTERS):
        low, high, *more = (int(state.zmm[WORDS * i + n]) for n in range(4))
        struct.pack_into("<QQ", area, XMM_AT + 16 * i, low, high)
        if state.xcr0 & AVX:
            struct.pack_into("<QQ", area, YMM_AT + 16 * i, *more)
    return bytes(area)


def _load_extended(area: bytes, cpu: Cpu) -> None:
    state = cpu.state
    (bitmap,) = struct.unpack_from("<Q", area, BITMAP_AT)
    if not bitmap & X87_SSE:
        return
    restore_x87(cpu, area[:XMM_AT], True)
    (state.mxcsr,) = struct.unpack_from("<I", area, MXCSR_AT)
    for i in range(REGISTERS):
        words = struct.unpack_from("<QQ", area, XMM_AT + 16 * i)
        words += struct.unpack_from("<QQ", area, YMM_AT + 16 * i) if bitmap & AVX else (0, 0)
        for n, word in enumerate(words):
            state.zmm[WORDS * i + n] = word
