"""Registers of the local APIC: xAPIC offsets, x2APIC MSRs, writable bits, reset values.

SDM Vol. 3, Advanced Programmable Interrupt Controller (APIC).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from emu.machine.registers import RO, RW, WO, Access
from vmcs.schema import check_ascending, check_unique

IA32_APIC_BASE: Final = 0x1B
IA32_TSC_DEADLINE: Final = 0x6E0
X2APIC_MSRS: Final = range(0x800, 0x900)
DEFAULT_BASE: Final = 0xFEE0_0000

BASE_BSP: Final = 1 << 8
BASE_EXTD: Final = 1 << 10
BASE_EN: Final = 1 << 11

SVR_ENABLED: Final = 1 << 8
SVR_NO_EOI_BROADCAST: Final = 1 << 12

LVT_STATUS: Final = 1 << 12
LVT_REMOTE_IRR: Final = 1 << 14
LVT_LEVEL: Final = 1 << 15
LVT_MASKED: Final = 1 << 16

ICR_LOGICAL: Final = 1 << 11
ICR_STATUS: Final = 1 << 12
ICR_ASSERT: Final = 1 << 14
ICR_LEVEL: Final = 1 << 15


class Delivery(IntEnum):
    """Delivery mode of an interrupt message. SDM Vol. 3, Interrupt Command Register (ICR)."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    RESERVED = 3
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(IntEnum):
    """Destination shorthand, ICR bits 19:18. SDM Vol. 3, Interrupt Command Register (ICR)."""

    NONE = 0
    SELF = 1
    ALL_INCLUDING_SELF = 2
    ALL_EXCLUDING_SELF = 3


class TimerMode(IntEnum):
    """LVT timer bits 18:17. SDM Vol. 3, APIC Timer."""

    ONE_SHOT = 0
    PERIODIC = 1
    TSC_DEADLINE = 2
    RESERVED = 3


class ApicError(IntFlag):
    """Error status register. SDM Vol. 3, Error Handling."""

    REDIRECTABLE_IPI = 1 << 4
    SEND_ILLEGAL_VECTOR = 1 << 5
    RECEIVE_ILLEGAL_VECTOR = 1 << 6
    ILLEGAL_REGISTER = 1 << 7


class ApicRegister(NamedTuple):
    """One register: where, access in xAPIC and x2APIC mode (None: not there), bits a write sets."""

    offset: int
    name: str
    xapic: Access | None
    x2apic: Access | None
    writable: int
    reset: int
    section: str

    @property
    def msr(self) -> int:
        """Its address in x2APIC mode."""
        return 0x800 + (self.offset >> 4)


_MAP = "Local APIC Register Address Map"
_PRIO = "Task and Processor Priorities"
_DEST = "Logical Destination Mode and Local APIC ID"
_LVT = "Local Vector Table"
_ICR = "Interrupt Command Register (ICR)"
_FIXED = "Interrupt Acceptance for Fixed Interrupts"
_TIMER = "APIC Timer"


def _bank(first: int, name: str) -> tuple[ApicRegister, ...]:
    return tuple(ApicRegister(first + 16 * i, f"{name}{i}", RO, RO, 0, 0, _FIXED) for i in range(8))


# fmt: off
REGISTERS: Final = (
    ApicRegister(0x020, "ID", RW, RO, 0xFF00_0000, 0, "Local APIC ID"),
    ApicRegister(0x030, "VERSION", RO, RO, 0, 0, "Local APIC Version Register"),
    ApicRegister(0x080, "TPR", RW, RW, 0xFF, 0, _PRIO),
    ApicRegister(0x090, "APR", RO, None, 0, 0, _MAP),
    ApicRegister(0x0A0, "PPR", RO, RO, 0, 0, _PRIO),
    ApicRegister(0x0B0, "EOI", WO, WO, 0, 0, "Signaling Interrupt Servicing Completion"),
    ApicRegister(0x0C0, "RRD", RO, None, 0, 0, _MAP),
    ApicRegister(0x0D0, "LDR", RW, RO, 0xFF00_0000, 0, _DEST),
    ApicRegister(0x0E0, "DFR", RW, None, 0xF000_0000, 0xFFFF_FFFF, _DEST),
    ApicRegister(0x0F0, "SVR", RW, RW, 0x3FF, 0xFF, "Spurious Interrupt"),
    *_bank(0x100, "ISR"),
    *_bank(0x180, "TMR"),
    *_bank(0x200, "IRR"),
    ApicRegister(0x280, "ESR", RW, RW, 0, 0, "Error Handling"),
    ApicRegister(0x2F0, "LVT_CMCI", RW, RW, 0x1_07FF, 0x1_0000, _LVT),
    ApicRegister(0x300, "ICR", RW, RW, 0xC_CFFF, 0, _ICR),
    ApicRegister(0x310, "ICR_HIGH", RW, None, 0xFF00_0000, 0, _ICR),
    ApicRegister(0x320, "LVT_TIMER", RW, RW, 0x3_00FF, 0x1_0000, _LVT),
    ApicRegister(0x330, "LVT_THERMAL", RW, RW, 0x1_07FF, 0x1_0000, _LVT),
    ApicRegister(0x340, "LVT_PMC", RW, RW, 0x1_07FF, 0x1_0000, _LVT),
    ApicRegister(0x350, "LVT_LINT0", RW, RW, 0x1_A7FF, 0x1_0000, _LVT),
    ApicRegister(0x360, "LVT_LINT1", RW, RW, 0x1_A7FF, 0x1_0000, _LVT),
    ApicRegister(0x370, "LVT_ERROR", RW, RW, 0x1_00FF, 0x1_0000, _LVT),
    ApicRegister(0x380, "INITIAL_COUNT", RW, RW, 0xFFFF_FFFF, 0, _TIMER),
    ApicRegister(0x390, "CURRENT_COUNT", RO, RO, 0, 0, _TIMER),
    ApicRegister(0x3E0, "DIVIDE", RW, RW, 0xB, 0, _TIMER),
    ApicRegister(0x3F0, "SELF_IPI", None, WO, 0xFF, 0, "SELF IPI Register"),
)
# fmt: on

check_unique([row.name for row in REGISTERS], "local APIC registers")
check_ascending([row.offset for row in REGISTERS], "local APIC registers")

LVTS: Final = tuple(row.name for row in REGISTERS if row.name.startswith("LVT_"))

# Bits of an LVT entry that software cannot set and that a WRMSR may nevertheless carry.
LVT_READ_ONLY: Final = LVT_STATUS | LVT_REMOTE_IRR
# The reserved bits of the ICR in x2APIC mode; delivery status (bit 12) is no longer there and is
# ignored. SDM Vol. 3, Interrupt Command Register (ICR), figure of the x2APIC format.
X2APIC_ICR_RESERVED: Final = 0xFFF3_2000

# Vectors that may follow from a shorthand. SDM Vol. 3, Interrupt Command Register (ICR), tables of
# valid combinations. For others than fixed interrupts to oneself the manual says that results are
# unpredictable; NMI, SMI and INIT arrive on hardware: kvm-unit-tests, svm.flat, nmi.
SHORTHAND_DELIVERY: Final = {
    Shorthand.SELF: (Delivery.FIXED, Delivery.SMI, Delivery.NMI, Delivery.INIT),
    Shorthand.ALL_INCLUDING_SELF: (Delivery.FIXED,),
    Shorthand.ALL_EXCLUDING_SELF: (
        Delivery.FIXED,
        Delivery.LOWEST_PRIORITY,
        Delivery.SMI,
        Delivery.NMI,
        Delivery.INIT,
        Delivery.STARTUP,
    ),
}
