"""Which code is hot, and putting its translation in place.

Where the budget of a slice runs out is a sample of where time goes: each counts for the
instructions of its slice.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.compiler.backend import Engine
from emu.cpu.regions.shape import TRANSLATED, Region, shape
from emu.cpu.state import UOP

if TYPE_CHECKING:
    from emu.cpu.code import CodeCache
    from emu.cpu.regions.worker import Worker

HOT = 4_000_000
"""Instructions that the samples of a block stand for before it is worth translating."""
MOST_OF_ONE = HOT // 4
"""What one sample stands for at most."""


class Answer:
    """What becomes of a request for a translation; its code is empty where there is none."""

    def __init__(self) -> None:
        self.ready = False
        self.code = b""


class Pending(NamedTuple):
    """A region that is being translated."""

    head: int
    region: Region
    page: int
    answer: Answer


def at_once(region: Region) -> Answer:
    """Translate a region here and now."""
    from emu.cpu.regions.build import object_code  # noqa: PLC0415 - a start needs none of it

    answer = Answer()
    answer.code = object_code(region)
    answer.ready = True
    return answer


@functools.cache
def worker() -> Worker:
    """The one process that translates for this one."""
    from emu.cpu.regions.worker import Worker  # noqa: PLC0415 - a start needs none of it

    return Worker()


def in_background(region: Region) -> Answer:
    """Have a region translated while the guest goes on."""
    answer = Answer()
    worker().submit(region, answer)
    return answer


class Regions:
    """The translations of one machine's decoded code."""

    def __init__(
        self,
        code: CodeCache,
        translate: Callable[[Region], Answer] = in_background,
        hot: int = HOT,
    ) -> None:
        self.code = code
        self.translate = translate
        self.hot = hot
        self.heads: list[int] = []  # of all blocks in the arena, in the order of their addresses
        self.heat: dict[int, int] = {}  # by head
        self.tried: set[int] = set()
        self.pending: list[Pending] = []
        self.engines: dict[int, list[Engine]] = {}  # by page
        self.installed = 0

    # what the code cache tells

    def decoded(self, head: int) -> None:
        """A block has come to the end of the arena."""
        self.heads.append(head)

    def dropped(self, page: int) -> None:
        """The blocks of a page are no more."""
        self.engines.pop(page, None)
        self.pending = [p for p in self.pending if p.page != page]

    def flushed(self) -> None:
        """No block is left."""
        self.heads.clear()
        self.heat.clear()
        self.tried.clear()
        self.pending.clear()
        self.engines.clear()

    # what the processor tells

    def sample(self, record: int, instructions: int) -> None:
        """The budget ran out after the micro-operation at `record`."""
        if self.pending:
            self.collect()
        head = 0 if record & TRANSLATED else self.block_of(record)
        if not head or head in self.tried:
            return
        heat = self.heat.get(head, 0) + min(instructions, MOST_OF_ONE)
        self.heat[head] = heat
        if heat >= self.hot:
            self.request(head)

    def block_of(self, record: int) -> int:
        """The head of the block that a record belongs to; 0 for what is in no block."""
        position = bisect.bisect_right(self.heads, record) - 1
        if position < 0:
            return 0
        head = self.heads[position]
        extent = self.code.extents.get(head)
        return head if extent and record < head + extent.uops * UOP.size else 0

    def request(self, head: int) -> None:
        """Have the region around a block translated."""
        self.tried.add(head)
        region = shape(self.code, head)
        page = self.code.extents[head].page
        self.pending.append(Pending(head, region, page, self.translate(region)))
        self.collect()

    def collect(self) -> None:
        """Put in place what has been translated."""
        for entry in [p for p in self.pending if p.answer.ready]:
            self.pending.remove(entry)
            if entry.answer.code:
                self.install(entry)

    def install(self, entry: Pending) -> None:
        """Let the interpreter enter a translation where the region begins."""
        from emu.cpu.regions.build import linked  # noqa: PLC0415 - a start needs none of it

        engine = linked(entry.answer.code)
        self.engines.setdefault(entry.page, []).append(engine)
        for number, delta in enumerate(entry.region.entries):
            self.code.patch(entry.head + delta, engine.address(f"entry{number}"))
        self.installed += 1
