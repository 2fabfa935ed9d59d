"""A nested-state blob in words: header, vmcs12 or VMCB, by name, with what is unusual marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vmcs.byte_layout import FieldAt
from vmcs.nested_state import (
    HEADER_ADDITIONS,
    HEADER_SIZE,
    INVALID_GPA,
    SHADOW_VMCS12_OFFSET,
    SIZE_WITH_SHADOW_VMCS12,
    SIZE_WITH_VMCB12,
    SIZE_WITH_VMCS12,
    VMCB12_OFFSET,
    VMCS12_OFFSET,
    VMCS12_PAGE,
    Format,
    NestedFlag,
    SmmFlag,
    VmxHeaderFlag,
    header_rows,
)
from vmcs.schema import BitTable, Layout
from vmcs.svm import control_bits, intercepts
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.vmcb import VMCB_MEMBERS
from vmcs.vmx import exit_reasons
from vmcs.vmx.controls import Entry, Exit, PinBased, ProcBased, ProcBased2
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, VMCS12_BYTES, VMCS12_REVISION, vmcs12_rows

LEGAL_SIZES = {
    Format.VMX: (HEADER_SIZE, SIZE_WITH_VMCS12, SIZE_WITH_SHADOW_VMCS12),
    Format.SVM: (HEADER_SIZE, SIZE_WITH_VMCB12),
}


@dataclass(frozen=True)
class Member:
    """One member: where it stands, what it holds, what that means, and what is unusual about it."""

    name: str
    offset: int
    width: int
    value: int
    meaning: tuple[str, ...] = ()
    notice: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the blob: its title and members, those that are zero left out unless asked for."""

    title: str
    members: tuple[Member, ...]
    zero_members: int = 0


Meaning = Callable[[int], tuple[str, ...]]


def _names(table: type[BitTable]) -> Meaning:
    shown = (1 << table.width) - 1 & ~(table.reserved_mask() & table.default1_mask())
    return lambda value: table.names_of(value & shown)


def _layout(layout: Layout) -> Meaning:
    return layout.describe


def _pointer(value: int) -> tuple[str, ...]:
    return ("none",) if value == INVALID_GPA else ()


def _exit_code(value: int) -> tuple[str, ...]:
    name = SvmExit.name_of(value)
    return (name,) if name else ()


MEANINGS: dict[str, Meaning] = {
    "flags": _names(NestedFlag),
    "format": lambda value: (Format(value).name,) if value in (0, 1) else (),
    "smm_flags": _names(SmmFlag),
    "vmx_flags": _names(VmxHeaderFlag),
    "vmxon_pa": _pointer,
    "vmcs12_pa": _pointer,
    "vmcs_link_pointer": _pointer,
    "pin_based_vm_exec_control": _names(PinBased),
    "cpu_based_vm_exec_control": _names(ProcBased),
    "secondary_vm_exec_control": _names(ProcBased2),
    "vm_exit_controls": _names(Exit),
    "vm_entry_controls": _names(Entry),
    "vm_exit_reason": lambda value: (exit_reasons.describe(value),),
    "int_ctl": _layout(control_bits.INT_CTL),
    "int_vector": _layout(control_bits.INT_VECTOR),
    "int_state": _names(control_bits.IntState),
    "event_inj": _layout(control_bits.EVENT_INJ),
    "exit_int_info": _layout(control_bits.EXIT_INT_INFO),
    "misc_ctl": _names(control_bits.MiscControl),
    "misc_ctl2": _names(control_bits.MiscControl2),
    "clean": _names(control_bits.Clean),
    "exit_code": _exit_code,
}
MEANINGS |= {
    f"{name}.attrib": _layout(control_bits.SEGMENT_ATTRIBUTES)
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
}
# Control words whose reserved bits are worth a mark: default1 bits are set by rule.
RESERVED: Mapping[str, type[BitTable]] = {
    "flags": NestedFlag,
    "smm_flags": SmmFlag,
    "vmx_flags": VmxHeaderFlag,
    "pin_based_vm_exec_control": PinBased,
    "cpu_based_vm_exec_control": ProcBased,
    "secondary_vm_exec_control": ProcBased2,
    "vm_exit_controls": Exit,
    "vm_entry_controls": Entry,
    "misc_ctl": control_bits.MiscControl,
    "misc_ctl2": control_bits.MiscControl2,
}


