"""Every check of VMRUN is broken alone and named alone, and agrees with the manual's sentences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import naive_checks
from tests.vmcs.svm.naive_vmrun import illegal
from vmcs.check_programs import (
    compile_program,
    every_failure,
    first_stop,
    first_stops,
    judge_records,
)
from vmcs.checks import Kind
from vmcs.svm.vmcb import VMCB, VMCB_SIZE, member
from vmcs.svm.vmrun_checks import (
    CONSISTENCY_CHECKS,
    DERIVED_WORDS,
    MEMORY_WORDS,
    PROCESSOR_WORDS,
    VMCB_WORDS,
    VMRUN_CHECKS,
    vocabulary,
)

WIDTH = 48
BEYOND = 2**64 - 2**WIDTH
EXCEPTIONS = sum(1 << n for n in (0, 1, *range(3, 9), *range(10, 15), *range(16, 20), 21, 29, 30))
V = 1 << 31
NP, SEV, SEV_ES, SSS = 1 << 0, 1 << 1, 1 << 2, 1 << 4
AVIC, X2AVIC, V_NMI = 1 << 31, 1 << 30, 1 << 26

# A 64-bit guest on a processor with every feature; nothing is enabled that another row needs.
GOOD = dict.fromkeys(vocabulary().names, 0) | {
    "SVM_FEATURES": 0x7FFF_FFFF,
    "LONG_MODE": 1,
    "PHYSICAL_RESERVED": BEYOND,
    "CR3_RESERVED": BEYOND,
    "CR4_RESERVED": ~0xF7_0FFF & 2**64 - 1,
    "EFER_RESERVED": ~0x7D01 & 2**64 - 1,
    "S_CET_RESERVED": 0x3C0,
    "U_CET_RESERVED": 0x3C0,
    "EXCEPTION_VECTORS": EXCEPTIONS,
    "HOST_CR0": 0x8005_0033,
    "HOST_IN_64_BIT_MODE": 1,
    "NCR3_RESERVED": BEYOND,
    "MEM_ENCRYPTION": 1,
    "SMM_LOCK": 1,
    "SEV_ASIDS": 16,
    "SEV_NEEDS_64_BIT_HOST": 1,
    "PDPE_RESERVED": BEYOND | 0x1E6,
    "INTERCEPTS_4": 1,
    "ASID": 1,
    "CR0": 0x8005_0033,
    "CR3": 0x1000,
    "CR4": 0x20,
    "EFER": 0x1500,
    "CS.ATTRIB": 0x29B,
    "DR6": 0xFFFF_0FF0,
    "DR7": 0x400,
    "RFLAGS": 0x2,
    "G_PAT": 0x0007_0406_0007_0406,
    "MSRPM_BASE_PA": 2**WIDTH - 8192,
    "IOPM_BASE_PA": 2**WIDTH - 12288,
}
PAE_GUEST = {"EFER": 0x1000, "CS.ATTRIB": 0xC9B, "CR0": 0x8000_0011, "CR4": 0x20}
SEV_GUEST = {"MISC_CTL": NP | SEV}
SEV_ES_GUEST = {"MISC_CTL": NP | SEV | SEV_ES}

# What breaks each rule, and no other, starting from GOOD.
BREAKS = {
    "efer_svme": {"EFER": 0x500},
    "cr0_nw_without_cd": {"CR0": 0xA005_0033},
    "cr0_upper_half": {"CR0": 0x1_8005_0033},
    "cr3_reserved": {"CR3": 1 << WIDTH},
    "cr4_reserved": {"CR4": 0x20 | 1 << 31},
    "dr6_upper_half": {"DR6": 1 << 32},
    "dr7_upper_half": {"DR7": 1 << 63 | 0x400},
    "efer_reserved": {"EFER": 0x1500 | 1 << 1},
    "efer_needs_long_mode": {"LONG_MODE": 0, "CR0": 0x10, "EFER": 0x1100},
    "long_mode_needs_pae": {"CR4": 0},
    "long_mode_needs_pe": {"CR0": 0x8005_0032},
    "cs_l_and_d": {"CS.ATTRIB": 0x69B},
    "vmrun_intercept": {"INTERCEPTS_4": 0xFFFF_FFFE},
    "msrpm_width": {"MSRPM_BASE_PA": 2**WIDTH - 4096},
    "iopm_width": {"IOPM_BASE_PA": 2**WIDTH - 8192},
    "event_inj_type": {"EVENT_INJ": V | 1 << 8 | 13},
    "event_inj_vector": {"EVENT_INJ": V | 3 << 8 | 2},
    "event_inj_br_in_64_bit_mode": {"EVENT_INJ": V | 3 << 8 | 5},
    "asid_not_zero": {"ASID": 0},
    "s_cet_reserved": {"S_CET": 1 << 6},
    "cet_needs_wp": {"CR4": 0x80_0020, "CR0": 0x8004_0033},
    "cet_excludes_virtual_8086": {"CR4": 0x80_0020, "U_CET": 1, "RFLAGS": 0x2_0002},
    "u_cet_reserved": SEV_ES_GUEST | {"U_CET": 1 << 6},
    "pdpe0_reserved": PAE_GUEST | {"PDPE0": 0x2003},
    "pdpe1_reserved": PAE_GUEST | {"PDPE1": 0x2005},
    "pdpe2_reserved": PAE_GUEST | {"PDPE2": 0x2101},
    "pdpe3_reserved": PAE_GUEST | {"PDPE3": 1 << WIDTH | 1},
    "v_nmi_needs_nmi_intercept": {"INT_CTL": V_NMI},
    "np_needs_host_paging": {"MISC_CTL": NP, "HOST_CR0": 0x11},
    "ncr3_reserved": {"MISC_CTL": NP, "NESTED_CR3": 1 << 63},
    "g_pat_memory_types": {"MISC_CTL": NP, "G_PAT": 0x0007_0406_0007_0402},
    "sss_needs_np": {"MISC_CTL": SSS},
    "x2avic_needs_avic": {"INT_CTL": X2AVIC},
    "avic_backing_page_width": {"INT_CTL": AVIC, "AVIC_BACKING_PAGE": 1 << WIDTH},
    "avic_logical_id_width": {"INT_CTL": AVIC, "AVIC_LOGICAL_ID": 1 << WIDTH},
    "avic_physical_id_width": {"INT_CTL": AVIC, "AVIC_PHYSICAL_ID": 1 << WIDTH},
    "xavic_max_index": {"INT_CTL": AVIC, "AVIC_PHYSICAL_ID": 256},
    "x2avic_max_index": {"INT_CTL": AVIC | X2AVIC, "AVIC_PHYSICAL_ID": 512},
    "sev_needs_np": {"MISC_CTL": SEV},
    "sev_needs_smm_lock": SEV_GUEST | {"SMM_LOCK": 0},
    "sev_asid": SEV_GUEST | {"ASID": 17},
    "sev_needs_64_bit_host": SEV_GUEST | {"HOST_IN_64_BIT_MODE": 0},
    "sev_es_software_interrupt": SEV_ES_GUEST | {"EVENT_INJ": V | 4 << 8 | 0x80},
    "sev_es_bp_or_of": SEV_ES_GUEST | {"EVENT_INJ": V | 3 << 8 | 3},
}

# Legal states at the edge of a rule, or with the feature that the rule is about absent.
LEGAL = {
    "paged real mode": {"CR0": 0x8000_0010, "EFER": 0x1000, "CS.ATTRIB": 0x9B},
    "real mode": {"CR0": 0x10, "CR4": 0, "EFER": 0x1000, "CS.ATTRIB": 0x9B},
    "caches off": {"CR0": 0xE005_0033},
    "legacy guest without long mode": PAE_GUEST | {"LONG_MODE": 0},
    "lma without lme": {"EFER": 0x1400, "CS.ATTRIB": 0x69B},
    "lme without paging": {"CR0": 0x11, "CR4": 0, "CS.ATTRIB": 0x69B},
    "low bits of the maps": {"IOPM_BASE_PA": 0x1FFF, "MSRPM_BASE_PA": 0x2FFF},
    "event not valid": {"EVENT_INJ": 7 << 8 | 0xFF},
    "vector of an NMI is ignored": {"EVENT_INJ": V | 2 << 8 | 0xFF},
    "interrupt with an exception's vector": {"EVENT_INJ": V | 2},
    "#BR in compatibility mode": {"EVENT_INJ": V | 3 << 8 | 5, "CS.ATTRIB": 0xC9B},
    "cet with wp": {"CR4": 0x80_0020, "U_CET": 1},
    "pdpe not present": PAE_GUEST | {"PDPE0": 0x2102},
    "pdpe under nested paging": PAE_GUEST | {"PDPE0": 0x2103, "MISC_CTL": NP},
    "v_nmi with the intercept": {"INT_CTL": V_NMI, "INTERCEPTS_3": 2},
    "v_nmi without the feature": {"INT_CTL": V_NMI, "SVM_FEATURES": 0},
    "np without the feature": {"MISC_CTL": NP, "SVM_FEATURES": 0, "HOST_CR0": 0, "G_PAT": 2},
    "pat without nested paging": {"G_PAT": 0x0202_0202_0202_0202},
    "sss without the feature": {"MISC_CTL": SSS, "SVM_FEATURES": 0},
    "avic without the feature": {"INT_CTL": AVIC | X2AVIC, "SVM_FEATURES": 0},
    "xavic up to 255": {"INT_CTL": AVIC, "AVIC_PHYSICAL_ID": 0x30FF},
    "x2avic up to 511": {"INT_CTL": AVIC | X2AVIC, "AVIC_PHYSICAL_ID": 0x31FF},
    "x2avic up to 4095": {
        "INT_CTL": AVIC | X2AVIC,
        "AVIC_PHYSICAL_ID": 0x3FFF,
        "SVM_FEATURES_ECX": 1 << 6,
    },
    "no logical table in x2avic": {"INT_CTL": AVIC | X2AVIC, "AVIC_LOGICAL_ID": 1 << 63},
    "sev is ignored without memory encryption": {"MISC_CTL": SEV, "MEM_ENCRYPTION": 0},
    "highest asid of sev": SEV_GUEST | {"ASID": 16},
    "sev-es without sev": {"MISC_CTL": NP | SEV_ES, "EVENT_INJ": V | 4 << 8, "U_CET": 1 << 6},
}

NAMES = [row.name for row in VMRUN_CHECKS if row.kind is Kind.CHECK]
VOCABULARY = vocabulary()
PROGRAM = compile_program(VMRUN_CHECKS, VOCABULARY)
SETTABLE = [name for name in VOCABULARY.names if name not in {row.name for row in DERIVED_WORDS}]
FOUR_BYTES = {row.name for row in VMCB_WORDS if row.size < 8}


def array_of(words):
    array = VOCABULARY.words()
    for name, value in words.items():
        array[VOCABULARY.index(name)] = value
    return array


def failing(words):
    """Names of all failing rows, and of the row at which the walk stops."""
    failed = np.zeros(len(PROGRAM.rows), np.uint8)
    every_failure(PROGRAM.code, array_of(words), failed)
    stop = first_stop(PROGRAM.code, array_of(words), np.zeros(1, np.int64))
    at = PROGRAM.row_at(stop)
    rows = [row.name for row, bad in zip(PROGRAM.rows, failed, strict=True) if bad]
    return rows, at and at.name


def test_the_good_state_passes_every_check():
    assert ([], None) == failing(GOOD)
    assert set() == illegal(GOOD)


def test_every_check_has_a_break_and_every_break_a_check():
    assert NAMES == list(BREAKS)


@pytest.mark.parametrize(("name", "change"), BREAKS.items(), ids=BREAKS)
def test_breaking_one_check_names_it_and_no_other(name, change):
    words = GOOD | change

    assert ([name], name) == failing(words)
    assert [name] == naive_checks.failures(VMRUN_CHECKS, words)
    assert {name} == illegal(words)


@pytest.mark.parametrize(("name", "change"), LEGAL.items(), ids=LEGAL)
def test_legal_state_at_the_edge_of_a_rule_passes(name, change):
    words = GOOD | change

    assert ([], None) == failing(words)
    assert set() == illegal(words)


@pytest.mark.parametrize("vector", range(256))
def test_exception_of_a_vector_is_injected_only_if_the_processor_has_it(vector):
    words = GOOD | {"EVENT_INJ": V | 3 << 8 | vector, "CS.ATTRIB": 0xC9B}
    known = vector in (0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21, 29, 30)

    assert ([] if known else ["event_inj_vector"]) == failing(words)[0]


@pytest.mark.parametrize("kind", range(8))
def test_types_of_injected_events(kind):
    words = GOOD | {"EVENT_INJ": V | kind << 8 | 14}

    assert ([] if kind in (0, 2, 3, 4) else ["event_inj_type"]) == failing(words)[0]


@pytest.mark.parametrize("number", range(64))
def test_each_bit_beyond_the_physical_width_puts_a_table_out_of_range(number):
    words = GOOD | {"MSRPM_BASE_PA": 1 << number, "IOPM_BASE_PA": 1 << number}

    assert ([] if number < WIDTH else ["msrpm_width", "iopm_width"]) == failing(words)[0]


def changes(draw_bits):
    """Words of GOOD with a few words replaced or bits flipped, so that rules meet."""
    replaced = st.dictionaries(st.sampled_from(SETTABLE), st.integers(0, 2**64 - 1), max_size=2)
    flips = st.lists(st.tuples(st.sampled_from(SETTABLE), st.integers(0, 63)), max_size=draw_bits)
    starts = st.lists(st.sampled_from([*BREAKS.values(), *LEGAL.values()]), max_size=3)
    return st.builds(changed, starts, replaced, flips)


def changed(starts, replaced, flips):
    words = dict(GOOD)
    for change in [*starts, replaced]:
        words |= change
    for name, number in flips:
        words[name] ^= 1 << number
    for name in FOUR_BYTES:
        words[name] &= 2**32 - 1
    words["PHYSICAL_RESERVED"] = BEYOND
    for flag in ("LONG_MODE", "MEM_ENCRYPTION", "SMM_LOCK", "HOST_IN_64_BIT_MODE"):
        words[flag] &= 1
    words["SEV_NEEDS_64_BIT_HOST"] &= 1
    return words


@given(changes(6))
def test_rows_fail_where_the_sentences_of_the_manual_say_so(words):
    assert illegal(words) == set(failing(words)[0])


@given(changes(6))
def test_walk_stops_at_the_first_failing_row_in_the_order_of_the_manual(words):
    rows, first = failing(words)

    assert first == (rows[0] if rows else None)
    assert rows == sorted(rows, key=NAMES.index)


def test_batch_of_words_stops_where_each_alone_does():
    batch = np.stack([array_of(GOOD | change) for change in (*BREAKS.values(), {})])
    stops = np.zeros(len(batch), np.int64)
    first_stops(PROGRAM.code, batch, stops)
    rows = [PROGRAM.row_at(int(stop)) for stop in stops]

    assert [*NAMES, None] == [row and row.name for row in rows]


def test_batch_of_pages_is_judged_by_the_members_at_their_offsets():
    own = {row.name for row in VMCB_WORDS}
    breaks = {name: change for name, change in BREAKS.items() if set(change) <= own}
    pages = np.zeros(len(breaks) + 1, VMCB)
    for page, change in zip(pages, (*breaks.values(), {}), strict=True):
        for row in VMCB_WORDS:
            value = (GOOD | change)[row.name]
            if row.name.startswith("INTERCEPTS_"):
                page["intercepts"][int(row.name[-1])] = value
            else:
                page[row.name.lower()] = value
    places = [(row.offset, row.size, VOCABULARY.index(row.name)) for row in VMCB_WORDS]
    stops = np.zeros(len(pages), np.int64)
    judge_records(
        pages.view(np.uint8).reshape(-1, VMCB_SIZE),
        np.array(places, np.int64).ravel(),
        array_of(GOOD),
        PROGRAM.code,
        stops,
    )
    rows = [PROGRAM.row_at(int(stop)) for stop in stops]

    assert [*breaks, None] == [row and row.name for row in rows]
    assert 25 < len(breaks)


def test_first_group_is_the_list_of_the_manual_in_its_order():
    expected = [
        *("efer_svme", "cr0_nw_without_cd", "cr0_upper_half", "cr3_reserved", "cr4_reserved"),
        *("dr6_upper_half", "dr7_upper_half", "efer_reserved", "efer_needs_long_mode"),
        *("long_mode_needs_pae", "long_mode_needs_pe", "cs_l_and_d", "vmrun_intercept"),
        *("msrpm_width", "iopm_width", "event_inj_type", "event_inj_vector"),
        *("event_inj_br_in_64_bit_mode", "asid_not_zero", "s_cet_reserved", "cet_needs_wp"),
        *("cet_excludes_virtual_8086", "u_cet_reserved"),
    ]

    assert expected == [row.name for row in CONSISTENCY_CHECKS]


@pytest.mark.parametrize("row", VMRUN_CHECKS, ids=lambda row: row.name)
def test_every_row_names_a_section_of_the_manual(row):
    assert row.section


def test_every_word_is_read_or_derived_by_a_row():
    read = {name for row in VMRUN_CHECKS for p in (row.predicate, *row.when) for name in p[1:]}
    derived = {row.target for row in VMRUN_CHECKS if row.kind is Kind.LET}
    contributed = {row.name for row in (*PROCESSOR_WORDS, *MEMORY_WORDS)}

    assert {row.name for row in DERIVED_WORDS} == derived
    assert contributed | {row.name for row in VMCB_WORDS} | derived == {
        name for name in read if isinstance(name, str)
    }


@pytest.mark.parametrize("row", VMCB_WORDS, ids=lambda row: row.name)
def test_word_of_the_vmcb_has_the_place_of_its_member(row):
    name, _, word = (
        row.name.lower().partition("_") if "INTERCEPTS" in row.name else (row.name.lower(), "", "")
    )
    place = member(name)

    assert (place.offset + 4 * int(word or 0), place.kind) == (row.offset, row.kind)
