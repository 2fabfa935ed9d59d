"""Every number that the kernel names is in our tables, at the same value, under that macro."""

import csv
from pathlib import Path

import pytest

from vmcs.vmx.capability_msrs import BY_NUMBER
from vmcs.vmx.controls import (
    Entry,
    Exit,
    PinBased,
    ProcBased,
    ProcBased2,
    ProcBased3,
    VmFunction,
)
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.field_formats import ActivityState, Interruptibility, VmxAbort
from vmcs.vmx.instruction_errors import InstructionError

DATA = Path(__file__).parents[2] / "data"

TABLES = {
    "PinBased": (PinBased, "PIN_BASED_"),
    "ProcBased": (ProcBased, "CPU_BASED_"),
    "ProcBased2": (ProcBased2, "SECONDARY_EXEC_"),
    "ProcBased3": (ProcBased3, "TERTIARY_EXEC_"),
    "Exit": (Exit, "VM_EXIT_"),
    "Entry": (Entry, "VM_ENTRY_"),
    "VmFunction": (VmFunction, "VMX_VMFUNC_"),
    "ExitReason": (ExitReason, "EXIT_REASON_"),
    "InstructionError": (InstructionError, "VMXERR_"),
    "VmxAbort": (VmxAbort, "VMX_ABORT_"),
    "Interruptibility": (Interruptibility, "GUEST_INTR_STATE_"),
    "ActivityState": (ActivityState, "GUEST_ACTIVITY_"),
}


def rows(name):
    with (DATA / name).open(newline="") as source:
        return list(csv.DictReader(source))


@pytest.mark.parametrize("row", rows("linux-7.3-vmx-macros.csv"), ids=lambda row: row["macro"])
def test_macro_names_the_member_of_that_value(row):
    table, prefix = TABLES[row["table"]]
    value = int(row["value"], 16)
    found = table(value).row

    assert not found.reserved
    assert row["macro"] == (found.macro or prefix + found.name)


@pytest.mark.parametrize("name", TABLES)
def test_every_macro_that_a_row_states_is_the_kernel_s(name):
    table, _ = TABLES[name]
    known = {row["macro"] for row in rows("linux-7.3-vmx-macros.csv") if row["table"] == name}

    assert {row.macro for row in table.table if row.macro} <= known


@pytest.mark.parametrize("row", rows("linux-7.3-vmx-msrs.csv"), ids=lambda row: row["macro"])
def test_capability_msr_has_the_kernel_s_number(row):
    assert row["macro"] == f"MSR_{BY_NUMBER[int(row['number'], 16)].name}"


def test_every_table_of_the_data_is_compared():
    assert set(TABLES) == {row["table"] for row in rows("linux-7.3-vmx-macros.csv")}
