"""Each word of VMX controls accounts for every bit, and its classes are the manual's."""

import re

import pytest

from vmcs.vmx.controls import (
    CONTROL_WORDS,
    Entry,
    Exit,
    Exit2,
    PinBased,
    ProcBased,
    ProcBased2,
    ProcBased3,
    VmFunction,
)

WORDS = pytest.mark.parametrize("word", CONTROL_WORDS, ids=lambda word: word.__name__)

# Bits that the first processors report as 1-only. SDM: Pin-Based VM-Execution Controls,
# Processor-Based VM-Execution Controls, VM-Exit Controls, VM-Entry Controls.
DEFAULT1 = {
    PinBased: {1, 2, 4},
    ProcBased: {1, 4, 5, 6, 8, 13, 14, 15, 16, 26},
    Exit: {*range(9), 10, 11, 13, 14, 16, 17},
    Entry: {*range(9), 12},
}

# Controls that each table of the manual defines; ProcBased2 has the kernel's ENCLV besides.
DEFINED = {
    PinBased: 5,
    ProcBased: 22,
    ProcBased2: 31,
    ProcBased3: 11,
    Exit: 18,
    Exit2: 4,
    Entry: 17,
    VmFunction: 1,
}

# Members that leave out words of the manual's phrase.
SHORTENED = {
    "MODE_BASED_EXECUTE_CONTROL": "MODE_BASED_EXECUTE_CONTROL_FOR_EPT",
    "SUB_PAGE_WRITE_PERMISSIONS": "SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT",
    "PT_USES_GUEST_PHYSICAL_ADDRESSES": "INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES",
    "IA32E_MODE_GUEST": "IA_32E_MODE_GUEST",
    "UNCONDITIONAL_IO_EXITING": "UNCONDITIONAL_I_O_EXITING",
    "USE_IO_BITMAPS": "USE_I_O_BITMAPS",
}


@WORDS
def test_every_bit_of_the_word_has_one_row(word):
    width = 64 if word in (ProcBased3, Exit2, VmFunction) else 32

    assert list(range(width)) == [row.bit for row in word.table]


@WORDS
def test_reserved_and_defined_bits_are_counted(word):
    assert DEFINED[word] == sum(not row.reserved for row in word.table)
    assert word.width - DEFINED[word] == sum(row.reserved for row in word.table)


@WORDS
def test_default1_class_is_the_manual_s(word):
    assert DEFAULT1.get(word, set()) == {row.bit for row in word.table if row.default1}


@WORDS
def test_every_row_is_cited(word):
    assert all(row.sdm or row.seen for row in word.table)


@WORDS
def test_member_is_named_by_the_manual_s_phrase(word):
    for row in word.table:
        if not row.reserved:
            phrase = re.sub(r"[^A-Z0-9]+", "_", row.phrase.upper()).strip("_")

            assert phrase == SHORTENED.get(row.name, row.name)


@WORDS
def test_names_of_all_ones_is_the_whole_table(word):
    assert tuple(row.name for row in word.table) == word.names_of((1 << word.width) - 1)


# What KVM calls its "always on without TRUE MSRs" words, by value.
# Linux: arch/x86/include/asm/vmx.h, 7.3.
@pytest.mark.parametrize(
    ("word", "expected"),
    [(PinBased, 0x16), (ProcBased, 0x0401E172), (Exit, 0x00036DFF), (Entry, 0x000011FF)],
)
def test_default1_mask_is_what_processors_report(word, expected):
    assert expected == word.default1_mask()


# A control of each word at its position, as a mask. Linux: arch/x86/include/asm/vmx.h, 7.3.
@pytest.mark.parametrize(
    ("control", "mask", "macro"),
    [
        (PinBased.PROCESS_POSTED_INTERRUPTS, 0x80, "PIN_BASED_POSTED_INTR"),
        (ProcBased.USE_MSR_BITMAPS, 0x1000_0000, ""),
        (ProcBased.USE_TPR_SHADOW, 0x0020_0000, "CPU_BASED_TPR_SHADOW"),
        (ProcBased2.VMCS_SHADOWING, 0x4000, "SECONDARY_EXEC_SHADOW_VMCS"),
        (ProcBased2.USE_TSC_SCALING, 0x0200_0000, "SECONDARY_EXEC_TSC_SCALING"),
        (ProcBased3.IPI_VIRTUALIZATION, 0x10, "TERTIARY_EXEC_IPI_VIRT"),
        (Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT, 0x8000, "VM_EXIT_ACK_INTR_ON_EXIT"),
        (Exit.CLEAR_IA32_BNDCFGS, 0x0080_0000, "VM_EXIT_CLEAR_BNDCFGS"),
        (Exit.LOAD_CET_STATE, 0x1000_0000, ""),
        (Entry.IA32E_MODE_GUEST, 0x200, "VM_ENTRY_IA32E_MODE"),
        (Entry.LOAD_CET_STATE, 0x0010_0000, ""),
        (VmFunction.EPTP_SWITCHING, 0x1, ""),
    ],
)
def test_control_has_the_kernel_s_mask_and_macro(control, mask, macro):
    assert mask == control
    assert macro == control.row.macro
