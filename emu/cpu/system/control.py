"""Processor control and software interrupts. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.flags import OF
from emu.cpu.paging import CR0_TS
from emu.cpu.registers import SEGMENTS
from emu.cpu.state import Vector
from emu.cpu.system.events import software_interrupt
from emu.cpu.system.operands import demand_cpl0, effective_address, is_canonical, undefined

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu


def hlt(cpu: Cpu, insn: Any) -> None:
    """HLT: stop until an interrupt."""
    demand_cpl0(cpu)
    cpu.halted = True


def ud(cpu: Cpu, insn: Any) -> None:
    """UD0, UD1, UD2: #UD."""
    raise undefined()


def int_n(cpu: Cpu, insn: Any) -> None:
    """INT n."""
    interrupt(cpu, insn.immediate(0))


def int3(cpu: Cpu, insn: Any) -> None:
    """INT3."""
    interrupt(cpu, Vector.BP)


def into(cpu: Cpu, insn: Any) -> None:
    """INTO: interrupt 4 when OF is set."""
    if cpu.rflags & OF:
        interrupt(cpu, Vector.OF)


def interrupt(cpu: Cpu, vector: int) -> None:
    """A software interrupt, which returns to the next instruction."""
    software_interrupt(cpu, vector, cpu.next_rip)
    cpu.next_rip = cpu.state.rip


def clts(cpu: Cpu, insn: Any) -> None:
    """CLTS: CR0.TS := 0."""
    demand_cpl0(cpu)
    cpu.state.cr0 &= ~CR0_TS
    cpu.refresh()


def invlpg(cpu: Cpu, insn: Any) -> None:
    """INVLPG: forget the translations of one page; an address that is not canonical is ignored."""
    demand_cpl0(cpu)
    segment = SEGMENTS[insn.memory_segment]
    linear = effective_address(cpu, insn) + cpu.state.linear_base[segment] & cpu.state.linear_mask
    if is_canonical(cpu, linear):
        cpu.flush_page(linear)


def invalidate_caches(cpu: Cpu, insn: Any) -> None:
    """INVD, WBINVD: there is no cache that could differ from memory."""
    demand_cpl0(cpu)


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "HLT": hlt,
    "UD0": ud,
    "UD1": ud,
    "UD2": ud,
    "INT": int_n,
    "INT3": int3,
    "INTO": into,
    "CLTS": clts,
    "INVLPG": invlpg,
    "INVD": invalidate_caches,
    "WBINVD": invalidate_caches,
}
