"""Editions of the manuals and releases of the kernel that the tables of this package cite.

Tables cite section titles, because section numbers move between editions; the edition is named
here and nowhere else.
"""

from typing import Final, NamedTuple


class Edition(NamedTuple):
    """One manual: the short name that rows use, its title, order number and date."""

    short: str
    title: str
    number: str
    date: str

    @property
    def full(self) -> str:
        """The edition as one line of text."""
        return f"{self.title}, {self.number}, {self.date}"


SDM: Final = Edition(
    "SDM",
    "Intel 64 and IA-32 Architectures Software Developer's Manual, Volume 3",
    "325384-092US",
    "June 2026",
)

APM: Final = Edition(
    "APM",
    "AMD64 Architecture Programmer's Manual, Volume 2: System Programming",
    "24593 revision 3.42",
    "March 2024",
)

EDITIONS: Final = (SDM, APM)

FIRST_RELEASE: Final = "4.18"
LAST_RELEASE: Final = "7.3"
