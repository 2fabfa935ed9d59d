"""Saving and restoring extended state. SDM Vol. 1, Managing State Using the XSAVE Feature Set."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.decode import MNEMONICS
from emu.cpu.errors import Fault
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.models.model import INTEL, PKRU, SSE, X87, YMM
from emu.cpu.paging import CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, WRITE
from emu.cpu.state import Vector
from emu.cpu.system.msrs import XSS
from emu.cpu.system.operands import memory_address, require_feature, require_privilege
from emu.cpu.x87.control import initialise, set_words

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

FXSAVE_SIZE, XMM_OFFSET, HEADER, EXTENDED_REGION = 512, 160, 512, 576
MXCSR_MASK = 0xFFFF
COMPACTED = 1 << 63
INIT_MXCSR = 0x1F80


def tags(state: Any) -> int:
    """The abridged tag word."""
    return int(state.ftw) & 0xFF


def x87_image(cpu: Cpu, wide: bool) -> bytes:
    """The first 160 bytes: x87 state, MXCSR left zero. `wide` has 64-bit pointers."""
    state = cpu.state
    head = struct.pack("<HHBBH", state.fcw, state.fsw, tags(state), 0, state.fop)
    if wide:
        head += struct.pack("<QQ", state.fip, state.fdp)
    else:
        fcs = 0 if cpu.model.has("ZERO_FCS_FDS") else int(state.fcs)
        fds = 0 if cpu.model.has("ZERO_FCS_FDS") else int(state.fds)
        head += struct.pack(
            "<IHHIHH", state.fip & 0xFFFFFFFF, fcs, 0, state.fdp & 0xFFFFFFFF, fds, 0
        )
    head += bytes(8)
    top = state.fsw >> 11 & 7
    for i in range(8):
        place = top + i & 7
        head += struct.pack("<QH6x", state.st_mantissa[place], state.st_exponent[place])
    return head


def xmm_image(cpu: Cpu) -> bytes:
    """XMM0 to XMM15, or to XMM7 outside 64-bit mode, padded to 256 bytes."""
    state = cpu.state
    count = 16 if cpu.mode.bits == 64 else 8
    data = b"".join(
        struct.pack("<QQ", state.zmm[8 * i], state.zmm[8 * i + 1]) for i in range(count)
    )
    return data.ljust(256, b"\0")


def restore_x87(cpu: Cpu, data: bytes, wide: bool) -> None:
    """Load x87 state from the first 160 bytes of an area."""
    state = cpu.state
    control, status, state.ftw, _, fop = struct.unpack_from("<HHBBH", data)
    set_words(cpu, control, status)
    state.fop = fop & 0x7FF
    if wide:
        state.fip, state.fdp = struct.unpack_from("<QQ", data, 8)
    else:
        state.fip, state.fcs, _, state.fdp, state.fds, _ = struct.unpack_from("<IHHIHH", data, 8)
    top = state.fsw >> 11 & 7
    for i in range(8):
        place = top + i & 7
        mantissa, exponent = struct.unpack_from("<QH", data, 32 + 16 * i)
        state.st_mantissa[place], state.st_exponent[place] = mantissa, exponent


def init_x87(cpu: Cpu) -> None:
    """x87 state as after FNINIT, and registers of zero."""
    initialise(cpu)
    state = cpu.state
    for i in range(8):
        state.st_mantissa[i] = 0
        state.st_exponent[i] = 0


def restore_xmm(cpu: Cpu, data: bytes | None) -> None:
    """Load XMM registers from 256 bytes; None: zero."""
    state = cpu.state
    count = 16 if cpu.mode.bits == 64 else 8
    for i in range(count):
        low, high = struct.unpack_from("<QQ", data, 16 * i) if data is not None else (0, 0)
        state.zmm[8 * i], state.zmm[8 * i + 1] = low, high


def check_mxcsr(value: int) -> None:
    """#GP(0) for reserved bits of MXCSR."""
    if value & ~MXCSR_MASK:
        raise Fault(Vector.GP, 0)


def check_fpu(cpu: Cpu) -> None:
    """#NM with CR0.EM or CR0.TS."""
    if cpu.state.cr0 & (CR0_EM | CR0_TS):
        raise Fault(Vector.NM)


def area(cpu: Cpu, insn: Any, size: int, writes: bool, alignment: int) -> int:
    """Linear address of an area; #GP(0) where it is misaligned."""
    linear = memory_address(cpu, insn, size, writes)
    if linear % alignment:
        raise Fault(Vector.GP, 0)
    return linear


