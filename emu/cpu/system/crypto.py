"""AES, carry-less multiplication, SHA. SDM Vol. 2, the page each docstring names; FIPS 180, 197."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.cpu.decode import MNEMONICS
from emu.cpu.system.vector_operands import (
    by_lane,
    elements,
    first_source,
    joined,
    permit,
    read_register,
    read_source,
    write_target,
)

if TYPE_CHECKING:
    from emu.cpu.cpu import Cpu

MASK32 = (1 << 32) - 1
POLYNOMIAL = 0x11B  # x^8 + x^4 + x^3 + x + 1

# AES


def field_product(a: int, b: int) -> int:
    """The product in the field of AES."""
    result = 0
    while b:
        if b & 1:
            result ^= a
        a = a << 1 ^ (POLYNOMIAL if a & 0x80 else 0)
        b >>= 1
    return result


@functools.cache
def substitution() -> tuple[bytes, bytes]:
    """The S-box and its inverse: the field's inverse, then an affine map."""
    box = bytearray(256)
    for a in range(256):
        inverse = next((b for b in range(256) if field_product(a, b) == 1), 0)
        turned = inverse
        for shift in range(1, 5):
            turned ^= inverse << shift | inverse >> 8 - shift
        box[a] = turned & 0xFF ^ 0x63
    backwards = bytearray(256)
    for a, b in enumerate(box):
        backwards[b] = a
    return bytes(box), bytes(backwards)


@functools.cache
def products(factor: int) -> bytes:
    """The products of every byte with a factor."""
    return bytes(field_product(a, factor) for a in range(256))


ROWS_SHIFTED = tuple((i + 4 * (i % 4)) % 16 for i in range(16))
ROWS_UNSHIFTED = tuple((i - 4 * (i % 4)) % 16 for i in range(16))
MIX, UNMIX = (2, 3, 1, 1), (14, 11, 13, 9)


def mixed(state: bytes, factors: tuple[int, ...]) -> bytes:
    """MixColumns, or InvMixColumns, by the first row of its matrix."""
    tables = [products(factor) for factor in factors]
    out = bytearray(16)
    for i in range(16):
        column, row = i & 12, i & 3
        for j in range(4):
            out[i] ^= tables[(j - row) % 4][state[column + j]]
    return bytes(out)


def aes_round(state: int, decrypts: bool, last: bool) -> int:
    """A round without its key."""
    data = state.to_bytes(16, "little")
    order = ROWS_UNSHIFTED if decrypts else ROWS_SHIFTED
    box = substitution()[decrypts]
    data = bytes(box[data[i]] for i in order)
    if not last:
        data = mixed(data, UNMIX if decrypts else MIX)
    return int.from_bytes(data, "little")


def aes(cpu: Cpu, insn: Any) -> None:
    """AESENC, AESENCLAST, AESDEC, AESDECLAST."""
    permit(cpu, insn)
    name = MNEMONICS[insn.mnemonic]
    key = read_source(cpu, insn, insn.op_count - 1)
    decrypts, last = "DEC" in name, name.endswith("LAST")

    def each(state: int, lane_key: int) -> int:
        return aes_round(state, decrypts, last) ^ lane_key

    write_target(cpu, insn, by_lane(insn, each, first_source(cpu, insn), key))


def aesimc(cpu: Cpu, insn: Any) -> None:
    """AESIMC: InvMixColumns."""
    permit(cpu, insn)
    data = read_source(cpu, insn, 1).to_bytes(16, "little")
    write_target(cpu, insn, int.from_bytes(mixed(data, UNMIX), "little"))


def aeskeygenassist(cpu: Cpu, insn: Any) -> None:
    """AESKEYGENASSIST: SubWord of two words, and rotated with the round constant."""
    permit(cpu, insn)
    _, first, _, third = elements(read_source(cpu, insn, 1), 32, 4)
    constant = insn.immediate(2) & 0xFF

    def substituted(word: int) -> int:
        return int.from_bytes(word.to_bytes(4, "little").translate(substitution()[0]), "little")

    parts = []
    for word in (substituted(first), substituted(third)):
        parts += [word, (word >> 8 | word << 24 & MASK32) ^ constant]
    write_target(cpu, insn, joined(parts, 32))


def carryless(a: int, b: int) -> int:
    """The product of polynomials over GF(2)."""
    result = 0
    while b:
        lowest = b & -b
        result ^= a * lowest
        b ^= lowest
    return result


def pclmulqdq(cpu: Cpu, insn: Any) -> None:
    """PCLMULQDQ: of one word of each source, by bits 0 and 4 of the immediate."""
    permit(cpu, insn)
    control = insn.immediate(insn.op_count - 1)
    source = read_source(cpu, insn, insn.op_count - 2)

    def each(first: int, second: int) -> int:
        a, b = elements(first, 64, 2), elements(second, 64, 2)
        return carryless(a[control & 1], b[control >> 4 & 1])

    write_target(cpu, insn, by_lane(insn, each, first_source(cpu, insn), source))


# SHA


def rotated(word: int, count: int) -> int:
    """A word of 32 bits rotated left."""
    return (word << count | word >> 32 - count) & MASK32


