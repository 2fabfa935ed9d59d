"""Compiled code on disk: found by the content it was made from, written atomically."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def directory() -> Path:
    """Where compiled code is kept: NESTLING_CACHE_DIR, else <XDG cache>/nestling, + /cpu."""
    override = os.environ.get("NESTLING_CACHE_DIR")
    if override:
        return Path(override) / "cpu"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nestling" / "cpu"


def digest(parts: Iterable[str | bytes]) -> str:
    """A name for content: the parts cannot run into each other."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:40]


def read(name: str) -> bytes | None:
    """The content of an entry; None when there is none."""
    try:
        return (directory() / name).read_bytes()
    except OSError:
        return None


def write(name: str, data: bytes) -> None:
    """Add an entry: readers see it whole or not at all. A read-only cache is no error."""
    where = directory()
    try:
        where.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=where)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(temporary).replace(where / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
    except OSError:
        return
