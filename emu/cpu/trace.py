"""What a processor did, as records: instructions with what they changed, and events in words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from iced_x86 import Decoder, DecoderError, Formatter, FormatterSyntax

from emu.cpu.flags import AC, AF, CF, DF, ID, IF, NT, OF, PF, RF, SF, TF, VIF, VIP, VM, ZF
from emu.cpu.guest_mode import Event, EventKind
from emu.cpu.observed import ObservedCpu, Observer
from emu.cpu.page_walk import peek
from emu.cpu.paging import NO_PAGE
from emu.cpu.state import CPU, CS, GPR_NAMES, Vector

FLAG_NAMES = {
    CF: "CF", PF: "PF", AF: "AF", ZF: "ZF", SF: "SF", TF: "TF", IF: "IF", DF: "DF", OF: "OF",
    NT: "NT", RF: "RF", VM: "VM", AC: "AC", VIF: "VIF", VIP: "VIP", ID: "ID",
}  # fmt: skip
SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
SINGLE_WORDS = (
    "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "xcr0", "pkru", "pkrs", "mxcsr", "fcw", "fsw", "ftw",
    "gdtr_base", "idtr_base", "star", "lstar", "sfmask", "kernel_gs_base", "sysenter_cs",
    "sysenter_esp", "sysenter_eip", "tsc_aux", "tsc_offset",
)  # fmt: skip
VECTORS, VECTOR_BYTES = 32, 64
WORD = (1 << 64) - 1
LONGEST = 15  # bytes of an instruction
WIDEST = 64  # bytes of an operand: pieces of one are told together


class Register(NamedTuple):
    """A register and where the processor's state holds it."""

    name: str
    offset: int
    size: int


class Change(NamedTuple):
    """A register that an instruction changed; `size` in bytes."""

    name: str
    old: int
    new: int
    size: int


class Access(NamedTuple):
    """Memory that an instruction accessed; its value afterwards, where that is known."""

    linear: int
    size: int
    writes: bool
    value: int | None


class Step(NamedTuple):
    """One instruction: where and what it is, and what came of it."""

    number: int
    processor: int
    cs: int
    rip: int
    bits: int
    data: bytes
    text: str
    changes: tuple[Change, ...]
    accesses: tuple[Access, ...]
    events: tuple[str, ...]


@functools.cache
def registers() -> tuple[Register, ...]:
    """What is compared before and after an instruction, RIP and RFLAGS apart."""
    places = CPU.places

    def row(label: str, field: str, index: int, size: int) -> Register:
        return Register(label, places[field].offset + index * size, size)

    return (
        *(row(name, "gpr", i, 8) for i, name in enumerate(GPR_NAMES)),
        *(row(name, "selector", i, 2) for i, name in enumerate(SEGMENT_NAMES)),
        *(row(f"{name}.base", "segment_base", i, 8) for i, name in enumerate(SEGMENT_NAMES)),
        *(row(name, name, 0, 8) for name in SINGLE_WORDS),
        *(row(f"dr{i}", "dr", i, 8) for i in range(8)),
        *(row(f"r{i}.mantissa", "st_mantissa", i, 8) for i in range(8)),
        *(row(f"r{i}.exponent", "st_exponent", i, 2) for i in range(8)),
        *(row(f"zmm{i}", "zmm", i, VECTOR_BYTES) for i in range(VECTORS)),
    )


END = CPU.places["dtlb_area"].offset


def changes(before: bytes, after: bytes) -> list[Change]:
    """The registers that differ between two copies of the state."""
    found = []
    for name, offset, size in registers():
        old, new = before[offset : offset + size], after[offset : offset + size]
        if old != new:
            found.append(vector_change(name, old, new) if size == VECTOR_BYTES else
                         Change(name, int.from_bytes(old, "little"),
                                int.from_bytes(new, "little"), size))  # fmt: skip
    return found


def vector_change(name: str, old: bytes, new: bytes) -> Change:
    """A vector register, called by the narrowest name that covers what changed."""
    last = max(i for i in range(VECTOR_BYTES) if old[i] != new[i])
    letter, size = ("x", 16) if last < 16 else ("y", 32) if last < 32 else ("z", 64)
    before, after = (int.from_bytes(data[:size], "little") for data in (old, new))
    return Change(letter + name[1:], before, after, size)


def flag_changes(old: int, new: int) -> str:
    """Which flags were set (+) and cleared (-)."""
    return " ".join(
        ("+" if new & bit else "-") + name for bit, name in FLAG_NAMES.items() if (old ^ new) & bit
    )


@functools.cache
def formatter() -> Formatter:
    """Disassembly as the manual writes it."""
    made = Formatter(FormatterSyntax.INTEL)
    made.hex_prefix, made.hex_suffix, made.uppercase_hex = "0x", "", False
    return made


