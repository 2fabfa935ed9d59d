"""The vmdescription: found, measured, and rewritten only where a device changed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.migration.qemu_stream.description import (
    find_description,
    subsection_size,
    vmdescription,
)
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.grammar import Section
from emu.migration.qemu_stream.stream import QemuStream


def text_of(stream: bytes) -> str:
    return stream[stream.index(b'{"page_size"') :].decode()


def parsed(text: str):
    data = b"\0" + vmdescription(text)
    return find_description(data, 0, len(data))


def test_recorded_description_is_found_with_its_devices(q35):
    description = find_description(q35, 0, len(q35))

    assert text_of(q35) == description.text
    assert 4096 == description.page_size
    assert len(q35) == description.end
    assert json.loads(text_of(q35))["devices"] == [dict(dev.entry) for dev in description.devices]


def test_a_device_is_delimited_in_the_text(q35):
    description = find_description(q35, 0, len(q35))
    for device in description.devices:
        assert device.entry == json.loads(description.text[device.begin : device.end])


def test_described_sizes_are_those_of_the_recorded_sections(q35):
    stream = QemuStream.parse(q35)
    full = [item for item in stream.items if isinstance(item, Section) and item.ram is None]

    assert len(stream.description.devices) == len(full)
    for section in full:
        size = stream.description.devices[section.device].size

        assert section.payload_end - section.payload == size


def test_a_length_that_looks_like_the_mark_does_not_hide_it():
    """A length of 0x0006... puts the bytes 00 06 right behind the real ones."""
    text = json.dumps({"page_size": 4096, "devices": [], "filler": "x" * 0x61200})
    text = text[:-2] + " " * (0x61207 - len(text)) + text[-2:]
    found = parsed(text)

    assert b"\x00\x06" in vmdescription(text)[1:5]
    assert text == found.text


def test_the_newer_form_with_a_configuration_is_read():
    text = json.dumps({"configuration": {"vmsd_name": "configuration"}, "devices": []})

    assert () == parsed(text).devices
    assert parsed(text).page_size is None


def test_repeated_keys_stay_when_another_device_changes():
    """A list of structs repeats the keys of its element's description, once an element."""
    field = '{"vmsd_name": 1, "vmsd_name": 1, "size": 4}'
    repeated = f'{{"name": "b", "instance_id": 0, "fields": [{field}]}}'
    changed = {"name": "a", "instance_id": 0, "fields": [], "subsections": [sub("a/x", 1)]}
    text = f'{{"page_size": 4096, "devices": [{json.dumps(changed)}, {repeated}]}}'
    kept = {"name": "a", "instance_id": 0, "fields": []}

    assert vmdescription(text.replace(json.dumps(changed), json.dumps(kept))) == parsed(
        text
    ).with_subsections({0: []})
    assert vmdescription(text) == parsed(text).with_subsections({0: [sub("a/x", 1)]})


def sub(name, size, *inner):
    entry = {"vmsd_name": name, "version": 1, "fields": [{"name": "f", "size": size}]}
    return {**entry, "subsections": list(inner)} if inner else entry


def test_subsection_sizes_count_headers_at_every_level():
    assert 6 + 3 + 8 + (6 + 5 + 4) == subsection_size(sub("a/x", 8, sub("a/x/y", 4)))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5000), max_size=6), st.integers(1, 50))
def test_device_size_adds_up_fields_and_arrays(sizes, count):
    fields = [{"name": "f", "size": size, "array_len": count} for size in sizes]
    entry = {"name": "d", "instance_id": 0, "fields": fields}
    (device,) = parsed(json.dumps({"devices": [entry]})).devices

    assert count * sum(sizes) == device.size


def device_with(field):
    return json.dumps({"devices": [{"name": "a", "instance_id": 0, "fields": [field]}]})


DEEP = '{"vmsd_name": "a", "version": 1, "fields": [], "subsections": ['


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{]}", "vmdescription"),
        ("{}", "vmdescription"),
        ('{"a": 1} x', "the JSON ends"),
        ('{"devices": {}}', "'\\[' expected"),
        ('{"devices": [1]}', "an object expected"),
        ('{"devices": [{"name": 1}]}', "name and instance_id are"),
        ('{"devices": [{"name": "a", "instance_id": -1}]}', "name and instance_id are"),
        ('{"devices": [{"name": "a", "instance_id": 0}]}', "lists of fields"),
        ('{"devices": [{"name": "a", "instance_id": 0, "fields": [{}]}]}', "without a size"),
        (
            '{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": true}]}]}',
            "without a size",
        ),
        (
            device_with({"size": 1, "array_len": -1}),
            "array_len is -1",
        ),
        (
            '{"devices": [{"name": "a", "instance_id": 0, "fields": [], "subsections": [{}]}]}',
            "vmsd_name and version are",
        ),
        ('{"page_size": "big"}', "page_size is 'big'"),
        ('{"x": ' + "9" * 6000 + "}", "vmdescription"),
        ('{"x": ' + "[" * 100_000 + "}", "nested too deeply"),
        (
            '{"devices": [{"name": "a", "instance_id": 0, "fields": [], "subsections": ['
            + DEEP * 40
            + "]}" * 41
            + "]}",
            "more than 32 deep",
        ),
    ],
)
def test_malformed_descriptions_are_refused_at_their_place(text, message):
    with pytest.raises(StreamError, match=message) as caught:
        parsed(text)

    assert 1 == caught.value.offset


def test_no_description_is_no_error():
    assert find_description(b"\0\x06\0\0\0\x09{}" + bytes(10), 0, 8) is None
    assert find_description(b"", 0, 0) is None
