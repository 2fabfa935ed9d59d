"""ACPI tables of the board: RSDP, RSDT, XSDT, FADT, FACS, DSDT and MADT.

ACPI Specification 6.x, ACPI Software Programming Model, System Description Tables.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from emu.machine import aml, ioapic, power
from emu.machine.lapic_registers import DEFAULT_BASE
from emu.machine.rtc import CENTURY

OEM_ID: Final = b"NSTLNG"
OEM_TABLE_ID: Final = b"NESTLING"
CREATOR: Final = b"NSTL"
HEADER: Final = struct.Struct("<4sIBB6s8sI4sI")
RSDP: Final = struct.Struct("<8sB6sBIIQB3x")
FACS: Final = struct.Struct("<4sIIIIIQB31x")
SCI_IRQ: Final = 9


class FadtField(NamedTuple):
    """A field of the FADT that is not zero: offset, width in bytes, value."""

    offset: int
    width: int
    name: str
    value: int


# fmt: off
# ACPI Specification, Fixed ACPI Description Table (FADT). SMI_CMD is zero: the board has no legacy
# mode. Flags: WBINVD works, C1 works, no control-method buttons are fixed hardware, RESET_REG.
FADT_FIELDS: Final = (
    FadtField(45, 1, "PREFERRED_PM_PROFILE", 1),
    FadtField(46, 2, "SCI_INT", SCI_IRQ),
    FadtField(56, 4, "PM1A_EVT_BLK", power.PM_BASE),
    FadtField(64, 4, "PM1A_CNT_BLK", power.PM_BASE + 4),
    FadtField(76, 4, "PM_TMR_BLK", power.PM_BASE + 8),
    FadtField(88, 1, "PM1_EVT_LEN", 4),
    FadtField(89, 1, "PM1_CNT_LEN", 2),
    FadtField(91, 1, "PM_TMR_LEN", 4),
    FadtField(96, 2, "P_LVL2_LAT", 0xFFF),
    FadtField(98, 2, "P_LVL3_LAT", 0xFFF),
    FadtField(108, 1, "CENTURY", CENTURY),
    FadtField(109, 2, "IAPC_BOOT_ARCH", 0x0005),
    FadtField(112, 4, "FLAGS", 0x0000_0425),
    FadtField(116, 12, "RESET_REG", 0xCF9 << 32 | 1 << 24 | 8 << 8 | 1),
    FadtField(128, 1, "RESET_VALUE", 0x06),
    FadtField(148, 12, "X_PM1A_EVT_BLK", power.PM_BASE << 32 | 2 << 24 | 32 << 8 | 1),
    FadtField(172, 12, "X_PM1A_CNT_BLK", (power.PM_BASE + 4) << 32 | 2 << 24 | 16 << 8 | 1),
    FadtField(208, 12, "X_PM_TMR_BLK", (power.PM_BASE + 8) << 32 | 3 << 24 | 32 << 8 | 1),
)
# fmt: on
FADT_REVISION: Final = 3
FADT_SIZE: Final = 244
FADT_FACS, FADT_DSDT, FADT_X_DSDT = 36, 40, 140

MADT_LAPIC, MADT_IOAPIC, MADT_OVERRIDE, MADT_LAPIC_NMI, MADT_X2APIC = 0, 1, 2, 4, 9
XAPIC_IDS: Final = 0xFF
# interrupt source overrides: ISA IRQ, global system interrupt, flags (polarity, trigger mode)
OVERRIDES: Final = ((0, 2, 0x0), (SCI_IRQ, SCI_IRQ, 0xD))


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table: header, `body`, and a checksum that makes the bytes sum to 0."""
    length = HEADER.size + len(body)
    header = HEADER.pack(signature, length, revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR, 1)
    data = bytearray(header + body)
    data[9] = -sum(data) & 0xFF
    return bytes(data)


