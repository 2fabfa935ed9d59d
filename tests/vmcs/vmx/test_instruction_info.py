"""VM-exit instruction information decodes as the manual's tables say."""

import pytest

from vmcs.vmx import instruction_info
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.instruction_info import INSTRUCTION_INFO

LAYOUTS = {
    name: value
    for name, value in vars(instruction_info).items()
    if name.isupper() and hasattr(value, "rows")
}

# Bits that each table leaves undefined or clear.
# SDM: Information for VM Exits Due to Instruction Execution.
UNDEFINED = {
    "INS_OUTS": [*range(7), *range(10, 15), *range(18, 32)],
    "INVALIDATE": [*range(2, 7), *range(10, 15)],
    "GDTR_IDTR": [*range(2, 7), 10, 12, 13, 14, 30, 31],
    "LDTR_TR": [2, *range(11, 15), 30, 31],
    "RANDOM": [0, 1, 2, *range(7, 11), *range(13, 32)],
    "WAIT": [0, 1, 2, *range(7, 32)],
    "MEMORY_OPERAND": [*range(2, 7), *range(10, 15), *range(28, 32)],
    "VMREAD_VMWRITE": [2, *range(11, 15)],
    "LOADIWKEY": [0, 1, 2, *range(7, 28)],
    "MSR_IMMEDIATE": [0, 1, 2, *range(7, 32)],
}


def test_each_table_is_counted_below():
    assert set(UNDEFINED) == set(LAYOUTS)


@pytest.mark.parametrize("name", UNDEFINED)
def test_undefined_bits_are_written_down_as_reserved(name):
    reserved = LAYOUTS[name].reserved_mask()

    assert UNDEFINED[name] == [at for at in range(32) if reserved >> at & 1]


@pytest.mark.parametrize("name", UNDEFINED)
def test_every_row_is_cited(name):
    assert all(row.sdm or row.seen for row in LAYOUTS[name])


@pytest.mark.parametrize(
    ("reason", "value", "expected"),
    [
        (ExitReason.VMREAD, 0x1000_0458, {"MEM_REG": 1, "REG1": 11, "REG2": 1}),
        (
            ExitReason.INVEPT,
            0x2042_0103,
            {"SCALING": 3, "ADDRESS_SIZE": 2, "SEGMENT": 4, "INDEX_REG_INVALID": 1, "REG2": 2},
        ),
        (ExitReason.GDTR_OR_IDTR_ACCESS, 0x3000_0000, {"INSTRUCTION": 3}),
        (ExitReason.RDRAND, 0x0000_1078, {"REG1": 15, "OPERAND_SIZE": 2}),
    ],
)
def test_information_reads_as_the_manual_says(reason, value, expected):
    decoded = INSTRUCTION_INFO[reason].decode(value)

    assert expected == {name: decoded[name] for name in expected}


def test_instructions_without_information_have_no_format():
    assert ExitReason.CPUID not in INSTRUCTION_INFO
    assert ExitReason.VMCALL not in INSTRUCTION_INFO
