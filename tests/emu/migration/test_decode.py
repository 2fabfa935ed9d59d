import pytest

from emu.migration.capture import shipped
from emu.migration.decode import decode, unusual
from vmcs.svm.vmcb import VMCB_MEMBERS
from vmcs.vmx.vmcs12 import VMCS12_ADDITIONS, vmcs12_rows

VMX, SVM = shipped()["vmx-l2-running"].blob, shipped()["svm-l2-running"].blob


def members(blob, everything=False):
    return {
        (section.title, row.name): row
        for section in decode(blob, everything)
        for row in section.members
    }


def changed(blob, offset, data):
    made = bytearray(blob)
    made[offset : offset + len(data)] = data
    return bytes(made)


@pytest.mark.parametrize("capture", shipped().values(), ids=list(shipped()))
def test_nothing_is_unusual_about_what_a_real_kernel_handed_out(capture):
    assert [] == unusual(decode(capture.blob, everything=True))


def test_every_member_of_a_vmcs12_is_told():
    named = {name for title, name in members(VMX, everything=True) if title == "vmcs12"}
    rows = [row.name for row in vmcs12_rows(*VMCS12_ADDITIONS) if not row.reserved]

    assert set(rows) == named
    assert 0x10000 == members(VMX)["vmcs12", "guest_cr3"].value


def test_every_member_of_a_vmcb_is_told():
    found = members(SVM, everything=True)

    assert {row.name for row in VMCB_MEMBERS if not row.reserved} == {
        name for title, name in found if title == "vmcb12"
    }
    assert "VMRUN" in found["vmcb12", "intercepts"].meaning


def test_zero_members_are_counted():
    short, whole = decode(VMX)[1], decode(VMX, everything=True)[1]

    assert 0 == whole.zero_members
    assert len(whole.members) == len(short.members) + short.zero_members


def test_a_shadow_vmcs12_is_a_section_of_its_own():
    page = bytearray(VMX[128:4224])
    page[3] |= 0x80
    blob = changed(VMX + bytes(page), 4, (8320).to_bytes(4, "little"))

    assert ["header", "vmcs12", "shadow vmcs12"] == [section.title for section in decode(blob)]
    assert [] == unusual(decode(blob))


UNUSUAL = {
    "unknown flag": (VMX, 0, b"\x41", "flags", "reserved bits 0x40"),
    "run pending without L2": (VMX, 0, b"\x02", "flags", "RUN_PENDING without GUEST_MODE"),
    "GIF on Intel": (VMX, 1, b"\x01", "flags", "GIF_SET belongs to SVM"),
    "MTF on AMD": (SVM, 0, b"\x09", "flags", "EVMCS and MTF_PENDING belong to VMX"),
    "size that no kernel returns": (VMX, 4, b"\x00\x10", "size", "no kernel returns this size"),
    "SMM bit": (VMX, 24, b"\x04", "smm_flags", "reserved bits 0x4"),
    "revision": (VMX, 128, b"\x00", "hdr", "revision is not 0x11e57ed0"),
    "shadow bit": (VMX, 131, b"\x91", "hdr", "the shadow-VMCS bit does not fit this place"),
    "padding of vmcs12": (VMX, 128 + 20, b"\x01", "", "reserved, but not zero"),
    "tail of the page": (VMX, 4200, b"\x01", "tail", "not zero from byte 4072 on"),
    "pin control": (
        VMX,
        128 + 744,
        b"\x16\x10",
        "pin_based_vm_exec_control",
        "reserved bits 0x1000",
    ),
    "behind the known data": (VMX + bytes(5000), 9000, b"\x07", "beyond", "no kernel reads it"),
}


@pytest.mark.parametrize(
    ("blob", "offset", "data", "name", "words"), UNUSUAL.values(), ids=list(UNUSUAL)
)
def test_one_thing_that_is_unusual_is_marked_alone(blob, offset, data, name, words):
    marked = unusual(decode(changed(blob, offset, data)))

    assert 1 == len(marked)
    assert words in marked[0][1].notice
    assert name in marked[0][1].name


def test_controls_and_pointers_have_meanings():
    found = members(VMX)

    assert "HOST_ADDRESS_SPACE_SIZE" in found["vmcs12", "vm_exit_controls"].meaning
    assert ("none",) == found["vmcs12", "vmcs_link_pointer"].meaning
    assert ("VMX",) == found["header", "format"].meaning


def test_a_blob_cut_behind_its_header_is_told_as_far_as_it_goes():
    assert ["header"] == [section.title for section in decode(VMX[:128])]
    assert ["header"] == [section.title for section in decode(VMX[:1000])]
