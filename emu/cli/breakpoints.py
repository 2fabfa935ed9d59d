"""Moments of a run that the user names: `instruction:N`, `rip:ADDR`, `exit:N`; and going there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.errors import InputError

if TYPE_CHECKING:
    from emu.machine.board import Board, Outcome

KINDS: Final = {
    "instruction": "N instructions have run",
    "rip": "RIP is ADDR",
    "exit": "guest mode has been left N times",
}


class Moment(NamedTuple):
    """A moment of a run: its kind, a key of `KINDS`, and its number or address."""

    kind: str
    value: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:#x}" if self.kind == "rip" else f"{self.kind}:{self.value}"


def moment(text: str) -> Moment:
    """The moment that `text` names; raises InputError."""
    found = re.fullmatch(r"(\w+):((?:0x)?[0-9a-f]+)", text.strip(), re.IGNORECASE | re.ASCII)
    kind = found[1].lower() if found else ""
    if found is None or kind not in KINDS:
        known = ", ".join(f"{name}:{'ADDR' if name == 'rip' else 'N'}" for name in KINDS)
        raise InputError(f"{text!r} names no moment of a run: write {known}")
    number = found[2].lower()
    # an address is hexadecimal in any spelling, as disassembly shows it
    base = 16 if kind == "rip" or number.startswith("0x") else 10
    try:
        value = int(number, base)
    except ValueError:
        raise InputError(f"{text!r}: {number} is not a decimal number") from None
    if value >= 1 << 64:
        raise InputError(f"{text!r}: the number is wider than 64 bits")
    return Moment(kind, value)


def run_to(board: Board, where: Moment, max_instructions: int | None = None) -> Outcome:
    """Run a board of `ObservedCpu`s to a moment; its reason is PAUSED when that came.

    Code runs compiled on the way. Nothing observes the processors afterwards.
    """
    from emu.machine.board import Reason  # noqa: PLC0415

    if where.kind == "instruction":
        limit = where.value if max_instructions is None else min(where.value, max_instructions)
        outcome = board.run(limit)
        reached = outcome.instructions == where.value and outcome.reason is Reason.LIMIT
        return outcome._replace(reason=Reason.PAUSED) if reached else outcome
    from emu.cpu.observed import ObservedCpu, Observer  # noqa: PLC0415

    class Waiting(Observer):
        """Pauses the board when the moment comes."""

        exits = 0

        def breakpoint(self, cpu: ObservedCpu) -> bool:
            """RIP may be the one."""
            if cpu.state.rip != where.value:
                return False
            board.pause()
            return True

        def exit(self, cpu: ObservedCpu) -> None:  # noqa: ARG002
            """Guest mode is left once more."""
            self.exits += 1
            if where.kind == "exit" and self.exits == where.value:
                board.pause()

    cpus = [core.cpu for core in board.processors]  # type: ignore[attr-defined]
    waiting = Waiting()
    for cpu in cpus:
        cpu.observe(waiting)
    code = cpus[0].code
    if where.kind == "rip":
        code.breakpoints = {where.value & 0xFFF}
        code.flush()
    outcome = board.run(max_instructions)
    code.breakpoints = set()
    code.flush()
    for cpu in cpus:
        cpu.observe(Observer())
    return outcome
