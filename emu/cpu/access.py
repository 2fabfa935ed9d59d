"""Operands: registers, immediates, and memory through the software TLB.

Compiled code looks into the data TLB in line. Everything else (a miss, a page crossing, a page
with decoded code, memory that is not RAM) is done by the outlined functions below; when they set
`exit_code` the instruction is given up before it has had any effect.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from emu.cpu.compiler.words import (
    intrinsic,
    leave,
    outlined,
    raw_load8,
    raw_load16,
    raw_load32,
    raw_load64,
    raw_store8,
    raw_store16,
    raw_store32,
    raw_store64,
    restricted,
    tail,
    unlikely,
)
from emu.cpu.debug import watch
from emu.cpu.flags import AC
from emu.cpu.paging import (
    CR0_AM,
    NO_PAGE,
    USER_ACCESS,
    WRITE,
    WRITE_READY,
    exception,
    is_canonical,
    walk,
)
from emu.cpu.physmap import MAP_CODE, MAP_DIRTY, MAP_HOST, MAP_WRITABLE, PAGE, PAGE_OFFSET
from emu.cpu.state import (
    CPU,
    DTLB_ENTRIES,
    FS,
    NO_ERROR_CODE,
    SS,
    STRICT,
    TLB_ENTRY,
    Exit,
    Vector,
)

BOUNCE = CPU.places["bounce"].offset

BUSES: dict[int, Any] = {}
"""What answers for memory that is not RAM, by the address of the processor's state."""


@intrinsic("{t0} = inttoptr i64 {3} to ptr\n{r} = call i64 {t0}(i64 {0}, i64 {1}, i64 {2})")
def device_load(cpu: int, gpa: int, count: int, reader: int) -> int:
    """Read a device; compiled code calls `reader`."""
    view = CPU(cpu)
    view.exit_code = Exit.NONE
    return int.from_bytes(BUSES[cpu].read(gpa, count), "little")


@intrinsic(
    "{t0} = inttoptr i64 {4} to ptr\n{r} = call i64 {t0}(i64 {0}, i64 {1}, i64 {2}, i64 {3})"
)
def device_store(cpu: int, gpa: int, value: int, count: int, writer: int) -> int:
    """Write a device; compiled code calls `writer`."""
    view = CPU(cpu)
    view.exit_code = Exit.NONE
    BUSES[cpu].write(gpa, (value & ((1 << 8 * count) - 1)).to_bytes(count, "little"))
    return 0


@intrinsic("{t0} = icmp ne i64 {0}, 0\n{r} = zext i1 {t0} to i64")
def reachable(reader: int) -> int:
    """Whether devices can be reached from here: compiled code needs `reader` and `writer`."""
    return 1


ESCAPED: list[BaseException] = []
"""What a device raised while compiled code reached it: no exception passes through that."""

WORD_TYPE = ctypes.c_uint64


def _reader(cpu: int, gpa: int, count: int) -> int:
    try:
        return int(device_load(cpu, gpa, count, 0))
    except BaseException as escaped:
        ESCAPED.append(escaped)
        return 0


def _writer(cpu: int, gpa: int, value: int, count: int) -> int:
    try:
        return int(device_store(cpu, gpa, value, count, 0))
    except BaseException as escaped:
        ESCAPED.append(escaped)
        return 0


CALLBACKS = (
    ctypes.CFUNCTYPE(WORD_TYPE, *(WORD_TYPE,) * 3)(_reader),
    ctypes.CFUNCTYPE(WORD_TYPE, *(WORD_TYPE,) * 4)(_writer),
)
READER, WRITER = (ctypes.cast(call, ctypes.c_void_p).value or 0 for call in CALLBACKS)
"""Addresses of what compiled code calls, for the fields `device_reader` and `device_writer`."""


WATCHERS: dict[int, Callable[[int, int, int], None]] = {}
"""Who is told of accesses that take the slow path, by the address of the processor's state."""


@intrinsic("{r} = add i64 0, 0")
def tell(cpu: int, linear: int, count: int, writes: int) -> int:
    """Tell the watcher of an access: plain execution has one, compiled code none."""
    watcher = WATCHERS.get(cpu)
    if watcher is not None:
        watcher(linear, count, writes)
    return 0


@tail
def restart(cpu: Any, uop: Any) -> None:
    """Leave with RIP at this instruction, which has had no effect."""
    cpu.rip = (cpu.page_base + uop.offset) & cpu.ip_mask
    cpu.budget += uop.left + 1
    leave()


