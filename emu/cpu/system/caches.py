"""Waiting, caches and translations. SDM Vol. 2, the page each docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.decode import MNEMONICS, memory_fields
from emu.cpu.errors import Fault
from emu.cpu.guest_mode import Intercept, ask
from emu.cpu.paging import CR4_PCIDE
from emu.cpu.state import Vector
from emu.cpu.system.operands import (
    get_register,
    is_base,
    linear_at,
    load,
    memory_address,
    offset_of,
    register_number,
    require_feature,
    require_privilege,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

LINE = 64
FEATURE = {
    "CLFLUSH": "CLFSH",
    "CLFLUSHOPT": "CLFLUSHOPT",
    "CLWB": "CLWB",
    "CLZERO": "CLZERO",
    "WBNOINVD": "WBNOINVD",
    "MONITOR": "MONITOR",
    "MWAIT": "MONITOR",
}


def hlt(cpu: Cpu, insn: Any) -> None:
    """HLT: stop until an interrupt; #GP(0) above CPL 0."""
    require_privilege(cpu)
    ask(cpu, Intercept.HLT, insn)
    cpu.halted = True


def pause(cpu: Cpu, insn: Any) -> None:
    """PAUSE: a hint. One that comes again at its address is a spin loop: others may go on."""
    ask(cpu, Intercept.PAUSE, insn)
    cpu.pass_time(cpu.environment.pause_ticks() - 1)
    here = int(cpu.state.rip)
    cpu.yielding, cpu.paused_at = here == cpu.paused_at, here


def monitor(cpu: Cpu, insn: Any) -> None:
    """MONITOR: the line at rAX is watched."""
    require_feature(cpu, "MONITOR")
    if cpu.state.cpl:
        raise Fault(Vector.UD)
    ask(cpu, Intercept.MONITOR, insn)
    if cpu.state.rcx & 0xFFFFFFFF:
        raise Fault(Vector.GP, 0)
    width = cpu.mode.bits if cpu.mode.bits == 64 else 32
    seg = memory_fields(insn, cpu.mode.bits)[4] if insn.memory_segment else 3
    linear = linear_at(cpu, seg, get_register(cpu, 0, width), 1)
    cpu.read(linear, 1)
    cpu.monitored = linear


def mwait(cpu: Cpu, insn: Any) -> None:
    """MWAIT: another processor may write the watched line at any time, so this is a short wait."""
    require_feature(cpu, "MONITOR")
    if cpu.state.cpl:
        raise Fault(Vector.UD)
    ask(cpu, Intercept.MWAIT, insn, int(cpu.monitored is not None))
    if cpu.state.rcx & 0xFFFFFFFE:
        raise Fault(Vector.GP, 0)
    cpu.monitored = None
    cpu.pass_time(cpu.environment.pause_ticks() - 1)
    cpu.yielding = True


def flush_line(cpu: Cpu, insn: Any) -> None:
    """CLFLUSH, CLFLUSHOPT, CLWB: faults as a load has; caches are not modelled."""
    require_feature(cpu, FEATURE[MNEMONICS[insn.mnemonic]])
    cpu.pieces(memory_address(cpu, insn, 1), 1, 0, False)


def clzero(cpu: Cpu, insn: Any) -> None:
    """CLZERO: zeros in the line at rAX."""
    require_feature(cpu, "CLZERO")
    width = cpu.mode.bits if cpu.mode.bits == 64 else 32
    linear = linear_at(cpu, 3, get_register(cpu, 0, width) & ~(LINE - 1), LINE, True)
    cpu.write_bytes(linear, bytes(LINE))


def flush_caches(cpu: Cpu, insn: Any) -> None:
    """INVD, WBINVD, WBNOINVD: privileged, and without effect where caches are not modelled."""
    name = MNEMONICS[insn.mnemonic]
    if name in FEATURE:
        require_feature(cpu, FEATURE[name])
    require_privilege(cpu)
    ask(cpu, Intercept[name], insn)


def invlpg(cpu: Cpu, insn: Any) -> None:
    """INVLPG: the translations of a page; an address that is not canonical has none."""
    require_privilege(cpu)
    seg = memory_fields(insn, cpu.mode.bits)[4]
    linear = int(cpu.state.linear_base[seg]) + offset_of(cpu, insn) & int(cpu.state.linear_mask)
    ask(cpu, Intercept.INVLPG, insn, linear)
    if is_base(cpu, linear):
        cpu.flush_tlb(cpu.tlb_context)


def invpcid(cpu: Cpu, insn: Any) -> None:
    """INVPCID: by type 0 to 3; every type drops at least what the manual says."""
    require_feature(cpu, "INVPCID")
    require_privilege(cpu)
    ask(cpu, Intercept.INVPCID, insn)
    width = 64 if cpu.mode.bits == 64 else 32
    kind = get_register(cpu, register_number(insn, 0), width)
    linear = memory_address(cpu, insn, 16)
    pcid, address = load(cpu, linear, 8), load(cpu, linear + 8, 8)
    if kind > 3:
        raise Fault(Vector.GP, 0)
    if kind < 3 and pcid >> 12 and kind != 2:
        raise Fault(Vector.GP, 0)
    if kind in (0, 1) and pcid & 0xFFF and not cpu.state.cr4 & CR4_PCIDE:
        raise Fault(Vector.GP, 0)
    if kind == 0 and not is_base(cpu, address):
        raise Fault(Vector.GP, 0)
    cpu.flush_tlb(cpu.tlb_context)


TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    "HLT": hlt,
    "PAUSE": pause,
    "MONITOR": monitor,
    "MWAIT": mwait,
    "CLFLUSH": flush_line,
    "CLFLUSHOPT": flush_line,
    "CLWB": flush_line,
    "CLZERO": clzero,
    "INVD": flush_caches,
    "WBINVD": flush_caches,
    "WBNOINVD": flush_caches,
    "INVLPG": invlpg,
    "INVPCID": invpcid,
}
