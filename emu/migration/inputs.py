"""Files that hold nested state: a raw blob, hexadecimal, a capture, or a QEMU migration stream."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emu.errors import InputError, StateError
from emu.files import STANDARD_INPUT, read_file
from emu.migration.capture import LARGEST_BLOB, Capture, of_blob, shipped

if TYPE_CHECKING:
    from emu.migration.qemu_stream import CpuSection

STREAM_MAGICS = (b"QEVM", b"LibvirtQemudSave", b"LibvirtQemudPart")
HEXADECIMAL = re.compile(rb"\A[0-9a-fA-F\s]+\Z")


def read_states(path: Path | str) -> list[Capture]:
    """Every nested state in the file at `path` (``-``: standard input), or the shipped capture.

    Raises InputError (StateError for content) that says what was expected, and where.
    """
    name = str(path)
    if not name:
        raise InputError("no file is named: the name is empty")
    if not os.path.lexists(name) and name != STANDARD_INPUT:
        if name in shipped():
            return [shipped()[name]]
        known = ", ".join(shipped())
        message = f"{name}: cannot be read: No such file or directory"
        raise InputError(f"{message}; shipped captures: {known}")
    return states_of(read_file(name), name)


def states_of(data: bytes, where: str) -> list[Capture]:
    """Every nested state in `data`, which came from `where`; raises StateError."""
    if not data:
        raise StateError(f"{where}: empty")
    if data.startswith(STREAM_MAGICS):
        return _of_stream(data, where)
    text = data.lstrip()
    if text[:1] in (b"{", b"["):
        return _of_json(data, where)
    if HEXADECIMAL.match(data):
        digits = b"".join(data.split())
        if len(digits) % 2:
            raise StateError(f"{where}: {len(digits)} hexadecimal digits are no whole bytes")
        return [of_blob(where, bytes.fromhex(digits.decode()), f"{where} (hexadecimal)")]
    if len(data) > LARGEST_BLOB:
        raise StateError(f"{where}: {len(data)} bytes are no nested-state blob")
    return [of_blob(where, data, f"{where} (raw)")]


def _of_json(data: bytes, where: str) -> list[Capture]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StateError(f"{where}: not JSON: {error}") from None
    rows = value if isinstance(value, list) else [value]
    if not rows:
        raise StateError(f"{where}: no nested state: an empty list")
    captures = []
    for index, row in enumerate(rows):
        place = where if len(rows) == 1 else f"{where}[{index}]"
        if not isinstance(row, dict):
            raise StateError(f"{place}: not a JSON object")
        captures.append(Capture.from_json(row, place))
    return captures


def _of_stream(data: bytes, where: str) -> list[Capture]:
    from emu.migration.qemu_stream import (  # noqa: PLC0415 - few files are streams
        QemuStream,
        StreamError,
    )

    try:
        stream = QemuStream.parse(data)
    except StreamError as error:
        raise StateError(f"{where}: {error}") from None
    captures = [
        capture_of_cpu(cpu, f"{where}#vcpu{cpu.index}")
        for cpu in stream.vcpus
        if cpu.nested_state is not None
    ]
    if not captures:
        count = len(stream.vcpus)
        raise StateError(f"{where}: a QEMU stream, but none of its {count} vCPUs has nested state")
    return captures


def capture_of_cpu(cpu: CpuSection, name: str) -> Capture:
    """The nested state of one vCPU of a stream, with the registers beside it."""
    blob = cpu.nested_state
    if blob is None:
        raise StateError(f"{name}: has no nested state")
    capture = of_blob(name, blob, f"{name} (QEMU stream)")
    return replace(
        capture,
        cr0=_register(cpu, "cr[0]"),
        cr3=_register(cpu, "cr[3]"),
        cr4=_register(cpu, "cr[4]"),
        efer=_register(cpu, "efer"),
    )


def _register(cpu: CpuSection, name: str) -> int:
    value = cpu.registers[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is no single register")
    return value
