"""Cached translations, by VPID and EPT root. SDM Vol. 3, Caching Translation Information.

The processor has a few contexts of cached translations. Context 0 is the root's; a guest with a
VPID has one as long as no other guest needs it, and a guest without one is flushed as it comes and
goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.state import TLB_CONTEXTS

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

UNTAGGED: Final = 1  # the context of guests without a VPID


class Translations:
    """Which guest has which context."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.tags: dict[int, tuple[int, int]] = {}  # context: VPID and second level, oldest first
        self.untagged = False

    def enter(self, vpid: int, second_level: int) -> None:
        """VM entry: the guest's context; without VPID nothing cached survives."""
        cpu = self.cpu
        cpu.state.second_level = second_level
        self.untagged = vpid == 0
        if self.untagged:
            cpu.flush_tlb(UNTAGGED)
            context = UNTAGGED
        else:
            context = self.context_of((vpid, second_level))
        cpu.tlb_context = cpu.space = context

    def context_of(self, tag: tuple[int, int]) -> int:
        """The context of a tag; the one unused for longest when it has none."""
        for context, known in self.tags.items():
            if known == tag:
                del self.tags[context]
                self.tags[context] = tag
                return context
        free = [n for n in range(UNTAGGED + 1, TLB_CONTEXTS) if n not in self.tags]
        context = free[0] if free else next(iter(self.tags))
        self.tags.pop(context, None)
        self.tags[context] = tag
        self.cpu.flush_tlb(context)
        return context

    def leave(self) -> None:
        """VM exit: the root's context, flushed when the guest had no VPID."""
        cpu = self.cpu
        cpu.state.second_level = 0
        cpu.tlb_context = cpu.space = 0
        if self.untagged:
            cpu.flush_tlb(0)

    def drop(self, vpid: int | None = None) -> None:
        """INVEPT, INVVPID: forget the contexts of a VPID, or of all guests."""
        for context in [n for n, tag in self.tags.items() if vpid in (None, tag[0])]:
            del self.tags[context]
