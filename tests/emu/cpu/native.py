"""The processor that the tests run on as an oracle for vector and x87 instructions."""

from __future__ import annotations

import ctypes
import mmap
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# where things are in the block that the stub reads and writes
VECTORS, HOST_MXCSR, MXCSR, FLAGS, FLAGS_AFTER, MXCSR_AFTER = 0, 0x600, 0x604, 0x608, 0x610, 0x618
GPR, GPR_AFTER, VECTORS_AFTER, FX, FX_AFTER = 0x700, 0x800, 0x900, 0xC00, 0xE00
DATA = 0x2000
SIZE = 0x8000


class After(NamedTuple):
    """What an instruction left behind."""

    registers: tuple[int, ...]
    flags: int
    vectors: bytes  # sixteen registers of 32 bytes
    mxcsr: int
    fx: bytes  # the FXSAVE image
    data: bytes


def available() -> bool:
    """Whether this processor can be the oracle: x86-64 with AVX2 under Linux."""
    if platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists():
        return False
    flags = Path("/proc/cpuinfo").read_text()
    return all(f" {name} " in flags for name in ("avx2", "sse4_2", "fxsr"))


def disp(value: int) -> bytes:
    return value.to_bytes(4, "little")


class Native:
    """Runs single instructions that neither fault nor branch nor use the stack."""

    def __init__(self) -> None:
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        self.code = mmap.mmap(-1, 4096, prot=protection)
        self.block = mmap.mmap(-1, SIZE)
        self.code_at = ctypes.addressof(ctypes.c_char.from_buffer(self.code))
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        self.data_at = self.at + DATA
        self.function = ctypes.CFUNCTYPE(None)(self.code_at)

    def stub(self, instruction: bytes) -> bytes:
        """Load everything, run the instruction, store everything."""
        address = self.at.to_bytes(8, "little")
        parts = [bytes.fromhex("53 55 41 54 41 55 41 56 41 57 48 b8"), address]
        parts += [b"\x0f\xae\x98" + disp(HOST_MXCSR), b"\x48\x0f\xae\x88" + disp(FX)]
        parts += [b"\x0f\xae\x90" + disp(MXCSR)]
        for i in range(16):
            modrm = bytes([0x80 | (i & 7) << 3])
            parts += [bytes([0xC5, 0xFC if i < 8 else 0x7C, 0x10]) + modrm + disp(VECTORS + 32 * i)]
        parts += [b"\xff\xb0" + disp(FLAGS) + b"\x9d"]
        order = [n for n in range(1, 16) if n != 4]
        for n in [*order, 0]:
            parts += [self.move(0x8B, n, GPR)]
        parts += [instruction, b"\x48\xa3", (self.at + GPR_AFTER).to_bytes(8, "little")]
        parts += [b"\x48\xb8", address]
        parts += [self.move(0x89, n, GPR_AFTER) for n in order]
        parts += [b"\x9c\x8f\x80" + disp(FLAGS_AFTER), b"\x0f\xae\x98" + disp(MXCSR_AFTER)]
        for i in range(16):
            modrm = bytes([0x80 | (i & 7) << 3])
            parts += [
                bytes([0xC5, 0xFC if i < 8 else 0x7C, 0x11]) + modrm + disp(VECTORS_AFTER + 32 * i)
            ]
        parts += [b"\xc5\xf8\x77", b"\x48\x0f\xae\x80" + disp(FX_AFTER)]
        parts += [b"\xdb\xe3", b"\x0f\xae\x90" + disp(HOST_MXCSR)]
        parts += [bytes.fromhex("41 5f 41 5e 41 5d 41 5c 5d 5b c3")]
        return b"".join(parts)

    @staticmethod
    def move(opcode: int, number: int, at: int) -> bytes:
        return bytes([0x48 | number >> 3 << 2, opcode, 0x80 | (number & 7) << 3]) + disp(
            at + 8 * number
        )

    def run(
        self,
        instruction: bytes,
        registers: Sequence[int],
        flags: int,
        vectors: bytes,
        mxcsr: int,
        data: bytes,
        fx: bytes = b"",
    ) -> After:
        """Run one instruction; registers that point to data hold addresses from `data_at` on."""
        block = self.block
        block[VECTORS : VECTORS + 512] = vectors
        block[MXCSR : MXCSR + 4] = mxcsr.to_bytes(4, "little")
        block[FLAGS : FLAGS + 8] = (flags & 0x8D5 | 0x202).to_bytes(8, "little")
        for n, value in enumerate(registers):
            block[GPR + 8 * n : GPR + 8 * n + 8] = value.to_bytes(8, "little")
        block[DATA : DATA + len(data)] = data
        image = bytearray(fx or bytes(512))
        if not fx:
            image[0:2] = (0x37F).to_bytes(2, "little")
        image[24:28] = mxcsr.to_bytes(4, "little")
        block[FX : FX + 512] = bytes(image)
        code = self.stub(instruction)
        self.code[: len(code)] = code
        self.function()
        words = [
            int.from_bytes(block[GPR_AFTER + 8 * n : GPR_AFTER + 8 * n + 8], "little")
            for n in range(16)
        ]
        words[4] = registers[4]
        return After(
            tuple(words),
            int.from_bytes(block[FLAGS_AFTER : FLAGS_AFTER + 8], "little") & 0x8D5,
            block[VECTORS_AFTER : VECTORS_AFTER + 512],
            int.from_bytes(block[MXCSR_AFTER : MXCSR_AFTER + 4], "little"),
            block[FX_AFTER : FX_AFTER + 512],
            block[DATA : DATA + len(data)],
        )
