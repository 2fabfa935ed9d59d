"""Exit codes: the kernel's numbers, the manual's signed ones, and the intercepts behind them."""

import pytest

from tests.vmcs.svm.facts import CONSTANTS
from vmcs.svm.exit_codes import SvmExit, intercept_of, signed

EXCP_BASE = CONSTANTS["SVM_EXIT_EXCP_BASE"]
NOT_A_CODE = {"SVM_EXIT_EXCP_BASE", "SVM_EXIT_LAST_EXCP"}

# Table C-1 of the manual where the kernel has no macro: code, and the name without VMEXIT_.
APM_ONLY = {
    "INVLPGB": 0xA0,
    "INVLPGB_ILLEGAL": 0xA1,
    "MCOMMIT": 0xA3,
    "TLBSYNC": 0xA4,
    "PML_FULL": 0x407,
}
SIGNED = {"INVALID": -1, "BUSY": -2, "IDLE_REQUIRED": -3, "INVALID_PMC": -4}

# The manual's names of exits whose intercept has another name in the kernel.
OTHER_NAMES = {
    "CR0_SEL_WRITE": "SELECTIVE_CR0",
    "SWINT": "INTN",
    "IOIO": "IOIO_PROT",
    "MSR": "MSR_PROT",
    "MWAIT_CONDITIONAL": "MWAIT_COND",
}
OTHER_NAMES |= {f"{r}_READ": f"STORE_{r}" for r in ("IDTR", "GDTR", "LDTR", "TR")}
OTHER_NAMES |= {f"{r}_WRITE": f"LOAD_{r}" for r in ("IDTR", "GDTR", "LDTR", "TR")}

INTERCEPTED = [code for code in SvmExit if intercept_of(code) is not None]


@pytest.mark.parametrize(
    "macro", [m for m in CONSTANTS if m.startswith("SVM_EXIT_") and m not in NOT_A_CODE]
)
def test_code_of_a_kernel_macro_is_in_the_table(macro):
    rows = [row.number for row in SvmExit.table if row.macro == macro]

    assert [CONSTANTS[macro]] == rows


@pytest.mark.parametrize("row", SvmExit.table, ids=lambda row: row.name)
def test_macro_of_a_row_has_the_number_of_the_row(row):
    macro, _, vector = row.macro.partition(" + ")
    value = CONSTANTS[macro] + (CONSTANTS[vector] if vector else 0) if macro else row.number

    assert value == row.number


@pytest.mark.parametrize(("name", "number"), APM_ONLY.items())
def test_code_without_macro_has_the_number_of_the_manual(name, number):
    assert number == SvmExit[name]


@pytest.mark.parametrize("kind", ["CR{}_READ", "CR{}_WRITE", "DR{}_READ", "DR{}_WRITE"])
def test_register_exits_are_a_code_a_register(kind):
    start = {"CR{}_READ": 0, "CR{}_WRITE": 16, "DR{}_READ": 32, "DR{}_WRITE": 48}[kind]

    assert [start + n for n in range(16)] == [SvmExit[kind.format(n)] for n in range(16)]


def test_exception_exits_are_a_code_a_vector():
    names = [code.name for code in SvmExit if EXCP_BASE <= code < EXCP_BASE + 32]

    assert 32 == len(names)
    assert all(name.startswith("EXCP_") for name in names)
    assert [f"EXCP_{n}" for n in (2, 9, 15, 20, 22, 23, 24, 25, 26, 27, 31)] == [
        name for name in names if name[5:].isdigit()
    ]


@pytest.mark.parametrize(("name", "number"), SIGNED.items())
def test_topmost_codes_are_negative_as_the_manual_writes_them(name, number):
    assert number == signed(SvmExit[name])
    assert number % 2**64 == SvmExit[name]


def test_codes_below_the_topmost_keep_their_sign():
    assert {code.value for code in SvmExit if code.name not in SIGNED} == {
        signed(code) for code in SvmExit if code.name not in SIGNED
    }


def test_codes_up_to_a6_are_contiguous():
    assert list(range(0xA7)) == [code for code in SvmExit if code < 0xA7]


@pytest.mark.parametrize("code", INTERCEPTED, ids=lambda code: code.name)
def test_exit_and_its_intercept_have_one_name(code):
    assert OTHER_NAMES.get(code.name, code.name) == intercept_of(code).name


def test_codes_without_intercept_are_reserved_vectors_and_those_above_the_vector():
    without = [code for code in SvmExit if intercept_of(code) is None]

    assert all(code.name[5:].isdigit() or code >= 192 for code in without)
    assert None is intercept_of(0xA7)


def test_name_of_an_unused_number_is_none():
    assert None is SvmExit.name_of(0xA7)
    assert "NPF" == SvmExit.name_of(0x400)
