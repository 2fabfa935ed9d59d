"""Steps of a processor as lines: for people, in colour on a terminal, and as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from emu.cpu.state import WORD
from emu.cpu.trace import Access, Change, Step, flag_changes

if TYPE_CHECKING:
    from emu.cpu.observed import ObservedCpu

TEXT_WIDTH = 36
LEGACY_NAMES = {f"r{name}": f"e{name}" for name in ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")}


def place(step: Step) -> str:
    """Number, processor, CS:RIP."""
    digits = 16 if step.bits == 64 else 8 if step.bits == 32 else 4
    return f"{step.number:>9} {step.processor} {step.cs:04x}:{step.rip:0{digits}x}"


def change_text(change: Change, bits: int) -> str:
    """A register and its new value; flags by name."""
    if change.name == "rflags":
        return flag_changes(change.old, change.new)
    name = change.name
    if bits != 64 and change.new < 1 << 32 and change.old < 1 << 32:
        name = LEGACY_NAMES.get(name, name)
    return f"{name}={change.new:#x}"


def access_text(access: Access) -> str:
    """Address, value in words, and size; the arrow is the way that the value goes."""
    words = [
        "?" if access.value is None else f"{access.value >> 8 * at & WORD:#x}"
        for at in range(0, access.size, 8)
    ]
    arrow = "<-" if access.writes else "->"
    return f"[{access.linear:#x}]{arrow}{' '.join(words)} ({access.size})"


def line(step: Step) -> str:
    """An instruction, what it changed, the memory that it wrote, and the events it met."""
    parts = [click.style(change_text(c, step.bits), fg="cyan") for c in step.changes]
    parts += [click.style(access_text(a), fg="yellow") for a in step.accesses if a.writes]
    parts += [click.style(text, fg="red") for text in step.events]
    return f"{place(step)}  {step.text:<{TEXT_WIDTH}}  {'  '.join(parts)}".rstrip()


def disassembly(step: Step) -> str:
    """An instruction and its bytes."""
    return f"{place(step)}  {step.data.hex(' '):<30}  {step.text}".rstrip()


def access_lines(step: Step) -> list[str]:
    """A line an access."""
    return [f"{place(step)}  {access_text(access)}" for access in step.accesses]


def event_line(cpu: ObservedCpu, text: str) -> str:
    """An event, with the instruction that it came at."""
    number, rip = cpu.origin or (cpu.number, int(cpu.state.rip))
    return f"{number:>9} {cpu.environment.apic_id()} {rip:#018x}  {text}"


def as_json(step: Step) -> str:
    """A step as one line of JSON; numbers are numbers, bytes are hexadecimal."""
    fields = {
        **step._asdict(),
        "data": step.data.hex(),
        "changes": {change.name: [change.old, change.new] for change in step.changes},
        "accesses": [access._asdict() for access in step.accesses],
    }
    return json.dumps(fields)


def writers(kinds: frozenset[str], write: Callable[[str], None]) -> Callable[[Step], None]:
    """What `run --trace` writes of a step, for the kinds exec, mem and events."""

    def sink(step: Step) -> None:
        if "exec" in kinds:
            write(disassembly(step))
        if "mem" in kinds:
            for text in access_lines(step):
                write(text)
        if "events" in kinds:
            for text in step.events:
                write(f"{place(step)}  {text}")

    return sink
