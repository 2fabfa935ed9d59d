"""Every VM-entry check is broken alone and named alone, by the jitted walk and by the oracle."""

import numpy as np
import pytest

from tests.reference import naive_checks
from tests.reference.breaking import break_alone
from vmcs.check_programs import compile_program, every_failure, first_stop
from vmcs.checks import Kind
from vmcs.vmx.entry_checks import (
    CONTROL_CHECKS,
    GUEST_STATE_CHECKS,
    HOST_STATE_CHECKS,
    MSR_LOAD_CHECKS,
    vocabulary,
)
from vmcs.vmx.entry_checks.msr_load import vocabulary as msr_vocabulary
from vmcs.vmx.entry_checks.words import CAPABILITIES, CONTRIBUTED, PROCESSOR

ROWS = CONTROL_CHECKS + HOST_STATE_CHECKS + GUEST_STATE_CHECKS
WIDTH = 46
BEYOND = 2**64 - 2**WIDTH

GOOD = {
    "PHYSICAL_RESERVED": BEYOND,
    "PAGE_RESERVED": BEYOND | 0xFFF,
    "LINEAR_ADDRESS_WIDTH": 48,
    "CR3_RESERVED": BEYOND,
    "CURRENT_EFER": 0x500,
    "CURRENT_VMCS": 0x7000,
    "EFER_RESERVED": ~0xD01 & 2**64 - 1,
    "DEBUGCTL_RESERVED": ~0xDFC3 & 2**64 - 1,
    "PERF_GLOBAL_RESERVED": ~0x7_0000_000F & 2**64 - 1,
    "S_CET_RESERVED": 0x3C0,
    "RTIT_CTL_RESERVED": ~0x3 & 2**64 - 1,
    "LBR_CTL_RESERVED": ~0x7F000F & 2**64 - 1,
    "VMCS_REVISION": 0x11E57ED0,
    "PIN_MUST_BE_1": 0x16,
    "PIN_MAY_BE_1": 0xFF,
    "PROC_MUST_BE_1": 0x04006172,
    "PROC_MAY_BE_1": 0xFFFBFFFE,
    "PROC2_MAY_BE_1": 0xFFFFFFFF,
    "PROC3_MAY_BE_1": 0x1FF,
    "EXIT_MUST_BE_1": 0x36DFB,
    "EXIT_MAY_BE_1": 0xFFFFFFFF,
    "EXIT2_MAY_BE_1": 0xF,
    "ENTRY_MUST_BE_1": 0x11FB,
    "ENTRY_MAY_BE_1": 0x3FFFFFF,
    "CR0_FIXED0": 0x80000021,
    "CR0_FIXED0_UNRESTRICTED": 0x20,
    "CR0_FIXED1": 0xFFFFFFFF,
    "CR4_FIXED0": 0x2000,
    "CR4_FIXED1": 0xFF7FFF,
    "CR3_TARGET_LIMIT": 4,
    "ACTIVITY_STATES": 0b1111,
    "EPTP_MEMORY_TYPES": 1 << 0 | 1 << 6,
    "EPTP_WALK_LENGTHS": 1 << 3,
    "EPTP_RESERVED": BEYOND | 0xF80,
    "VMFUNC_RESERVED": ~1 & 2**64 - 1,
    "VIRTUAL_TPR": 3,
    "LINK_FIRST_WORD": 0x11E57ED0,
    "PDPTE_RESERVED": BEYOND | 0x1E6,
    "PIN_BASED_VM_EXEC_CONTROL": 0x16,
    "CPU_BASED_VM_EXEC_CONTROL": 0x04006172,
    "VM_EXIT_CONTROLS": 0x36FFB,
    "VM_ENTRY_CONTROLS": 0x13FB,
    "EPT_POINTER": 0x101E,
    "VIRTUAL_PROCESSOR_ID": 1,
    "TSC_MULTIPLIER": 1 << 48,
    "VM_ENTRY_INSTRUCTION_LEN": 2,
    "VMCS_LINK_POINTER": 2**64 - 1,
    "HOST_CR0": 0x80050033,
    "HOST_CR3": 0x11000,
    "HOST_CR4": 0x2020,
    "HOST_IA32_PAT": 0x0007040600070406,
    "HOST_IA32_EFER": 0x500,
    "HOST_CS_SELECTOR": 0x8,
    "HOST_SS_SELECTOR": 0x10,
    "HOST_TR_SELECTOR": 0x18,
    "HOST_RIP": 0x9000,
    "GUEST_CR0": 0x80050033,
    "GUEST_CR3": 0x10000,
    "GUEST_CR4": 0x2020,
    "GUEST_IA32_PAT": 0x0007040600070406,
    "GUEST_IA32_EFER": 0x500,
    "GUEST_DR7": 0x400,
    "GUEST_RIP": 0x8000,
    "GUEST_RFLAGS": 0x2,
    "GUEST_CS_AR_BYTES": 0xA09B,
    "GUEST_CS_LIMIT": 0xFFFFFFFF,
    "GUEST_TR_AR_BYTES": 0x8B,
    "GUEST_TR_LIMIT": 0x67,
    "GUEST_LDTR_AR_BYTES": 0x10000,
    "GUEST_FS_AR_BYTES": 0x10000,
    "GUEST_GS_AR_BYTES": 0x10000,
    "GUEST_SS_AR_BYTES": 0xC093,
    "GUEST_SS_LIMIT": 0xFFFFFFFF,
    "GUEST_DS_AR_BYTES": 0xC093,
    "GUEST_DS_LIMIT": 0xFFFFFFFF,
    "GUEST_ES_AR_BYTES": 0xC093,
    "GUEST_ES_LIMIT": 0xFFFFFFFF,
}
EVERY = 2**64 - 1
RING_3 = (
    ("GUEST_CS_AR_BYTES", 0xA0FB, EVERY),
    ("GUEST_SS_AR_BYTES", 0xC0F3, EVERY),
    ("GUEST_CS_SELECTOR", 0xB, EVERY),
    ("GUEST_SS_SELECTOR", 0x13, EVERY),
)
LINK = (("VMCS_LINK_POINTER", 0x6000, EVERY),)
# Where to start the search for rows that couple with others.
HINTS = {
    "error_code_upper_half": (("VM_ENTRY_INTR_INFO_FIELD", 0x80000B0D, EVERY),),
    "guest_fs_dpl_below_rpl": (
        ("GUEST_FS_AR_BYTES", 0xC093, EVERY),
        ("GUEST_FS_LIMIT", 0xFFFFFFFF, EVERY),
        ("GUEST_FS_SELECTOR", 0x13, EVERY),
    ),
    "guest_gs_dpl_below_rpl": (
        ("GUEST_GS_AR_BYTES", 0xC093, EVERY),
        ("GUEST_GS_LIMIT", 0xFFFFFFFF, EVERY),
        ("GUEST_GS_SELECTOR", 0x13, EVERY),
    ),
    "guest_hlt_needs_ss_dpl_0": RING_3,
    "vmcs_link_revision": (*LINK, ("LINK_FIRST_WORD", 0x1, EVERY)),
    "vmcs_link_is_shadow": LINK,
    "vmcs_link_is_ordinary": LINK,
    "vmcs_link_not_current": (("VMCS_LINK_POINTER", 0x7000, EVERY), ("IN_SMM", 1, 1)),
}
# Rows that the manual makes fail together: it says the same of one control in two places.
TOGETHER = {
    "entry_to_smm_outside_smm": "guest_entry_to_smm_needs_smi_blocking",
    "legacy_mode_excludes_ia32e_guest": "host_32_excludes_ia32e_guest",
    "host_32_excludes_ia32e_guest": "legacy_mode_excludes_ia32e_guest",
}
FREE = ("CURRENT_EFER", "IN_SMM", "ERROR_CODE_FREE", "ZERO_LENGTH_INJECTION")
FREE += ("ACTIVITY_STATES", "PROC_MAY_BE_1")
FIXED = [w.name for w in (*PROCESSOR, *CAPABILITIES) if w.name not in FREE]


