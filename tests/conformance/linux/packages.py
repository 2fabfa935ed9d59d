"""Debian's kernels: from the environment, or downloaded and unpacked where that is allowed.

LINUX_IMAGES names a folder for packages: `linux-image-*.deb` in it, or what `dpkg -x` made of
them, are used; with LINUX_DOWNLOAD=1 `apt-get download` puts missing ones there.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

RELEASES = ("6.1", "6.12")


class Package(NamedTuple):
    """An unpacked linux-image package."""

    root: Path

    @property
    def vmlinuz(self) -> Path:
        """The kernel image."""
        return next((self.root / "boot").glob("vmlinuz-*"))

    def module(self, name: str) -> bytes:
        """The module `name`, decompressed."""
        path = next(self.root.glob(f"**/{name}.ko*"))
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data


def folder() -> Path:
    """Where packages lie; skips when nobody said."""
    named = os.environ.get("LINUX_IMAGES")
    if not named:
        pytest.skip("LINUX_IMAGES names no folder with Debian's linux-image packages")
    path = Path(named)
    path.mkdir(parents=True, exist_ok=True)
    return path


def command(*arguments: str, cwd: Path | None = None) -> str:
    """The output of a command; empty where it fails or is not there."""
    if shutil.which(arguments[0]) is None:
        return ""
    return subprocess.run(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        check=False,
    ).stdout


def newest(names: list[str], release: str) -> str | None:
    """The newest plain kernel of a release among package names."""

    def version(name: str) -> tuple[int, ...]:
        parts = name.removeprefix("linux-image-").split("-amd64")[0].replace("+deb", "-")
        return tuple(int(part) for part in parts.replace("-", ".").split(".") if part.isdigit())

    wanted = [
        name
        for name in names
        if name.startswith(f"linux-image-{release}.") and name.endswith("-amd64")
        if not any(kind in name for kind in ("cloud", "rt-", "dbg"))
    ]
    return max(wanted, key=version, default=None)


def download(release: str, path: Path) -> None:
    """Get the package of a release by apt, where LINUX_DOWNLOAD allows it."""
    if os.environ.get("LINUX_DOWNLOAD") != "1":
        return
    listed = command("apt-cache", "pkgnames", f"linux-image-{release}.").split()
    name = newest(listed, release)
    if name is not None:
        command("apt-get", "download", name, cwd=path)


def unpack(path: Path) -> None:
    """Unpack the packages that are not yet."""
    for archive in sorted(path.glob("linux-image-*.deb")):
        target = path / archive.name.partition("_")[0]
        if not target.exists():
            command("dpkg", "-x", str(archive), str(target))


def package(release: str) -> Package:
    """The package of a release; skips where there is none."""
    path = folder()
    for attempt in range(2):
        unpack(path)
        found = newest([p.name for p in path.iterdir() if p.is_dir()], release)
        if found is not None:
            return Package(path / found)
        if not attempt:
            download(release, path)
    pytest.skip(f"no linux-image of {release} in LINUX_IMAGES, and none could be downloaded")
