"""Register fields of the cpu section against the vmdescription that QEMU wrote."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.migration.qemu_stream.fields import decode, describe, encode
from emu.migration.qemu_stream.registers import CPU_REGISTERS, HFlags, Registers
from emu.migration.qemu_stream.stream import QemuStream
from tests.reference.naive_stream import devices_of


def described_cpu(stream: bytes) -> dict[str, object]:
    devices = json.loads(stream[stream.index(b'{"page_size"') :])["devices"]
    return next(device for device in devices if device["name"] == "cpu")


def test_rows_are_what_qemu_describes(q35):
    assert described_cpu(q35)["fields"] == describe(CPU_REGISTERS)


def test_offsets_are_the_sums_of_the_described_sizes(q35):
    offset = 0
    for field in described_cpu(q35)["fields"]:
        name = field["name"].removeprefix("env.")

        assert offset == Registers.offset_of(name)

        offset += field["size"] * field.get("array_len", 1)

    assert 1817 == offset


@pytest.mark.parametrize("index", [0, 1])
def test_values_are_what_a_field_by_field_reader_finds(q35, index):
    registers = QemuStream.parse(q35).vcpu(index).registers
    naive = devices_of(q35)["cpu", index]
    for row in CPU_REGISTERS:
        expected = naive[f"env.{row.name}"]
        if row.type == "fpreg":
            expected = [registers_of_temporary(value) for value in expected]

        assert expected == registers[row.name], row.name


def registers_of_temporary(value):
    """The two members of a floating-point register, which QEMU describes as ten plain bytes."""
    raw = value["tmp"]
    return {"tmp_mant": int.from_bytes(raw[:8], "big"), "tmp_exp": int.from_bytes(raw[8:], "big")}


def test_a_reset_vcpu_stands_at_the_reset_vector(q35):
    registers = QemuStream.parse(q35).vcpus[0].registers

    assert 0xFFF0 == registers["eip"]
    assert 0xF000 == registers["segs"][1]["selector"]
    assert 0x101 == registers["hflags2"]


def test_version_11_ends_before_the_xsave_fields():
    registers = Registers.zeroed(11)

    assert 1545 == len(registers.raw)
    assert "xcr0" not in list(registers)
    assert len(CPU_REGISTERS) - 3 == len(registers)
    with pytest.raises(KeyError, match="not in version 11"):
        registers["xcr0"]


def elements_of(type_name, row):
    sample = decode(row, bytes(row.size))
    sample = sample[0] if isinstance(sample, list) else sample
    if isinstance(sample, dict):
        return st.fixed_dictionaries({name: st.integers(0, 0xFFFF) for name in sample})
    bits = int(type_name.removeprefix("u").removeprefix("int"))
    low = 0 if type_name.startswith("u") else -(1 << (bits - 1))
    return st.integers(low, low + (1 << bits) - 1)


@st.composite
def assignments(draw):
    row = draw(st.sampled_from(CPU_REGISTERS))
    element = elements_of(row.type, row)
    if row.count == 1:
        return row, draw(element)
    return row, draw(st.lists(element, min_size=row.count, max_size=row.count))


@given(assignments())
def test_an_assignment_is_read_back_and_touches_nothing_else(assignment):
    row, value = assignment
    registers = Registers.zeroed()
    registers[row.name] = value
    begin = Registers.offset_of(row.name)

    assert value == registers[row.name]
    assert value == decode(row, encode(row, value))
    assert bytes(begin) == registers.raw[:begin]
    assert not any(registers.raw[begin + row.size :])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eip", 1 << 64),
        ("eip", -1),
        ("eip", [1]),
        ("a20_mask", 1 << 31),
        ("dr", [0] * 7),
        ("dr", 0),
        ("ldt", {"selector": 1}),
        ("ldt", 5),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Registers.zeroed()[name] = value


def test_bits_are_set_and_cleared_alone():
    registers = Registers.zeroed()
    registers["hflags"] = 0x40
    registers.assign_bits("hflags", HFlags.GUEST, on=True)

    assert 0x20_0040 == registers["hflags"]

    registers.assign_bits("hflags", HFlags.GUEST, on=False)

    assert 0x40 == registers["hflags"]


def test_what_cannot_be_asked_of_registers_is_refused():
    registers = Registers.zeroed()
    with pytest.raises(TypeError, match="not one number"):
        registers.word("dr")
    with pytest.raises(TypeError, match="cannot be left out"):
        del registers["eip"]
    with pytest.raises(KeyError):
        registers["rip"]
    with pytest.raises(ValueError, match="1817 bytes"):
        Registers(bytes(10), 12)
