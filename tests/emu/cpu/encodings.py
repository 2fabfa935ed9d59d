"""Instruction encodings of given mnemonics, found by walking the opcode maps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from iced_x86 import Code, Decoder, Instruction

from emu.cpu.decode import MNEMONICS

MAPS = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
LEGACY = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3)
PREFIXES = (b"", b"\x66", b"\xf3", b"\xf2", b"\x66\xf2", b"\x67", b"\x64", b"\xf0")


def candidates(bits: int, rng: random.Random) -> Iterator[bytes]:
    """Byte strings that cover every opcode, with each prefix, register and memory forms."""
    for level in (0, 1):
        yield bytes([0xC8, rng.randrange(256), 2, level])
        yield bytes([0x66, 0xC8, rng.randrange(256), 2, level])
    yield from (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb")
    for opcode_map in MAPS:
        for opcode in range(256):
            if not opcode_map and (opcode in LEGACY or (bits == 64 and opcode >> 4 == 4)):
                continue
            for prefix in PREFIXES:
                wide = (b"", b"\x48", bytes([0x40 | rng.randrange(16)]))
                for rex in wide if bits == 64 else (b"",):
                    for reg in range(8):
                        modes = (3, rng.randrange(3))
                        for mode in modes:
                            modrm = mode << 6 | reg << 3 | rng.randrange(8)
                            tail = bytes(rng.randrange(256) for _ in range(10))
                            yield prefix + rex + opcode_map + bytes([opcode, modrm]) + tail
    if bits != 16:
        for vex_map in (1, 2, 3):
            for opcode in range(256):
                for pp in range(4):
                    for reg, mode in product(range(8), (3, rng.randrange(3))):
                        first = 0xE0 | vex_map
                        w = rng.randrange(2) << 7
                        second = w | 0x78 ^ rng.randrange(8) << 3 | rng.randrange(2) << 2 | pp
                        modrm = mode << 6 | reg << 3 | rng.randrange(8)
                        tail = bytes(rng.randrange(256) for _ in range(10))
                        yield bytes([0xC4, first, second, opcode, modrm]) + tail


Found = dict[str, list[tuple[bytes, Instruction]]]


def encodings(bits: int, seed: int = 1, each: int = 2) -> Found:
    """Encodings by mnemonic: `each` of every opcode form (register, memory)."""
    rng = random.Random(seed)
    counts: dict[tuple[int, tuple[int, ...], bool, bool], int] = {}
    found: Found = {}
    for data in candidates(bits, rng):
        insn = Decoder(bits, data, ip=0).decode()
        if insn.code == Code.INVALID:
            continue
        kinds = tuple(insn.op_kind(i) for i in range(insn.op_count))
        key = (insn.code, kinds, insn.has_rep_prefix, insn.has_repne_prefix)
        if counts.get(key, 0) >= each:
            continue
        counts[key] = counts.get(key, 0) + 1
        found.setdefault(MNEMONICS[insn.mnemonic], []).append((data[: insn.len], insn))
    return found
