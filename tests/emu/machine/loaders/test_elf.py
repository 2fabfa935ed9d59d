import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import InputError
from emu.machine.loaders import elf
from tests.emu.machine.loaders import images


@pytest.mark.parametrize("bits", [32, 64])
def test_segments_and_entry_are_read(bits):
    image = images.elf(bits, entry=0x1234, segments=((0x1000, b"ab", 5), (0x8000, b"", 0x100)))
    found = elf.parse(image, "x")

    assert (bits, 0x1234, [(0x1000, b"ab", 5), (0x8000, b"", 0x100)], 0x8100) == (
        found.bits,
        found.entry,
        [(s.gpa, s.data, s.size) for s in found.segments],
        found.end,
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"MZ", "not an ELF file"),
        (b"\x7fELF", "little-endian"),
        (b"\x7fELF\x01\x02", "little-endian"),
        (images.elf()[:40], "truncated in the ELF header"),
        (images.elf()[:60], "truncated in the program headers"),
        (images.elf(machine=183), "machine 183, not for x86"),
        (images.elf(kind=1), "type 1, not an executable"),
        (images.elf(segments=()), "without a segment"),
        (images.elf(segments=((0, b"1234", 2),)), "4 bytes for 2"),
        (images.elf()[:-1], "truncated: segment 0"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(image, message):
    with pytest.raises(InputError, match=message) as error:
        elf.parse(image, "file")

    assert str(error.value).startswith("file: ")


@pytest.mark.parametrize("bits", [32, 64])
@given(data=st.data())
def test_any_damage_is_an_input_error_or_harmless(bits, data):
    image = bytearray(images.elf(bits))
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(4, len(image) - 1))] = data.draw(st.integers(0, 255))
    image = image[: data.draw(st.integers(0, len(image)))]
    try:
        found = elf.parse(bytes(image), "x")
    except InputError:
        return

    assert all(len(segment.data) <= segment.size for segment in found.segments)
