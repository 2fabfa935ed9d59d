"""What breaks a check is said with the wrong bits, the wrong number and the limit, by name."""

import pytest

from vmcs.checks import ALL_BITS, Predicate, Shape
from vmcs.failures import explain_failure

WORDS = {
    "A": 0xF1,
    "B": 0x30,
    "C": 0x200,
    "WIDTH": 48,
    "ADDRESS": 0x1_0000_0000_0008,
    "COUNT": 2,
    "AREA": 0xFFFF_FFF0,
    "TOO_HIGH": 0xFFFF_FFFF_0000_0000,
    "PAT": 0x06_06_06_06_02_06_06_03,
}
NAMES = {0x10: "FOUR", 0x20: "FIVE", 0x1: "ZERO"}
MEANINGS = {"B": "what the processor has", "TOO_HIGH": "no such address"}
BEYOND = "bits 0x100000000 must be 0 (TOO_HIGH: no such address)"

# The wording names the word first, then the bits, then what they must be and whose limit it is.
CASES = (
    (Predicate(Shape.BITS_CLEAR, "A", "B"),
     "A is 0xf1: FOUR, FIVE (0x30) must be 0 (B: what the processor has)"),
    (Predicate(Shape.BITS_CLEAR, "A", 0xC0), "A is 0xf1: bits 0xc0 must be 0"),
    (Predicate(Shape.BITS_SET, "C", 0x1), "C is 0x200: ZERO (0x1) must be 1"),
    (Predicate(Shape.BITS_SET, "C", 0x2), "C is 0x200: bit 0x2 must be 1"),
    (Predicate(Shape.ANY_SET, "COUNT", ALL_BITS), "COUNT is 0x2, must not be 0"),
    (Predicate(Shape.ANY_SET, "C", 0x30), "C is 0x200: one of FOUR, FIVE (0x30) must be 1"),
    (Predicate(Shape.EQUAL, "A", "C", ALL_BITS), "A is 0xf1, must be 0x200 (C)"),
    (Predicate(Shape.EQUAL, "A", 0x20, 0x30), "A is 0xf1: bits 0x30 are 0x30, must be 0x20"),
    (Predicate(Shape.DIFFERENT, "A", "B", ALL_BITS),
     "A is 0xf1, must be another value (B: what the processor has)"),
    (Predicate(Shape.DIFFERENT, "A", 0x30, 0x30),
     "A is 0xf1: FOUR, FIVE (0x30) must not all be 1"),
    (Predicate(Shape.DIFFERENT, "A", 0x10, 0x30), "A is 0xf1: bits 0x30 must not be 0x10"),
    (Predicate(Shape.AT_MOST, "C", "WIDTH"), "C is 512, must be at most 48 (WIDTH)"),
    (Predicate(Shape.AT_LEAST, "COUNT", 128), "COUNT is 2, must be at least 128"),
    (Predicate(Shape.ALLOWED, "A", 0x6, "B"),
     "A is 0xf1: bits 0x6 must be 1; ZERO, bits 0xc0 (0xc1) must be 0 (B: what the processor has)"),
    (Predicate(Shape.SAME, "A", "C", 0x10, 0x1),
     "FOUR (0x10) of A is set, but ZERO (0x1) of C is clear"),
    (Predicate(Shape.CANONICAL, "ADDRESS", "WIDTH"),
     "ADDRESS is 0x1000000000008, not canonical for 48 linear-address bits"),
    (Predicate(Shape.MEMORY_TYPES, "PAT"),
     "PAT is 0x606060602060603: byte 0, 3 is no memory type"),
    (Predicate(Shape.MSR_AREA, "ADDRESS", "COUNT", "TOO_HIGH"),
     "2 MSR entries at ADDRESS (0x1000000000008) must be aligned to 16 bytes"),
    (Predicate(Shape.MSR_AREA, "AREA", "COUNT", "TOO_HIGH"),
     f"2 MSR entries at AREA (0xfffffff0) reach 0x10000000f: {BEYOND}"),
    (Predicate(Shape.RANGE, "AREA", 0x20, "TOO_HIGH"),
     f"AREA is 0xfffffff0, 32 bytes up to 0x10000000f: {BEYOND}"),
    (Predicate(Shape.SHIFTED, "A", "B", 4), "A is 0xf1, must be 0x300: B (0x30) shifted left by 4"),
    (Predicate(Shape.MEMBER, "A", 0b1010, 0x70, 4),
     "A is 0xf1: its field 0x70 is 7, must be one of 1, 3"),
    (Predicate(Shape.NO_MEMBER, "COUNT", 0b110, ALL_BITS, 0), "COUNT is 0x2, must be none of 1, 2"),
)  # fmt: skip


def names(word, bits):
    """Bits 0, 4 and 5 of A and C have names."""
    if word not in ("A", "C"):
        return ()
    found = [name for mask, name in sorted(NAMES.items()) if bits & mask]
    rest = bits & ~sum(mask for mask in NAMES if bits & mask)
    return tuple(found + ([f"bits {rest:#x}"] if found and rest else []))


@pytest.mark.parametrize(("predicate", "expected"), CASES, ids=lambda x: str(x)[:40])
def test_a_failure_names_what_is_wrong(predicate, expected):
    assert expected == explain_failure(predicate, WORDS, names, lambda w: MEANINGS.get(w, ""))


def test_every_shape_has_a_wording():
    assert set(Shape) == {predicate.shape for predicate, _ in CASES}