def dsdt() -> bytes:
    r"""DSDT: the values of SLP_TYP for S3 and S5, and nothing else."""
    sleep = ((r"\_S3", power.SLEEP_S3), (r"\_S5", power.SLEEP_S5))
    body = b"".join(
        aml.name(state, aml.package(*map(aml.integer, (kind, kind, 0, 0)))) for state, kind in sleep
    )
    return table(b"DSDT", 2, body)


def fadt(facs: int, dsdt_gpa: int) -> bytes:
    """FADT, with where FACS and DSDT are."""
    data = bytearray(FADT_SIZE)
    fields = (
        *FADT_FIELDS,
        FadtField(FADT_FACS, 4, "FIRMWARE_CTRL", facs),
        FadtField(FADT_DSDT, 4, "DSDT", dsdt_gpa),
        FadtField(FADT_X_DSDT, 8, "X_DSDT", dsdt_gpa),
    )
    for field in fields:
        data[field.offset : field.offset + field.width] = field.value.to_bytes(
            field.width, "little"
        )
    return table(b"FACP", FADT_REVISION, bytes(data[HEADER.size :]))


def facs() -> bytes:
    """FACS: the waking vector and the global lock, both zero."""
    return FACS.pack(b"FACS", FACS.size, 0, 0, 0, 0, 0, 1)


def madt(apic_ids: Sequence[int], ioapic_id: int = 0) -> bytes:
    """MADT: the processors' local APICs, the I/O APIC, the overrides and the NMI pin."""
    entries = [struct.pack("<II", DEFAULT_BASE, 1)]
    for uid, apic_id in enumerate(apic_ids):
        if apic_id < XAPIC_IDS:
            entries.append(struct.pack("<BBBBI", MADT_LAPIC, 8, uid & 0xFF, apic_id, 1))
        else:
            entries.append(struct.pack("<BBHIII", MADT_X2APIC, 16, 0, apic_id, 1, uid))
    window = ioapic.DEFAULT_ADDRESS
    entries.append(struct.pack("<BBBBII", MADT_IOAPIC, 12, ioapic_id, 0, window, 0))
    entries += [
        struct.pack("<BBBBIH", MADT_OVERRIDE, 10, 0, irq, gsi, flags)
        for irq, gsi, flags in OVERRIDES
    ]
    entries.append(struct.pack("<BBBHB", MADT_LAPIC_NMI, 6, 0xFF, 0, 1))
    return table(b"APIC", 3, b"".join(entries))


class Tables(NamedTuple):
    """Where the tables were put: their bytes by address, and those of the RSDP and the FACS."""

    images: dict[int, bytes]
    rsdp: int
    facs: int


def build(gpa: int, apic_ids: Sequence[int]) -> Tables:
    """All tables from `gpa` on, each aligned to 64 bytes; the RSDP comes first."""
    images: dict[int, bytes] = {}
    free = gpa + 64

    def place(image: bytes) -> int:
        nonlocal free
        at, free = free, free + len(image) + 63 & ~63
        images[at] = image
        return at

    facs_gpa = place(facs())
    fadt_gpa = place(fadt(facs_gpa, place(dsdt())))
    listed = (fadt_gpa, place(madt(apic_ids)))
    rsdt = place(table(b"RSDT", 1, struct.pack(f"<{len(listed)}I", *listed)))
    xsdt = place(table(b"XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed)))
    images[gpa] = rsdp(rsdt, xsdt)
    return Tables(images, gpa, facs_gpa)


def rsdp(rsdt: int, xsdt: int) -> bytes:
    """RSDP of revision 2; its first 20 bytes sum to zero, and so do all 36."""
    data = bytearray(RSDP.pack(b"RSD PTR ", 0, OEM_ID, 2, rsdt, RSDP.size, xsdt, 0))
    data[8] = -sum(data[:20]) & 0xFF
    data[32] = -sum(data) & 0xFF
    return bytes(data)
