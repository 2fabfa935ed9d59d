"""The PAUSE intercept filter. APM Vol. 2, Pause Intercept Filtering."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu


class PauseFilter:
    """Lets `count` PAUSE pass; with a threshold, only those of a tight loop are counted."""

    def __init__(self, cpu: Cpu, count: int, threshold: int) -> None:
        self.cpu, self.count, self.threshold = cpu, count, threshold
        self.left = count
        self.last: int | None = None  # when the last PAUSE was

    def exhausted(self) -> bool:
        """A PAUSE: whether it is one more than the filter lets pass."""
        if not self.cpu.model.has("PAUSE_FILTER"):
            return True
        if self.threshold and self.cpu.model.has("PAUSE_THRESHOLD"):
            now = self.cpu.environment.ticks()
            if self.last is not None and now - self.last > self.threshold:
                self.left = self.count
            self.last = now
        if not self.left:
            return True
        self.left -= 1
        return False
