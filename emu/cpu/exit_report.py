"""Why guest mode was left, in words: what VMX and SVM tell alike."""

from __future__ import annotations

from typing import NamedTuple


class ExitReport(NamedTuple):
    """The last exit of an extension. The texts name fields, as `NAME` or ``NAME=value``."""

    code: int
    name: str
    details: tuple[str, ...]  # exit qualification; EXITINFO1 and EXITINFO2
    rip: int  # of the guest
    event: tuple[str, ...] = ()  # the event that is the reason
    delivering: tuple[str, ...] = ()  # the event in whose delivery it came up
    failed_entry: bool = False
