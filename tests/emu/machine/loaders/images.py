"""Small images for tests of loaders, put together field by field."""

import struct
import zlib

PT_LOAD, PT_NOTE = 1, 4


def elf(bits=32, machine=None, entry=0x10_0000, segments=((0x10_0000, b"\x90" * 32, 64),), kind=2):
    """An ELF executable with PT_LOAD segments of (address, bytes, size in memory)."""
    machine = machine if machine is not None else (3 if bits == 32 else 62)
    head, row = (52, 32) if bits == 32 else (64, 56)
    at = head + row * len(segments)
    rows, body = b"", b""
    for gpa, data, size in segments:
        values = (at + len(body), gpa, gpa, len(data), size)
        if bits == 32:
            rows += struct.pack("<8I", PT_LOAD, *values, 7, 4096)
        else:
            rows += struct.pack("<II6Q", PT_LOAD, 7, *values, 4096)
        body += data
    identification = b"\x7fELF" + bytes((1 if bits == 32 else 2, 1, 1)) + bytes(9)
    form = "<HHIIIIIHHHHHH" if bits == 32 else "<HHIQQQIHHHHHH"
    header = struct.pack(
        form, kind, machine, 1, entry, head, 0, 0, head, row, len(segments), 0, 0, 0
    )
    return identification + header + rows + body


def multiboot_header(flags=0, *fields):
    """A Multiboot header with its checksum."""
    magic = 0x1BADB002
    return struct.pack(
        f"<{3 + len(fields)}I", magic, flags, -(magic + flags) & 0xFFFF_FFFF, *fields
    )


def multiboot_elf(flags=0, size=64, gpa=0x40_0000):
    """A 32-bit ELF image with a Multiboot header at the beginning of its segment."""
    data = multiboot_header(flags).ljust(32, b"\x90")
    return elf(entry=gpa + 12, segments=((gpa, data, size),))


def bzimage(payload=b"", version=0x020F, xloadflags=1, init_size=0x10_0000, pref=0x100_0000):
    """A bzImage: two setup sectors, then 0x200 bytes, an entry point and the payload."""
    body = (b"\xcc" * 0x200 + b"\x90" * 16 + payload).ljust(0x400, b"\0")
    body += bytes(-len(body) % 16)
    setup = bytearray(2 * 512)
    setup[0x1F1] = 1
    setup[0x201] = 0x6A
    setup[0x202:0x206] = b"HdrS"
    for offset, form, value in (
        (0x1F4, "<I", len(body) // 16),
        (0x1FE, "<H", 0xAA55),
        (0x206, "<H", version),
        (0x211, "<B", 1),
        (0x22C, "<I", 0x7FFF_FFFF),
        (0x236, "<H", xloadflags),
        (0x238, "<I", 255),
        (0x248, "<I", 0x210),
        (0x24C, "<I", len(payload)),
        (0x258, "<Q", pref),
        (0x260, "<I", init_size),
    ):
        struct.pack_into(form, setup, offset, value)
    return bytes(setup) + body


def gzipped(data):
    """`data` as gzip makes it, with the size behind it as a kernel's build appends it."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush() + struct.pack("<I", len(data))
