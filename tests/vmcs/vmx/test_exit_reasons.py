"""Exit reasons are numbered without a gap, and the field around them decodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.vmx.exit_reasons import (
    ENTRY_FAILURES,
    EXIT_REASON,
    ExitReason,
    basic,
    describe,
    is_entry_failure,
)

# Numbers that the manual's appendix skips. SDM: VMX Basic Exit Reasons.
SKIPPED = {35, 38, 42, 71, 82, 83}


def test_every_number_has_one_row():
    assert list(range(86)) == [row.number for row in ExitReason.table]


def test_numbers_that_the_manual_skips_are_written_down():
    assert SKIPPED == {row.number for row in ExitReason.table if row.reserved}


def test_every_row_has_a_phrase_and_a_citation():
    assert all(row.phrase and (row.sdm or row.seen) for row in ExitReason.table)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (0x0000_0000, "0 EXCEPTION_OR_NMI"),
        (0x0000_0030, "48 EPT_VIOLATION"),
        (0x8000_0021, "33 INVALID_GUEST_STATE, ENTRY_FAILURE"),
        (0x0400_004A, "74 BUS_LOCK, BUS_LOCK"),
        (0x0800_0001, "1 EXTERNAL_INTERRUPT, ENCLAVE_MODE"),
        (0x0000_0023, "35 unknown"),
        (0x0000_0FFF, "4095 unknown"),
    ],
)
def test_field_is_described_by_reason_and_flags(reason, expected):
    assert expected == describe(reason)


@given(st.integers(0, 0xFFFF_FFFF))
def test_basic_reason_and_failure_bit_are_read_independently(reason):
    assert reason % 0x1_0000 == basic(reason)
    assert (reason >= 0x8000_0000) is is_entry_failure(reason)


def test_reserved_bits_of_the_field_are_those_of_the_manual():
    assert 0x41FF_0000 == EXIT_REASON.reserved_mask()


def test_entry_failures_are_the_three_that_load_guest_state():
    assert (33, 34, 41) == ENTRY_FAILURES
