"""KVM's vmcs12: each historical form has the kernel's offsets, and every byte is accounted for."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.byte_layout import FieldAt
from vmcs.schema import TableError
from vmcs.vmx.fields import BY_NAME, FIELDS
from vmcs.vmx.vmcs12 import (
    CET_MEMBERS,
    HEADER,
    VMCS12_ADDITIONS,
    VMCS12_BASE,
    VMCS12_BYTES,
    VMCS12_REVISION,
    VMCS12_SIZE,
    access,
    fields_of,
    members_of,
    vmcs12_dtype,
    vmcs12_rows,
)

DATA = Path(__file__).parents[2] / "data"

TARGETS = ("cr3_target_value0", "cr3_target_value1", "cr3_target_value2", "cr3_target_value3")

# The forms that Linux shipped, by the first release that has each.
FORMS = {
    "4.18": (),
    "5.8": ("dead_space",),
    "5.13": ("dead_space", "encls_exiting_bitmap"),
    "5.14": ("dead_space", "encls_exiting_bitmap", "tsc_multiplier"),
    "6.18": ("dead_space", "encls_exiting_bitmap", "tsc_multiplier", *CET_MEMBERS),
}
FORM = pytest.mark.parametrize("added", FORMS.values(), ids=FORMS)

# Reserved members of each form: offset and size in bytes.
RESERVED = {
    "4.18": {"padding": (12, 28), "padding64": (320, 24), "paddingl": (680, 64)},
    "5.8": {"padding64": (320, 24), "dead_space": (376, 32), "paddingl": (680, 64)},
    "5.13": {"padding64": (328, 16), "dead_space": (376, 32), "paddingl": (680, 64)},
    "5.14": {"padding64": (336, 8), "dead_space": (376, 32), "paddingl": (680, 64)},
    "6.18": {"padding64": (336, 8), "dead_space": (376, 32), "paddingl": (728, 16)},
}


def kernel_rows():
    with (DATA / "linux-vmcs12-layout.csv").open(newline="") as source:
        return [row for row in csv.DictReader(source) if row["c_type"] != "reserved"]


def row_of(member):
    if member in VMCS12_ADDITIONS:
        return VMCS12_ADDITIONS[member]
    return next(row for row in VMCS12_BASE if row.name == member)


def test_constants_are_the_kernel_s():
    assert 0x11E57ED0 == VMCS12_REVISION
    assert 4096 == VMCS12_SIZE
    assert 998 == VMCS12_BYTES


@pytest.mark.parametrize("expected", kernel_rows(), ids=lambda row: row["member"])
def test_member_stands_where_the_kernel_has_it(expected):
    row = row_of(expected["member"])

    assert int(expected["offset"]) == row.offset
    assert int(expected["width_bytes"]) == row.size
    if expected["vmcs_field"]:
        assert expected["vmcs_field"] == row.meaning


@FORM
def test_every_byte_of_the_form_is_accounted_for(added):
    covered = [byte for row in vmcs12_rows(*added) for byte in range(row.offset, row.end)]

    assert list(range(998)) == covered


@pytest.mark.parametrize("release", FORMS)
def test_reserved_bytes_of_the_form_are_the_kernel_s(release):
    found = {
        row.name: (row.offset, row.size) for row in vmcs12_rows(*FORMS[release]) if row.reserved
    }

    assert {"padding": (12, 28), "padding32": (932, 28), **RESERVED[release]} == found


@FORM
def test_every_row_of_the_form_says_where_it_was_seen(added):
    assert all(row.seen for row in vmcs12_rows(*added))


@pytest.mark.parametrize(
    ("release", "members"),
    [("4.18", 146), ("5.8", 142), ("5.13", 143), ("5.14", 144), ("6.18", 150)],
)
def test_form_has_the_kernel_s_number_of_members(release, members):
    assert members == sum(not row.reserved for row in vmcs12_rows(*FORMS[release]))


@FORM
def test_page_dtype_has_the_offsets_of_the_rows(added):
    page = vmcs12_dtype(*added)

    assert 4096 == page.itemsize
    assert {row.name: row.offset for row in vmcs12_rows(*added)} | {"tail": 998} == {
        name: where[1] for name, where in page.fields.items()
    }


@FORM
def test_copying_pages_by_dtype_copies_every_byte(added):
    source = np.arange(4096, dtype="u4").astype("u1").view(vmcs12_dtype(*added))
    copied = np.zeros_like(source)
    copied[:] = source

    assert source.tobytes() == copied.tobytes()


def test_page_reads_words_at_their_offsets():
    page = np.zeros(4096, "u1")
    page[432:440] = np.frombuffer((0x1234_5678_9ABC_D000).to_bytes(8, "little"), "u1")

    assert 0x1234_5678_9ABC_D000 == page.view(vmcs12_dtype())["guest_cr3"][0]


def test_header_word_splits_into_revision_and_shadow_indicator():
    assert {"REVISION_ID": 0x11E57ED0, "SHADOW_VMCS": 1} == HEADER.decode(0x91E57ED0)


@FORM
def test_every_member_with_a_field_is_as_wide_as_the_field(added):
    rows = {row.name: row for row in vmcs12_rows(*added)}

    for member, field in fields_of(vmcs12_rows(*added)).items():
        assert BY_NAME[field].size == rows[member].size


def test_fields_and_members_are_each_other_s_inverse():
    rows = vmcs12_rows(*FORMS["6.18"])
    back = {row.name: field for field, row in members_of(rows).items()}

    assert fields_of(rows) == back
    assert 147 == len(back)


def test_retired_targets_leave_with_dead_space():
    rows = vmcs12_rows("dead_space")

    assert not set(TARGETS) & {row.name for row in rows}
    assert None is access(rows, 0x6008)
    assert (376, 8) == access(VMCS12_BASE, 0x6008)


def test_high_access_reads_the_upper_half():
    assert (40, 8) == access(VMCS12_BASE, 0x2000)
    assert (44, 4) == access(VMCS12_BASE, 0x2001)


def test_field_without_member_has_no_access():
    assert None is access(VMCS12_BASE, 0x2032)
    assert (328, 8) == access(vmcs12_rows("tsc_multiplier"), 0x2032)


@given(st.sampled_from(FIELDS), st.sets(st.sampled_from(sorted(VMCS12_ADDITIONS))))
def test_access_is_inside_the_structure_or_absent(field, added):
    rows = vmcs12_rows(*sorted(added))
    found = access(rows, field.encoding)

    assert (found is not None) == (field.name in fields_of(rows).values())
    assert found is None or found[0] + found[1] <= 998


@given(st.permutations(sorted(VMCS12_ADDITIONS)))
def test_order_of_additions_does_not_matter_to_members(order):
    def spans(rows):
        return [(row.name, row.offset, row.size) for row in rows if not row.reserved]

    assert spans(vmcs12_rows(*sorted(VMCS12_ADDITIONS))) == spans(vmcs12_rows(*order))


def test_kernel_that_does_not_exist_yet_takes_padding():
    row = FieldAt("guest_ia32_spec_ctrl", 728, "u8", "GUEST_IA32_SPEC_CTRL", seen="my kernel")
    rows = vmcs12_rows(*FORMS["6.18"], row)

    assert (728, 8) == access(rows, 0x282E)


def test_addition_over_a_member_is_refused():
    with pytest.raises(TableError, match="would overwrite guest_cr3"):
        vmcs12_rows(FieldAt("late", 432, "u8", "EPTP_INDEX", seen="my kernel"))


def test_unknown_addition_is_a_key_error():
    with pytest.raises(KeyError, match="guest_cr9"):
        vmcs12_rows("guest_cr9")
