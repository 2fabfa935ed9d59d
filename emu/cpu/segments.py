"""Segment registers: what of a descriptor the processor caches and what it derives."""

from __future__ import annotations

WORD = (1 << 64) - 1

# access rights, as in the VMCS. SDM Vol. 3, Guest Register State
TYPE, S, PRESENT, L, DB, G, UNUSABLE = 0xF, 1 << 4, 1 << 7, 1 << 13, 1 << 14, 1 << 15, 1 << 16
CODE_SEGMENT, EXPAND_DOWN, CONFORMING, WRITABLE, READABLE = 8, 4, 4, 2, 2


def dpl(rights: int) -> int:
    """Descriptor privilege level."""
    return rights >> 5 & 3


def bounds(rights: int, limit: int, protected: bool) -> tuple[int, int, int]:
    """Lowest offset, end of the readable and of the writable ones. SDM Vol. 3, Limit Checking."""
    if rights & UNUSABLE or not rights & PRESENT:
        return 0, 0, 0
    code = rights & CODE_SEGMENT
    low, end = 0, limit + 1
    if not code and rights & EXPAND_DOWN:
        low, end = limit + 1, 1 << 32 if rights & DB else 1 << 16
    readable = not code or rights & READABLE or not protected
    writable = (not code and rights & WRITABLE) or not protected
    return low, end if readable else 0, end if writable else 0
