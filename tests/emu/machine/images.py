"""A Multiboot image assembled by hand: 32-bit start, long mode, an exception, the end."""

from __future__ import annotations

import struct

BASE = 0x10_0000
HEADER = struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF)
CODE = bytes.fromhex(
    "bc00401100"  # mov esp, 0x114000
    "bec6001000 b905000000 baf8030000 f36e"  # print "boot\n": rep outsb to 3F8H
    "c70500001100 03101100"  # PML4 at 0x110000 -> 0x111000
    "c70500101100 83000000"  # one page of 1 GByte
    "b800001100 0f22d8"  # mov cr3
    "b820000000 0f22e0"  # CR4.PAE
    "b9800000c0 0f32 0d00010000 0f30"  # EFER.LME
    "b811000080 0f22c0"  # CR0.PG and PE
    "0f0115e8001000"  # lgdt
    "ea6a0010000800"  # jmp 8:long
    "b810000000 8ed0"  # long: SS
    "0f011c25ee001000"  # lidt
    "b8b7001000 6689042560201100"  # gate 6 -> handler
    "66c70425622011000800 66c7042564201100008e"
    "c1e810 6689042566201100"
    "0f0b"  # ud2
    "b021 baf8030000 ee"  # print "!"
    "b803000000 e7f4 f4"  # exit status: out 0xf4, 3
    "b055 baf8030000 ee 4883042402 48cf"  # handler: print "U", skip ud2, iretq
    "626f6f740a 0f1f440000"  # "boot\n"
    "0000000000000000 ffff0000009baf00 ffff00000093cf00"  # GDT
    "1700 d0001000"  # GDTR
    "ff0f 0020110000000000"  # IDTR
)
OUTPUT, STATUS = b"boot\nU!", 7  # the debug-exit device gives 2 * value + 1


def multiboot_elf(code: bytes = CODE) -> bytes:
    """An image of this code as an ELF32 file with one segment."""
    body = HEADER + code
    identity = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    entry = BASE + len(HEADER)
    header = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 84, BASE, BASE, len(body), len(body), 7, 0x1000)
    return identity + header + segment + body
