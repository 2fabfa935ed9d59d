"""Exit qualifications decode as the manual's tables say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcs.vmx import exit_qualification
from vmcs.vmx.exit_qualification import (
    CR_ACCESS,
    EXCEPTION_QUALIFICATIONS,
    QUALIFICATIONS,
    REGISTERS,
    InvalidGuestState,
    qualification,
)
from vmcs.vmx.exit_reasons import ExitReason

LAYOUTS = {
    name: value
    for name, value in vars(exit_qualification).items()
    if name.isupper() and hasattr(value, "rows")
}

# Bits that each table of the manual leaves undefined.
# SDM: Basic VM-Exit Information; VM-Entry Failures During or After Loading Guest State.
UNDEFINED = {
    "DEBUG_EXCEPTION": [*range(4, 11), 12, 15, *range(17, 64)],
    "LINEAR_ADDRESS": [],
    "SIPI": [*range(8, 64)],
    "TASK_SWITCH": [*range(16, 30), *range(32, 64)],
    "DISPLACEMENT": [],
    "CR_ACCESS": [7, *range(12, 16), *range(32, 64)],
    "MOV_DR": [3, *range(5, 8), *range(12, 64)],
    "IO_INSTRUCTION": [*range(7, 16), *range(32, 64)],
    "IO_SMI": [*range(7, 16), *range(32, 64)],
    "MWAIT": [*range(1, 64)],
    "WBINVD": [*range(1, 64)],
    "WRMSR": [*range(1, 64)],
    "MSR_LIST": [*range(32, 64)],
    "MSR_IMMEDIATE": [*range(32, 64)],
    "APIC_ACCESS": [*range(17, 64)],
    "VIRTUALIZED_EOI": [*range(8, 64)],
    "APIC_WRITE": [*range(12, 64)],
    "EPT_VIOLATION": [*range(17, 64)],
    "PAGE_MODIFICATION_LOG_FULL": [*range(12), 13, 14, 15, *range(17, 64)],
    "SPP_RELATED_EVENT": [*range(11), 13, 14, 15, *range(17, 64)],
    "ENQCMD": [*range(20, 64)],
    "ENQCMDS": [*range(32, 64)],
    "INSTRUCTION_TIMEOUT": [*range(1, 12), *range(13, 64)],
    "INVALID_GUEST_STATE": [],
    "MSR_LOADING": [],
}


def test_each_table_is_counted_below():
    assert set(UNDEFINED) == set(LAYOUTS)


@pytest.mark.parametrize("name", UNDEFINED)
def test_undefined_bits_are_written_down_as_reserved(name):
    reserved = LAYOUTS[name].reserved_mask()

    assert UNDEFINED[name] == [at for at in range(64) if reserved >> at & 1]


@pytest.mark.parametrize("name", UNDEFINED)
def test_every_row_is_cited(name):
    assert all(row.sdm or row.seen for row in LAYOUTS[name])


@pytest.mark.parametrize(
    ("reason", "value", "expected"),
    [
        (ExitReason.TASK_SWITCH, 0xC000_0028, ("TSS_SELECTOR=0x28", "SOURCE=Task gate in IDT")),
        (
            ExitReason.CR_ACCESS,
            0x0000_0304,
            ("REGISTER=0x4", "ACCESS_TYPE=MOV to CR", "GENERAL_REGISTER=RBX"),
        ),
        (
            ExitReason.CR_ACCESS,
            0x8001_0070,
            ("ACCESS_TYPE=LMSW", "LMSW_MEMORY", "GENERAL_REGISTER=RAX", "LMSW_SOURCE=0x8001"),
        ),
        (
            ExitReason.MOV_DR,
            0x0000_0F17,
            ("REGISTER=0x7", "DIRECTION=MOV from DR", "GENERAL_REGISTER=R15"),
        ),
        (
            ExitReason.IO_INSTRUCTION,
            0x03F8_0038,
            ("SIZE=1-byte", "DIRECTION=IN", "STRING", "REP", "OPERAND=DX", "PORT=0x3f8"),
        ),
        (
            ExitReason.IO_INSTRUCTION,
            0x0080_0043,
            ("SIZE=4-byte", "DIRECTION=OUT", "OPERAND=immediate", "PORT=0x80"),
        ),
        (
            ExitReason.APIC_ACCESS,
            0x0000_10B0,
            (
                "OFFSET=0xb0",
                "ACCESS_TYPE=linear access for a data write during instruction execution",
            ),
        ),
        (
            ExitReason.EPT_VIOLATION,
            0x0000_0182,
            ("DATA_WRITE", "LINEAR_ADDRESS_VALID", "TRANSLATED"),
        ),
        (ExitReason.EPT_VIOLATION, 0x0000_1004, ("INSTRUCTION_FETCH", "NMI_UNBLOCKING")),
        (ExitReason.VIRTUALIZED_EOI, 0x0000_00EC, ("VECTOR=0xec",)),
        (ExitReason.APIC_WRITE, 0x0000_0300, ("OFFSET=0x300",)),
        (ExitReason.WBINVD, 1, ("INSTRUCTION=WBNOINVD",)),
        (ExitReason.INVALID_GUEST_STATE, 4, ("CAUSE=VMCS_LINK_POINTER",)),
        (ExitReason.MSR_LOADING, 3, ("ENTRY=0x3",)),
    ],
)
def test_qualification_reads_as_the_manual_says(reason, value, expected):
    assert expected == qualification(reason).describe(value)


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        (1, EXCEPTION_QUALIFICATIONS[1]),
        (14, EXCEPTION_QUALIFICATIONS[14]),
        (13, None),
        (None, None),
    ],
)
def test_exceptions_are_told_apart_by_vector(vector, expected):
    assert expected is qualification(ExitReason.EXCEPTION_OR_NMI, vector)


@pytest.mark.parametrize(
    "reason",
    [ExitReason.CPUID, ExitReason.HLT, ExitReason.VMCALL, ExitReason.TRIPLE_FAULT, 35, 4095],
)
def test_reason_without_qualification_has_no_format(reason):
    assert None is qualification(reason)


def test_reasons_with_a_qualification_are_the_manual_s():
    """The reasons that the manual lists, but the exceptions, NMI and the other SMI."""
    listed = {4, 5, 9, 14, 19, 21, 22, 23, 25, 27, 28, 29, 30, 32, 33, 34, 36, 44, 45, 46, 47, 48}
    listed |= {50, 53, 54, 56, 58, 62, 63, 64, 66, 72, 73, 75, 78, 79, 84, 85}

    assert listed == set(QUALIFICATIONS)


@given(st.integers(0, 3), st.integers(0, 15), st.integers(0, 15))
def test_cr_access_word_is_put_together_by_its_fields(kind, register, general):
    word = CR_ACCESS.word(REGISTER=register, ACCESS_TYPE=kind, GENERAL_REGISTER=general)

    assert register + 16 * kind + 256 * general == word


def test_registers_are_in_instruction_order():
    names = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15"

    assert names.split() == [REGISTERS[number] for number in range(16)]


def test_invalid_guest_state_causes_are_numbered_as_in_the_manual():
    assert (0, 2, 3, 4) == tuple(row.number for row in InvalidGuestState.table if not row.reserved)


# Named values, in the manual's order. SDM: the tables of Basic VM-Exit Information.
@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("CR_ACCESS", "ACCESS_TYPE", ["0 MOV to CR", "1 MOV from CR", "2 CLTS", "3 LMSW"]),
        (
            "TASK_SWITCH",
            "SOURCE",
            ["0 CALL instruction", "1 IRET instruction", "2 JMP instruction", "3 Task gate in IDT"],
        ),
        ("MOV_DR", "DIRECTION", ["0 MOV to DR", "1 MOV from DR"]),
        ("IO_INSTRUCTION", "SIZE", ["0 1-byte", "1 2-byte", "3 4-byte"]),
        ("IO_INSTRUCTION", "DIRECTION", ["0 OUT", "1 IN"]),
        ("IO_INSTRUCTION", "OPERAND", ["0 DX", "1 immediate"]),
        ("WRMSR", "INSTRUCTION", ["0 WRMSR", "1 WRMSRNS"]),
        ("WBINVD", "INSTRUCTION", ["0 WBINVD", "1 WBNOINVD"]),
        ("SPP_RELATED_EVENT", "EVENT", ["0 SPP misconfiguration", "1 SPP miss"]),
        (
            "APIC_ACCESS",
            "ACCESS_TYPE",
            [
                "0 linear access for a data read during instruction execution",
                "1 linear access for a data write during instruction execution",
                "2 linear access for an instruction fetch",
                "3 linear access during event delivery",
                "4 linear access asynchronous to instruction execution",
                "10 guest-physical access during event delivery",
                "11 guest-physical access asynchronous to instruction execution",
                "15 guest-physical access for an instruction fetch or during instruction execution",
            ],
        ),
    ],
)
def test_values_have_the_manual_s_names(name, field, values):
    assert values == [f"{at} {text}" for at, text in LAYOUTS[name][field].values.items()]


# Bits of EPT violations as KVM names them. Linux: arch/x86/include/asm/vmx.h, 7.3.
def test_ept_violation_bits_stand_where_the_kernel_has_them():
    names = (
        "DATA_READ DATA_WRITE INSTRUCTION_FETCH READABLE WRITABLE EXECUTABLE USER_EXECUTABLE "
        "LINEAR_ADDRESS_VALID TRANSLATED USER_MODE PAGING_WRITABLE PAGING_EXECUTE_DISABLE"
    )

    assert names.split() == [row.name for row in LAYOUTS["EPT_VIOLATION"]][:12]