def good_words(words):
    return dict.fromkeys(words.names, 0) | GOOD


def broken(row):
    words = good_words(vocabulary())
    rows = [other for other in ROWS if other.name != TOGETHER.get(row.name)]
    return break_alone(rows, words, row.name, HINTS.get(row.name, ()), FIXED)


def failing_names(rows, words, vocab):
    program = compile_program(rows, vocab)
    array = vocab.words()
    for name, value in words.items():
        array[vocab.index(name)] = value
    failed = np.zeros(len(rows), np.uint8)
    every_failure(program.code, array, failed)
    stop = first_stop(program.code, array, np.zeros(1, np.int64))
    named = program.row_at(stop)
    return [r.name for r, bad in zip(rows, failed, strict=True) if bad], named and named.name


CHECKS = [row for row in ROWS if row.kind is Kind.CHECK]


def test_the_good_state_passes_every_check():
    vocab = vocabulary()

    assert failing_names(ROWS, good_words(vocab), vocab) == ([], None)


@pytest.mark.parametrize("row", CHECKS, ids=lambda row: row.name)
def test_breaking_one_check_names_it_and_no_other(row):
    words = broken(row)
    expected = {row.name, TOGETHER.get(row.name, row.name)}

    assert words is not None

    failed, first = failing_names(ROWS, words, vocabulary())

    assert expected == set(failed)
    assert first in expected
    assert failed == naive_checks.failures(ROWS, words)


@pytest.mark.parametrize("row", MSR_LOAD_CHECKS, ids=lambda row: row.name)
def test_breaking_one_msr_load_check_names_it_and_no_other(row):
    vocab = msr_vocabulary()
    words = dict.fromkeys(vocab.names, 0) | {"MSR_INDEX": 0x174}
    words = break_alone(MSR_LOAD_CHECKS, words, row.name)

    assert ([row.name], row.name) == failing_names(MSR_LOAD_CHECKS, words, vocab)


def test_every_row_is_cited_and_every_contributed_word_is_read():
    read = {name for row in ROWS for p in (row.predicate, *row.when) for name in p[1:]}
    derived = {row.target for row in ROWS if row.kind is Kind.LET}
    own = {word.name for word in CONTRIBUTED}

    assert all(row.section for row in ROWS)
    assert own <= read | derived
