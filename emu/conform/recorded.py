"""Files of recorded verdicts: what unmodified kernels answered, case by case.

A file is one JSON object, gzip-compressed: `vendor`, `release`, `environment`, `bases` and `cases`.
A case of single kind sets registers, then nested state, and reads both back; a case of kind
``sequences`` is a list of ioctls on one vCPU, each with what the kernel answered.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu.errors import InputError
from emu.kvm.host import Host, ModuleParameters
from emu.releases import release
from emu.releases.schema import Release

BUFFER_SIZE = 32 * 1024
REQUIRED = ("vendor", "release", "environment", "bases", "cases")
REQUIRED_OF_CASE = ("id", "tag", "patches", "cr0", "cr3", "cr4", "efer", "get_size_in", "expect")
REQUIRED_OF_SEQUENCE = ("id", "ops")


@dataclass(frozen=True)
class Recording:
    """One file of recorded verdicts."""

    name: str
    vendor: str
    release: Release
    host: Host
    base: bytes
    cases: tuple[Mapping[str, Any], ...]
    sequences: bool
    environment: Mapping[str, Any]

    def blob(self, patches: list[list[int]]) -> bytearray:
        """The base state in a zeroed buffer, with (offset, width, value) patches in order."""
        buffer = bytearray(BUFFER_SIZE)
        buffer[: len(self.base)] = self.base
        for offset, width, value in patches:
            buffer[offset : offset + width] = value.to_bytes(width, "little")
        return buffer


def read_recording(path: Path, parameters: ModuleParameters | None = None) -> Recording:
    """Read a file of recorded verdicts.

    Raises InputError for a file that is not one, or of a release that is not known.
    """
    try:
        data = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as reason:
        raise InputError(f"{path}: no file of recorded verdicts: {reason}") from reason
    if not isinstance(data, dict):
        raise InputError(f"{path}: no file of recorded verdicts: not a JSON object")
    missing = [key for key in REQUIRED if key not in data]
    if missing:
        raise InputError(f"{path}: no file of recorded verdicts: {missing[0]} is missing")
    try:
        return _recording(path, data, parameters)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as reason:
        message = f"{path}: no file of recorded verdicts: {type(reason).__name__}: {reason}"
        raise InputError(message) from reason


def _recording(path: Path, data: Any, parameters: ModuleParameters | None) -> Recording:
    vendor, environment = data["vendor"], data["environment"]
    sequences = data.get("kind") == "sequences"
    for number, case in enumerate(data["cases"]):
        for key in REQUIRED_OF_SEQUENCE if sequences else REQUIRED_OF_CASE:
            if key not in case:
                raise InputError(f"{path}: case {number}: {key!r} is missing")
    return Recording(
        name=path.name.removesuffix(".json.gz"),
        vendor=vendor,
        release=recorded_release(data["release"], environment),
        host=Host.from_environment(vendor, environment, parameters),
        base=bytes.fromhex(data["bases"][0]),
        cases=tuple(data["cases"]),
        sequences=sequences,
        environment=environment,
    )


def recorded_release(name: str, environment: Mapping[str, Any]) -> Release:
    """The release that answered: the tree that `uname` names where it is known, else `name`."""
    uname = str(environment.get("uname", ""))
    tree = re.match(r"[0-9.]*[0-9]", uname)
    for candidate in (tree[0] if tree else name, STABLE.get(name, name), name):
        try:
            return release(candidate)
        except InputError:
            continue
    raise InputError(f"no release is named {name!r}")


# Debian's kernels of which the files were recorded: uname has the ABI's number, not the tree's.
STABLE = {
    "5.10": "5.10.262",
    "6.1": "6.1.192",
    "6.12": "6.12.115",
    "6.18": "6.18.15",
    "7.2": "7.2.13",
}
