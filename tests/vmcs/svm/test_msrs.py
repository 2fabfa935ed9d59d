"""SVM's MSRs and the permission maps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.svm.facts import CONSTANTS
from vmcs.svm.msrs import (
    IOPM_SIZE,
    MSRPM_SIZE,
    SVM_MSRS,
    TSC_RATIO,
    TSC_RATIO_RESET,
    VM_CR,
    Access,
    msrpm_bit,
)

# Numbers from the section titles of "SVM Related MSRs" and the sections that follow it.
APM_INDEXES = {
    "TSC_RATIO": 0xC0000104,
    "VM_CR": 0xC0010114,
    "IGNNE": 0xC0010115,
    "SMM_CTL": 0xC0010116,
    "VM_HSAVE_PA": 0xC0010117,
    "SVM_KEY": 0xC0010118,
    "SMM_KEY": 0xC0010119,
    "AVIC_DOORBELL": 0xC001011B,
    "VMPAGE_FLUSH": 0xC001011E,
    "GHCB": 0xC0010130,
    "SEV_STATUS": 0xC0010131,
}


def test_msrs_have_the_numbers_of_the_manual():
    assert APM_INDEXES == {row.name: row.index for row in SVM_MSRS}


@pytest.mark.parametrize("row", [row for row in SVM_MSRS if row.macro], ids=lambda row: row.name)
def test_msr_has_the_number_of_the_kernel(row):
    assert CONSTANTS[row.macro] == row.index


@pytest.mark.parametrize("row", SVM_MSRS, ids=lambda row: row.name)
def test_every_bit_of_an_msr_is_cited(row):
    assert 64 == row.layout.width
    assert [] == [field.name for field in row.layout if not field.cite]


def test_vm_cr_has_the_masks_of_the_kernel():
    assert CONSTANTS["SVM_VM_CR_VALID_MASK"] == VM_CR.reserved_mask() ^ (2**64 - 1)
    assert CONSTANTS["SVM_VM_CR_SVM_LOCK_MASK"] == VM_CR["LOCK"].mask
    assert CONSTANTS["SVM_VM_CR_SVM_DIS_MASK"] == VM_CR["SVMDIS"].mask


def test_tsc_ratio_has_the_reserved_bits_and_the_reset_value_of_the_kernel():
    assert CONSTANTS["SVM_TSC_RATIO_RSVD"] == TSC_RATIO.reserved_mask()
    assert CONSTANTS["SVM_TSC_RATIO_DEFAULT"] == TSC_RATIO_RESET
    assert {"FRAC": 0, "INT": 1} == TSC_RATIO.decode(TSC_RATIO_RESET)


def test_keys_and_doorbell_cannot_be_read_back():
    hidden = {row.name for row in SVM_MSRS if row.access is Access.WRITE_ONLY_READS_0}

    assert {"SVM_KEY", "SMM_KEY"} == hidden
    assert {"SMM_CTL", "AVIC_DOORBELL", "VMPAGE_FLUSH"} == {
        row.name for row in SVM_MSRS if row.access is Access.WRITE_ONLY
    }


@pytest.mark.parametrize(
    ("index", "byte", "bit"),
    [
        (0x0000_0000, 0x0000, 0),
        (0x0000_0010, 0x0004, 0),
        (0x0000_1FFF, 0x07FF, 6),
        (0xC000_0000, 0x0800, 0),
        (0xC000_0081, 0x0820, 2),
        (0xC001_0117, 0x1045, 6),
        (0xC001_1FFF, 0x17FF, 6),
    ],
)
def test_bit_of_an_msr_in_the_permission_map(index, byte, bit):
    assert 8 * byte + bit == msrpm_bit(index)


@pytest.mark.parametrize("index", [0x2000, 0x4B56_4D00, 0xBFFF_FFFF, 0xC000_2000, 0xC001_2000])
def test_msr_outside_the_map_has_no_bit(index):
    assert None is msrpm_bit(index)


@given(st.integers(0, 2**32 - 1))
def test_bits_of_any_msr_are_a_pair_within_the_map(index):
    place = msrpm_bit(index)

    assert place is None or (place % 2 == 0 and place + 1 < 8 * MSRPM_SIZE)


def test_io_map_covers_all_ports_and_the_last_access_beyond_them():
    assert (1 << 16) + 3 <= 8 * IOPM_SIZE < (1 << 16) + 3 + 8 * 4096
