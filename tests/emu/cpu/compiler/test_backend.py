"""Object code: what its references to other objects can reach."""

from __future__ import annotations

import struct

from emu.cpu.compiler import backend

IR = """
declare i64 @elsewhere(i64)
@table = external constant [4 x i64]
define double @here(i64 %index, double %value) nounwind {
  %place = getelementptr [4 x i64], ptr @table, i64 0, i64 %index
  %word = load i64, ptr %place
  %result = call i64 @elsewhere(i64 %word)
  %number = uitofp i64 %result to double
  %sum = fadd double %number, 1.23456789
  %product = fmul double %sum, %value
  ret double %product
}
"""
SHT_RELA, R_X86_64_64 = 4, 1


def relocation_types(data: bytes) -> set[int]:
    """The types of an ELF object's relocations. System V ABI, Sections; Relocation."""
    (start,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    found = set()
    for number in range(count):
        _, kind, _, _, offset, length = struct.unpack_from("<IIQQQQ", data, start + number * size)
        if kind == SHT_RELA:
            entries = struct.iter_unpack("<QIIq", data[offset : offset + length])
            found |= {entry[1] for entry in entries}
    return found


def test_every_reference_reaches_the_whole_address_space():
    assert {R_X86_64_64} == relocation_types(backend.assemble(IR))