def decode(blob: bytes, everything: bool = False) -> list[Section]:
    """The sections of a nested-state blob, header first; zero members too where `everything`.

    `blob` must have a header (`emu.migration.capture.check_blob`); what lies beyond its end is
    left out.
    """
    form = Format(int.from_bytes(blob[2:4], "little"))
    size = int.from_bytes(blob[4:8], "little")
    sections = [_header(blob, form, size)]
    if form is Format.VMX:
        rows = vmcs12_rows(*VMCS12_ADDITIONS)
        pages = (("vmcs12", VMCS12_OFFSET), ("shadow vmcs12", SHADOW_VMCS12_OFFSET))
        for title, start in pages:
            page = blob[start : start + VMCS12_PAGE]
            if len(page) >= VMCS12_BYTES and (size > start or any(page)):
                sections.append(_page(title, page, rows, _vmcs12_notices(page, title), everything))
    elif len(blob) > VMCB12_OFFSET:
        page = blob[VMCB12_OFFSET : VMCB12_OFFSET + VMCS12_PAGE]
        sections.append(_page("vmcb12", page, VMCB_MEMBERS, {}, everything))
    known_end = max(LEGAL_SIZES[form])
    if any(blob[known_end:]):
        tail = Member("beyond", known_end, len(blob) - known_end, 0, (), "no kernel reads it")
        sections.append(Section("behind the known data", (tail,)))
    return sections


def unusual(sections: Sequence[Section]) -> list[tuple[str, Member]]:
    """Every entry with a notice, with its section's title."""
    return [(s.title, entry) for s in sections for entry in s.members if entry.notice]


def _header(blob: bytes, form: Format, size: int) -> Section:
    rows = header_rows(form, *HEADER_ADDITIONS[form])
    notices: dict[str, str] = {}
    flags = int.from_bytes(blob[:2], "little")
    guest = bool(flags & NestedFlag.GUEST_MODE)
    if size not in LEGAL_SIZES[form]:
        legal = ", ".join(map(str, LEGAL_SIZES[form]))
        notices["size"] = f"no kernel returns this size; they return {legal}"
    if flags & NestedFlag.RUN_PENDING and not guest:
        notices["flags"] = "RUN_PENDING without GUEST_MODE: every kernel refuses it"
    elif form is Format.SVM and flags & (NestedFlag.EVMCS | NestedFlag.MTF_PENDING):
        notices["flags"] = "EVMCS and MTF_PENDING belong to VMX"
    elif form is Format.VMX and flags & NestedFlag.GIF_SET:
        notices["flags"] = "GIF_SET belongs to SVM"
    entries: list[Member] = []
    for row in rows:
        entries += _entries(row, blob, notices, always=not row.reserved)
    return Section("header", tuple(entries))


def _vmcs12_notices(page: bytes, title: str) -> dict[str, str]:
    notices = {}
    header = int.from_bytes(page[:4], "little")
    if header & 0x7FFF_FFFF != VMCS12_REVISION:
        notices["hdr"] = f"revision is not {VMCS12_REVISION:#x}: every kernel refuses it"
    elif bool(header >> 31) != title.startswith("shadow"):
        notices["hdr"] = "the shadow-VMCS bit does not fit this place"
    return notices


def _page(
    title: str,
    page: bytes,
    rows: Sequence[FieldAt],
    notices: Mapping[str, str],
    everything: bool,
) -> Section:
    entries: list[Member] = []
    zero = 0
    for row in rows:
        found = list(_entries(row, page, notices, everything and not row.reserved))
        entries += found
        zero += not found and not row.reserved
    end = rows[-1].end
    if any(page[end:]):
        where = end + next(i for i, byte in enumerate(page[end:]) if byte)
        notice = f"not zero from byte {where} on; KVM neither reads nor clears it"
        entries.append(Member("tail", end, len(page) - end, 0, (), notice))
    return Section(title, tuple(entries), zero)


def _entries(
    row: FieldAt, data: bytes, notices: Mapping[str, str], always: bool = False
) -> Iterator[Member]:
    """A member as entries: none where it is zero, six for the words of the intercept vector."""
    raw = data[row.offset : row.end]
    if row.name == "intercepts":
        words = [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]
        if any(words):
            value = int.from_bytes(raw, "little")
            yield Member(row.name, row.offset, row.size, value, intercepts.names_of(words))
        return
    if not any(raw) and not always:
        return
    value = int.from_bytes(raw, "little")
    notice = notices.get(row.name, "")
    if row.reserved:
        notice = notice or "reserved, but not zero"
    table = RESERVED.get(row.name)
    if table is not None and not notice:
        bits = value & table.reserved_mask() & ~table.default1_mask()
        if bits:
            notice = f"reserved bits {bits:#x}"
    meaning = MEANINGS[row.name](value) if row.name in MEANINGS else ()
    yield Member(row.name, row.offset, row.size, value, meaning, notice)
