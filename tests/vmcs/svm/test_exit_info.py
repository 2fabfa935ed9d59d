"""EXITINFO1 and EXITINFO2: the kernel's masks, worked words, and a row for every exit code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.svm.facts import CONSTANTS
from vmcs.schema import Layout
from vmcs.svm import exit_info
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.exit_info import (
    AVIC_OFFSET,
    EXIT_INFO,
    IOIO,
    MOV_CR,
    NESTED_PAGE_FAULT,
    SAVES_NEXT_RIP,
    TASK_SWITCH,
)

LAYOUTS = [value for value in vars(exit_info).values() if isinstance(value, Layout)]

# Words as a processor reports them, written out from the figures of the manual.
WORKED = [
    ("IOIO", 0x03F8_0219, 0x1002, {"TYPE": 1, "REP": 1, "SZ8": 1, "A64": 1, "PORT": 0x3F8}),
    ("IOIO", 0x0060_0190, 0x20, {"TYPE": 0, "SZ8": 1, "A16": 1, "A32": 1, "PORT": 0x60}),
    ("CR0_WRITE", 0x8000_0000_0000_000B, 0, {"GPR": 11, "MOV_CR": 1}),
    ("CR4_READ", 0x8000_0000_0000_0000, 0, {"GPR": 0, "MOV_CR": 1}),
    ("CR0_WRITE", 0, 0, {"MOV_CR": 0}),
    ("DR7_WRITE", 3, 0, {"GPR": 3}),
    ("MSR", 1, 0, {"WRMSR": 1}),
    ("SWINT", 0x80, 0, {"VECTOR": 0x80}),
    ("NPF", 0x1_0000_0004, 0xFEE0_0000, {"P": 0, "US": 1, "FINAL": 1, "TABLE": 0}),
    ("NPF", 0x2_0000_0007, 0x1000, {"P": 1, "RW": 1, "US": 1, "TABLE": 1}),
    ("EXCP_PF", 0x15, 0x1234, {"P": 1, "RW": 0, "US": 1, "ID": 1}),
    ("EXCP_GP", 0x18, 0, {"ERROR_CODE": 0x18}),
    ("TASK_SWITCH", 0x28, 0x1010_0000_0010, {"SELECTOR": 0x28, "IRET": 1, "EV": 1}),
    ("SMI", 0x00B2_0012_0000_0001, 0x77, {"SMISRC": 1, "PORT": 0xB2, "SZ8": 1, "VAL": 1}),
    ("AVIC_INCOMPLETE_IPI", 0x0200_0000_0000_00FD, 0x1_0000_0002, {"ICRH": 2 << 24, "ID": 1}),
    ("AVIC_NOACCEL", 0x1_0000_00B0, 0x41, {"WRITE": 1, "APIC_OFFSET": 0xB, "VECTOR": 0x41}),
    ("EFER_WRITE_TRAP", 0x1500, 0, {"VALUE": 0x1500}),
]


def of_either_word(decoded):
    return {name.partition(".")[2]: value for name, value in reversed(decoded.items())}


@pytest.mark.parametrize(("name", "info1", "info2", "fields"), WORKED)
def test_worked_words_decode_to_what_the_manual_says(name, info1, info2, fields):
    found = of_either_word(EXIT_INFO[SvmExit[name]].decode(info1, info2))

    assert fields == {field: found[field] for field in fields}


def test_every_exit_code_has_a_row():
    assert list(SvmExit) == list(EXIT_INFO)
    assert all(code is row.exit for code, row in EXIT_INFO.items())


@pytest.mark.parametrize("row", EXIT_INFO.values(), ids=lambda row: row.exit.name)
def test_row_is_cited_and_its_words_are_64_bits(row):
    widths = [layout.width for layout in (row.info1, row.info2) if layout is not None]

    assert row.cite
    assert [64] * len(widths) == widths


def test_undefined_words_decode_to_nothing():
    assert {} == EXIT_INFO[SvmExit.HLT].decode(1, 2)


@pytest.mark.parametrize(
    ("name", "macro"),
    [
        ("TYPE", "SVM_IOIO_TYPE_MASK"),
        ("STR", "SVM_IOIO_STR_MASK"),
        ("REP", "SVM_IOIO_REP_MASK"),
    ],
)
def test_ioio_field_has_the_mask_of_the_kernel(name, macro):
    assert CONSTANTS[macro] == IOIO[name].mask


@pytest.mark.parametrize(
    ("names", "macro"),
    [
        (("SZ8", "SZ16", "SZ32"), "SVM_IOIO_SIZE_MASK"),
        (("A16", "A32", "A64"), "SVM_IOIO_ASIZE_MASK"),
    ],
)
def test_ioio_sizes_have_the_masks_of_the_kernel(names, macro):
    assert CONSTANTS[macro] == sum(IOIO[name].mask for name in names)


@pytest.mark.parametrize(
    ("name", "macro"),
    [
        ("IRET", "SVM_EXITINFOSHIFT_TS_REASON_IRET"),
        ("FAR_JUMP", "SVM_EXITINFOSHIFT_TS_REASON_JMP"),
        ("EV", "SVM_EXITINFOSHIFT_TS_HAS_ERROR_CODE"),
    ],
)
def test_task_switch_bit_has_the_number_of_the_kernel(name, macro):
    assert CONSTANTS[macro] == TASK_SWITCH[name].low


def test_register_and_apic_offset_have_the_masks_of_the_kernel():
    assert CONSTANTS["SVM_EXITINFO_REG_MASK"] == MOV_CR["GPR"].mask
    assert CONSTANTS["AVIC_UNACCEL_ACCESS_OFFSET_MASK"] == AVIC_OFFSET["APIC_OFFSET"].mask


def test_nested_page_fault_code_has_the_bits_of_the_manual():
    bits = {"P": 0, "RW": 1, "US": 2, "RSV": 3, "ID": 4, "SS": 6, "RMP": 31, "FINAL": 32}
    bits |= {"TABLE": 33, "ENC": 34, "SIZEM": 35, "VMPL": 36, "SSS": 37, "NOT_RESTARTABLE": 63}

    assert bits == {row.name: row.low for row in NESTED_PAGE_FAULT if not row.reserved}


@given(st.sampled_from(LAYOUTS), st.integers(0, 2**64 - 1))
def test_decoded_fields_put_back_give_the_defined_bits(layout, word):
    assert word & ~layout.reserved_mask() == layout.word(**layout.decode(word))


@pytest.mark.parametrize(
    "name", ["CR0_READ", "IOIO", "MSR", "EXCP_BP", "CPUID", "VMRUN", "TLBSYNC"]
)
def test_exit_of_an_instruction_reports_the_next_rip(name):
    assert EXIT_INFO[SvmExit[name]].saves_next_rip


@pytest.mark.parametrize(
    "name", ["INTR", "NPF", "SHUTDOWN", "TASK_SWITCH", "EXCP_PF", "EFER_WRITE_TRAP", "INVALID"]
)
def test_exit_of_an_event_reports_no_next_rip(name):
    assert not EXIT_INFO[SvmExit[name]].saves_next_rip


def test_exits_that_report_the_next_rip_are_instructions_ioio_msr_int3_into_and_bound():
    numbers = {*range(0x40), 0x43, 0x44, 0x45, *range(0x65, 0x7D), *range(0x80, 0x8F)}

    assert numbers | {*range(0xA0, 0xA5), 0xA6} == set(SAVES_NEXT_RIP)