def two_lanes(cpu: Cpu, insn: Any) -> tuple[list[int], list[int]]:
    """The words of DEST and of the source, lowest first."""
    permit(cpu, insn)
    source = read_source(cpu, insn, 1)
    return elements(first_source(cpu, insn), 32, 4), elements(source, 32, 4)


def choose(x: int, y: int, z: int) -> int:
    """Ch of SHA."""
    return x & y ^ ~x & z & MASK32


def majority(x: int, y: int, z: int) -> int:
    """Maj of SHA."""
    return x & y ^ x & z ^ y & z


def parity(x: int, y: int, z: int) -> int:
    """Parity of SHA-1."""
    return x ^ y ^ z


SHA1_ROUNDS = (
    (choose, 0x5A827999),
    (parity, 0x6ED9EBA1),
    (majority, 0x8F1BBCDC),
    (parity, 0xCA62C1D6),
)


def sha1rnds4(cpu: Cpu, insn: Any) -> None:
    """SHA1RNDS4: four rounds; the immediate names function and constant."""
    state, words = two_lanes(cpu, insn)
    function, constant = SHA1_ROUNDS[insn.immediate(2) & 3]
    d, c, b, a = state
    e = 0
    for word in reversed(words):
        total = function(b, c, d) + rotated(a, 5) + word + e + constant & MASK32
        a, b, c, d, e = total, a, rotated(b, 30), c, d
    write_target(cpu, insn, joined([d, c, b, a], 32))


def sha1nexte(cpu: Cpu, insn: Any) -> None:
    """SHA1NEXTE: the state variable E added to the words."""
    state, words = two_lanes(cpu, insn)
    words[3] = words[3] + rotated(state[3], 30) & MASK32
    write_target(cpu, insn, joined(words, 32))


def sha1msg1(cpu: Cpu, insn: Any) -> None:
    """SHA1MSG1."""
    (w3, w2, w1, w0), (_, _, w5, w4) = two_lanes(cpu, insn)
    write_target(cpu, insn, joined([w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0], 32))


def sha1msg2(cpu: Cpu, insn: Any) -> None:
    """SHA1MSG2."""
    (a, b, c, d), (w15, w14, w13, _) = two_lanes(cpu, insn)
    w16, w17, w18 = rotated(d ^ w13, 1), rotated(c ^ w14, 1), rotated(b ^ w15, 1)
    write_target(cpu, insn, joined([rotated(a ^ w16, 1), w18, w17, w16], 32))


def spread(word: int, first: int, second: int, third: int, shifts: bool) -> int:
    """The sigma functions of SHA-256: two right rotations and a third, or a shift."""
    last = word >> third if shifts else rotated(word, 32 - third)
    return rotated(word, 32 - first) ^ rotated(word, 32 - second) ^ last


def sha256rnds2(cpu: Cpu, insn: Any) -> None:
    """SHA256RNDS2: two rounds; XMM0 has the words with their constants."""
    (h, g, d, c), (f, e, b, a) = two_lanes(cpu, insn)
    for word in elements(read_register(cpu, 0), 32, 2):
        one = h + choose(e, f, g) + spread(e, 6, 11, 25, False) + word
        two = majority(a, b, c) + spread(a, 2, 13, 22, False)
        a, b, c, d, e, f, g, h = one + two & MASK32, a, b, c, d + one & MASK32, e, f, g
    write_target(cpu, insn, joined([f, e, b, a], 32))


def sha256msg1(cpu: Cpu, insn: Any) -> None:
    """SHA256MSG1."""
    words, other = two_lanes(cpu, insn)
    following = [*words[1:], other[0]]
    parts = [w + spread(n, 7, 18, 3, True) & MASK32 for w, n in zip(words, following, strict=True)]
    write_target(cpu, insn, joined(parts, 32))


def sha256msg2(cpu: Cpu, insn: Any) -> None:
    """SHA256MSG2."""
    words, other = two_lanes(cpu, insn)
    parts: list[int] = []
    for word, before in zip(words, [*other[2:], 0, 0], strict=True):
        source = parts[len(parts) - 2] if len(parts) > 1 else before
        parts.append(word + spread(source, 17, 19, 10, True) & MASK32)
    write_target(cpu, insn, joined(parts, 32))


AES_ROUNDS = ("AESENC", "AESENCLAST", "AESDEC", "AESDECLAST")
TABLE: dict[str, Callable[[Cpu, Any], None]] = {
    **{prefix + name: aes for name in AES_ROUNDS for prefix in ("", "V")},
    **dict.fromkeys(("AESIMC", "VAESIMC"), aesimc),
    **dict.fromkeys(("AESKEYGENASSIST", "VAESKEYGENASSIST"), aeskeygenassist),
    **dict.fromkeys(("PCLMULQDQ", "VPCLMULQDQ"), pclmulqdq),
    "SHA1RNDS4": sha1rnds4,
    "SHA1NEXTE": sha1nexte,
    "SHA1MSG1": sha1msg1,
    "SHA1MSG2": sha1msg2,
    "SHA256RNDS2": sha256rnds2,
    "SHA256MSG1": sha256msg1,
    "SHA256MSG2": sha256msg2,
}
