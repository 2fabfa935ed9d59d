"""A nested-state blob in words: header, vmcs12 or VMCB, by name, with what is unusual marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from emu.releases import RELEASES
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
from vmcs.schema import BitTable, CodeTable, Layout
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, VMCS12_BYTES, VMCS12_REVISION

LEGAL_SIZES = {
    Format.VMX: (HEADER_SIZE, SIZE_WITH_VMCS12, SIZE_WITH_SHADOW_VMCS12),
    Format.SVM: (HEADER_SIZE, SIZE_WITH_VMCB12),
}


@dataclass(frozen=True)
class Member:
    """One member: where it stands, what it holds, what that means, and what is unusual about it.

    `since` has the oldest release that knows the member, or each name of `meaning`, where not every
    release with nested state of this format does.
    """

    name: str
    offset: int
    width: int
    value: int
    meaning: tuple[str, ...] = ()
    notice: str = ""
    since: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the blob: its title and members, those that are zero left out unless asked for."""

    title: str
    members: tuple[Member, ...]
    zero_members: int = 0


Shape = Layout | type[BitTable] | type[CodeTable]
Meaning = Callable[[int], tuple[str, ...]]


class Words(NamedTuple):
    """Members that lie behind one another, and by name: the formats of some, what others say.

    `kind` is ``vmx`` or ``svm``.
    """

    kind: str
    rows: Sequence[FieldAt]
    formats: Mapping[str, Shape]
    meanings: Mapping[str, Meaning]


def pointer(value: int) -> tuple[str, ...]:
    """What a guest-physical address says that is all ones where there is none."""
    return ("none",) if value == INVALID_GPA else ()


HEADER_FORMATS: Final[Mapping[str, Shape]] = {
    "flags": NestedFlag,
    "format": Format,
    "smm_flags": SmmFlag,
    "vmx_flags": VmxHeaderFlag,
}
HEADER_MEANINGS: Final[Mapping[str, Meaning]] = {"vmxon_pa": pointer, "vmcs12_pa": pointer}
# What flags say is pending.
PENDING: Final = {
    "RUN_PENDING": "the entry to L2 is not complete",
    "MTF_PENDING": "an MTF VM exit is pending",
}
# Members that not every release knows: the fact of a release that has them, and their name there.
LATER_MEMBERS: Final = {
    "vmx_flags": ("vmx_header", "flags"),
    "preemption_timer_deadline": ("vmx_header", "preemption_timer_deadline"),
    "gpat": ("svm_header", "gpat"),
    **{name: ("vmcs12_fields", name) for name in VMCS12_ADDITIONS},
}


def says(shape: Shape, value: int) -> tuple[str, ...]:
    """What `value` says under its format; bits that must be 1 for whoever ignores them left out."""
    if isinstance(shape, Layout):
        return shape.describe(value)
    if issubclass(shape, BitTable):
        shown = (1 << shape.width) - 1 & ~(shape.reserved_mask() & shape.default1_mask())
        return shape.names_of(value & shown)
    return (shape.name_of(value) or "unknown",)


def _reserved(shape: Shape, value: int) -> int:
    """Bits of `value` that its format reserves."""
    if isinstance(shape, Layout):
        return value & shape.reserved_mask()
    if issubclass(shape, BitTable):
        return value & shape.reserved_mask() & ~shape.default1_mask()
    return 0


def decode(blob: bytes, everything: bool = False) -> list[Section]:
    """The sections of a nested-state blob, header first; zero members too where `everything`.

    `blob` must have a header (`emu.migration.capture.check_blob`); what lies beyond its end is
    left out.
    """
    form = Format(int.from_bytes(blob[2:4], "little"))
    size = int.from_bytes(blob[4:8], "little")
    sections = [_header(blob, form, size)]
    if form is Format.VMX:
        from emu.migration import vmx_words  # noqa: PLC0415 - a state has one format

        pages = (("vmcs12", VMCS12_OFFSET), ("shadow vmcs12", SHADOW_VMCS12_OFFSET))
        for title, start in pages:
            page = blob[start : start + VMCS12_PAGE]
            if len(page) >= VMCS12_BYTES and (size > start or any(page)):
                notices = _vmcs12_notices(page, title)
                sections.append(page_section(title, page, vmx_words.WORDS, notices, everything))
    elif len(blob) > VMCB12_OFFSET:
        from emu.migration import svm_words  # noqa: PLC0415 - a state has one format

        page = blob[VMCB12_OFFSET : VMCB12_OFFSET + VMCS12_PAGE]
        sections.append(page_section("vmcb12", page, svm_words.WORDS, {}, everything))
    known_end = max(LEGAL_SIZES[form])
    if any(blob[known_end:]):
        tail = Member("beyond", known_end, len(blob) - known_end, 0, (), "no kernel reads it")
        sections.append(Section("behind the known data", (tail,)))
    return sections


