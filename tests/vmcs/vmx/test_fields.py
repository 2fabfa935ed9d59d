"""VMCS fields: encodings decode to what the rows say, and agree with the kernel's enumeration."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.schema import FieldType, FieldWidth
from vmcs.vmx.controls import Entry, Exit, ProcBased2
from vmcs.vmx.fields import (
    BY_ENCODING,
    FIELDS,
    HIGHEST_INDEX,
    field_at,
    field_named,
    is_well_formed,
)

DATA = Path(__file__).parents[2] / "data"

WIDTHS = {"16": "BITS_16", "64": "BITS_64", "32": "BITS_32", "natural": "NATURAL"}
TYPES = {
    "control": "CONTROL",
    "read-only data": "READ_ONLY_DATA",
    "guest state": "GUEST_STATE",
    "host state": "HOST_STATE",
}

# Full encodings that each table of the manual's appendix lists, in its order; the sum is 200.
# The tables of 16-bit control, 64-bit control, guest-state and host-state fields grew since the
# edition that was counted: by 1 (virtual timer vector), 2 (guest deadline shadow, ENCLV-exiting
# bitmap of earlier editions), 2 (guest IA32_SPEC_CTRL, guest deadline) and 1 (host IA32_SPEC_CTRL).
COUNTED = {
    ("BITS_16", "CONTROL"): 5 + 1,
    ("BITS_16", "GUEST_STATE"): 11,
    ("BITS_16", "HOST_STATE"): 7,
    ("BITS_64", "CONTROL"): 37 + 2,
    ("BITS_64", "READ_ONLY_DATA"): 3,
    ("BITS_64", "GUEST_STATE"): 21 + 2,
    ("BITS_64", "HOST_STATE"): 12 + 1,
    ("BITS_32", "CONTROL"): 20,
    ("BITS_32", "READ_ONLY_DATA"): 8,
    ("BITS_32", "GUEST_STATE"): 23,
    ("BITS_32", "HOST_STATE"): 1,
    ("NATURAL", "CONTROL"): 8,
    ("NATURAL", "READ_ONLY_DATA"): 6,
    ("NATURAL", "GUEST_STATE"): 23,
    ("NATURAL", "HOST_STATE"): 15,
}


def kernel_rows():
    with (DATA / "linux-vmcs-fields.csv").open(newline="") as source:
        return list(csv.DictReader(source))


def decoded(encoding):
    """Width, type, index and access of an encoding, by dividing it up digit by digit."""
    rest, high = divmod(encoding, 2)
    rest, index = divmod(rest, 512)
    rest, kind = divmod(rest, 4)
    rest, hole = divmod(rest, 2)
    rest, width = divmod(rest, 4)
    names = ("BITS_16", "BITS_64", "BITS_32", "NATURAL")
    kinds = ("CONTROL", "READ_ONLY_DATA", "GUEST_STATE", "HOST_STATE")
    return names[width], kinds[kind], index, high, (rest, hole)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_encoding_decodes_to_what_the_row_says(field):
    assert decoded(field.encoding) == (field.width.name, field.type.name, field.index, 0, (0, 0))


def test_encodings_and_names_are_unique():
    assert len(FIELDS) == len({field.encoding for field in FIELDS})
    assert len(FIELDS) == len({field.name for field in FIELDS})


def test_each_table_is_in_the_manual_s_order():
    assert sorted(field.encoding for field in FIELDS) == [field.encoding for field in FIELDS]


def test_each_table_has_the_manual_s_number_of_fields():
    assert COUNTED == Counter((field.width.name, field.type.name) for field in FIELDS)


def test_every_row_has_a_phrase_and_a_citation():
    assert all(field.phrase and field.sdm for field in FIELDS)


@pytest.mark.parametrize("row", kernel_rows(), ids=lambda row: row["vmcs_field"])
def test_field_agrees_with_the_kernel(row):
    encoding = int(row["encoding"], 16)
    field, high = field_at(encoding)

    assert row["vmcs_field"] == field.name + ("_HIGH" if high else "")
    assert WIDTHS[row["width"]] == field.width.name
    assert TYPES[row["type"]] == field.type.name
    assert int(row["index"]) == field.index
    assert bool(int(row["access_high"])) is high


def test_lookup_by_name_and_by_either_access_finds_the_same_row():
    field = field_named("MSR_BITMAP")

    assert (field, False) == field_at(0x2004)
    assert (field, True) == field_at(0x2005)
    assert 0x2005 == field.encoding_high


def test_unknown_name_is_a_key_error():
    with pytest.raises(KeyError, match="GUEST_CR5"):
        field_named("GUEST_CR5")


@given(st.integers(0, 0xFFFF_FFFF))
def test_lookup_finds_exactly_the_encodings_of_the_table(encoding):
    *_, high, reserved = decoded(encoding)
    known = encoding - high in BY_ENCODING and (not high or decoded(encoding)[0] == "BITS_64")

    assert known is (field_at(encoding) is not None)
    assert not (any(reserved) and is_well_formed(encoding))


@pytest.mark.parametrize("encoding", [0x0001, 0x4001, 0x6801, 0x1000, 0x8000, 0x0001_0000])
def test_reserved_bit_or_high_access_to_a_narrow_field_is_malformed(encoding):
    assert not is_well_formed(encoding)


def test_highest_index_is_that_of_injected_event_data():
    assert HIGHEST_INDEX == field_named("INJECTED_EVENT_DATA").index == 0x29


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("EPT_POINTER", (ProcBased2.ENABLE_EPT,)),
        ("GUEST_IA32_PAT", (Entry.LOAD_IA32_PAT, Exit.SAVE_IA32_PAT)),
        ("HOST_SSP", (Exit.LOAD_CET_STATE,)),
        ("GUEST_RIP", ()),
    ],
)
def test_field_exists_on_the_condition_that_the_manual_gives(name, exists):
    assert exists == field_named(name).exists


def test_processor_without_optional_controls_has_the_unconditional_fields_only():
    unconditional = {field.name for field in FIELDS if field.exists_with({})}

    assert "GUEST_CR3" in unconditional
    assert "TSC_MULTIPLIER" not in unconditional
    assert "SECONDARY_VM_EXEC_CONTROL" not in unconditional


def test_read_only_data_is_vm_exit_information():
    read_only = [field.name for field in FIELDS if field.is_read_only]

    assert 17 == len(read_only)
    assert all(FieldType.READ_ONLY_DATA == field_named(name).type for name in read_only)


def test_natural_width_fields_take_eight_bytes():
    sizes = {field.size for field in FIELDS if field.width is FieldWidth.NATURAL}

    assert {8} == sizes
