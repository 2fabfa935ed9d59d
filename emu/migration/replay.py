"""Replay files: one migration, self-contained, with a checksum of the state at every step.

A replay file holds everything that the migration depended on: the capture, the resolved facts and
growth of both kernels, the host's CPUID and MSRs, the policy.  `run` migrates again from those
alone, so the result does not depend on what this Nestling knows about the kernels.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from emu.errors import InputError, KvmError
from emu.files import read_file
from emu.kvm import Kvm
from emu.kvm.host import AMD, INTEL, Host
from emu.migration.capture import LARGEST_BLOB, Capture
from emu.migration.matrix import kernel_of
from emu.migration.migrate import Verdict, migrate
from emu.migration.policy import Policy, policy
from emu.releases.schema import FACT, PLACES, SET, Growth, Release
from vmcs.batch.checksum import crc32c

KIND, VERSION = "nestling-replay", 1
BYTES: Final = "bytes"
LARGEST_WORD: Final = 1 << 64
# Facts that say how many bytes are allocated or copied.
SIZES: Final = (
    *("vmx_maximum_size", "svm_maximum_size", "vmcs12_bytes_out"),
    *("svm_control_bytes", "svm_save_bytes"),
)


@dataclass(frozen=True)
class Step:
    """One step of a migration: what happened, and the CRC32C of everything that it produced."""

    name: str
    summary: Mapping[str, Any]
    checksum: int


@dataclass(frozen=True)
class Difference:
    """The first step of a replay that is not as recorded."""

    index: int
    recorded: Step | None
    replayed: Step | None


def _canonical(value: object) -> object:
    """`value` as JSON has it: bytes in hexadecimal, keys sorted."""
    if isinstance(value, bytes | bytearray):
        return {BYTES: bytes(value).hex()}
    if isinstance(value, Mapping):
        return {str(key): _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


def _summary(what: Mapping[str, Any]) -> dict[str, Any]:
    """What a step shows of itself in the file: bytes by length, everything else as it is."""
    return {
        key: len(value) if isinstance(value, bytes | bytearray) else _canonical(value)
        for key, value in what.items()
        if key != "held"
    }


class Recorder:
    """Watches a migration and keeps its steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, name: str, what: Mapping[str, Any]) -> None:
        """Keep one step; the checksum chains in the step before, so that order counts."""
        before = self.steps[-1].checksum if self.steps else 0
        text = json.dumps([name, _canonical(what)], sort_keys=True, separators=(",", ":"))
        checksum = crc32c(f"{before:08x}{text}".encode())
        self.steps.append(Step(name, _summary(what), checksum))


def record(
    capture: Capture,
    source: Release,
    destination: Release,
    how: Policy,
    grown: Mapping[str, int] | None = None,
) -> tuple[Verdict, dict[str, Any]]:
    """Migrate, and make the content of a replay file of it."""
    kernels = (
        kernel_of(how.announce(source), capture),
        kernel_of(how.announce(destination), capture),
    )
    recorder = Recorder()
    verdict = migrate(capture, *kernels, how, grown=grown, watch=recorder)
    content = {
        "kind": KIND,
        "version": VERSION,
        "policy": how.name,
        "capture": capture.to_json(),
        "grown": None if grown is None else dict(grown),
        "source": _kernel_to_json(kernels[0]),
        "destination": _kernel_to_json(kernels[1]),
        "steps": [
            {"name": step.name, "summary": dict(step.summary), "crc32c": f"{step.checksum:08x}"}
            for step in recorder.steps
        ],
        "outcome": verdict.outcome,
    }
    content["crc32c"] = _own_checksum(content)
    return verdict, content


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a replay file as a whole or not at all."""
    text = json.dumps(content, indent=1) + "\n"
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def read(path: Path) -> dict[str, Any]:
    """The content of a replay file; raises InputError that says what is wrong with it."""
    try:
        content = json.loads(read_file(path).decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no replay file: {error}") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{path}: no replay file: not a JSON object of kind {KIND!r}")
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version {content.get('version')!r}, this Nestling reads 1")
    if content.get("crc32c") != _own_checksum(content):
        raise InputError(f"{path}: damaged: the file does not have the checksum that it states")
    return content


def run(content: Mapping[str, Any], where: str) -> tuple[Verdict, Difference | None, list[Step]]:
    """Migrate again: the verdict, the first step that differs (None: none), and all steps."""
    try:
        capture = Capture.from_json(content["capture"], where)
        how = policy(content["policy"])
        source, destination = (
            _kernel_from_json(content[side]) for side in ("source", "destination")
        )
        recorded = [
            Step(step["name"], step["summary"], int(step["crc32c"], 16))
            for step in content["steps"]
        ]
        grown = _grown_from_json(content["grown"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{where}: damaged: {_reason(error)}") from None
    recorder = Recorder()
    try:
        verdict = migrate(capture, source, destination, how, grown=grown, watch=recorder)
    except (ArithmeticError, KvmError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{where}: cannot be replayed: {_reason(error)}") from None
    return verdict, _first_difference(recorded, recorder.steps), recorder.steps


def _first_difference(recorded: list[Step], replayed: list[Step]) -> Difference | None:
    for index in range(max(len(recorded), len(replayed))):
        old = recorded[index] if index < len(recorded) else None
        new = replayed[index] if index < len(replayed) else None
        if old is None or new is None or (old.name, old.checksum) != (new.name, new.checksum):
            return Difference(index, old, new)
    return None


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _grown_from_json(data: Any) -> dict[str, int] | None:
    if data is None:
        return None
    if not all(type(value) is int and 0 <= value < LARGEST_WORD for value in data.values()):
        raise ValueError("what the guest holds of the growth is no number of 64 bits")
    return dict(data)


def _own_checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "crc32c"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"{crc32c(text.encode()):08x}"


def _kernel_to_json(kvm: Kvm) -> dict[str, Any]:
    release = kvm.release
    return {
        "name": release.name,
        "facts": {
            name: value if isinstance(value, int) else sorted(value)
            for name, value in release.facts.items()
        },
        "growth": [item._asdict() for item in release.growth],
        "host": kvm.host.to_json(),
    }


def _kernel_from_json(data: Mapping[str, Any]) -> Kvm:
    facts: dict[str, frozenset[str] | int] = {}
    for name, value in data["facts"].items():
        if name not in FACT:
            raise ValueError(f"a fact {name!r} that this Nestling does not know")
        if FACT[name].kind is SET:
            facts[name] = frozenset(value)
        elif type(value) is int and abs(value) < LARGEST_WORD:
            facts[name] = value
        else:
            raise ValueError(f"the fact {name!r} is no number of 64 bits")
        if name in SIZES and not 0 <= value <= LARGEST_BLOB:
            raise ValueError(f"the fact {name!r} is no size of nested state: {value}")
    for name in FACT:
        if name not in facts:
            raise ValueError(f"no fact {name!r}")
    if not isinstance(data["name"], str):
        raise TypeError(f"the kernel's name is no text: {data['name']!r}")
    growth = tuple(Growth(**item) for item in data["growth"])
    for item in growth:
        if item.place not in PLACES or any(
            type(value) is not Growth.__annotations__[key] for key, value in item._asdict().items()
        ):
            raise ValueError(f"growth {item.name!r}")
    if data["host"]["vendor"] not in (INTEL, AMD):
        raise ValueError(f"no vendor is named {data['host']['vendor']!r}")
    release = Release(data["name"], None, (), MappingProxyType(facts), growth=growth)
    return Kvm(release, Host.from_json(data["host"]))