def fetch(cpu: ObservedCpu) -> tuple[bytes, str]:
    """The bytes and the disassembly of the instruction at RIP, as it is going to be fetched."""
    state = cpu.state
    linear = state.rip + state.linear_base[CS] & state.linear_mask
    data, text = b"", "(not fetched)"
    while len(data) < LONGEST:
        frame = cpu._fetch_frame(state.address, linear + len(data) & state.linear_mask)
        state.exit_code = 0
        if frame == NO_PAGE or not cpu.memory.host(frame & ~0xFFF):
            break
        at = linear + len(data) & 0xFFF
        data += cpu.memory.read(frame & ~0xFFF | at, min(LONGEST - len(data), 0x1000 - at))
        decoder = Decoder(cpu.mode.bits, data, ip=state.rip)
        insn = decoder.decode()
        if decoder.last_error != DecoderError.NO_MORE_BYTES:
            return data[: insn.len], formatter().format(insn)
    return data, text


def vector_name(vector: int) -> str:
    """The exception's mnemonic, #PF, or its number."""
    known = vector in Vector.__members__.values() and vector != Vector.NMI
    return f"#{Vector(vector).name}" if known else f"vector {vector:#x}"


def event_text(event: Event, cr2: int) -> str:
    """An event in delivery, in words."""
    if event.kind == EventKind.EXTERNAL:
        return f"interrupt {event.vector:#x}"
    if event.kind == EventKind.NMI:
        return "NMI"
    if event.kind == EventKind.SOFTWARE:
        return f"INT {event.vector:#x}"
    parts = [vector_name(event.vector)]
    if event.error is not None:
        parts.append(f"error {event.error:#x}")
    if event.vector == Vector.PF:
        parts.append(f"CR2 {cr2:#x}")
    return " ".join(parts)


class EventTracer(Observer):
    """Exceptions, interrupts, control registers, MSRs, ports and guest mode, in words to `note`."""

    def __init__(self, note: Callable[[ObservedCpu, str], None]) -> None:
        self.note = note

    def delivery(self, cpu: ObservedCpu, event: Event) -> None:
        """An event is delivered through the IDT."""
        self.note(cpu, event_text(event, int(cpu.state.cr2)))

    def control(self, cpu: ObservedCpu, name: str, old: int, new: int) -> None:
        """A control register, EFER or XCR0 has changed."""
        self.note(cpu, f"{name.upper()} {old:#x} -> {new:#x}")

    def msr(self, cpu: ObservedCpu, index: int, value: int, writes: bool) -> None:
        """RDMSR or WRMSR has run."""
        self.note(
            cpu, f"WRMSR {index:#x} <- {value:#x}" if writes else f"RDMSR {index:#x} = {value:#x}"
        )

    def port(self, cpu: ObservedCpu, port: int, size: int, value: int, writes: bool) -> None:
        """An I/O port is accessed."""
        what = f"OUT {port:#x} <- " if writes else f"IN {port:#x} = "
        self.note(cpu, f"{what}{value & (1 << 8 * size) - 1:#0{2 + 2 * size}x}")

    def entry(self, cpu: ObservedCpu) -> None:
        """Guest mode is entered."""
        self.note(cpu, "guest mode entered")

    def exit(self, cpu: ObservedCpu) -> None:
        """Guest mode is left."""
        self.note(cpu, "guest mode left")


class Tracer(EventTracer):
    """Every instruction as a `Step` to `sink`; with `accesses` including memory."""

    instructions = True

    def __init__(self, sink: Callable[[Step], None], accesses: bool = True) -> None:
        super().__init__(lambda _cpu, text: self.events.append(text))
        self.sink = sink
        self.accesses = accesses
        self.touched: list[tuple[int, int, bool]] = []
        self.events: list[str] = []
        self.start: tuple[int, int, int, int, bytes, str] = (0, 0, 0, 0, b"", "")
        self.state, self.flags = b"", 0

    def control(self, cpu: ObservedCpu, name: str, old: int, new: int) -> None:
        """The change is among the others."""

    def before(self, cpu: ObservedCpu) -> None:
        """Remember where and what it is."""
        state = cpu.state
        self.touched, self.events = [], []
        self.start = (cpu.number, state.selector[CS], state.rip, cpu.mode.bits, *fetch(cpu))
        self.state, self.flags = cpu.block[:END].tobytes(), cpu.rflags

    def access(self, cpu: ObservedCpu, linear: int, count: int, writes: bool) -> None:  # noqa: ARG002
        """Remember the access; what follows on the last one belongs to it."""
        if self.touched:
            last, size, kind = self.touched[-1]
            if kind == writes and last + size == linear and size + count <= WIDEST:
                self.touched[-1] = (last, size + count, writes)
                return
        self.touched.append((linear, count, writes))

    def after(self, cpu: ObservedCpu) -> None:
        """Hand on what has become of it."""
        number, cs, rip, bits, data, text = self.start
        found = changes(self.state, cpu.block[:END].tobytes())
        if cpu.rflags != self.flags:
            found.append(Change("rflags", self.flags, cpu.rflags, 8))
        seen = tuple(found), self.looked_at(cpu), tuple(self.events)
        self.sink(Step(number, cpu.environment.apic_id(), cs, rip, bits, data, text, *seen))

    def looked_at(self, cpu: ObservedCpu) -> tuple[Access, ...]:
        """The accesses with the values that memory has now."""
        found = []
        for linear, size, writes in dict.fromkeys(self.touched):
            data = peek(cpu, linear & WORD, size)
            value = None if data is None else int.from_bytes(data, "little")
            found.append(Access(linear, size, writes, value))
        return tuple(found)