@tail
def resume_after(cpu: Any, uop: Any) -> None:
    """Leave with RIP at the next instruction: this one is done."""
    cpu.rip = (cpu.page_base + uop.offset + uop.length) & cpu.ip_mask
    cpu.budget += uop.left
    leave()


@restricted
def fault(cpu: Any, uop: Any, vector: int, error: int = NO_ERROR_CODE) -> None:
    """Give the instruction up with an exception."""
    exception(cpu, vector, error)
    restart(cpu, uop)


@restricted
def raw_load(address: int, size: int) -> int:
    """`size` bits at a host address."""
    if size == 8:
        return raw_load8(address)
    if size == 16:
        return raw_load16(address)
    if size == 32:
        return raw_load32(address)
    return raw_load64(address)


@restricted
def raw_store(address: int, value: int, size: int) -> None:
    """Write `size` bits at a host address."""
    if size == 8:
        raw_store8(address, value)
    elif size == 16:
        raw_store16(address, value)
    elif size == 32:
        raw_store32(address, value)
    else:
        raw_store64(address, value)


@restricted
def tlb_entry(cpu: Any, linear: int) -> Any:
    """Where the data TLB keeps the page of `linear`.

    The last page of all has another place than page 0: an operand that wraps around, whose last
    byte lies in page 0, must not find that page's entry.
    """
    return TLB_ENTRY(cpu.dtlb + ((linear >> 12) + (linear >> 20) & (DTLB_ENTRIES - 1)) * 32)


# the slow path


@restricted
def lines_of(gpa: int, count: int) -> int:
    """The 64-byte lines of its page that `count` bytes at `gpa` touch, a bit a line."""
    first = gpa >> 6 & 63
    last = (gpa & PAGE_OFFSET) + count - 1 >> 6
    last = min(last, 63)
    return (2 << last - first) - 1 << first


@restricted
def pass_device(cpu: Any) -> None:
    """Go on although an address is a device's, where devices can be reached."""
    if cpu.exit_code == Exit.MMIO and reachable(cpu.device_writer):
        cpu.exit_code = Exit.NONE


@outlined
def translate(cpu: Any, linear: int, access: int, count: int) -> int:
    """Host address for `count` bytes inside one page; 0 with exit_code set when there is none.

    Fills the data TLB, except while every access is to be looked at.
    """
    if cpu.cpl == 3:
        access |= USER_ACCESS
    page = walk(cpu, linear, access)
    if page == NO_PAGE:
        return 0
    frame = page >> 12
    cpu.exit_address = page & PAGE | linear & PAGE_OFFSET
    mapped = 0
    if frame < cpu.physmap_pages and frame != cpu.trapped_frame:
        mapped = raw_load64(cpu.physmap + frame * 8)
    if mapped == 0 or (access & WRITE and mapped & MAP_WRITABLE == 0):
        cpu.exit_code = Exit.MMIO
        return 0
    if access & WRITE:
        if mapped & MAP_CODE and raw_load64(cpu.code_lines + frame * 8) & lines_of(linear, count):
            if cpu.code_write_allowed == 0:
                cpu.exit_code = Exit.CODE_WRITE
                return 0
            cpu.code_written = frame + 1
        if mapped & MAP_DIRTY == 0:
            mapped |= MAP_DIRTY
            raw_store64(cpu.physmap + frame * 8, mapped)
    host = mapped & MAP_HOST
    if cpu.dtlb != cpu.dtlb_kinds[STRICT]:
        entry = tlb_entry(cpu, linear)
        entry.read_tag = linear & PAGE
        entry.write_tag = 1
        if page & WRITE_READY and mapped & (MAP_WRITABLE | MAP_DIRTY | MAP_CODE) == (
            MAP_WRITABLE | MAP_DIRTY
        ):
            entry.write_tag = linear & PAGE
        entry.addend = host - (linear & PAGE)
        entry.frame = page & PAGE
    return host + (linear & PAGE_OFFSET)


@outlined
def check_linear(cpu: Any, linear: int, count: int, seg: int, writes: int) -> int:
    """1 when the bytes may be asked for: canonical and, where demanded, aligned.

    Data breakpoints that the access meets are noted.
    """
    if is_canonical(cpu, linear) == 0 or is_canonical(cpu, linear + count - 1) == 0:
        exception(cpu, Vector.SS if seg == SS else Vector.GP, 0)
        return 0
    if cpu.dtlb != cpu.dtlb_kinds[STRICT]:
        return 1
    tell(cpu.address, linear, count, writes)
    if cpu.dr[7] & 0xFF:
        watch(cpu, linear, count, writes)
    if linear & count - 1:
        if cpu.cpl == 3 and cpu.cr0 & CR0_AM and cpu.rflags & AC:
            exception(cpu, Vector.AC, 0)
            return 0
    return 1


