"""VMCS and VMCB batches: layouts of the tables, and views with the manual's names."""

import numpy as np
import pytest

from vmcs.batch import (
    VMCB,
    VMCB_APM,
    VMCS,
    VMCS12,
    Vmcb,
    VmcbBatch,
    Vmcs,
    VmcsBatch,
    vmcs12_layout,
)
from vmcs.svm.vmcb import VMCB_MEMBERS
from vmcs.vmx.fields import FIELDS
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, vmcs12_rows


def test_the_processors_vmcs_has_every_field_of_the_table():
    header = {"hdr", "abort", "launch_state"}

    assert header | {field.name for field in FIELDS} == set(VMCS.names)
    assert {field.size for field in FIELDS} == {8, 4, 2}
    assert all(VMCS.place(field.name).width == field.size for field in FIELDS)


def test_fields_of_the_processors_vmcs_are_aligned():
    assert {0} == {place.offset % place.width for place in VMCS.places}


@pytest.mark.parametrize("added", [(), ("dead_space",), tuple(VMCS12_ADDITIONS)])
def test_vmcs12_has_the_members_of_its_release(added):
    layout = vmcs12_layout(*added)
    rows = [row for row in vmcs12_rows(*added) if not row.reserved]

    assert [(row.offset, row.size) for row in rows] == [place[1:] for place in layout.places]
    assert set(layout.names) <= set(VMCS.names)
    assert 4096 == layout.size


def test_one_layout_a_set_of_additions():
    assert vmcs12_layout("dead_space") is vmcs12_layout("dead_space")
    assert "GUEST_SSP" in VMCS12
    assert "CR3_TARGET_VALUE0" not in VMCS12
    assert "CR3_TARGET_VALUE0" in vmcs12_layout()


def test_the_vmcb_has_its_members():
    single = {row.name for row in VMCB_MEMBERS if not row.reserved and row.count == 1}

    assert single <= set(VMCB.names)
    assert tuple(f"intercepts.{i}" for i in range(6)) == VMCB.groups["intercepts"]
    assert ("cs.selector", "cs.attrib", "cs.limit", "cs.base") == VMCB.groups["cs"]
    assert set(VMCB.names) < set(VMCB_APM.names)


def test_fields_are_read_by_the_manuals_name():
    vmcs = Vmcs()
    vmcs.GUEST_RIP = 0xFFFF_8000_0000_0000
    vmcs["GUEST_CS_SELECTOR"] = 0x10

    assert 0xFFFF_8000_0000_0000 == int.from_bytes(vmcs.bytes[544:552], "little")
    assert 0x10 == int.from_bytes(vmcs.bytes[966:968], "little")
    with pytest.raises(KeyError, match="did you mean GUEST_RIP"):
        vmcs["guest_rip"]


def test_members_of_the_vmcb_are_nested():
    vmcb = Vmcb()
    vmcb.intercepts[3] = 1 << 31
    vmcb.cs.base = 0xF000
    vmcb.rip = 5

    assert 1 << 31 == int.from_bytes(vmcb.bytes[12:16], "little")
    assert 0xF000 == int.from_bytes(vmcb.bytes[0x418:0x420], "little")
    assert {"intercepts.3": (1 << 31, 0), "cs.base": (0xF000, 0), "rip": (5, 0)} == (
        vmcb.diff(Vmcb())
    )


def test_records_of_a_batch_are_views_of_their_kind():
    vmcs, vmcb = VmcsBatch(VMCS, 2), VmcbBatch(VMCB, 2)

    assert isinstance(vmcs[0], Vmcs)
    assert isinstance(vmcb[1], Vmcb)
    assert isinstance(vmcs[0:1], VmcsBatch)
    assert [Vmcb, Vmcb] == [type(view) for view in vmcb]


def test_a_vmcs_may_be_given_its_bytes():
    data = np.zeros(4096, np.uint8)
    Vmcs(data, VMCS).GUEST_RIP = 7

    assert 7 == Vmcs(bytearray(data.tobytes()), VMCS).GUEST_RIP