def fxsave(cpu: Cpu, insn: Any) -> None:
    """FXSAVE, FXSAVE64: x87, MXCSR and XMM registers."""
    check_fpu(cpu)
    linear = area(cpu, insn, FXSAVE_SIZE, True, 16)
    wide = MNEMONICS[insn.mnemonic] == "FXSAVE64"
    head = bytearray(x87_image(cpu, wide))
    if cpu.state.cr4 & CR4_OSFXSR or cpu.model.vendor == INTEL:
        head[24:32] = struct.pack("<II", cpu.state.mxcsr, MXCSR_MASK)
        cpu.write_bytes(linear, bytes(head) + xmm_image(cpu))
    else:
        cpu.write_bytes(linear, bytes(head))


def fxrstor(cpu: Cpu, insn: Any) -> None:
    """FXRSTOR, FXRSTOR64."""
    check_fpu(cpu)
    linear = area(cpu, insn, FXSAVE_SIZE, False, 16)
    data = cpu.read_bytes(linear, FXSAVE_SIZE)
    (mxcsr,) = struct.unpack_from("<I", data, 24)
    if cpu.state.cr4 & CR4_OSFXSR or cpu.model.vendor == INTEL:
        check_mxcsr(mxcsr)
        cpu.state.mxcsr = mxcsr
        restore_xmm(cpu, data[XMM_OFFSET : XMM_OFFSET + 256])
    restore_x87(cpu, data, MNEMONICS[insn.mnemonic] == "FXRSTOR64")


# the XSAVE family


def in_use(cpu: Cpu) -> int:
    """XINUSE: the components that are not in their initial configuration."""
    state = cpu.state
    record = cpu.record["zmm"].reshape(-1, 8)
    used = PKRU if state.pkru else 0
    count = 16 if cpu.mode.bits == 64 else 8
    if record[:count, :2].any():
        used |= SSE
    if record[:count, 2:4].any():
        used |= YMM
    plain = (state.fcw, state.fsw, state.ftw, state.fop, state.fip, state.fdp)
    mantissas, exponents = cpu.record["st_mantissa"], cpu.record["st_exponent"]
    if plain != (0x37F, 0, 0, 0, 0, 0) or mantissas.any() or exponents.any():
        used |= X87
    return used


def component_image(cpu: Cpu, number: int) -> bytes:
    """The bytes of an extended component."""
    state = cpu.state
    if number == 2:
        count = 16 if cpu.mode.bits == 64 else 8
        data = b"".join(
            struct.pack("<QQ", state.zmm[8 * i + 2], state.zmm[8 * i + 3]) for i in range(count)
        )
        return data.ljust(256, b"\0") if count == 16 else data
    return struct.pack("<Q", state.pkru)


def restore_component(cpu: Cpu, number: int, data: bytes | None) -> None:
    """Load an extended component; None: its initial configuration."""
    state = cpu.state
    if number == 2:
        for i in range(16 if cpu.mode.bits == 64 else 8):
            pair = struct.unpack_from("<QQ", data, 16 * i) if data is not None else (0, 0)
            state.zmm[8 * i + 2], state.zmm[8 * i + 3] = pair
    else:
        value = struct.unpack_from("<Q", data)[0] if data is not None else 0
        state.pkru = value & 0xFFFFFFFF
        cpu.flush_tlb(cpu.tlb_context)


