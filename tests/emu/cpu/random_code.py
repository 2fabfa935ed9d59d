"""Random bytes as code, in every mode, with everything around them half right: nothing may break.

Run as a program it takes seeds and counts instructions; what it finds out goes to stdout as JSON,
and the seed at hand to a file, so that even a crash of the process has one.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import signal
import sys
import traceback
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emu.cpu.cpu import Cpu, Stop
from emu.cpu.errors import NotImplementedInstruction, TripleFault
from emu.cpu.flags import AC, IF, TF, VM
from emu.cpu.models import MODELS
from emu.cpu.paging import (
    CR0_AM,
    CR0_ET,
    CR0_PE,
    CR0_PG,
    CR4_OSFXSR,
    CR4_OSXSAVE,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
)
from emu.cpu.state import CPU, CS, DS, ES, FS, GS, LDTR, SS, TR
from emu.memory import PhysicalMemory

PAGE = 4096
RAM = 0x40000
GDT, IDT, LONG_IDT, TSS = 0x1000, 0x2000, 0x3000, 0x4000
PML4, PDPT, DIRECTORY, TABLE, PML5 = 0x5000, 0x6000, 0x7000, 0x8000, 0x9000
NARROW_DIRECTORY, NARROW_TABLE, PAE_PDPT = 0xA000, 0xB000, 0xC000
CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
SPAN = 0x10000
DEVICE = 0xFEE00000
ROM = 0x80000
STEPS, EXCEPTIONS = 5000, 50  # that a case has at most
SECONDS = 60  # that a case may take

# prefixes, escapes and the common system opcodes, which random bytes meet too seldom
FAVOURED = bytes.fromhex("0f0f0f0f6667f2f3f048c4c5262e36640f010f000f200f220f300f320f05cfcb9a")
BRANCHES = bytes((0xEB, 0xE2, 0x75, 0x72, 0x73, 0xEB))
IMAGES, FRESH = 32, 300


class Mode(NamedTuple):
    """A state of the processor: code size, control registers, privilege."""

    name: str
    bits: int
    cr0: int
    cr4: int = 0
    efer: int = 0
    cr3: int = 0
    cpl: int = 0
    flags: int = 0


LONG = EFER_LME | EFER_LMA
PAGED = CR0_PE | CR0_PG
MODES = (
    Mode("real", 16, 0),
    Mode("protected 16", 16, CR0_PE),
    Mode("protected 32", 32, CR0_PE),
    Mode("32-bit paging", 32, PAGED, cr3=NARROW_DIRECTORY),
    Mode("32-bit paging, user", 32, PAGED, cr3=NARROW_DIRECTORY, cpl=3),
    Mode("PAE", 32, PAGED, CR4_PAE, EFER_NXE, PAE_PDPT),
    Mode("virtual-8086", 16, PAGED, cr3=NARROW_DIRECTORY, cpl=3, flags=VM),
    Mode("long", 64, PAGED, CR4_PAE, LONG | EFER_NXE, PML4),
    Mode("long, user", 64, PAGED, CR4_PAE, LONG, PML4, 3),
    Mode("compatibility", 32, PAGED, CR4_PAE, LONG | EFER_NXE, PML4),
    Mode("compatibility, user", 32, PAGED, CR4_PAE, LONG, PML4, 3),
    Mode("compatibility 16", 16, PAGED, CR4_PAE, LONG, PML4),
    Mode("5-level paging", 64, PAGED, CR4_PAE | 1 << 12, LONG | EFER_NXE, PML5),
)
# selectors of the GDT below, by code size and privilege
CODE_SELECTORS = {(32, 0): 0x08, (64, 0): 0x18, (32, 3): 0x23, (64, 3): 0x33, (16, 0): 0x38}
DATA_SELECTORS = {0: 0x10, 3: 0x2B}
RIGHTS = {16: 0x9B, 32: 0xC09B, 64: 0xA09B}
DESCRIPTORS = (
    0,
    0x00CF9B000000FFFF,  # 08H: code, 32 bits
    0x00CF93000000FFFF,  # 10H: data
    0x00AF9B000000FFFF,  # 18H: code, 64 bits
    0x00CFFB000000FFFF,  # 20H: the same for level 3
    0x00CFF3000000FFFF,
    0x00AFFB000000FFFF,
    0x00009B010000FFFF,  # 38H: code and data, 16 bits
    0x000093020000FFFF,
    0x00CF9F000000FFFF,  # 48H: conforming
    0x00CF1B000000FFFF,  # not present
    0x00CF97000000000F,  # expand-down
    0x000089004000FFFF,  # 60H: TSS, 32 bits
    0x0000E50000600000,  # task gate to it
    0x0000820010000FFF,  # 70H: LDT
    0x0001EC0000080000,  # call gates
    0x0001E40000380000,
    0x0000E90000180000,  # 88H: TSS or call gate of long mode: 16 bytes
    0,
)
PRIMES = (0, 1, 2, 0x7F, 0x80, 0xFFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1)


class Noise:
    """A device that answers by address and remembers what it was told."""

    def __init__(self) -> None:
        self.seen = 0

    def read(self, offset: int, count: int) -> bytes:
        return bytes((offset + i) * 37 & 0xFF for i in range(count))

    def write(self, offset: int, data: bytes) -> None:
        self.seen = zlib.crc32(offset.to_bytes(8, "little") + data, self.seen)


class Rig:
    """One machine, used for case after case."""

    def __init__(self, model: str, processor: type[Cpu] = Cpu) -> None:
        self.ram = np.frombuffer(_pages(RAM), np.uint8)
        self.memory = PhysicalMemory(1 << 33)
        self.memory.add_ram(0, self.ram)
        self.memory.add_rom(ROM, PAGE)
        self.device = Noise()
        self.memory.add_device(DEVICE, PAGE, self.device)
        self.cpu = processor(self.memory, model=MODELS[model])
        self.cpu.acknowledge = self.acknowledge
        self.rng = random.Random(0)

    def acknowledge(self) -> int:
        """The interrupt is taken: its vector."""
        self.cpu.interrupt_pending = False
        self.cpu.update_pending()
        return self.rng.randrange(256)

    def prepare(self, seed: int) -> Mode:
        """Memory and registers of case `seed`."""
        rng = self.rng = random.Random(seed)
        mode = MODES[seed % len(MODES)]
        self.cpu.code.flush()
        self.ram[:] = image(rng.randrange(IMAGES))
        self.device.seen = 0
        self.registers(mode, rng)
        start = CODE + self.cpu.state.rip % SPAN
        piece = code(rng, min(FRESH, CODE + SPAN - start))
        self.ram[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        return mode

    def registers(self, mode: Mode, rng: random.Random) -> None:
        """The processor in `mode`, at random code."""
        cpu = self.cpu
        cpu.reset()
        cpu.sequence = cpu.idle = 0
        state = cpu.state
        for number in range(16):
            state.gpr[number] = operand(rng)
        state.rsp = STACK + rng.randrange(SPAN)
        vm86 = bool(mode.flags & VM)
        for seg in (ES, SS, DS, FS, GS):
            self.segment(seg, mode, rng)
        self.segment(CS, mode, rng)
        state.segment_rights[LDTR], state.segment_base[LDTR] = 0x82, GDT
        state.segment_limit[LDTR] = 0xFFF
        state.selector[TR], state.segment_base[TR], state.segment_limit[TR] = 0x60, TSS, 0xFFF
        state.segment_rights[TR] = 0x8B
        state.gdtr_base, state.gdtr_limit = GDT, 0xFFF
        long = bool(mode.efer & EFER_LMA)
        real = not mode.cr0 & CR0_PE
        state.idtr_base = LONG_IDT if long else 0 if real else IDT
        state.idtr_limit = 0x3FF if real else 0xFFF if long else 0x7FF
        state.cr0 = mode.cr0 | CR0_ET | rng.choice((0, 0, CR0_AM, 1 << 16, 1 << 3, 1 << 2))
        state.cr4 = mode.cr4 | CR4_OSFXSR | rng.choice((0, CR4_OSXSAVE, 0x10, 1 << 20, 1 << 21))
        state.efer = mode.efer | rng.getrandbits(1)
        state.cr3 = mode.cr3
        state.cpl = mode.cpl
        if state.cr4 & CR4_OSXSAVE:
            state.xcr0 = 7 if cpu.model.has("AVX") else 3
        for i in range(4):
            pointer = self.memory.read(PAE_PDPT + 8 * i, 8)
            state.pdpte[i] = int.from_bytes(pointer, "little") if mode.cr3 == PAE_PDPT else 0
        state.rip = rng.randrange(SPAN) + (0 if mode.bits == 16 else CODE)
        iopl = rng.choice((0, 3)) << 12
        odd = rng.choice((0, 0, 0, TF, AC, 1 << 10, 1 << 14))
        cpu.rflags = rng.getrandbits(12) & 0x8D5 | 2 | IF | iopl | odd | (VM if vm86 else 0)
        if rng.random() < 0.1:
            state.dr[7] = rng.getrandbits(32) & 0xFFFF00FF | 0x400
            for n in range(4):
                state.dr[n] = operand(rng)
        for words in (cpu.record["zmm"][0], cpu.record["st_mantissa"][0]):
            words[:] = np.frombuffer(rng.randbytes(words.nbytes), np.uint64)
        cpu.flush_tlb()
        cpu.refresh()
        cpu.interrupt_pending = rng.random() < 0.1
        cpu.update_pending()

    def segment(self, seg: int, mode: Mode, rng: random.Random) -> None:
        """A segment register, in most cases one that works."""
        state = self.cpu.state
        base = {CS: CODE, SS: STACK}.get(seg, DATA)
        if not mode.cr0 & CR0_PE or mode.flags & VM:
            state.selector[seg], state.segment_base[seg] = base >> 4, base
            state.segment_limit[seg] = 0xFFFF
            state.segment_rights[seg] = 0xF3 if mode.flags & VM else 0x9B if seg == CS else 0x93
            return
        dpl = mode.cpl << 5
        if seg == CS:
            state.selector[seg] = CODE_SELECTORS[mode.bits, mode.cpl]
            state.segment_rights[seg] = RIGHTS[mode.bits] | dpl
            state.segment_base[seg] = CODE if mode.bits == 16 else 0
            state.segment_limit[seg] = 0xFFFFFFFF if mode.bits != 16 else 0xFFFF
            return
        state.selector[seg] = DATA_SELECTORS[mode.cpl]
        state.segment_rights[seg] = 0xC093 | dpl
        state.segment_base[seg] = rng.choice((0, 0, 0, 0x100, 0xFFFFFF00))
        state.segment_limit[seg] = rng.choice((0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0x2FFFF))

    def snapshot(self) -> dict[str, Any]:
        """Everything that two ways of running must have in common."""
        cpu = self.cpu
        names = [name for name in CPU.places if name in COMPARED]
        found: dict[str, Any] = {name: cpu.record[name][0].tolist() for name in names}
        found["gpr"] = found["gpr"][:16]  # what follows is the compiled loop's own
        found["rflags"] = cpu.rflags
        found |= {"memory": self.ram.tobytes(), "device": self.device.seen, "halted": cpu.halted}
        return found | {"msrs": cpu.msrs, "debug": cpu.debug_causes}


# fmt: off
COMPARED = frozenset((
    "gpr", "rip", "cpl", "selector", "segment_base", "segment_limit", "segment_rights",
    "gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit", "cr0", "cr2", "cr3", "cr4", "cr8",
    "efer", "xcr0", "pdpte", "dr", "pkru", "pkrs", "star", "lstar", "cstar", "sfmask",
    "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip", "tsc_aux", "tsc_offset",
    "mxcsr", "st_mantissa", "st_exponent", "fcw", "fsw", "ftw", "fop", "fip", "fdp", "zmm",
))
# fmt: on


def _pages(count: int) -> Any:
    import mmap  # noqa: PLC0415

    return mmap.mmap(-1, count)


def operand(rng: random.Random) -> int:
    """A register: in reach of memory, on an edge, or anything."""
    kind = rng.random()
    if kind < 0.5:
        base = rng.choice((CODE, DATA, DATA, STACK, STACK))
        return base + rng.choice((rng.randrange(SPAN), rng.randrange(SPAN // PAGE) * PAGE - 3))
    if kind < 0.6:
        return rng.choice((DEVICE, ROM, RAM - 2, TABLE, LONG_IDT, 0x1F0000)) + rng.randrange(16)
    if kind < 0.8:
        return rng.choice(PRIMES)
    return rng.getrandbits(rng.choice((8, 16, 32, 64)))


def code(rng: random.Random, count: int) -> bytes:
    """Random bytes, those that lead to rare instructions more often."""
    out = bytearray(rng.randbytes(count))
    for i in range(0, count - 2, 3):
        kind = rng.random()
        if kind < 0.3:
            out[i] = rng.choice(FAVOURED)
        elif kind < 0.42:  # a branch back, so that code that does not fault runs for a while
            out[i : i + 2] = bytes((rng.choice(BRANCHES), rng.randrange(0xE0, 0xFE)))
    return bytes(out)


def words(values: list[int], size: int) -> bytes:
    """Little-endian words."""
    return b"".join(value.to_bytes(size, "little") for value in values)


def gate(rng: random.Random, selector: int, long: bool) -> bytes:
    """An interrupt or trap gate into the code, rarely a broken one."""
    offset = CODE + rng.randrange(SPAN)
    kind = rng.choice((0x8E, 0x8F, 0xEE, 0xEF, 0x8E, 0xEE, 0xE5, rng.randrange(256)))
    ist = rng.randrange(8) if long and rng.random() < 0.1 else 0
    low = offset & 0xFFFF | selector << 16 | ist << 32 | kind << 40 | (offset >> 16) << 48
    return low.to_bytes(16 if long else 8, "little")


@functools.cache
def image(number: int) -> Any:
    """The memory of a case, but for the code that it begins with."""
    rng = random.Random(f"image {number}")
    memory = bytearray(RAM)

    def put(at: int, data: bytes) -> None:
        memory[at : at + len(data)] = data

    put(0, words([(CODE >> 4) << 16 | rng.randrange(SPAN) for _ in range(256)], 4))
    put(GDT, words([*DESCRIPTORS], 8))
    put(GDT + 8 * len(DESCRIPTORS), rng.randbytes(PAGE - 8 * len(DESCRIPTORS)))
    for vector in range(256):
        selector = 0x18 if rng.random() < 0.97 else rng.randrange(0x100)
        put(LONG_IDT + 16 * vector, gate(rng, selector, True))
        selector = 0x08 if rng.random() < 0.97 else rng.randrange(0x100)
        put(IDT + 8 * vector, gate(rng, selector, False))
    put(TSS, rng.randbytes(0x400))
    put(TSS + 4, words([STACK + rng.randrange(SPAN)], 4) + words([0x10], 4))
    put(TSS + 0x66, words([0x68], 2))
    if rng.random() < 0.8:
        put(TSS + 4, words([STACK + rng.randrange(SPAN) for _ in range(3)], 8))
    put(PML5, words([PML4 | 7], 8))
    put(PML4, words([PDPT | 7], 8))
    put(PDPT, words([DIRECTORY | 7, 0x87], 8))
    put(PAE_PDPT, words([DIRECTORY | 1, DIRECTORY | 1, 0, 0], 8))
    put(DIRECTORY, words([TABLE | 7, 0x87], 8))
    put(NARROW_DIRECTORY, words([NARROW_TABLE | 7, 0x87], 4))
    entries = [entry(rng, number) for number in range(512)]
    put(TABLE, words(entries, 8))
    put(NARROW_TABLE, words([value & 0xFFFFFFFF for value in entries], 4))
    put(CODE, code(rng, SPAN))
    put(DATA, rng.randbytes(SPAN))
    put(STACK, rng.randbytes(SPAN))
    return np.frombuffer(bytes(memory), np.uint8)


def entry(rng: random.Random, number: int) -> int:
    """A page-table entry: mostly the page itself, open to all."""
    if number == 0x1F0:
        return DEVICE | 7
    kind = rng.random()
    if kind < 0.9 or number < 16:
        return number << 12 | 7
    if kind < 0.92:
        return rng.getrandbits(64)
    flags = rng.choice((1, 3, 5, 6, 0x67, 1 << 63 | 7, 0xF07, 1 << 59 | 7))
    frame = number if rng.random() < 0.7 else rng.randrange(RAM // PAGE)
    return frame << 12 | flags


class Tally:
    """What the cases of a process came to."""

    def __init__(self) -> None:
        self.instructions = self.exceptions = self.cases = self.compared = 0
        self.endings: Counter[str] = Counter()
        self.without_semantics: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []

    def as_json(self) -> str:
        return json.dumps(vars(self))


def run_case(rig: Rig, seed: int, tally: Tally, steps: int = STEPS) -> None:
    """One case, compiled."""
    rig.prepare(seed)
    cpu = rig.cpu
    before = int(cpu.state.retired)
    ending = "budget"
    try:
        while (done := int(cpu.state.retired) - before) < steps and cpu.idle < EXCEPTIONS:
            stop = cpu.run(min(steps - done, 1 + rig.rng.randrange(2 * (EXCEPTIONS - cpu.idle))))
            if stop is Stop.SHUTDOWN or (stop is Stop.HALT and not wake(rig)):
                ending = stop.name.lower()
                break
    except NotImplementedInstruction as found:
        ending = "without semantics"
        tally.without_semantics[found.text.split()[0]] += 1
    ticks = int(cpu.state.retired) - before
    tally.instructions += ticks - cpu.idle
    tally.exceptions += cpu.idle
    tally.endings[ending] += 1


def wake(rig: Rig) -> bool:
    """What ends a halt; False when nothing does."""
    rig.cpu.interrupt_pending = True
    rig.cpu.update_pending()
    return rig.cpu.interruptible_now()


def run_steps(rig: Rig, seed: int, steps: int, plain: bool) -> tuple[str, dict[str, Any]]:
    """One case an instruction at a time; how it ended, and what it left behind."""
    rig.prepare(seed)
    cpu = rig.cpu
    ending = "steps"
    try:
        for _ in range(steps):
            cpu.state.budget = cpu.state.slice = 1
            if cpu.mode_lost:
                cpu.refresh()
            cpu.step(plain)
            if cpu.halted or cpu.waits_for_sipi:
                ending = "halt"
                break
    except NotImplementedInstruction:
        ending = "without semantics"
    except TripleFault:
        ending = "shutdown"
    return ending, rig.snapshot()


def compare_case(one: Rig, other: Rig, seed: int, tally: Tally, steps: int = 40) -> None:
    """One case compiled and as plain Python: both must come to the same."""
    first, second = run_steps(one, seed, steps, False), run_steps(other, seed, steps, True)
    tally.compared += 1
    differing = [name for name in first[1] if first[1][name] != second[1][name]]
    if first[0] != second[0] or differing:
        what = {n: [first[1][n], second[1][n]] for n in differing if n != "memory"}
        raise AssertionError(f"{first[0]} {second[0]} {sorted(differing)} {what}")


def alarmed(number: int, frame: Any) -> None:
    raise TimeoutError(f"a case takes longer than {SECONDS} s")


def run(first: int, count: int, instructions: int, every: int, seed_file: str) -> Tally:
    """Cases from seed `first` on, until so many or so many instructions; failures are collected."""
    tally = Tally()
    signal.signal(signal.SIGALRM, alarmed)
    where = os.open(seed_file, os.O_WRONLY | os.O_CREAT, 0o600)
    rigs = {name: (Rig(name), Rig(name)) for name in ("skylake-x", "zen3")}
    for seed in range(first, first + count):
        os.pwrite(where, b"%-20d" % seed, 0)
        one, other = rigs["zen3" if seed // len(MODES) % 4 == 3 else "skylake-x"]
        signal.alarm(SECONDS)
        try:
            run_case(one, seed, tally)
            if every and seed % every == 0:
                compare_case(one, other, seed, tally)
        except Exception as error:  # whatever it is, it is a finding
            mode = MODES[seed % len(MODES)].name
            text = "".join(traceback.format_exception(error)[-3:])
            tally.failures.append({"seed": seed, "mode": mode, "error": text})
        signal.alarm(0)
        tally.cases += 1
        if tally.instructions >= instructions or len(tally.failures) >= 20:
            break
    os.close(where)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, default=1 << 62)
    parser.add_argument("--instructions", type=int, default=1 << 62)
    parser.add_argument("--compare-every", type=int, default=0)
    parser.add_argument("--seed-file", required=True)
    given = parser.parse_args()
    Path(given.seed_file).touch()
    tally = run(given.first, given.cases, given.instructions, given.compare_every, given.seed_file)
    sys.stdout.write(tally.as_json())


if __name__ == "__main__":
    main()
