"""Finding the end of a section when no vmdescription tells it: by its footer.

A footer is the byte 7E and the section's id. The same five bytes can stand inside a payload, so a
place counts only if what follows can follow a footer; and if two places count, none is taken.
"""

from __future__ import annotations

import re

from emu.migration.qemu_stream.cursor import U16, U32, Buffer, is_name
from emu.migration.qemu_stream.errors import StreamError

FOOTER_MARK = 0x7E
FOOTER_BYTES = 5

_EOF, _START, _PART, _END, _FULL, _VMDESCRIPTION, _COMMAND = 0, 1, 2, 3, 4, 6, 8
_LAST_COMMAND = 11
_FOOTER = re.compile(rb"\x7e(?=.{4}[\x00-\x04\x08])", re.DOTALL)


class FooterIndex:
    """All places from `begin` on that can be footers, by section id; found in one pass."""

    def __init__(self, data: Buffer, begin: int, end: int, content_end: int) -> None:
        self.data, self.end, self.content_end = data, end, content_end
        self.places: dict[int, list[int]] = {}
        for match in _FOOTER.finditer(data, begin, end):
            at = match.start()
            if self._can_follow(at + FOOTER_BYTES):
                (section_id,) = U32.unpack_from(data, at + 1)
                self.places.setdefault(section_id, []).append(at)

    def only_place(self, section_id: int, begin: int, name: str) -> int:
        """The one place behind `begin` where section `section_id` can end.

        Raises `StreamError` when there is none, or more than one.
        """
        places = [at for at in self.places.get(section_id, ()) if at >= begin]
        if not places:
            raise StreamError(
                begin,
                f"section {name}: no vmdescription tells its length, and no footer "
                f"({FOOTER_MARK:02x} {section_id:08x}) with another section behind it was found",
            )
        if len(places) > 1:
            raise StreamError(
                begin,
                f"section {name}: no vmdescription tells its length, and it can end at "
                + " or ".join(f"{at:#x}" for at in places[:4]),
            )
        return places[0]

    def _can_follow(self, at: int) -> bool:
        """A section header, a command or the end of the stream stands at `at`."""
        kind = self.data[at]
        if kind == _EOF:
            return at + 1 >= self.content_end or self.data[at + 1] == _VMDESCRIPTION
        if kind in (_PART, _END):
            return at + FOOTER_BYTES <= self.end
        if kind == _COMMAND:
            return at + 5 <= self.end and U16.unpack_from(self.data, at + 1)[0] <= _LAST_COMMAND
        return is_section_header(self.data, at, self.end)


def is_section_header(data: Buffer, at: int, end: int) -> bool:
    """A complete header of a section that starts stands at `at` (its type byte)."""
    if at + 6 > end:
        return False
    name_at = at + 6
    behind = name_at + data[at + 5]
    return behind + 8 <= end and is_name(data[name_at:behind])


def has_footer(data: Buffer, at: int, end: int, section_id: int) -> bool:
    """The footer of section `section_id` stands at `at`."""
    if at + FOOTER_BYTES > end or data[at] != FOOTER_MARK:
        return False
    return bool(U32.unpack_from(data, at + 1)[0] == section_id)
