"""Putting pieces of an image into a machine's RAM, with the checks that every loader makes."""

from __future__ import annotations

from emu.errors import InputError
from emu.machine.board import Board
from emu.machine.firmware import MIB, MemoryType
from emu.machine.loaders.elf import Executable

PAGE = 4096
PIECE = 16 * PAGE


class Placement:
    """The RAM of a board while images are loaded: what is used, and what does not fit."""

    def __init__(self, board: Board, name: str) -> None:
        self.board, self.name = board, name
        self.used: list[tuple[int, int, str]] = []
        self.ram = [(r.gpa, r.end) for r in board.memory_map if r.kind is MemoryType.RAM]

    def reserve(self, gpa: int, size: int, what: str) -> None:
        """`what` occupies `size` bytes at `gpa`; raises InputError when it cannot."""
        if not any(start <= gpa and gpa + size <= end for start, end in self.ram):
            raise InputError(
                f"{self.name}: {what} needs {size:#x} bytes at {gpa:#x}, which are not RAM "
                f"of a machine with {self.board.config.memory // MIB} MiB"
            )
        for start, end, other in self.used:
            if start < gpa + size and gpa < end:
                raise InputError(f"{self.name}: {what} at {gpa:#x} overlaps {other} at {start:#x}")
        self.used.append((gpa, gpa + size, what))

    def put(self, gpa: int, data: bytes, what: str, size: int | None = None) -> None:
        """Reserve `size` bytes (by default, as many as there are) and write `data` into them."""
        self.reserve(gpa, max(len(data), size or 0), what)
        # by pieces, since the memory cuts what it is given page by page
        for at in range(0, len(data), PIECE):
            self.board.memory.load(gpa + at, data[at : at + PIECE])

    def put_executable(self, executable: Executable) -> None:
        """Write all segments; the rest of each is zero, as memory is when a machine begins."""
        for i, segment in enumerate(executable.segments):
            self.put(segment.gpa, segment.data, f"segment {i}", segment.size)

    def highest(self, size: int, below: int, what: str) -> int:
        """The highest page-aligned address below `below` with room for `size` bytes."""
        candidates = [end for _, end in self.ram] + [start for start, _, _ in self.used]
        for top in sorted((min(at, below) for at in candidates), reverse=True):
            gpa = (top - size) // PAGE * PAGE
            inside = any(start <= gpa and gpa + size <= end for start, end in self.ram)
            free = all(gpa + size <= start or end <= gpa for start, end, _ in self.used)
            if gpa > 0 and inside and free:
                return gpa
        raise InputError(
            f"{self.name}: no room for {what} of {size:#x} bytes below {below:#x} "
            f"in a machine with {self.board.config.memory // MIB} MiB"
        )
