"""What one release on one host carries of a VMCB: bytes in, bytes out, and bits that it changes.

The groups of members and the changes are rows of `vmcs.svm.kvm_forms`; the facts `svm_control`,
`svm_save` and `svm_legalized` of a release name those that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from emu.releases.schema import Release
from vmcs.nested_state import VMCB12_OFFSET
from vmcs.svm.kvm_forms import GROUPS, LEGALIZED, Legalized, spans_of
from vmcs.svm.vmcb import SAVE_OFFSET, member

ALL64: Final = 0xFFFF_FFFF_FFFF_FFFF
WORDS: Final = {1: Struct("<B"), 2: Struct("<H"), 4: Struct("<I"), 8: Struct("<Q")}


class Change(NamedTuple):
    """One word of a VMCB and what SET makes of it: ``word & kept | added``."""

    word: Struct
    offset: int
    kept: int
    added: int


class Forms:
    """Slices of a VMCB that a release caches, emits and loads into vmcb01.

    `supported` are the features that KVM itself supports: a group that needs another is left alone.
    """

    def __init__(self, release: Release, supported: frozenset[str]) -> None:
        names = sorted(release.names("svm_control"))
        legalized = release.names("svm_legalized")
        self.cached = _slices(names, supported)
        self.emitted = _slices([name for name in names if GROUPS[name].emitted], supported)
        self.loaded = _slices(sorted(release.names("svm_save")), supported)
        size = release.number("svm_save_bytes")
        self.save_area = slice(SAVE_OFFSET, SAVE_OFFSET + size)
        self.bytes_read = VMCB12_OFFSET + SAVE_OFFSET + size
        self._legalized = tuple(row for row in LEGALIZED if row.name in legalized)
        self.l1_changes = tuple(
            _change(row)
            for row in self._legalized
            if member(row.member).offset >= SAVE_OFFSET and self._loads(row)
        )

    def _loads(self, row: Legalized) -> bool:
        start = member(row.member).offset
        return any(part.start <= start < part.stop for part in self.loaded)

    def _for_guest(self, guest_has: Callable[[str], bool]) -> Iterator[Legalized]:
        for row in self._legalized:
            controls = member(row.member).offset < SAVE_OFFSET
            if controls and not (row.unless and guest_has(row.unless)):
                yield row

    def control_changes(self, guest_has: Callable[[str], bool]) -> tuple[Change, ...]:
        """What SET makes of the controls that it caches, for a guest with these features."""
        return tuple(_change(row) for row in self._for_guest(guest_has))

    def cached_bits(self, name: str, guest_has: Callable[[str], bool]) -> int:
        """The bits of member `name` that SET caches for a guest with these features."""
        kept = ALL64
        for row in self._for_guest(guest_has):
            if row.member == name:
                kept &= ~row.clear
        return kept


def _slices(names: Iterable[str], supported: frozenset[str]) -> tuple[slice, ...]:
    usable = [name for name in names if not GROUPS[name].needs or GROUPS[name].needs in supported]
    return tuple(slice(start, end) for start, end in spans_of(usable))


def _change(row: Legalized) -> Change:
    place = member(row.member)
    size = place.size // place.count
    return Change(WORDS[size], place.offset + size * row.element, ALL64 & ~row.clear, row.set)
