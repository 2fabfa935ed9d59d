"""Words of the VMCB with bits of their own: the kernel's masks, and every bit in its place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmcs.svm.facts import CONSTANTS
from vmcs.schema import BitTable, Layout
from vmcs.svm import control_bits
from vmcs.svm.control_bits import (
    AVIC_PHYSICAL_ID,
    CLEAN_COVERS,
    EVENT_INJ,
    EVENT_TYPES,
    EXIT_INT_INFO,
    INT_CTL,
    INT_VECTOR,
    Clean,
    ErapControl,
    IntState,
    MiscControl,
    MiscControl2,
    TlbControl,
)
from vmcs.svm.vmcb import member

LAYOUTS = [value for value in vars(control_bits).values() if isinstance(value, Layout)]
TABLES = [ErapControl, IntState, MiscControl, MiscControl2, Clean]
ROWS_WITH_MACRO = [
    (layout, row, found[1])
    for layout in LAYOUTS
    for row in layout
    if (found := re.search(r": (\w+), 7\.3$", row.seen))
]

# Offset 060h, bits 31:0, as the manual numbers them: name, highest bit, lowest bit.
INT_CTL_BITS = [
    ("V_TPR", 3, 0),
    ("V_IRQ", 8, 8),
    ("V_GIF", 9, 9),
    ("V_NMI", 11, 11),
    ("V_NMI_MASK", 12, 12),
    ("V_INTR_PRIO", 19, 16),
    ("V_IGN_TPR", 20, 20),
    ("V_INTR_MASKING", 24, 24),
    ("V_GIF_ENABLE", 25, 25),
    ("V_NMI_ENABLE", 26, 26),
    ("X2AVIC_ENABLE", 30, 30),
    ("AVIC_ENABLE", 31, 31),
]

WORDS_OF_MEMBERS = {
    "int_ctl": INT_CTL.width,
    "int_vector": INT_VECTOR.width,
    "int_state": IntState.width,
    "event_inj": EVENT_INJ.width,
    "exit_int_info": EXIT_INT_INFO.width,
    "misc_ctl": MiscControl.width,
    "misc_ctl2": MiscControl2.width,
    "clean": Clean.width,
    "erap_ctl": ErapControl.width,
    "avic_physical_id": AVIC_PHYSICAL_ID.width,
    "cs.attrib": control_bits.SEGMENT_ATTRIBUTES.width,
    "allowed_sev_features": control_bits.ALLOWED_SEV_FEATURES.width,
    "insn_len": control_bits.INSN_LEN.width,
    "vmsa_pa": control_bits.VMSA_PA.width,
}


@pytest.mark.parametrize(("name", "width"), WORDS_OF_MEMBERS.items())
def test_word_is_as_wide_as_its_member(name, width):
    assert 8 * member(name).size == width


def test_int_ctl_has_the_bits_of_the_manual():
    assert INT_CTL_BITS == [(row.name, row.high, row.low) for row in INT_CTL if not row.reserved]


@pytest.mark.parametrize(
    ("layout", "row", "macro"),
    ROWS_WITH_MACRO,
    ids=[f"{layout.name}-{row.name}" for layout, row, _ in ROWS_WITH_MACRO],
)
def test_field_has_the_mask_of_the_kernel_macro_that_it_cites(layout, row, macro):
    assert CONSTANTS[macro] % 2**layout.width == row.mask


def test_most_fields_cite_a_macro_of_the_kernel():
    assert len(ROWS_WITH_MACRO) > 20


@pytest.mark.parametrize("table", [ErapControl, MiscControl, MiscControl2, IntState])
def test_bits_have_the_masks_of_the_kernel(table):
    macros = {row.macro: row.mask for row in table.table if row.macro}

    assert {name: CONSTANTS[name] for name in macros} == macros
    assert len(macros) >= 2


def test_clean_bits_have_the_numbers_of_the_kernel():
    numbers = {row.macro: row.bit for row in Clean.table if not row.reserved}

    assert {n: v for n, v in CONSTANTS.items() if re.fullmatch(r"VMCB_[A-Z0-9_]+", n)} == (
        numbers | {"VMCB_ALLOWED_SEV_FEATURES_VALID": CONSTANTS["VMCB_ALLOWED_SEV_FEATURES_VALID"]}
    )


def test_tlb_control_has_the_encodings_of_the_kernel():
    used = {row.macro: row.number for row in TlbControl.table if not row.reserved}

    assert {name: value for name, value in CONSTANTS.items() if name in used} == used
    assert list(range(CONSTANTS["TLB_CONTROL_MASK"] + 1)) == [r.number for r in TlbControl.table]


def test_event_types_are_those_of_the_kernel():
    kernel = {
        "INTR": CONSTANTS["SVM_EVTINJ_TYPE_INTR"],
        "NMI": CONSTANTS["SVM_EVTINJ_TYPE_NMI"],
        "EXCEPTION": CONSTANTS["SVM_EVTINJ_TYPE_EXEPT"],
        "SOFTWARE_INTERRUPT": CONSTANTS["SVM_EVTINJ_TYPE_SOFT"],
    }

    assert kernel == {name: EVENT_INJ.word(TYPE=value) for value, name in EVENT_TYPES.items()}


@pytest.mark.parametrize("layout", [EVENT_INJ, EXIT_INT_INFO], ids=lambda layout: layout.name)
def test_event_words_have_the_masks_of_the_kernel(layout):
    expected = {
        "VECTOR": CONSTANTS["SVM_EVTINJ_VEC_MASK"],
        "TYPE": CONSTANTS["SVM_EVTINJ_TYPE_MASK"],
        "EV": CONSTANTS["SVM_EVTINJ_VALID_ERR"],
        "V": CONSTANTS["SVM_EVTINJ_VALID"] % 2**32,
    }

    assert expected == {row.name: row.mask for row in layout if not row.reserved}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_field_of_a_layout_is_cited(layout):
    assert [] == [row.name for row in layout if not row.cite]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_bit_of_a_table_is_cited_and_has_a_phrase(table):
    assert issubclass(table, BitTable)
    assert [] == [row.name for row in table.table if not (row.cite and row.phrase)]


@given(st.sampled_from(LAYOUTS), st.data())
def test_decoded_fields_put_back_give_the_defined_bits_of_any_word(layout, data):
    word = data.draw(st.integers(0, 2**layout.width - 1))

    assert word & ~layout.reserved_mask() == layout.word(**layout.decode(word))


@given(st.integers(0, 2**64 - 1))
def test_names_of_misc_ctl_stand_for_its_set_bits(word):
    names = MiscControl.names_of(word)
    masks = {row.name: row.mask for row in MiscControl.table}

    assert word == sum(masks[name] for name in names)


def test_each_clean_bit_but_the_one_of_the_host_covers_members_of_the_vmcb():
    defined = {Clean(row.mask) for row in Clean.table if not row.reserved}

    assert defined - {Clean.HOST} == set(CLEAN_COVERS)
    assert all(member(name) for names in CLEAN_COVERS.values() for name in names)


def test_no_member_is_covered_by_two_clean_bits():
    names = [name for covered in CLEAN_COVERS.values() for name in covered]

    assert len(set(names)) == len(names)


def test_members_that_are_never_cached_have_no_clean_bit():
    explicitly_not_cached = {"tlb_ctl", "int_state", "exit_code", "exit_info_1", "exit_info_2"}
    explicitly_not_cached |= {"exit_int_info", "event_inj", "rflags", "rip", "rsp", "rax"}

    assert not explicitly_not_cached & {n for names in CLEAN_COVERS.values() for n in names}
