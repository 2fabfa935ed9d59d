"""VMRUN's consistency checks: the words that `vmcs.svm.vmrun_checks` reads, and the walk.

APM Vol. 2, Canonicalization and Consistency Checks, and the sections that the rows name.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.cpu.models.features import ECX, EDX
from emu.cpu.paging import CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, PDPTE_RESERVED
from emu.cpu.system.control import cr4_bits
from emu.cpu.system.msrs import efer_bits
from emu.svm.vmcb import ControlBlock, Group
from vmcs.check_programs import Vocabulary, compile_program, first_stop
from vmcs.checks import Row
from vmcs.svm.control_bits import MiscControl
from vmcs.svm.cpuid import LEAF
from vmcs.svm.intercepts import ExceptionIntercept
from vmcs.svm.vmrun_checks import VMCB_WORDS, VMRUN_CHECKS, vocabulary

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

WORD: Final = (1 << 64) - 1
HWCR, SMM_LOCK = 0xC001_0015, 1
FOREIGN: Final = frozenset(("HV", "VC", "CP"))  # of encrypted guests and shadow stacks
EXCEPTIONS: Final = sum(
    1 << row.bit for row in ExceptionIntercept.table if not row.reserved and row.name not in FOREIGN
)
PAE_PDPES: Final = 32  # bytes

MEMBERS: Final = Group(
    ("intercepts" if row.name == "INTERCEPTS_3" else row.name.lower())
    for row in sorted(VMCB_WORDS, key=lambda row: row.offset)
    if row.name != "INTERCEPTS_4"
)
"""The members that the checks read; the intercepts are six words."""


class Walk(NamedTuple):
    """The rows compiled, and where the members and the words of the processor go."""

    names: Vocabulary
    code: list[int]
    rows: tuple[Row, ...]
    members: tuple[int, ...]  # positions of `MEMBERS` in the words; -1 for what no row reads


@functools.cache
def walk() -> Walk:
    """The program of `VMRUN_CHECKS`."""
    names = vocabulary()
    program = compile_program(VMRUN_CHECKS, names)
    where: list[int] = []
    for name in MEMBERS.names:
        if name == "intercepts":
            where += [names.index(f"INTERCEPTS_{n}") if n in (3, 4) else -1 for n in range(6)]
        else:
            where.append(names.index(name.upper()))
    return Walk(names, program.code.tolist(), program.rows, tuple(where))


class VmrunChecks:
    """The checks of one processor."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu

    def refused_by(self, block: ControlBlock) -> Row | None:
        """The first check that does not hold; None when VMRUN goes on."""
        members = MEMBERS.read(block.data)
        values = dict(zip(walk().members, members, strict=True))
        situation = self.situation(values)
        words = walk().names.words().tolist()
        for name, value in (self.constants | situation).items():
            words[walk().names.index(name)] = value
        for position, value in values.items():
            if position >= 0:
                words[position] = value
        stop: int = first_stop.over_integers()(walk().code, words, [0])
        return walk().rows[stop] if stop < len(walk().rows) else None

    @functools.cached_property
    def constants(self) -> dict[str, int]:
        """The words that this processor always contributes."""
        cpu, model = self.cpu, self.cpu.model
        physical = ~((1 << model.maxphyaddr) - 1) & WORD
        return {
            "SVM_FEATURES": model.word(LEAF, 0, EDX),
            "SVM_FEATURES_ECX": model.word(LEAF, 0, ECX),
            "LONG_MODE": int(model.has("LM")),
            "PHYSICAL_RESERVED": physical,
            "CR3_RESERVED": physical,
            "CR4_RESERVED": ~cr4_bits(cpu) & WORD,
            "EFER_RESERVED": ~efer_bits(cpu) & WORD,
            "S_CET_RESERVED": 0,
            "EXCEPTION_VECTORS": EXCEPTIONS,
            "PDPE_RESERVED": physical | PDPTE_RESERVED,
        }

    def situation(self, values: dict[int, int]) -> dict[str, int]:
        """The words that depend on the host's state, and those of the guest in memory."""
        cpu = self.cpu
        state = cpu.state
        words = {
            "HOST_CR0": int(state.cr0),
            "HOST_IN_64_BIT_MODE": int(cpu.mode.bits == 64),
            "NCR3_RESERVED": ncr3_reserved(cpu),
            "SMM_LOCK": cpu.msrs.get(HWCR, 0) & SMM_LOCK,
        }
        index = walk().names.index
        if self.reads_pdpes(*(values[index(name)] for name in ("CR0", "CR4", "EFER", "MISC_CTL"))):
            data = cpu.memory.read(values[index("CR3")] & 0xFFFF_FFE0, PAE_PDPES)
            for n in range(4):
                words[f"PDPE{n}"] = int.from_bytes(data[8 * n : 8 * n + 8], "little")
        return words

    def reads_pdpes(self, cr0: int, cr4: int, efer: int, misc_ctl: int) -> bool:
        """Whether VMRUN reads the four entries of PAE paging: without nested paging."""
        nested = misc_ctl & MiscControl.NP_ENABLE and self.cpu.model.has("NPT")
        return bool(cr0 & CR0_PG and cr4 & CR4_PAE and not efer & EFER_LME and not nested)

    def reads_pdpes_of(self, block: ControlBlock) -> bool:
        """The same of a VMCB: what memory holds decides then, too."""
        return self.reads_pdpes(*(block[name] for name in ("cr0", "cr4", "efer", "misc_ctl")))


def ncr3_reserved(cpu: Cpu) -> int:
    """MBZ bits of nCR3 in the host's paging mode. APM Vol. 2, Nested Paging and VMRUN/#VMEXIT."""
    if cpu.state.efer & EFER_LMA:
        return ~int(cpu.state.physical_mask) & WORD
    return WORD ^ 0xFFFF_FFFF
