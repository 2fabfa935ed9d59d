"""CPUID, counters and random numbers. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.decode import MNEMONICS, operand_bits
from emu.cpu.errors import Fault
from emu.cpu.flags import CF, STATUS
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.models.features import EBX, EDX, FEATURES
from emu.cpu.models.model import AMD, EXTENDED
from emu.cpu.paging import CR0_PE, CR4_OSXSAVE, CR4_PCE, CR4_PKE, CR4_TSD
from emu.cpu.state import Vector
from emu.cpu.system.msr_table import MASK32
from emu.cpu.system.msrs import XSS, guest_tsc
from emu.cpu.system.operands import WORD, register_number, require_feature, set_register

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

PERF_CTR0, COUNTERS = 0xC0010004, 4


def cpuid_words(cpu: Cpu, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """The words of a leaf: those of the model, and what the processor's state decides."""
    words = list(cpu.model.cpuid(leaf, subleaf))
    state, environment = cpu.state, cpu.environment

    def show(name: str, shown: bool) -> None:
        feature = FEATURES[name]
        bit = 1 << feature.bit
        words[feature.register] = words[feature.register] & ~bit | (bit if shown else 0)

    if leaf == 1:
        words[EBX] = words[EBX] & 0xFFFFFF | environment.apic_id() << 24 & MASK32
        show("OSXSAVE", bool(state.cr4 & CR4_OSXSAVE))
        if cpu.model.has("APIC"):
            show("APIC", environment.apic_enabled())
    elif leaf == 7 and subleaf == 0:
        show("OSPKE", bool(state.cr4 & CR4_PKE))
    elif leaf == 0xB and cpu.model.has("X2APIC"):
        # one thread a core, one core a package
        words = [0, 1, subleaf & 0xFF | {0: 1, 1: 2}.get(subleaf, 0) << 8, environment.apic_id()]
        if subleaf > 1:
            words[EBX] = 0
    elif leaf == 0xD and subleaf == 0 and cpu.model.xcr0:
        words[EBX] = area_size(cpu, int(state.xcr0))
    elif leaf == 0xD and subleaf == 1 and cpu.model.has("XSAVEC"):
        words[EBX] = compacted_size(cpu, int(state.xcr0) | cpu.msrs.get(XSS, 0))
    elif leaf == EXTENDED + 1:
        if cpu.mode.bits != 64 and cpu.model.vendor == "GenuineIntel":
            words[EDX] &= ~(1 << 11)  # SYSCALL is told in 64-bit mode alone
    return words[0], words[1], words[2], words[3]


def area_size(cpu: Cpu, components: int) -> int:
    """Bytes of an XSAVE area in standard form for a set of components."""
    end = 576
    for number in range(2, 63):
        if components >> number & 1:
            size, offset, _ = cpu.model.component(number)
            end = max(end, offset + size)
    return end


def compacted_size(cpu: Cpu, components: int) -> int:
    """Bytes of an XSAVE area in compacted form for a set of components."""
    end = 576
    for number in range(2, 63):
        if components >> number & 1:
            size, _, aligned = cpu.model.component(number)
            end = (-(-end // 64) * 64 if aligned else end) + size
    return end


def cpuid(cpu: Cpu, insn: Any) -> None:
    """CPUID: EAX EBX ECX EDX."""
    ask(cpu, Intercept.CPUID, insn)
    state = cpu.state
    eax, ebx, ecx, edx = cpuid_words(cpu, int(state.rax) & MASK32, int(state.rcx) & MASK32)
    state.rax, state.rbx, state.rcx, state.rdx = eax, ebx, ecx, edx


def check_tsd(cpu: Cpu) -> None:
    """#GP(0) above CPL 0 with CR4.TSD."""
    if cpu.state.cr4 & CR4_TSD and cpu.state.cpl:
        raise Fault(Vector.GP, 0)


def rdtsc(cpu: Cpu, insn: Any) -> None:
    """RDTSC, RDTSCP: EDX:EAX := the time-stamp counter, with RDTSCP ECX := IA32_TSC_AUX."""
    with_aux = MNEMONICS[insn.mnemonic] == "RDTSCP"
    if with_aux:
        require_feature(cpu, "RDTSCP")
    check_tsd(cpu)
    ask(cpu, Intercept.RDTSCP if with_aux else Intercept.RDTSC, insn)
    state, value = cpu.state, guest_tsc(cpu)
    state.rax, state.rdx = value & MASK32, value >> 32
    if with_aux:
        state.rcx = state.tsc_aux


def rdpid(cpu: Cpu, insn: Any) -> None:
    """RDPID: IA32_TSC_AUX."""
    require_feature(cpu, "RDPID")
    set_register(cpu, register_number(insn, 0), 64, int(cpu.state.tsc_aux))


def rdpmc(cpu: Cpu, insn: Any) -> None:
    """RDPMC: the four counters of AMD processors, which hold what was written; else #GP(0).

    APM Vol. 2, Performance Counters: PERF_CTR are 48 bits wide, and no CPUID bit tells of them.
    """
    state = cpu.state
    if state.cpl and state.cr0 & CR0_PE and not state.cr4 & CR4_PCE:
        raise Fault(Vector.GP, 0)
    ask(cpu, Intercept.RDPMC, insn)
    number = state.rcx & MASK32
    if cpu.model.vendor != AMD or number >= COUNTERS:
        raise Fault(Vector.GP, 0)
    value = cpu.msrs.get(PERF_CTR0 + number, 0)
    state.rax, state.rdx = value & MASK32, value >> 32 & 0xFFFF


def rdpru(cpu: Cpu, insn: Any) -> None:
    """RDPRU: MPERF (ECX 0) and APERF (ECX 1), which count as the TSC does; 0 for others."""
    require_feature(cpu, "RDPRU")
    check_tsd(cpu)
    ask(cpu, Intercept.RDPRU, insn)
    state = cpu.state
    value = cpu.environment.ticks() if state.rcx & MASK32 < 2 else 0
    state.rax, state.rdx = value & MASK32, value >> 32 & MASK32
    cpu.rflags = cpu.rflags & ~STATUS | (CF if state.rcx & MASK32 < 2 else 0)


def random(cpu: Cpu, insn: Any) -> None:
    """RDRAND, RDSEED: a number of a fixed sequence (splitmix64), CF 1: always available."""
    require_feature(cpu, MNEMONICS[insn.mnemonic])
    ask(cpu, Intercept[MNEMONICS[insn.mnemonic]], insn)
    cpu.sequence = cpu.sequence + 0x9E37_79B9_7F4A_7C15 & WORD
    value = cpu.sequence
    value = (value ^ value >> 30) * 0xBF58_476D_1CE4_E5B9 & WORD
    value = (value ^ value >> 27) * 0x94D0_49BB_1331_11EB & WORD
    value ^= value >> 31
    set_register(cpu, register_number(insn, 0), operand_bits(insn, 0), value)
    cpu.rflags = cpu.rflags & ~STATUS | CF


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "CPUID": cpuid,
    "RDTSC": rdtsc,
    "RDTSCP": rdtsc,
    "RDPID": rdpid,
    "RDPMC": rdpmc,
    "RDPRU": rdpru,
    "RDRAND": random,
    "RDSEED": random,
}
