import itertools

import iced_x86
import pytest

from emu.machine import firmware
from emu.machine.firmware import GIB, MIB, MemoryType

SIZES = (2 * MIB, 128 * MIB, 3 * GIB, 3 * GIB + MIB, 8 * GIB)


@pytest.mark.parametrize("code", firmware.ROM, ids=lambda code: f"{code.offset:04x}")
def test_rom_bytes_are_the_instruction_that_the_row_says(code):
    decoder = iced_x86.Decoder(16, code.image, ip=code.offset)
    formatter = iced_x86.Formatter(iced_x86.FormatterSyntax.NASM)
    formatter.hex_suffix, formatter.hex_prefix = "h", ""
    formatter.branch_leading_zeros = False
    instruction = decoder.decode()
    text = formatter.format(instruction).replace("word [", "[")

    assert (code.text.lower(), len(code.image)) == (text.lower(), instruction.len)


@pytest.mark.parametrize("start", [0xE05B, 0xE06D, firmware.MASTER_HANDLER, firmware.SLAVE_HANDLER])
def test_rom_sequences_have_no_gap(start):
    rows = {code.offset: code for code in firmware.ROM}
    at, texts = start, []
    while at in rows:
        texts.append(rows[at].text)
        at += len(rows[at].image)

    assert texts[-1] in ("iret", "jmp far [467h]")


@pytest.mark.parametrize("size", SIZES)
def test_memory_map_ascends_without_overlap_and_holds_all_ram(size):
    ranges = firmware.memory_map(size)
    gaps = [b.gpa - a.end for a, b in itertools.pairwise(ranges)]
    ram = sum(r.size for r in ranges if r.kind is MemoryType.RAM)
    hidden = 0x10_0000 - firmware.BASE_MEMORY_END

    assert (True, size - hidden) == (all(gap >= 0 for gap in gaps), ram)


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_ram_between_3_and_4_gib(size):
    assert not [r for r in firmware.memory_map(size) if r.end > 3 * GIB and r.gpa < 4 * GIB]


def test_vectors_lead_to_the_handlers():
    table = firmware.low_memory()[0]
    targets = [
        int.from_bytes(table[4 * v : 4 * v + 2], "little")
        for v in (0x00, 0x08, 0x0F, 0x10, 0x70, 0x77, 0x78, 0xFF)
    ]
    dummy, master, slave = (
        firmware.DUMMY_HANDLER,
        firmware.MASTER_HANDLER,
        firmware.SLAVE_HANDLER,
    )

    assert [dummy, master, master, dummy, slave, slave, dummy, dummy] == targets


def test_cmos_tells_the_memory():
    found = firmware.cmos(5 * GIB, 4)

    assert (640, 0xFFFF, 0xBF00, 0x8000, 3) == (
        found[0x15] | found[0x16] << 8,
        found[0x30] | found[0x31] << 8,
        found[0x34] | found[0x35] << 8,
        found[0x5B] | found[0x5C] << 8 | found[0x5D] << 16,
        found[0x5F],
    )
