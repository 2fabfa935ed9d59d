"""What one release on one host carries of a VMCB: bytes in, bytes out, and bits that it changes.

The groups of members and the changes are rows of `vmcs.svm.kvm_forms`; the facts `svm_control`,
`svm_save` and `svm_legalized` of a release name those that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from emu.releases.schema import Release
from vmcs.nested_state import VMCB12_OFFSET
from vmcs.svm.kvm_forms import GROUPS, LEGALIZED, Legalized, spans_of
from vmcs.svm.vmcb import SAVE_OFFSET, VMCB_SIZE, member

ALL64: Final = 0xFFFF_FFFF_FFFF_FFFF
WORDS: Final = {1: Struct("<B"), 2: Struct("<H"), 4: Struct("<I"), 8: Struct("<Q")}


class Change(NamedTuple):
    """One word of a VMCB and what SET makes of it: ``word & kept | added``."""

    word: Struct
    offset: int
    kept: int
    added: int


class GuestForms(NamedTuple):
    """What SET makes of the controls of one guest; of misc_ctl it keeps the bits `misc_ctl`."""

    changes: tuple[Change, ...]
    misc_ctl: int


class Carried(NamedTuple):
    """The facts of a release that say what it carries of a VMCB."""

    control: frozenset[str]
    save: frozenset[str]
    legalized: frozenset[str]
    save_bytes: int


def forms_of(release: Release, supported: frozenset[str]) -> Forms:
    """The forms of a release where KVM itself supports the features `supported`."""
    carried = Carried(
        release.names("svm_control"),
        release.names("svm_save"),
        release.names("svm_legalized"),
        release.number("svm_save_bytes"),
    )
    return _forms(carried, supported)


@cache
def _forms(carried: Carried, supported: frozenset[str]) -> Forms:
    return Forms(carried, supported)


class Forms:
    """Slices of a VMCB that a release caches, emits and loads into vmcb01.

    `supported` are the features that KVM itself supports: a group that needs another is left alone.
    """

    def __init__(self, carried: Carried, supported: frozenset[str]) -> None:
        names, legalized = sorted(carried.control), carried.legalized
        # a kernel without the ioctls runs L2 all the same, from all that vmcb12 holds
        size = carried.save_bytes or VMCB_SIZE - SAVE_OFFSET
        self.cached = _slices(names, supported) or (slice(SAVE_OFFSET),)
        self.emitted = _slices([name for name in names if GROUPS[name].emitted], supported)
        self.loaded = _slices(sorted(carried.save), supported)
        self.save_area = slice(SAVE_OFFSET, SAVE_OFFSET + size)
        self.bytes_read = VMCB12_OFFSET + SAVE_OFFSET + size
        self._guests: dict[frozenset[str], GuestForms] = {}
        self._legalized = tuple(row for row in LEGALIZED if row.name in legalized)
        self.l1_changes = tuple(
            _change(row)
            for row in self._legalized
            if member(row.member).offset >= SAVE_OFFSET and self._loads(row)
        )

    def _loads(self, row: Legalized) -> bool:
        start = member(row.member).offset
        return any(part.start <= start < part.stop for part in self.loaded)

    def for_guest(self, features: frozenset[str]) -> GuestForms:
        """What SET makes of the controls of a guest with these features."""
        found = self._guests.get(features)
        if found is None:
            found = self._guests[features] = self._of_guest(features)
        return found

    def _of_guest(self, features: frozenset[str]) -> GuestForms:
        changes, misc_ctl = [], ALL64
        for row in self._legalized:
            if member(row.member).offset >= SAVE_OFFSET or row.unless in features:
                continue
            changes.append(_change(row))
            if row.member == "misc_ctl":
                misc_ctl &= ~row.clear
        return GuestForms(tuple(changes), misc_ctl)


def _slices(names: Iterable[str], supported: frozenset[str]) -> tuple[slice, ...]:
    usable = [name for name in names if not GROUPS[name].needs or GROUPS[name].needs in supported]
    return tuple(slice(start, end) for start, end in spans_of(usable))


def _change(row: Legalized) -> Change:
    place = member(row.member)
    size = place.size // place.count
    return Change(WORDS[size], place.offset + size * row.element, ALL64 & ~row.clear, row.set)


def slices_of(names: Iterable[str]) -> tuple[slice, ...]:
    """The bytes of single members, as few slices of a VMCB as possible."""
    made: list[slice] = []
    for row in sorted((member(name) for name in names), key=lambda row: row.offset):
        if made and made[-1].stop == row.offset:
            made[-1] = slice(made[-1].start, row.end)
        else:
            made.append(slice(row.offset, row.end))
    return tuple(made)
