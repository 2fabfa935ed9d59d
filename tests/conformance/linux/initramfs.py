"""An initial RAM file system: a static program, kernel modules, the archive that holds them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from emu.guests.assembler import assemble, link

BASE = 0x40_0000
ELF_HEADER = struct.Struct("<4s5B7xHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
HEADERS = ELF_HEADER.size + PROGRAM_HEADER.size
ET_EXEC, EM_X86_64, PT_LOAD, READ_WRITE_EXECUTE, PAGE = 2, 62, 1, 7, 4096
FILE, DIRECTORY, CHARACTER_DEVICE = 0o100755, 0o040755, 0o020600


def executable(source: str) -> bytes:
    """A static ELF program of one segment; it begins with the first instruction of `source`.

    System V ABI, Object Files; Program Loading.
    """
    code = link(assemble(f".intel_syntax noprefix\n{source}"), BASE + HEADERS)
    size = HEADERS + len(code)
    identity = (b"\x7fELF", 2, 1, 1, 0, 0)
    header = ELF_HEADER.pack(
        *identity, ET_EXEC, EM_X86_64, 1, BASE + HEADERS, ELF_HEADER.size, 0, 0,
        ELF_HEADER.size, PROGRAM_HEADER.size, 1, 0, 0, 0,
    )  # fmt: skip
    segment = PROGRAM_HEADER.pack(PT_LOAD, READ_WRITE_EXECUTE, 0, BASE, BASE, size, size, PAGE)
    return header + segment + code


def entry(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)):
    """A member of a cpio archive. Linux Documentation/driver-api/early-userspace/buffer-format.rst.

    `number` is that of the inode, `device` the major and minor number of what it stands for.
    """
    path = name.encode() + b"\0"
    words = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % word for word in words) + path
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


def archive(init: bytes, modules: Sequence[bytes] = ()) -> bytes:
    """The archive with `init` as /init and the modules as /0.ko, /1.ko, ... in their order."""
    members = [
        ("dev", DIRECTORY, b"", (0, 0)),
        ("dev/console", CHARACTER_DEVICE, b"", (5, 1)),
        ("init", FILE, init, (0, 0)),
        *((f"{n}.ko", FILE, data, (0, 0)) for n, data in enumerate(modules)),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    return b"".join(entry(number, *member) for number, member in enumerate(members, 1))


def initramfs(modules: Sequence[bytes] = ()) -> bytes:
    """The archive with the program in `init.s`."""
    source = Path(__file__).with_name("init.s").read_text(encoding="utf-8")
    return archive(executable(source), modules)
