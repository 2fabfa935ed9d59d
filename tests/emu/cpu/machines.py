"""Small machines for tests: flat code and data in each mode; faults are recorded."""

from __future__ import annotations

from emu.cpu.cpu import Cpu
from emu.cpu.errors import Fault
from emu.cpu.paging import CR0_ET, CR0_PE, CR0_PG, CR4_OSFXSR, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE
from emu.cpu.state import CS
from emu.memory import PhysicalMemory

MEMORY = 16 << 20
CODE, DATA, STACK = 0x400000, 0x800000, 0x300000
LOW_CODE, LOW_DATA, LOW_STACK = 0x10000, 0x20000, 0x30000  # in reach of real mode
TABLES = 0x1000


class RecordingCpu(Cpu):
    """A processor that keeps the last fault instead of delivering it."""

    fault: Fault | None = None
    stop_at_fault = False

    def raised(self, fault: Fault) -> None:
        self.fault = fault
        if self.stop_at_fault:
            raise fault


def identity_tables(memory: PhysicalMemory) -> None:
    """4-level tables that map the memory one to one with 4-KByte pages, user and writable."""

    def entry(gpa: int) -> bytes:
        return (gpa | 7).to_bytes(8, "little")

    memory.load(TABLES, entry(TABLES + 0x1000))
    memory.load(TABLES + 0x1000, entry(TABLES + 0x2000))
    for i in range(MEMORY >> 21):
        memory.load(TABLES + 0x2000 + 8 * i, entry(TABLES + 0x3000 + i * 0x1000))
        page = b"".join(entry((i * 512 + j) << 12) for j in range(512))
        memory.load(TABLES + 0x3000 + i * 0x1000, page)


def machine(bits: int) -> RecordingCpu:
    """A processor at CPL 0 with flat segments: 64-bit, 32-bit protected or 16-bit real mode."""
    memory = PhysicalMemory()
    memory.add_ram(0, MEMORY)
    cpu = RecordingCpu(memory)
    begin(cpu, bits)
    return cpu


def begin(cpu: Cpu, bits: int) -> None:
    """Put a processor at CPL 0 with flat segments in one of the modes."""
    memory, state = cpu.memory, cpu.state
    state.cr4 = CR4_OSFXSR
    if bits == 64:
        identity_tables(memory)
        state.cr3 = TABLES
        state.cr4 |= CR4_PAE
        state.efer = EFER_LME | EFER_LMA | EFER_NXE
        state.cr0 = CR0_PE | CR0_ET | CR0_PG
    elif bits == 32:
        state.cr0 = CR0_PE | CR0_ET
    else:
        state.cr0 = CR0_ET
    for seg in range(6):
        state.selector[seg] = 0 if bits == 16 else 0x10
        state.segment_base[seg] = 0
        state.segment_limit[seg] = 0xFFFF if bits == 16 else 0xFFFFFFFF
        state.segment_rights[seg] = 0x93 if bits == 16 else 0xC093
    state.segment_rights[CS] = {16: 0x9B, 32: 0xC09B, 64: 0xA09B}[bits]
    if bits == 16:
        for seg, base in ((1, LOW_CODE), (3, LOW_DATA), (0, LOW_DATA), (2, LOW_STACK)):
            state.selector[seg] = base >> 4
            state.segment_base[seg] = base
        for seg in (4, 5):
            state.selector[seg] = LOW_DATA >> 4
            state.segment_base[seg] = LOW_DATA
    cpu.flush_tlb()
    cpu.refresh()
