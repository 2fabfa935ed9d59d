"""Formats of VMCS fields: reserved bits are the manual's, and values read as text."""

import pytest

from vmcs.vmx.field_formats import (
    ACCESS_RIGHTS,
    EPTP,
    EXITING_EVENT,
    FORMATS,
    GUEST_INTERRUPT_STATUS,
    HLATP,
    INJECTED_EVENT,
    MSR_ENTRY,
    ORIGINAL_EVENT,
    PENDING_DEBUG_EXCEPTIONS,
    TPR_THRESHOLD,
    EventType,
    Interruptibility,
    VmxAbort,
    describe_field,
)
from vmcs.vmx.fields import BY_NAME


# SDM: the sections that the rows cite; the masks are summed from the bit positions there.
@pytest.mark.parametrize(
    ("layout", "reserved"),
    [
        (INJECTED_EVENT, 0x7FFF_D000),
        (EXITING_EVENT, 0x7FFF_C000),
        (ORIGINAL_EVENT, 0x7FFF_D000),
        (PENDING_DEBUG_EXCEPTIONS, 0xFFFF_FFFF_FFFE_A7F0),
        (ACCESS_RIGHTS, 0xFFFE_0F00),
        (GUEST_INTERRUPT_STATUS, 0),
        (EPTP, 0xFFF0_0000_0000_0F00),
        (HLATP, 0xFFF0_0000_0000_0FE7),
        (TPR_THRESHOLD, 0xFFFF_FFF0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_reserved_bits_are_the_manual_s(layout, reserved):
    assert reserved == layout.reserved_mask()


def test_interruptibility_has_five_bits():
    assert 0x1F == Interruptibility.defined_mask()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "VM_ENTRY_INTR_INFO_FIELD",
            0x8000_0B0E,
            ("VECTOR=0xe", "TYPE=HARDWARE_EXCEPTION", "DELIVER_ERROR_CODE", "VALID"),
        ),
        ("VM_EXIT_INTR_INFO", 0x8000_0202, ("VECTOR=0x2", "TYPE=NMI", "VALID")),
        (
            "IDT_VECTORING_INFO_FIELD",
            0x8000_00EC,
            ("VECTOR=0xec", "TYPE=EXTERNAL_INTERRUPT", "VALID"),
        ),
        ("GUEST_ACTIVITY_STATE", 1, ("HLT",)),
        ("GUEST_ACTIVITY_STATE", 9, ("unknown 9",)),
        ("GUEST_INTERRUPTIBILITY_INFO", 0x9, ("BLOCKING_BY_STI", "BLOCKING_BY_NMI")),
        ("GUEST_CS_AR_BYTES", 0xA09B, ("TYPE=0xb", "S=code or data", "P", "L", "G")),
        ("GUEST_TR_AR_BYTES", 0x1_008B, ("TYPE=0xb", "S=system", "P", "UNUSABLE")),
        (
            "EPT_POINTER",
            0x1234_505E,
            ("MEMORY_TYPE=WB", "WALK_LENGTH_MINUS_1=0x3", "ACCESSED_DIRTY", "ADDRESS=0x12345"),
        ),
        (
            "PIN_BASED_VM_EXEC_CONTROL",
            0x1F,
            ("EXTERNAL_INTERRUPT_EXITING", "RESERVED_1", "RESERVED_2", "NMI_EXITING", "RESERVED_4"),
        ),
        ("VM_INSTRUCTION_ERROR", 7, ("ENTRY_INVALID_CONTROL_FIELD",)),
        ("VM_EXIT_REASON", 0x30, ("BASIC=EPT_VIOLATION",)),
        ("GUEST_INTR_STATUS", 0x30EC, ("RVI=0xec", "SVI=0x30")),
        ("GUEST_RIP", 0x1000, ()),
    ],
)
def test_field_is_described(name, value, expected):
    assert expected == describe_field(name, value)


def test_value_wider_than_the_field_is_refused():
    with pytest.raises(ValueError, match="16 bits of GUEST_INTR_STATUS"):
        describe_field("GUEST_INTR_STATUS", 0x1_0000)


def test_unknown_field_is_a_key_error():
    with pytest.raises(KeyError, match="GUEST_CR5"):
        describe_field("GUEST_CR5", 0)


def test_every_word_of_controls_in_the_vmcs_has_a_format():
    controls = {name for name in BY_NAME if name.endswith(("_EXEC_CONTROL", "VM_EXIT_CONTROLS"))}

    assert controls | {"VM_ENTRY_CONTROLS", "VM_FUNCTION_CONTROL"} <= set(FORMATS)


def test_event_types_are_three_bits_wide():
    assert list(range(8)) == [row.number for row in EventType.table]


def test_vmx_abort_indicators_are_numbered_as_in_the_manual():
    assert list(range(1, 7)) == [row.number for row in VmxAbort.table]


def test_msr_entry_is_16_bytes():
    assert [("index", 0), ("reserved", 4), ("data", 8)] == [
        (row.name, row.offset) for row in MSR_ENTRY
    ]
