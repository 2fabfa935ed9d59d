"""Translations of guests by address-space identifier. APM Vol. 2, TLB Control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.cpu.state import TLB_CONTEXTS

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

HOST: Final = 0  # the ASID of the host, and its context


class Asids:
    """Which ASID each context of the translation caches holds; the one used longest ago goes."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.contexts: dict[int, int] = {}  # ASID to context, the most recently used last

    def context(self, asid: int) -> int:
        """The context of a guest's ASID."""
        found = self.contexts.pop(asid, 0)
        if not found:
            if len(self.contexts) < TLB_CONTEXTS - 1:
                found = len(self.contexts) + 1
            else:
                oldest = next(iter(self.contexts))
                found = self.contexts.pop(oldest)
            self.cpu.flush_tlb(found)
        self.contexts[asid] = found
        return found

    def flush(self, asid: int) -> None:
        """Forget the translations of an ASID."""
        if asid == HOST:
            self.cpu.flush_tlb(HOST)
        elif asid in self.contexts:
            self.cpu.flush_tlb(self.contexts[asid])

    def flush_all(self) -> None:
        """Forget all translations, the host's too."""
        self.cpu.flush_tlb()
