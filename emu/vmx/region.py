"""The VMCS in the processor and in memory. SDM Vol. 3, Virtual Machine Control Structures.

The processor keeps the current VMCS as words, one a field, in the order of the vocabulary that the
checks on VM entry read; the region in memory has the layout of `vmcs.batch`, a place a field.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emu.cpu.insns.control_structure import ENCODINGS, READ_ONLY, WIDTH_SHIFT
from vmcs.batch.control_structures import VMCS, VMCS_SIZE
from vmcs.check_programs import Program, Vocabulary, compile_program
from vmcs.vmx.entry_checks import (
    CONTROL_CHECKS,
    GUEST_STATE_CHECKS,
    HOST_STATE_CHECKS,
    vocabulary,
)
from vmcs.vmx.fields import FIELDS

Words = NDArray[np.uint64]

FIELD_COUNT: Final = len(FIELDS)
INDEX: Final = {field.name: i for i, field in enumerate(FIELDS)}
REVISION_MASK: Final = 0x7FFF_FFFF
SHADOW_INDICATOR: Final = 1 << 31
CLEAR, LAUNCHED = 0, 1
NO_VMCS: Final = (1 << 64) - 1


class Checks:
    """The checks on VM entry, compiled against one vocabulary."""

    def __init__(self) -> None:
        self.vocabulary: Vocabulary = vocabulary()
        self.controls: Program = compile_program(CONTROL_CHECKS, self.vocabulary)
        self.host: Program = compile_program(HOST_STATE_CHECKS, self.vocabulary)
        self.guest: Program = compile_program(GUEST_STATE_CHECKS, self.vocabulary)

    def index(self, name: str) -> int:
        """Where a word stands."""
        return self.vocabulary.index(name)


@functools.cache
def checks() -> Checks:
    """The checks of this process."""
    return Checks()


def _places() -> tuple[tuple[type, NDArray[np.int64], NDArray[np.int64]], ...]:
    """For each width: its type, the fields' words, their places in an array of that type."""
    found = []
    for width, kind in ((8, np.uint64), (4, np.uint32), (2, np.uint16)):
        names = [field.name for field in FIELDS if field.size == width]
        words = np.array([INDEX[name] for name in names], np.int64)
        places = np.array([VMCS.by_name[name].offset // width for name in names], np.int64)
        found.append((kind, words, places))
    return tuple(found)


PLACES: Final = _places()


def fields_of(region: bytes) -> Words:
    """The fields in a region of memory, as words: (FIELD_COUNT,) uint64."""
    words = np.zeros(FIELD_COUNT, np.uint64)
    for kind, indices, places in PLACES:
        words[indices] = np.frombuffer(region, kind)[places]
    return words


def region_of(header: bytes, words: Words) -> bytes:
    """The region that holds `words` (FIELD_COUNT,) behind a header of 12 bytes."""
    region = bytearray(VMCS_SIZE)
    region[:12] = header
    array = np.frombuffer(region, np.uint8)
    for kind, indices, places in PLACES:
        array.view(kind)[places] = words[indices].astype(kind)
    return bytes(region)


@functools.cache
def encodings(supported: frozenset[str], writes_any: bool) -> NDArray[np.uint32]:
    """The table by encoding that compiled VMREAD and VMWRITE look into."""
    table = np.zeros(ENCODINGS, np.uint32)
    for field in FIELDS:
        if field.name in supported:
            entry = INDEX[field.name] + 1 | 8 * field.size << WIDTH_SHIFT
            read_only = field.is_read_only and not writes_any
            table[field.encoding] = entry | (READ_ONLY if read_only else 0)
    return table