@outlined
def load_slow(cpu: Any, linear: int, count: int, seg: int) -> int:
    """Read 1, 2, 4 or 8 bytes, whatever lies there; on a fault exit_code is set."""
    if check_linear(cpu, linear, count, seg, 0) == 0:
        return 0
    first = 0x1000 - (linear & PAGE_OFFSET)
    first = min(first, count)
    value = load_piece(cpu, linear, first)
    if cpu.exit_code == 0 and first < count:
        following = linear + first & cpu.linear_mask
        value |= load_piece(cpu, following, count - first) << (first * 8 & 63)
    return value


@outlined
def load_piece(cpu: Any, linear: int, count: int) -> int:
    """Read 1 to 8 bytes inside one page."""
    host = translate(cpu, linear, 0, count)
    if host == 0:
        if cpu.exit_code == Exit.MMIO and reachable(cpu.device_reader):
            return device_load(cpu.address, cpu.exit_address, count, cpu.device_reader)
        return 0
    value = 0
    done = 0
    while done < count:
        value |= raw_load8(host + done) << (done * 8 & 63)
        done += 1
    return value


@outlined
def store_slow(cpu: Any, linear: int, value: int, count: int, seg: int) -> int:
    """Write 1, 2, 4 or 8 bytes, whatever lies there; on a fault nothing is written."""
    if check_linear(cpu, linear, count, seg, 1) == 0:
        return 0
    first = 0x1000 - (linear & PAGE_OFFSET)
    if first >= count:
        return store_piece(cpu, linear, value, count)
    following = linear + first & cpu.linear_mask
    # both pages before either is written
    translate(cpu, linear, WRITE, first)
    pass_device(cpu)
    if cpu.exit_code == 0:
        translate(cpu, following, WRITE, count - first)
        pass_device(cpu)
    if cpu.exit_code == 0:
        store_piece(cpu, linear, value, first)
        store_piece(cpu, following, value >> (first * 8 & 63), count - first)
    return 0


@outlined
def store_piece(cpu: Any, linear: int, value: int, count: int) -> int:
    """Write 1 to 8 bytes inside one page."""
    host = translate(cpu, linear, WRITE, count)
    if host == 0:
        if cpu.exit_code == Exit.MMIO and reachable(cpu.device_writer):
            return device_store(cpu.address, cpu.exit_address, value, count, cpu.device_writer)
        return 0
    done = 0
    while done < count:
        raw_store8(host + done, value >> (done * 8 & 63))
        done += 1
    return 0


@outlined
def modify_slow(cpu: Any, linear: int, count: int, seg: int) -> int:
    """Host address where an operand can be read and then written; 0 with exit_code set.

    What no single host address stands for is copied to `bounce`; `commit` writes it back.
    """
    if check_linear(cpu, linear, count, seg, 1) == 0:
        return 0
    first = 0x1000 - (linear & PAGE_OFFSET)
    first = min(first, count)
    host = translate(cpu, linear, WRITE, first)
    if first == count and host:
        return host
    pass_device(cpu)
    if cpu.exit_code == 0 and first < count:
        translate(cpu, linear + first & cpu.linear_mask, WRITE, count - first)
        pass_device(cpu)
    if cpu.exit_code:
        return 0
    cpu.bounce[0] = load_slow(cpu, linear, count, seg)
    return cpu.address + BOUNCE


@outlined
def commit(cpu: Any, linear: int, count: int, seg: int) -> int:
    """Write the operand in `bounce` to where it belongs."""
    return store_slow(cpu, linear, cpu.bounce[0], count, seg)


# the straight way


@restricted
def load(cpu: Any, uop: Any, linear: int, size: int, seg: int) -> int:
    """Read `size` bits at a linear address."""
    count = size >> 3
    entry = tlb_entry(cpu, linear)
    if unlikely(linear + (count - 1) & PAGE != entry.read_tag):
        value = load_slow(cpu, linear, count, seg)
        if cpu.exit_code:
            restart(cpu, uop)
        return value
    return raw_load(linear + entry.addend, size)


@restricted
def store(cpu: Any, uop: Any, linear: int, value: int, size: int, seg: int) -> None:
    """Write `size` bits at a linear address."""
    count = size >> 3
    entry = tlb_entry(cpu, linear)
    if unlikely(linear + (count - 1) & PAGE != entry.write_tag):
        store_slow(cpu, linear, value, count, seg)
        if cpu.exit_code:
            restart(cpu, uop)
    else:
        raw_store(linear + entry.addend, value, size)


