"""The MSR areas of VM entry and VM exit. SDM Vol. 3, Loading MSRs; Saving MSRs."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from emu.cpu.system.msr_table import X2APIC
from emu.cpu.system.msrs import Refused, read_msr, write_msr
from vmcs.check_programs import compile_program, first_stop
from vmcs.vmx.entry_checks.msr_load import MSR_LOAD_CHECKS, vocabulary

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

ENTRY: Final = struct.Struct("<IIQ")
SMM_ONLY: Final = frozenset((0x9B, 0x9E))  # IA32_SMM_MONITOR_CTL, IA32_SMBASE
UNLOADABLE: Final = frozenset((0x79, 0x8B))  # IA32_BIOS_UPDT_TRIG, IA32_BIOS_SIGN_ID
LONGEST: Final = 512  # what IA32_VMX_MISC bits 27:25 recommend; an entry beyond it fails
UNSTORABLE: Final = frozenset((0x9E,))


class LoadChecks:
    """The checks on one entry, compiled, and the words that they read."""

    def __init__(self) -> None:
        self.vocabulary = vocabulary()
        self.program = compile_program(MSR_LOAD_CHECKS, self.vocabulary)
        self.words = self.vocabulary.words()
        self.met = np.zeros(1, np.int64)

    def pass_entry(self, index: int, reserved: int, value: int) -> bool:
        """Whether an entry passes all of them but the question whether WRMSR would fault."""
        for name, word in (
            ("MSR_INDEX", index),
            ("MSR_RESERVED", reserved),
            ("MSR_DATA", value),
            ("MSR_SMM_ONLY", index in SMM_ONLY),
            ("MSR_UNLOADABLE", index in UNLOADABLE),
        ):
            self.words[self.vocabulary.index(name)] = word
        stop: int = first_stop(self.program.code, self.words, self.met)
        return stop == len(self.program.rows)


@functools.cache
def load_checks() -> LoadChecks:
    """The checks of this process."""
    return LoadChecks()


def entries(cpu: Cpu, address: int, count: int) -> list[tuple[int, int, int]]:
    """The entries of an area: index, reserved bits, data."""
    data = cpu.memory.read(address, count * ENTRY.size) if count else b""
    return list(ENTRY.iter_unpack(bytes(data)))


def load_area(cpu: Cpu, address: int, count: int) -> int:
    """Load MSRs from an area; 0, or the number of the entry that failed, the first being 1."""
    for number, (index, reserved, value) in enumerate(entries(cpu, address, count), 1):
        if number > LONGEST or not load_checks().pass_entry(index, reserved, value):
            return number
        try:
            write_msr(cpu, index, value)
        except Refused:
            return number
    return 0


def store_area(cpu: Cpu, address: int, count: int) -> int:
    """Store MSRs to an area; 0, or the number of the entry that failed."""
    for number, (index, reserved, _) in enumerate(entries(cpu, address, count), 1):
        if number > LONGEST or reserved or index in X2APIC or index in UNSTORABLE:
            return number
        try:
            value = read_msr(cpu, index)
        except Refused:
            return number
        place = address + (number - 1) * ENTRY.size + 8
        cpu.memory.write(place, value.to_bytes(8, "little"))
    return 0