def summary(blob: bytes) -> str:
    """Where the vCPU stands, in one line: which mode, whose guest, what is pending."""
    header = {member.name: member for member in decode(blob[:HEADER_SIZE])[0].members}
    flags, names = header["flags"].value, header["flags"].meaning
    pending = [PENDING[name] for name in names if name in PENDING]
    if header["format"].value == Format.SVM:
        place = "L2 is running" if flags & NestedFlag.GUEST_MODE else "L1 is running"
        gif = "GIF is set" if flags & NestedFlag.GIF_SET else "GIF is clear"
        return ", ".join(("AMD SVM: " + place, gif, *pending))
    if header["vmxon_pa"].value == INVALID_GPA:
        return "Intel VMX: L1 has not executed VMXON"
    if flags & NestedFlag.GUEST_MODE:
        place = "L2 is running"
    elif header["smm_flags"].value:
        place = "L1 is in system-management mode"
    elif header["vmcs12_pa"].value == INVALID_GPA:
        place = "L1 is in VMX root operation without a current VMCS"
    else:
        place = "L1 is in VMX root operation with a current VMCS"
    return ", ".join(("Intel VMX: " + place, *pending))


def unusual(sections: Sequence[Section]) -> list[tuple[str, Member]]:
    """Every entry with a notice, with its section's title."""
    return [(s.title, entry) for s in sections for entry in s.members if entry.notice]


def _header(blob: bytes, form: Format, size: int) -> Section:
    rows = header_rows(form, *HEADER_ADDITIONS[form])
    words = Words(form.name.lower(), rows, HEADER_FORMATS, HEADER_MEANINGS)
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
        entries += _entries(row, blob, words, notices, always=not row.reserved)
    return Section("header", tuple(entries))


def _vmcs12_notices(page: bytes, title: str) -> dict[str, str]:
    notices = {}
    header = int.from_bytes(page[:4], "little")
    if header & 0x7FFF_FFFF != VMCS12_REVISION:
        notices["hdr"] = f"revision is not {VMCS12_REVISION:#x}: every kernel refuses it"
    elif bool(header >> 31) != title.startswith("shadow"):
        notices["hdr"] = "the shadow-VMCS bit does not fit this place"
    return notices


def page_section(
    title: str,
    page: bytes,
    words: Words,
    notices: Mapping[str, str],
    everything: bool,
) -> Section:
    """A vmcs12 or VMCB by member, zero members too where `everything`; `notices` by name."""
    entries: list[Member] = []
    zero = 0
    for row in words.rows:
        found = list(_entries(row, page, words, notices, everything and not row.reserved))
        entries += found
        zero += not found and not row.reserved
    end = words.rows[-1].end
    if any(page[end:]):
        where = end + next(i for i, byte in enumerate(page[end:]) if byte)
        notice = f"not zero from byte {where} on; KVM neither reads nor clears it"
        entries.append(Member("tail", end, len(page) - end, 0, (), notice))
    return Section(title, tuple(entries), zero)


def _entries(
    row: FieldAt,
    data: bytes,
    words: Words,
    notices: Mapping[str, str],
    always: bool = False,
) -> Iterator[Member]:
    """A member as an entry; none where it is zero, unless `always`."""
    raw = data[row.offset : row.end]
    if not any(raw) and not always:
        return
    value = int.from_bytes(raw, "little")
    notice = notices.get(row.name, "")
    if row.reserved:
        notice = notice or "reserved, but not zero"
    meaning: tuple[str, ...] = ()
    if row.name in words.meanings:
        meaning = words.meanings[row.name](value)
    elif row.name in words.formats:
        meaning = says(words.formats[row.name], value)
        bits = _reserved(words.formats[row.name], value)
        if bits and not notice:
            notice = f"reserved bits {bits:#x}"
    since: tuple[str, ...] = ()
    if row.name == "flags":
        names = (f"KVM_STATE_NESTED_{name}" for name in meaning)
        since = tuple(_since(words.kind, "nested_flags", name) for name in names)
    elif row.name in LATER_MEMBERS:
        since = (_since(words.kind, *LATER_MEMBERS[row.name]),)
    yield Member(row.name, row.offset, row.size, value, meaning, notice, since)


@cache
def _since(kind: str, fact: str, member: str) -> str:
    """The oldest mainline release with nested state of the kind whose `fact` has `member`."""
    found = (
        release.name
        for release in RELEASES.values()
        if not release.stable
        and release.number(f"{kind}_maximum_size")
        and release.has(fact, member)
    )
    return next(found, "")
