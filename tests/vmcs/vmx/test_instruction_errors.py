"""VM-instruction errors are numbered 1 to 28, with the manual's three holes."""

from vmcs.vmx.instruction_errors import InstructionError


def test_every_number_has_one_row():
    assert list(range(1, 29)) == [row.number for row in InstructionError.table]


def test_numbers_that_the_manual_skips_are_written_down():
    assert {14, 21, 27} == {row.number for row in InstructionError.table if row.reserved}


def test_every_row_has_a_phrase_and_a_citation():
    assert all(row.phrase and row.sdm for row in InstructionError.table)


def test_error_8_is_an_invalid_host_state_field():
    assert "VM entry with invalid host-state field(s)" == InstructionError(8).phrase
