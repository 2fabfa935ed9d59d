import struct

import pytest

from emu.errors import InputError
from emu.guests.assembler import assemble, link

BASE = 0x10_0000


def built(source):
    return link(assemble(f".intel_syntax noprefix\n{source}"), BASE)


def test_code_is_what_the_manual_encodes():
    assert bytes.fromhex("0f01c2 0f78c8 0f01d8") == built("vmlaunch\nvmread rax, rcx\nvmrun rax\n")


def test_addresses_are_absolute_and_relative_to_the_base():
    image = built(
        ".code64\nstart: lea rax, [rip + there]\nmov eax, offset there\n.quad there\nthere: ret\n"
    )

    at = BASE + len(image) - 1
    assert at - (BASE + 7) == struct.unpack_from("<i", image, 3)[0]
    assert at == struct.unpack_from("<I", image, 8)[0]
    assert at == struct.unpack_from("<Q", image, 12)[0]


def test_storage_without_bytes_follows_the_image():
    image = built(
        ".long IMAGE_START, IMAGE_END, BSS_END, room\n.bss\n.balign 4096\nroom: .skip 5\n"
    )

    assert (BASE, BASE + 16, BASE + 0x2000, BASE + 0x1000) == struct.unpack("<4I", image)


def test_an_undefined_symbol_is_named():
    with pytest.raises(InputError, match="'nowhere' is undefined"):
        built("call nowhere\n")


def test_a_value_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"R_X86_64_16 .* does not fit"):
        built("there: .word there\n")
