"""Instructions that cause VM exits, a row each. SDM Vol. 3, Instructions That Cause VM Exits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from emu.cpu.decode import MNEMONICS
from emu.cpu.guest_mode import Intercept
from emu.vmx.bits import P1, P2
from emu.vmx.information import register_of
from vmcs.vmx import exit_qualification as qualifications
from vmcs.vmx.exit_reasons import ExitReason


class Row(NamedTuple):
    """An exit reason, the controls of which one makes it happen (none: always), a qualification."""

    reason: ExitReason
    primary: int = 0
    secondary: int = 0
    qualification: Callable[[Any, int], int] | None = None

    def applies(self, primary: int, secondary: int) -> bool:
        """Whether it happens under these processor-based controls."""
        if not self.primary | self.secondary:
            return True
        return bool(primary & self.primary or secondary & self.secondary)


def as_it_is(_: Any, value: int) -> int:
    """What the instruction passes: a linear address, whether the monitor is armed."""
    return value


def write_back(insn: Any, _: int) -> int:
    """WBINVD or WBNOINVD."""
    return qualifications.WBINVD.word(INSTRUCTION=int(MNEMONICS[insn.mnemonic] == "WBNOINVD"))


def debug_register(insn: Any, number: int) -> int:
    """MOV DR: which register, which way, which general-purpose register."""
    general = MNEMONICS[insn.mnemonic] == "MOV" and insn.op0_register
    reads = general and not is_debug(insn)
    return qualifications.MOV_DR.word(
        REGISTER=number,
        DIRECTION=int(bool(reads)),
        GENERAL_REGISTER=register_of(insn, 0 if reads else 1),
    )


def is_debug(insn: Any) -> bool:
    """Whether the destination is a debug register."""
    from emu.cpu.registers import REGISTERS  # noqa: PLC0415

    return REGISTERS[insn.op_register(0)].letter == "D"


R, Ask = ExitReason, Intercept
ROWS: Final[dict[Intercept, Row]] = {
    Ask.CPUID: Row(R.CPUID),
    Ask.HLT: Row(R.HLT, P1.HLT_EXITING),
    Ask.INVD: Row(R.INVD),
    Ask.WBINVD: Row(R.WBINVD, 0, P2.WBINVD_EXITING, write_back),
    Ask.WBNOINVD: Row(R.WBINVD, 0, P2.WBINVD_EXITING, write_back),
    Ask.INVLPG: Row(R.INVLPG, P1.INVLPG_EXITING, 0, as_it_is),
    Ask.INVPCID: Row(R.INVPCID, P1.INVLPG_EXITING),
    Ask.RDPMC: Row(R.RDPMC, P1.RDPMC_EXITING),
    Ask.RDTSC: Row(R.RDTSC, P1.RDTSC_EXITING),
    Ask.RDTSCP: Row(R.RDTSCP, P1.RDTSC_EXITING),
    Ask.RSM: Row(R.RSM),
    Ask.PAUSE: Row(R.PAUSE, P1.PAUSE_EXITING),
    Ask.MONITOR: Row(R.MONITOR, P1.MONITOR_EXITING),
    Ask.MWAIT: Row(R.MWAIT, P1.MWAIT_EXITING, 0, as_it_is),
    Ask.XSETBV: Row(R.XSETBV),
    Ask.RDRAND: Row(R.RDRAND, 0, P2.RDRAND_EXITING),
    Ask.RDSEED: Row(R.RDSEED, 0, P2.RDSEED_EXITING),
    Ask.SGDT: Row(R.GDTR_OR_IDTR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.SIDT: Row(R.GDTR_OR_IDTR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.LGDT: Row(R.GDTR_OR_IDTR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.LIDT: Row(R.GDTR_OR_IDTR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.SLDT: Row(R.LDTR_OR_TR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.STR: Row(R.LDTR_OR_TR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.LLDT: Row(R.LDTR_OR_TR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.LTR: Row(R.LDTR_OR_TR_ACCESS, 0, P2.DESCRIPTOR_TABLE_EXITING),
    Ask.DR_READ: Row(R.MOV_DR, P1.MOV_DR_EXITING, 0, debug_register),
    Ask.DR_WRITE: Row(R.MOV_DR, P1.MOV_DR_EXITING, 0, debug_register),
}

FEATURES: Final = (
    (P2.ENABLE_RDTSCP, ("RDTSCP", "RDPID")),
    (P2.ENABLE_INVPCID, ("INVPCID",)),
    (P2.ENABLE_XSAVES_XRSTORS, ("XSAVES",)),
)
"""Features that are undefined opcodes in the guest while a secondary control is 0."""


@functools.lru_cache(maxsize=64)
def under(primary: int, secondary: int) -> tuple[dict[Intercept, Row], frozenset[str]]:
    """The rows that apply and the features that are disabled under processor-based controls."""
    rows = {what: row for what, row in ROWS.items() if row.applies(primary, secondary)}
    disabled = (names for control, names in FEATURES if not secondary & control)
    return rows, frozenset(name for names in disabled for name in names)
