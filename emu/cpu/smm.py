"""The state-save area of system-management mode: a row a field, for Intel 64 and for AMD64.

Offsets count from SMBASE. SDM Vol. 3, SMRAM State Save Map for Intel 64 Architecture (whose
offsets count from SMBASE + 8000H); APM Vol. 2, SMM State-Save Area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from emu.cpu.state import CS, DS, ES, FS, GS, LDTR, SS, TR

RESET_SMBASE, ENTRY_POINT = 0x30000, 0x8000
INTEL_REVISION, AMD_REVISION = 0x30101, 0x30064  # with I/O restart (bit 16), SMBASE relocation (17)


class Slot(NamedTuple):
    """A field of the save area: `size` bytes of a word, from bit `shift` on."""

    offset: int
    size: int
    word: str
    element: int = -1  # of a field that is an array
    shift: int = 0


class IoAccess(NamedTuple):
    """The I/O instruction that an SMI came with, before it had changed a register."""

    port: int
    size: int
    reads: bool
    string: bool
    repeats: bool
    immediate: bool
    rip: int
    rcx: int
    rsi: int
    rdi: int
    linear: int = 0


@dataclass
class Smm:
    """What a processor keeps for system-management mode outside the save area."""

    base: int = RESET_SMBASE
    active: bool = False
    pending: bool = False
    nmi_blocked: bool = False  # before entry
    io: IoAccess | None = None
    interrupted: tuple[Any, ...] | None = None  # guest mode that was left: set aside, not ended


SEGMENTS: Final = (ES, CS, SS, DS, FS, GS)
LOW_REGISTERS: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
HIGH_REGISTERS: Final = tuple(f"r{n}" for n in range(8, 16))

INTEL_64: Final = (
    Slot(0xFFF8, 8, "cr0"),
    Slot(0xFFF0, 8, "cr3"),
    Slot(0xFFE8, 8, "rflags"),
    Slot(0xFFE0, 8, "efer"),
    Slot(0xFFD8, 8, "rip"),
    Slot(0xFFD0, 8, "dr", 6),
    Slot(0xFFC8, 8, "dr", 7),
    Slot(0xFFC4, 4, "selector", TR),
    Slot(0xFFC0, 4, "selector", LDTR),
    *(Slot(0xFFA8 + 4 * n, 4, "selector", seg) for n, seg in enumerate(SEGMENTS)),
    Slot(0xFFA4, 4, "io_misc"),
    Slot(0xFF9C, 8, "io_linear"),
    Slot(0xFF94, 8, "rdi"),
    Slot(0xFF8C, 8, "rsi"),
    Slot(0xFF84, 8, "rbp"),
    Slot(0xFF7C, 8, "rsp"),
    Slot(0xFF74, 8, "rbx"),
    Slot(0xFF6C, 8, "rdx"),
    Slot(0xFF64, 8, "rcx"),
    Slot(0xFF5C, 8, "rax"),
    *(Slot(0xFF54 - 8 * n, 8, name) for n, name in enumerate(HIGH_REGISTERS)),
    Slot(0xFF02, 2, "halt_restart"),
    Slot(0xFF00, 2, "io_restart"),
    Slot(0xFEFC, 4, "revision"),
    Slot(0xFEF8, 4, "smbase"),
    Slot(0xFEA4, 4, "segment_rights", LDTR),
    Slot(0xFEA0, 4, "segment_limit", LDTR),
    Slot(0xFE9C, 4, "segment_base", LDTR),
    Slot(0xFE98, 4, "idtr_limit"),
    Slot(0xFE94, 4, "idtr_base"),
    Slot(0xFE90, 4, "gdtr_limit"),
    Slot(0xFE8C, 4, "gdtr_base"),
    Slot(0xFE40, 4, "cr4"),
    Slot(0xFDE8, 8, "io_rip"),
    Slot(0xFDD8, 4, "idtr_base", shift=32),
    Slot(0xFDD4, 4, "segment_base", LDTR, 32),
    Slot(0xFDD0, 4, "gdtr_base", shift=32),
    # reserved by the manual; a processor keeps here what it has no documented place for
    Slot(0xFDC0, 8, "io_rcx"),
    Slot(0xFDB8, 8, "io_rsi"),
    Slot(0xFDB0, 8, "io_rdi"),
    *(Slot(0xFC00 + 16 * n, 8, "segment_base", seg) for n, seg in enumerate((*SEGMENTS, TR))),
    *(Slot(0xFC08 + 16 * n, 4, "segment_limit", seg) for n, seg in enumerate((*SEGMENTS, TR))),
    *(Slot(0xFC0C + 16 * n, 4, "segment_rights", seg) for n, seg in enumerate((*SEGMENTS, TR))),
)  # fmt: skip

AMD_SEGMENTS: Final = ((0xFE00, ES), (0xFE10, CS), (0xFE20, SS), (0xFE30, DS), (0xFE40, FS),
                       (0xFE50, GS), (0xFE70, LDTR), (0xFE90, TR))  # fmt: skip
AMD_64: Final = (
    *(Slot(offset, 2, "selector", seg) for offset, seg in AMD_SEGMENTS),
    *(Slot(offset + 2, 2, "attributes", seg) for offset, seg in AMD_SEGMENTS),
    *(Slot(offset + 4, 4, "segment_limit", seg) for offset, seg in AMD_SEGMENTS),
    *(Slot(offset + 8, 8, "segment_base", seg) for offset, seg in AMD_SEGMENTS),
    Slot(0xFE64, 2, "gdtr_limit"),
    Slot(0xFE68, 8, "gdtr_base"),
    Slot(0xFE84, 2, "idtr_limit"),
    Slot(0xFE88, 8, "idtr_base"),
    Slot(0xFEA0, 8, "io_rip"),
    Slot(0xFEA8, 8, "io_rcx"),
    Slot(0xFEB0, 8, "io_rsi"),
    Slot(0xFEB8, 8, "io_rdi"),
    Slot(0xFEC0, 4, "io_trap"),
    Slot(0xFEC8, 1, "io_restart"),
    Slot(0xFEC9, 1, "halt_restart"),
    Slot(0xFED0, 8, "efer"),
    Slot(0xFEFC, 4, "revision"),
    Slot(0xFF00, 4, "smbase"),
    Slot(0xFF48, 8, "cr4"),
    Slot(0xFF50, 8, "cr3"),
    Slot(0xFF58, 8, "cr0"),
    Slot(0xFF60, 8, "dr", 7),
    Slot(0xFF68, 8, "dr", 6),
    Slot(0xFF70, 8, "rflags"),
    Slot(0xFF78, 8, "rip"),
    *(Slot(0xFFB8 - 8 * n, 8, name) for n, name in enumerate(HIGH_REGISTERS)),
    *(Slot(0xFFF8 - 8 * n, 8, name) for n, name in enumerate(LOW_REGISTERS)),
)  # fmt: skip


def check_map(slots: tuple[Slot, ...]) -> None:
    """Raise ValueError when fields of a save area overlap or leave it."""
    taken: set[int] = set()
    for slot in slots:
        places = set(range(slot.offset, slot.offset + slot.size))
        if taken & places or slot.offset < 0xFC00 or max(places) > 0xFFFF:
            raise ValueError(f"{slot.word} at {slot.offset:#x}: overlaps, or lies outside")
        taken |= places


check_map(INTEL_64)
check_map(AMD_64)