@restricted
def modify(cpu: Any, uop: Any, linear: int, size: int, seg: int) -> int:
    """Host address of an operand that is read and then written; end with `modified`."""
    count = size >> 3
    entry = tlb_entry(cpu, linear)
    if unlikely(linear + (count - 1) & PAGE != entry.write_tag):
        host = modify_slow(cpu, linear, count, seg)
        if cpu.exit_code:
            restart(cpu, uop)
        return host
    return linear + entry.addend


@restricted
def modified(cpu: Any, host: int, value: int, linear: int, size: int, seg: int) -> None:
    """Write what `modify` gave the address of."""
    raw_store(host, value, size)
    if unlikely(host == cpu.address + BOUNCE):
        commit(cpu, linear, size >> 3, seg)


# operands


@restricted
def flat_address(cpu: Any, uop: Any) -> int:
    """BASE + INDEX * scale + displacement: the linear address of the memory operand.

    That is so in 64-bit mode without a segment base. In other cases a micro-operation before
    this one has computed the linear address, and BASE is ADDRESS_REGISTER.
    """
    return cpu.gpr[uop.base] + (cpu.gpr[uop.index] << uop.scale) + uop.disp


@restricted
def read_register(cpu: Any, number: int, size: int) -> int:
    """A general-purpose register; for 8 bits `number` is a byte offset (AH is 1)."""
    if size == 8:
        return cpu.gpr8[number]
    if size == 64:
        return cpu.gpr[number]
    return cpu.gpr[number] & ((1 << size) - 1)


@restricted
def write_register(cpu: Any, number: int, size: int, value: int) -> None:
    """Write a general-purpose register: 32 bits clear the upper half, 8 and 16 keep the rest."""
    if size == 8:
        shift = (number & 1) << 3
        place = number >> 3
        cpu.gpr[place] = cpu.gpr[place] & ~(0xFF << shift) | (value & 0xFF) << shift
    elif size == 16:
        cpu.gpr[number] = cpu.gpr[number] & ~0xFFFF | value & 0xFFFF
    elif size == 32:
        cpu.gpr[number] = value & 0xFFFFFFFF
    else:
        cpu.gpr[number] = value


@restricted
def register_number(uop: Any, kind: str) -> int:
    """The register field that an operand of kind R0, R1 or R2 names."""
    if kind == "R0":
        return uop.r0
    if kind == "R1":
        return uop.r1
    return uop.r2


@restricted
def read(cpu: Any, uop: Any, kind: str, size: int) -> int:
    """The operand of `kind`: a register (R0 R1 R2), the immediate (I) or memory (M)."""
    if kind == "I":
        if size == 64:
            return uop.imm
        return uop.imm & ((1 << size) - 1)
    if kind[0] == "R":
        return read_register(cpu, register_number(uop, kind), size)
    return load(cpu, uop, flat_address(cpu, uop), size, uop.seg)


@restricted
def write(cpu: Any, uop: Any, kind: str, size: int, value: int) -> None:
    """Write the operand of `kind` without having read it."""
    if kind[0] == "R":
        write_register(cpu, register_number(uop, kind), size, value)
    else:
        store(cpu, uop, flat_address(cpu, uop), value, size, uop.seg)


# segments outside 64-bit mode


@restricted
def segment_vector(seg: int) -> int:
    """The exception of a limit or rights violation: #SS for the stack segment, else #GP."""
    return Vector.SS if seg == SS else Vector.GP


@restricted
def checked_linear(cpu: Any, uop: Any, seg: int, offset: int, count: int, writes: int) -> int:
    """Linear address of `count` bytes at seg:offset, limit and rights checked."""
    end = cpu.write_end[seg] if writes else cpu.read_end[seg]
    if unlikely(offset < cpu.segment_low[seg]) or unlikely(offset + count > end):
        fault(cpu, uop, segment_vector(seg), 0)
    return cpu.linear_base[seg] + offset & 0xFFFFFFFF


@restricted
def linear_in(cpu: Any, uop: Any, mode: str, seg: int, offset: int, count: int, writes: int) -> int:
    """Linear address of seg:offset: checked outside 64-bit mode, FS and GS based inside."""
    if mode == "legacy":
        return checked_linear(cpu, uop, seg, offset, count, writes)
    if seg < FS:
        return offset
    return offset + cpu.linear_base[seg]
