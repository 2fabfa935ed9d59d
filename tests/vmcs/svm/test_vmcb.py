"""The VMCB: the kernel's offsets, every byte accounted for once, and the members of the manual."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.svm.facts import LAYOUT
from vmcs.byte_layout import byte_table
from vmcs.schema import TableError
from vmcs.svm.vmcb import (
    CANONICALIZED,
    CONTROL_MEMBERS,
    HOST_STATE,
    MEMBERS_OF_APM_ONLY,
    SAVE_MEMBERS,
    SAVE_OFFSET,
    SEGMENTS,
    VMCB,
    VMCB_MEMBERS,
    VMCB_MEMBERS_APM,
    VMCB_SIZE,
    VMLOAD_LOADS,
    VMRUN_LOADS,
    expand,
    member,
)

BY_NAME = {row.name: row for row in VMCB_MEMBERS}

# Appendix B of the manual, "Layout of VMCB": offsets of the members that Linux does not name.
APM_OFFSETS = {
    "vmgexit_rax": 0x110,
    "vmgexit_cpl": 0x118,
    "update_irr": 0x134,
    "requested_irr": 0x150,
    "pml_addr": 0x1C8,
    "pml_index": 0x1D0,
    "instr_retired_ctr": 0x400 + 0x1C0,
    "perf_ctr_global_sts": 0x400 + 0x1C8,
    "perf_ctr_global_ctl": 0x400 + 0x1D0,
    "dbgextnctl": 0x400 + 0x298,
    "lbr_stack_from": 0x400 + 0x670,
    "lbr_stack_to": 0x400 + 0x6F0,
    "lbr_select": 0x400 + 0x770,
    "ibs_fetch_ctl": 0x400 + 0x778,
    "ibs_fetch_linaddr": 0x400 + 0x780,
    "ibs_op_ctl": 0x400 + 0x788,
    "ibs_op_rip": 0x400 + 0x790,
    "ibs_op_data": 0x400 + 0x798,
    "ibs_op_data2": 0x400 + 0x7A0,
    "ibs_op_data3": 0x400 + 0x7A8,
    "ibs_dc_linaddr": 0x400 + 0x7B0,
    "ibs_brtgt_rip": 0x400 + 0x7B8,
    "ibs_fetch_extd_ctl": 0x400 + 0x7C0,
}
APM_OFFSETS |= {f"perf_ctl{n}": 0x4E0 + 16 * n for n in range(6)}
APM_OFFSETS |= {f"perf_ctr{n}": 0x4E8 + 16 * n for n in range(6)}

BOTH_LAYOUTS = pytest.mark.parametrize(
    "rows", [VMCB_MEMBERS, VMCB_MEMBERS_APM], ids=["linux", "apm"]
)


@pytest.mark.parametrize("fact", LAYOUT, ids=lambda fact: fact["member"])
def test_member_has_the_offset_and_the_width_of_the_kernel(fact):
    row = BY_NAME[fact["member"]]

    assert (int(fact["vmcb_offset"]), int(fact["width_bytes"])) == (row.offset, row.size)


@pytest.mark.parametrize("fact", LAYOUT, ids=lambda fact: fact["member"])
def test_member_has_the_element_type_of_the_kernel(fact):
    kind, _, count = fact["c_type"].partition("[")
    row = BY_NAME[fact["member"]]

    assert (f"u{int(kind[1:]) // 8}", int(count.rstrip("]") or 1)) == (row.kind, row.count)


def test_members_beyond_those_of_the_kernel_are_the_unused_tail_of_the_page():
    extra = [row.name for row in VMCB_MEMBERS if row.name not in {f["member"] for f in LAYOUT}]

    assert ["reserved_0x2e8"] == extra
    assert VMCB_SIZE == BY_NAME["reserved_0x2e8"].end


@BOTH_LAYOUTS
def test_every_byte_of_the_page_belongs_to_one_member(rows):
    owners = np.zeros(VMCB_SIZE, np.int64)
    for row in rows:
        owners[row.offset : row.end] += 1

    assert [1] == list(np.unique(owners))


@BOTH_LAYOUTS
def test_every_row_is_cited(rows):
    assert [] == [row.name for row in rows if not row.cite]


def test_names_that_say_reserved_are_the_reserved_rows_but_for_the_bytes_of_the_host():
    named = {row.name for row in VMCB_MEMBERS if "reserved" in row.name}

    assert named == {row.name for row in VMCB_MEMBERS if row.reserved} | {"reserved_sw"}


def test_reserved_members_of_the_save_area_are_named_by_their_offset():
    rows = [row for row in SAVE_MEMBERS if row.reserved]

    assert [f"reserved_{row.offset - SAVE_OFFSET:#x}" for row in rows] == [r.name for r in rows]


def test_areas_meet_at_the_save_offset():
    assert SAVE_OFFSET == CONTROL_MEMBERS[-1].end
    assert SAVE_OFFSET == SAVE_MEMBERS[0].offset


def test_dtype_has_the_offsets_of_the_rows_and_the_size_of_the_page():
    fields = VMCB.fields

    assert VMCB_SIZE == VMCB.itemsize
    assert {row.name: row.offset for row in VMCB_MEMBERS} == {n: f[1] for n, f in fields.items()}
    assert {row.name: row.size for row in VMCB_MEMBERS} == {
        n: f[0].itemsize for n, f in fields.items()
    }


@given(st.sampled_from([row for row in VMCB_MEMBERS if row.count == 1]), st.data())
def test_dtype_reads_a_member_as_the_little_endian_word_at_its_offset(row, data):
    value = data.draw(st.integers(0, (1 << 8 * row.size) - 1))
    page = bytearray(VMCB_SIZE)
    page[row.offset : row.end] = value.to_bytes(row.size, "little")

    assert value == int(np.frombuffer(bytes(page), VMCB)[0][row.name])


def test_segment_registers_are_sixteen_bytes_each_in_order():
    expected = [(0x400 + 16 * n, 2, 2, 4, 8) for n in range(10)]
    found = [
        (member(f"{name}.selector").offset, *(member(part).size for part in expand((name,))))
        for name in SEGMENTS
    ]

    assert expected == found


def test_expand_keeps_the_order_and_leaves_single_members_alone():
    assert ("rip", "es.selector", "es.attrib", "es.limit", "es.base", "cpl") == expand(
        ("rip", "es", "cpl")
    )


@pytest.mark.parametrize("name", ["xx", "es.rpl", "reserved_4", ""])
def test_expand_of_an_unknown_member_raises_key_error(name):
    with pytest.raises(KeyError):
        expand((name,))


@pytest.mark.parametrize("row", MEMBERS_OF_APM_ONLY, ids=lambda row: row.name)
def test_member_of_the_manual_only_has_the_offset_of_the_manual(row):
    assert APM_OFFSETS[row.name] == row.offset


@pytest.mark.parametrize("row", MEMBERS_OF_APM_ONLY, ids=lambda row: row.name)
def test_member_of_the_manual_only_lies_in_bytes_that_linux_reserves(row):
    around = [other for other in VMCB_MEMBERS if other.offset < row.end and row.offset < other.end]

    assert [True] == [other.reserved for other in around]


def test_offsets_of_the_manual_are_all_in_the_table():
    assert set(APM_OFFSETS) == {row.name for row in MEMBERS_OF_APM_ONLY}


def test_vmload_takes_what_vmrun_leaves():
    segments = {name.partition(".")[0] for name in (*VMRUN_LOADS, *VMLOAD_LOADS) if "." in name}

    assert set() == set(VMRUN_LOADS) & set(VMLOAD_LOADS)
    assert set(SEGMENTS) == segments


def test_vmexit_reloads_nothing_that_vmrun_did_not_load():
    assert {"cr2", "dr6", "dr7", "cpl"} == set(VMRUN_LOADS) - set(HOST_STATE)
    assert set(HOST_STATE) < set(VMRUN_LOADS)


def test_bases_of_all_segment_registers_are_canonicalized():
    assert {f"{name}.base" for name in SEGMENTS} | {"ssp", "isst_addr"} == set(CANONICALIZED)


@pytest.mark.parametrize("index", [0, 1, 17, len(VMCB_MEMBERS) - 1])
def test_layout_without_one_of_its_rows_is_refused(index):
    rows = [row for place, row in enumerate(VMCB_MEMBERS) if place != index]

    with pytest.raises(TableError):
        byte_table("VMCB", VMCB_SIZE, *rows)
