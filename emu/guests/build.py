"""The images of the guests from their sources: ``python -m emu.guests.build`` makes them all."""

from __future__ import annotations

from typing import Final

from emu.guests import GUESTS, HERE, Guest
from emu.guests.assembler import assemble, link
from emu.guests.definitions import text

BASE: Final = 0x10_0000
"""Where a Multiboot loader puts the image: the first byte of extended memory."""


def source(guest: Guest) -> str:
    """The whole assembly text of `guest`."""
    parts = ("console", "boot", "common", guest.vendor, "l1", guest.scenario)
    sources = [(HERE / "source" / f"{part}.s").read_text() for part in parts]
    return "".join((".intel_syntax noprefix\n", text(guest.vendor), *sources))


def build(guest: Guest) -> bytes:
    """The image of `guest`, assembled and linked."""
    return link(assemble(source(guest)), BASE)


def main() -> None:
    """Rebuild the image of every guest."""
    for guest in GUESTS:
        guest.path.write_bytes(build(guest))


if __name__ == "__main__":
    main()
