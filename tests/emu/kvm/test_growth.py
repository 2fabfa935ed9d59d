from errno import EINVAL

import pytest

from emu.errors import KvmError
from emu.kvm.growth import Grown
from emu.releases.kernel_file import parse_kernel

HEAD = 'name = "v2"\nbase = "6.12"\n'
FLAG = '[[grow]]\nplace = "flag"\nname = "MORE"\nvalue = 0x200\n'
GATES = (
    '[[grow]]\nplace = "capability"\nname = "CAP_MORE"\nvalue = 900\n'
    '[[grow]]\nplace = "quirk"\nname = "QUIRK_MORE"\nvalue = 0x1000\n'
)
PAGE = '[[grow]]\nplace = "page"\nname = "page"\noffset = 8320\nwidth = 4096\n'
WORD = '[[grow]]\nplace = "header"\nname = "word"\noffset = 48\nwidth = 8\n'
FIELD = '[[grow]]\nplace = "vmcs12"\nname = "field"\noffset = 336\nwidth = 8\n'


def grown(text):
    return Grown(parse_kernel(HEAD + text), "vmx")


def blob(size):
    data = bytearray(12416)
    data[4:8] = size.to_bytes(4, "little")
    return data


def flags_of(data):
    return int.from_bytes(data[:2], "little")


def test_content_announced_by_a_flag_sets_the_flag_only_where_held():
    kernel = grown(FLAG + WORD + 'announced_by = "MORE"\n')
    empty = blob(4224)

    assert kernel.save(empty, 8320, 4224) == 4224
    assert flags_of(empty) == 0

    kernel.hold("word", 0x1234)
    full = blob(4224)
    kernel.save(full, 8320, 4224)

    assert flags_of(full) == 0x200
    assert int.from_bytes(full[48:56], "little") == 0x1234

    other = grown(FLAG + WORD + 'announced_by = "MORE"\n')
    other.load(memoryview(full))

    assert other.held["word"] == 0x1234
    assert flags_of(other.strip(memoryview(full))) == 0

    other.load(memoryview(empty))

    assert other.held["word"] == 0


def test_a_page_announced_by_the_size_is_saved_as_far_as_the_caller_asks():
    kernel = grown(PAGE + 'announced_by = "size"\n')
    kernel.hold("page", 7)

    assert kernel.save(blob(4224), 8320, 4224) == 4224

    data = blob(4224)

    assert kernel.save(data, 12416, 4224) == 12416

    other = grown(PAGE + 'announced_by = "size"\n')
    other.load(memoryview(data))

    assert other.held["page"] == 7


def test_a_page_announced_by_a_flag_must_be_within_the_size():
    kernel = grown(FLAG + PAGE + 'announced_by = "MORE"\n')
    data = blob(4224)
    data[:2] = (0x200).to_bytes(2, "little")

    with pytest.raises(KvmError) as caught:
        kernel.strip(memoryview(data))

    assert (caught.value.errno, caught.value.rule) == (EINVAL, "grown_page_within_size")


def test_a_page_that_is_always_there_needs_its_room():
    kernel = grown(PAGE)

    assert kernel.save(blob(4224), 8320, 4224) == 12416


def test_a_capability_gates_what_is_saved_and_loaded():
    text = GATES + WORD + 'announced_by = "CAP_MORE"\n'
    closed, data = grown(text), blob(4224)
    closed.hold("word", 5)
    closed.save(data, 8320, 4224)

    assert not any(data[48:56])

    closed.enable({"CAP_MORE"})
    closed.save(data, 8320, 4224)
    reader = grown(text)
    reader.load(memoryview(data))

    assert data[48] == 5
    assert reader.held["word"] == 0


def test_a_quirk_keeps_the_guest_from_holding_anything():
    text = GATES + WORD + 'announced_by = "QUIRK_MORE"\n'
    kernel = grown(text)
    kernel.hold("word", 5)

    assert kernel.held["word"] == 0

    kernel.enable({"QUIRK_MORE"})
    kernel.hold("word", 5)

    assert kernel.held["word"] == 5


def test_a_field_in_the_padding_travels_with_vmcs12():
    kernel = grown(FIELD)
    kernel.hold("field", 0xABCD)
    data = blob(4224)
    kernel.save(data, 8320, 4224)
    other = grown(FIELD)
    other.load(memoryview(data))

    assert int.from_bytes(data[128 + 336 : 128 + 344], "little") == 0xABCD
    assert other.held["field"] == 0xABCD