def places(cpu: Cpu, components: int, compacted: bool) -> dict[int, tuple[int, int]]:
    """Offset and size of each extended component in an area."""
    found = {}
    end = EXTENDED_REGION
    for number in range(2, 63):
        if not components >> number & 1:
            continue
        size, offset, aligned = cpu.model.component(number)
        if compacted:
            offset = -(-end // 64) * 64 if aligned else end
            end = offset + size
        found[number] = (offset, size)
    return found


def requested(cpu: Cpu, supervisor: bool) -> int:
    """RFBM: EDX:EAX and XCR0, for the supervisor's forms IA32_XSS as well."""
    state = cpu.state
    mask = int(state.rdx & 0xFFFFFFFF) << 32 | int(state.rax & 0xFFFFFFFF)
    return mask & (int(state.xcr0) | (cpu.msrs.get(XSS, 0) if supervisor else 0))


def check_xsave(cpu: Cpu) -> None:
    """#UD without CR4.OSXSAVE, #NM with CR0.TS."""
    if not cpu.state.cr4 & CR4_OSXSAVE:
        raise Fault(Vector.UD)
    if cpu.state.cr0 & CR0_TS:
        raise Fault(Vector.NM)


def xsave(cpu: Cpu, insn: Any) -> None:
    """XSAVE, XSAVEOPT, XSAVEC, XSAVES."""
    name = MNEMONICS[insn.mnemonic]
    wide, plain = name.endswith("64"), name.removesuffix("64")
    if plain != "XSAVE":
        require_feature(cpu, plain)
    check_xsave(cpu)
    if plain == "XSAVES":
        require_privilege(cpu)
        ask(cpu, Intercept.XSAVES, insn)
    wanted = requested(cpu, plain == "XSAVES")
    linear = area(cpu, insn, EXTENDED_REGION, True, 64)
    compacted = plain in ("XSAVEC", "XSAVES")
    used = in_use(cpu)
    if cpu.state.mxcsr != INIT_MXCSR and wanted & SSE:
        used |= SSE
    saved = wanted & used if plain != "XSAVE" else wanted
    old = 0 if compacted else cpu.read(linear + HEADER, 8)
    # everything is translated before anything is written
    layout = places(cpu, wanted, compacted)
    end = max([EXTENDED_REGION, *(o + s for o, s in layout.values())])
    cpu.pieces(linear, end, WRITE, False)
    if saved & X87:
        image = x87_image(cpu, wide)
        cpu.write_bytes(linear, image[:24])
        cpu.write_bytes(linear + 32, image[32:])
    mxcsr_saved = saved & SSE if compacted else wanted & (SSE | YMM)
    if mxcsr_saved:
        cpu.write_bytes(linear + 24, struct.pack("<II", cpu.state.mxcsr, MXCSR_MASK))
    if saved & SSE:
        count = 256 if cpu.mode.bits == 64 else 128
        cpu.write_bytes(linear + XMM_OFFSET, xmm_image(cpu)[:count])
    for number, (offset, size) in layout.items():
        if saved >> number & 1:
            cpu.write_bytes(linear + offset, component_image(cpu, number)[:size])
    if compacted:
        cpu.write_bytes(linear + HEADER, struct.pack("<QQ", wanted & used, wanted | COMPACTED))
    else:
        cpu.write(linear + HEADER, old & ~wanted | wanted & used, 8)


def xrstor(cpu: Cpu, insn: Any) -> None:
    """XRSTOR, XRSTORS: the header says which components the area holds, the rest is initialised."""
    name = MNEMONICS[insn.mnemonic]
    wide, supervisor = name.endswith("64"), name.startswith("XRSTORS")
    if supervisor:
        require_feature(cpu, "XSAVES")
    check_xsave(cpu)
    if supervisor:
        require_privilege(cpu)
        ask(cpu, Intercept.XRSTORS, insn)
    wanted = requested(cpu, supervisor)
    linear = area(cpu, insn, EXTENDED_REGION, False, 64)
    data = cpu.read_bytes(linear, EXTENDED_REGION)
    held, compaction = struct.unpack_from("<QQ", data, HEADER)
    legal = int(cpu.state.xcr0) | (cpu.msrs.get(XSS, 0) if supervisor else 0)
    compacted = bool(compaction & COMPACTED)
    if compacted:
        known = compaction & ~COMPACTED
        if not cpu.model.has("XSAVEC") or known & ~legal or held & ~known:
            raise Fault(Vector.GP, 0)
        layout = places(cpu, known, True)
        bad = any(data[HEADER + 16 : HEADER + 64])
    else:
        layout = places(cpu, legal, False)
        bad = bool(held & ~legal) or any(data[HEADER + 8 : HEADER + 24]) or supervisor
    if bad:
        raise Fault(Vector.GP, 0)
    found = held & wanted
    extended = {
        number: cpu.read_bytes(linear + offset, size)
        for number, (offset, size) in layout.items()
        if found >> number & 1
    }
    load_mxcsr = wanted & (SSE | YMM) if not compacted else wanted & SSE
    mxcsr = struct.unpack_from("<I", data, 24)[0] if not compacted or found & SSE else INIT_MXCSR
    if load_mxcsr:
        check_mxcsr(mxcsr)
        cpu.state.mxcsr = mxcsr
    if wanted & X87:
        if found & X87:
            restore_x87(cpu, data, wide)
        else:
            init_x87(cpu)
    if wanted & SSE:
        restore_xmm(cpu, data[XMM_OFFSET : XMM_OFFSET + 256] if found & SSE else None)
    for number in range(2, 63):
        if wanted >> number & 1:
            restore_component(cpu, number, extended.get(number))


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "FXSAVE": fxsave,
    "FXSAVE64": fxsave,
    "FXRSTOR": fxrstor,
    "FXRSTOR64": fxrstor,
    **{
        name + suffix: xsave
        for name in ("XSAVE", "XSAVEOPT", "XSAVEC", "XSAVES")
        for suffix in ("", "64")
    },
    **{name + suffix: xrstor for name in ("XRSTOR", "XRSTORS") for suffix in ("", "64")},
}
