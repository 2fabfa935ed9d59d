"""What VMRUN makes of a control area that passed its checks; made once for equal control areas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.cpu.paging import CR4_LA57, EFER_LMA, EFER_NXE
from emu.cpu.second_level import FIVE_LEVELS, GIANT_PAGES, GUEST_TRAP, LEGACY, NO_EXECUTE, NPT
from emu.svm.vmcb import ControlBlock, Group
from vmcs.svm.control_bits import IntState, MiscControl, MiscControl2
from vmcs.svm.intercepts import WORD_BITS, WORDS, intercept
from vmcs.svm.vmcb import member

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

CONTROL_AREA: Final = Group(
    (
        *("intercepts", "pause_filter_thresh", "pause_filter_count", "iopm_base_pa"),
        *("msrpm_base_pa", "tsc_offset", "asid", "tlb_ctl", "int_ctl", "int_vector", "int_state"),
        *("misc_ctl", "event_inj", "event_inj_err", "nested_cr3", "misc_ctl2"),
    )
)
MAP_OFFSET: Final = 0xFFF  # low bits of the maps' addresses, which VMRUN ignores
HANDLED: Final = {
    "PUSHF": ("PUSHF", "PUSHFD", "PUSHFQ"),
    "POPF": ("POPF", "POPFD", "POPFQ"),
}
"""Intercepts of instructions that have compiled handlers, with their mnemonics."""


def _between(first: str, last: str) -> slice:
    return slice(member(first).offset, member(last).offset)


KEY: Final = (
    _between("intercepts", "exit_code"),
    _between("misc_ctl", "clean"),
    _between("cs.attrib", "cs.limit"),
    _between("efer", "reserved_0xd8"),
    _between("cr4", "rflags"),
    _between("s_cet", "ssp"),
    _between("g_pat", "dbgctl"),
)
"""The bytes that decide what VMRUN does, besides the guest's registers."""


class Plan(NamedTuple):
    """A control area as the processor acts on it."""

    bits: int  # the intercepts, a bit for each position
    trapped: frozenset[str]  # mnemonics that plain Python runs because they are intercepted
    pause_count: int
    pause_threshold: int
    iopm: int
    msrpm: int
    tsc_offset: int
    asid: int
    tlb_ctl: int
    int_ctl: int
    vector: int  # of the virtual interrupt
    shadow: bool  # the guest begins in an interrupt shadow
    second_level: int  # zero without nested paging
    event_inj: int
    event_error: int
    records_branches: bool  # LBR virtualization is on
    moves_state: bool  # VMLOAD and VMSAVE are virtualized


Key = tuple[bytes, int, int, int, int]


def key_of(cpu: Cpu, block: ControlBlock) -> Key:
    """What a plan depends on: parts of the VMCB, and the paging mode of the host."""
    state, data = cpu.state, block.data
    parts = b"".join([data[part] for part in KEY])
    return parts, state.cr0, state.cr4, state.efer, cpu.mode.bits


def plan_of(cpu: Cpu, block: ControlBlock) -> Plan:
    """The plan for a VMCB that passed the checks."""
    values = CONTROL_AREA.read(block.data)
    count = len(WORDS)
    bits = sum(word << WORD_BITS * n for n, word in enumerate(values[:count]))
    read = dict(zip(CONTROL_AREA.names[1:], values[count:], strict=True))
    misc, misc2 = read["misc_ctl"], read["misc_ctl2"]
    nested = misc & MiscControl.NP_ENABLE and cpu.model.has("NPT")
    branches = misc2 & MiscControl2.LBR_VIRTUALIZATION_ENABLE and cpu.model.has("LBRV")
    moves = misc2 & MiscControl2.VMSAVE_VMLOAD_ENABLE and cpu.model.has("V_VMSAVE_VMLOAD")
    return Plan(
        bits,
        trapped_by(bits),
        read["pause_filter_count"],
        read["pause_filter_thresh"],
        read["iopm_base_pa"] & ~MAP_OFFSET,
        read["msrpm_base_pa"] & ~MAP_OFFSET,
        read["tsc_offset"],
        read["asid"],
        read["tlb_ctl"],
        read["int_ctl"],
        read["int_vector"] & 0xFF,
        bool(read["int_state"] & IntState.INTERRUPT_SHADOW),
        nested_paging(cpu, read["nested_cr3"], misc) if nested else 0,
        read["event_inj"],
        read["event_inj_err"],
        bool(branches),
        bool(moves and nested),
    )


def trapped_by(bits: int) -> frozenset[str]:
    """The mnemonics of intercepted instructions that have compiled handlers."""
    return frozenset(
        mnemonic
        for name, mnemonics in HANDLED.items()
        if bits >> intercept(name).position & 1
        for mnemonic in mnemonics
    )


def nested_paging(cpu: Cpu, root: int, misc_ctl: int) -> int:
    """The second level in force: the host's paging mode over nCR3. APM Vol. 2, Nested Paging."""
    state = cpu.state
    control = NPT | root
    if not state.efer & EFER_LMA:
        control = NPT | LEGACY | root & 0xFFFF_FFE0
    elif state.cr4 & CR4_LA57:
        control |= FIVE_LEVELS
    if state.efer & EFER_NXE:
        control |= NO_EXECUTE
    if cpu.model.has("PDPE1GB"):
        control |= GIANT_PAGES
    if misc_ctl & MiscControl.GMET_ENABLE and cpu.model.has("GMET"):
        control |= GUEST_TRAP
    return int(control)
